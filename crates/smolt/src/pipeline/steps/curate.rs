//! `kind = "curate"`: documents filtered, repaired and deduplicated; the recipe of `smolt data curate` inside a pipeline.

use super::Context;
use crate::curation;
use crate::output::note;
use serde_json::{Value, json};
use smolt_curate::engine::{self, Options};
use smolt_curate::recipe::{Curation, Output, Places, Source};
use smolt_run::error::Failure;
use smolt_run::launcher::Rank;
use smolt_run::recipe::{Document, FormatVersion};
use smolt_store::Store;
use std::path::Path;

smolt_run::recipe! {
    /// A curation: what `smolt data curate` takes, without a name of its own.
    pub(crate) struct CurateSettings {
        /// Where documents come from.
        source: Vec<Source>,
        /// What is done with each, in this order.
        step: Vec<Document> = Vec::new(),
        /// What is written.
        output: Output,
        /// MiB of memory that deduplication may use.
        memory_mib: u64 = 2048,
    }
}

impl CurateSettings {
    fn curation(&self, name: &str) -> Curation {
        let Self { source, step, output, .. } = self.clone();
        Curation { format_version: FormatVersion, name: name.to_owned(), source, step, output }
    }

    /// The files outside the pipeline behind `inputs`: names and sizes.
    pub(super) fn inputs(&self, base: &Path) -> Result<Value, Failure> {
        let mut curation = self.curation("");
        for source in &mut curation.source {
            source.inputs.retain(|input| !input.starts_with('@'));
        }
        curation.source.retain(|source| !source.inputs.is_empty());
        let places = Places { base: base.to_owned(), steps: base.to_owned() };
        let plan = engine::plan(&curation, &places, &Store::of_process())?;
        Ok(json!(plan))
    }
}

pub(super) fn run(s: &CurateSettings, context: &Context<'_>) -> Result<(), Failure> {
    let options = Options {
        places: Places { base: context.base.to_owned(), steps: context.out.to_owned() },
        out: context.folder.to_owned(),
        threads: context.threads,
        memory: s.memory_mib << 20,
        rank: Rank::SOLO,
    };
    let report = curation::run(&s.curation("curate"), &options, context.quiet)?;
    if !context.quiet {
        note!("{}", curation::table(&report));
    }
    Ok(())
}
