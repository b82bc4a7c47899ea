//! The recipe of a curation: sources, steps in any order, output.

use std::collections::BTreeMap;
use std::path::PathBuf;

use smolt_run::graph::is_plain_name;
use smolt_run::recipe::{Document as Table, FormatVersion};
use smolt_store::Address;

smolt_run::recipe! {
    /// A curation: documents in, documents out, and why each of the others was left out.
    pub struct Curation {
        /// Version of this file's format.
        pub format_version: FormatVersion = FormatVersion,
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
        /// What the files are; by their names when left out, plain text where the name says nothing.
        pub format: Option<FileFormat>,
        /// What a plain text file is divided into.
        pub unit: Unit = Unit::File,
        /// Key, column or header of the text.
        pub text_key: String = "text".to_owned(),
        /// Added to the metadata of each document that lacks the key: a licence, a language.
        pub metadata: BTreeMap<String, String> = BTreeMap::new(),
        /// A damaged file stops the run, or is counted and left where it broke.
        pub damaged_files: DamagedFiles = DamagedFiles::Stop,
    }

    /// What a file of documents is; any of them may be compressed.
    pub enum FileFormat {
        /// One JSON object per line.
        Jsonl = "jsonl",
        /// Columns in row groups.
        Parquet = "parquet",
        /// Comma-separated rows below a header.
        Csv = "csv",
        /// Tab-separated rows below a header.
        Tsv = "tsv",
        /// Web pages, or their text (WET).
        Warc = "warc",
        /// Plain text, and HTML for `html_text`.
        Text = "text",
    }

    /// What is one document of a plain text file.
    pub enum Unit {
        /// The file.
        File = "file",
        /// Each line that is not blank.
        Line = "line",
        /// Each run of lines that are not blank.
        Paragraph = "paragraph",
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

/// The keys of a document that metadata cannot have, as they are its fields.
const FIELDS: [&str; 4] = ["id", "text", "source", "url"];

/// Whether this is a key that metadata can have.
pub(crate) fn check_metadata_key(key: &str) -> Result<(), String> {
    match FIELDS.contains(&key) {
        true => {
            Err(format!("metadata cannot have the key {key:?}, a field of every document; choose another"))
        }
        false => Ok(()),
    }
}

impl Curation {
    /// Names of sources are folders and rows of reports: plain, and each its own.
    pub(crate) fn check(&self) -> Result<(), String> {
        for (number, source) in self.source.iter().enumerate() {
            let name = &source.name;
            if !is_plain_name(name) {
                return Err(format!(
                    "source {name:?}: a name has only letters, digits, `-`, `_` and `.`, and no `.` in front; rename it"
                ));
            }
            if self.source[..number].iter().any(|other| other.name == *name) {
                return Err(format!(
                    "two sources are called {name:?}; rename one, or give one both `inputs`"
                ));
            }
            for key in source.metadata.keys() {
                check_metadata_key(key).map_err(|problem| format!("source {name}: {problem}"))?;
            }
        }
        Ok(())
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

    /// The files behind a setting that may also be `hf://`, `s3://`, `gs://` or `https://`.
    pub fn address(&self, setting: &str) -> Result<Address, smolt_store::Error> {
        match setting.contains("://") {
            true => setting.parse(),
            false => Ok(Address::local(self.path(setting))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sources: &str) -> Result<(), String> {
        let text = format!("name = \"x\"\n{sources}");
        Table::parse("x.toml", text.as_bytes()).unwrap().read::<Curation>().unwrap().check()
    }

    #[test]
    fn sources_have_names_of_their_own_that_are_folders() {
        let source = |name: &str| format!("[[source]]\nname = \"{name}\"\ninputs = [\"a\"]\n");
        assert_eq!(check(&(source("web-1.0") + &source("books"))), Ok(()));
        for bad in ["../../x", "/tmp/x", "a/b", "", ".tmp-x", "a b"] {
            assert!(check(&source(bad)).unwrap_err().contains(&format!("{bad:?}")), "{bad}");
        }
        assert!(check(&(source("web") + &source("web"))).unwrap_err().contains("two sources"));
        for field in FIELDS {
            let error = check(&(source("web") + &format!("metadata = {{ {field} = \"x\" }}\n"))).unwrap_err();
            assert!(error.contains(field) && error.contains("web"), "{error}");
        }
    }
}
