//! The recipe of a curation: sources, steps in any order, output.

use std::collections::BTreeMap;
use std::path::PathBuf;

use smolt_run::recipe::Document as Table;

smolt_run::recipe! {
    /// A curation: documents in, documents out, and why each of the others was left out.
    pub struct Curation {
        /// Version of this file's format.
        pub format_version: u32 = 1,
        /// Its name; the default folder of its results is runs/NAME.
        pub name: String,
        /// Where documents come from.
        pub source: Vec<Source>,
        /// What is done with each, in this order; `kind` says what, `sources` to which (all when left out).
        pub step: Vec<Table> = Vec::new(),
        /// What is written.
        pub output: Output,
    }

    /// Documents of one origin.
    pub struct Source {
        /// Its name: a folder of the output, a row of the reports.
        pub name: String,
        /// Files, folders and patterns such as `docs/**/*.html`; local paths and `hf://`, `s3://`, `gs://`, `https://`.
        pub inputs: Vec<String>,
        /// Key, column or header of the text.
        pub text_key: String = "text".to_owned(),
        /// Added to the metadata of each document that lacks the key: a licence, a language.
        pub metadata: BTreeMap<String, String> = BTreeMap::new(),
        /// A damaged file stops the run, or is counted and left where it broke.
        pub damaged_files: DamagedFiles = DamagedFiles::Stop,
    }

    /// What to do when a file is cut or broken. A damaged record is always counted and passed over.
    pub enum DamagedFiles {
        /// End with an error that names it.
        Stop = "stop",
        /// Keep what could be read, count the rest.
        Skip = "skip",
    }

    /// What is written.
    pub struct Output {
        /// Metadata key whose values get folders of their own, such as `tier`.
        pub split_by: Option<String>,
        /// Keep rejected documents, with reasons, beside the others.
        pub rejected: bool = true,
        /// Inputs of a source share a shard, the unit of work, up to this many bytes.
        pub shard_bytes: u64 = 64 << 20,
    }
}

/// What paths in a recipe are relative to.
#[derive(Clone, Debug)]
pub struct Places {
    /// Folder of the recipe's file.
    pub base: PathBuf,
    /// Folder of a pipeline's steps: `@step/file` is a file that another step wrote.
    pub steps: PathBuf,
}

impl Places {
    /// The file behind a setting.
    pub fn path(&self, setting: &str) -> PathBuf {
        match setting.strip_prefix('@') {
            Some(reference) => self.steps.join(reference),
            None => self.base.join(setting),
        }
    }
}
