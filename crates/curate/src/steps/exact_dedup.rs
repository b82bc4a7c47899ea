//! Exact duplicates of whole documents or of their addresses, over all sources; the first is kept (spec `CLN-06`).

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use smolt_data::document::Document;

use super::removed::Removed;
use crate::dedup::exact::{KeyWriter, Keyer, Same, cluster, url_key};
use crate::dedup::{Sources, Space};
use crate::engine::Error;
use crate::global::{Collector, GlobalStep, Judge};

smolt_run::recipe! {
    /// Which documents are the same.
    pub struct ExactDedupSettings {
        /// What is compared.
        pub compare: Compare = Compare::Text,
    }

    /// What two documents must share.
    pub enum Compare {
        /// The text, byte for byte.
        Text = "text",
        /// The text but for case, punctuation, numbers, accents and spacing.
        SimplifiedText = "simplified_text",
        /// The address, without fragment; documents without address are kept.
        Url = "url",
    }
}

/// Rejects what came before as `exact_duplicate`; the detail names the first by shard and position.
pub struct ExactDedup {
    compare: Compare,
    keyer: Keyer,
}

impl ExactDedup {
    /// The step with these settings.
    pub fn new(settings: &ExactDedupSettings) -> Self {
        let same = match settings.compare {
            Compare::SimplifiedText => Same::Simplified,
            Compare::Text | Compare::Url => Same::Raw,
        };
        Self { compare: settings.compare, keyer: Keyer::new(same) }
    }
}

impl GlobalStep for ExactDedup {
    fn keys(&self, document: &Document, keys: &mut Vec<u8>) {
        let key = match self.compare {
            Compare::Url => document.url.as_deref().and_then(url_key),
            Compare::Text | Compare::SimplifiedText => self.keyer.key(&document.text, &mut String::new()),
        };
        keys.extend(key.into_iter().flatten());
    }

    fn collect(&self, path: &Path, shard: u32) -> Result<Box<dyn Collector>, Error> {
        Ok(Box::new(Keys(KeyWriter::create(path, self.compare.as_str(), shard)?)))
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
        Removed::open("exact_duplicate", folder, shard)
    }
}

struct Keys(KeyWriter);

impl Collector for Keys {
    fn push(&mut self, position: u32, _: &Document, keys: &[u8]) -> Result<(), Error> {
        match keys.try_into() {
            Ok(key) => Ok(self.0.push(position, key)?),
            Err(_) => Ok(()),
        }
    }

    fn finish(self: Box<Self>, documents: u64) -> Result<(), Error> {
        Ok(self.0.finish(documents)?)
    }
}
