//! Lines that an earlier document had already, over all sources: navigation, licences, boilerplate.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use smolt_data::document::Document;

use crate::dedup::exact::Same;
use crate::dedup::lines::{LineKeyWriter, LineRemovals, LineSettings, Outcome, cluster};
use crate::dedup::{Sources, Space};
use crate::engine::Error;
use crate::global::{Collector, GlobalStep, Judge};
use crate::step::{Rejection, Verdict};

smolt_run::recipe! {
    /// Which lines are removed.
    pub struct LineDedupSettings {
        /// Case, punctuation, numbers, accents and spacing do not count.
        pub simplified: bool = false,
        /// A line of fewer characters is never removed, so that braces and headings stay.
        pub min_line_chars: u32 = 30,
        /// A document that lost lines is rejected when it has fewer characters left, white space not counted.
        pub min_left_chars: u32 = 100,
    }
}

/// Takes lines out; what is then too short is rejected as `too_little_left`.
pub struct LineDedup(LineSettings);

impl LineDedup {
    /// The step with these settings.
    pub fn new(settings: &LineDedupSettings) -> Self {
        let &LineDedupSettings { simplified, min_line_chars, min_left_chars } = settings;
        let same = if simplified { Same::Simplified } else { Same::Raw };
        Self(LineSettings { same, min_line_chars, min_left_chars })
    }
}

impl GlobalStep for LineDedup {
    fn keys(&self, _: &Document, _: &mut Vec<u8>) {}

    fn collect(&self, path: &Path, shard: u32) -> Result<Box<dyn Collector>, Error> {
        Ok(Box::new(Keys(LineKeyWriter::create(path, &self.0, shard)?)))
    }

    fn decide(
        &self,
        records: &[PathBuf],
        folder: &Path,
        sources: &Sources,
        space: &Space<'_>,
    ) -> Result<Value, Error> {
        Ok(json!(cluster(records, folder, sources, space)?))
    }

    fn judge(&self, folder: &Path, shard: u32) -> Result<Box<dyn Judge>, Error> {
        Ok(Box::new(Trim { settings: self.0, removals: LineRemovals::open(folder, shard)? }))
    }
}

struct Keys(LineKeyWriter);

impl Collector for Keys {
    fn push(&mut self, position: u32, document: &Document, _: &[u8]) -> Result<(), Error> {
        Ok(self.0.push(position, &document.text)?)
    }

    fn finish(self: Box<Self>, documents: u64) -> Result<(), Error> {
        Ok(self.0.finish(documents)?)
    }
}

struct Trim {
    settings: LineSettings,
    removals: LineRemovals,
}

impl Judge for Trim {
    fn apply(&mut self, document: &mut Document, position: u32) -> Result<Verdict, Error> {
        Ok(match self.removals.apply(position, &mut document.text, &self.settings)? {
            Outcome::Whole | Outcome::Trimmed(_) => Verdict::Keep,
            Outcome::TooLittleLeft(lines) => {
                let detail = format!("{lines} lines were in earlier documents");
                Verdict::Reject(Rejection { reason: "too_little_left", detail })
            }
        })
    }

    fn finish(self: Box<Self>, documents: u64) -> Result<(), Error> {
        Ok(self.removals.finish(documents)?)
    }
}
