//! What each kind of step does. Settings are recipes; a step writes only into its own folder.

mod corpus;
mod curate;
mod eval;
mod export;
mod report;
mod tinytown;
pub(crate) mod tokenize;
pub(crate) mod tokenizer;
mod train;

use super::Kind;
use serde_json::Value;
use smolt_run::error::Failure;
use smolt_run::recipe::{self, Document};
use smolt_store::{Address, Store};
use std::path::{Path, PathBuf};

/// Where a step runs.
pub(crate) struct Context<'a> {
    /// Folder of the pipeline file: base of relative paths.
    pub(crate) base: &'a Path,
    /// Folder of all steps.
    pub(crate) out: &'a Path,
    /// Folder of this step.
    pub(crate) folder: &'a Path,
    /// Threads to compute on.
    pub(crate) threads: usize,
    /// No progress bars.
    pub(crate) quiet: bool,
}

impl Context<'_> {
    /// The file behind a setting: `@step/file`, or a path relative to the pipeline file.
    pub(crate) fn path(&self, setting: &str) -> PathBuf {
        match setting.strip_prefix('@') {
            Some(reference) => self.out.join(reference),
            None => self.base.join(setting),
        }
    }
}

impl Context<'_> {
    /// The files behind settings; a folder stands for all its files, by name.
    pub(crate) fn files(&self, settings: &[String]) -> Result<Vec<PathBuf>, Failure> {
        let mut files = Vec::new();
        for setting in settings {
            let path = self.path(setting);
            if !path.is_dir() {
                files.push(path);
                continue;
            }
            let entries = Store::of_process().list(&Address::local(path))?;
            files.extend(entries.iter().filter_map(|entry| entry.address.as_local().map(Path::to_owned)));
        }
        Ok(files)
    }
}

/// A step's settings, by kind.
pub(crate) enum Work {
    Corpus(corpus::CorpusSettings),
    Tinytown(tinytown::TinytownSettings),
    Curate(Box<curate::CurateSettings>),
    Tokenizer(tokenizer::TokenizerSettings),
    Tokenize(tokenize::TokenizeSettings),
    Train(Box<smolt_train::recipe::Train>),
    Eval(Box<eval::EvalSettings>),
    Export(export::ExportSettings),
    Report(Box<report::ReportSettings>),
}

impl Work {
    /// Reads what is left of a step's table after `name` and `kind`.
    pub(super) fn read(kind: Kind, document: &Document) -> Result<Work, Failure> {
        Ok(match kind {
            Kind::Corpus => Work::Corpus(document.read()?),
            Kind::Tinytown => Work::Tinytown(document.read()?),
            Kind::Curate => Work::Curate(Box::new(document.read()?)),
            Kind::Tokenizer => Work::Tokenizer(document.read()?),
            Kind::Tokenize => Work::Tokenize(document.read()?),
            Kind::Train => Work::Train(Box::new(document.read()?)),
            Kind::Eval => Work::Eval(Box::new(document.read()?)),
            Kind::Export => Work::Export(document.read()?),
            Kind::Report => Work::Report(Box::new(document.read()?)),
        })
    }

    /// Refuses settings that cannot work before any step has run.
    pub(super) fn check(&self) -> Result<(), Failure> {
        match self {
            Work::Train(s) => s.check(),
            Work::Tokenize(s) => s.check(),
            _ => Ok(()),
        }
    }

    /// What the step reads from outside the pipeline beyond single files, so that a change of it is seen.
    pub(super) fn inputs(&self, base: &Path) -> Result<Option<Value>, Failure> {
        match self {
            Work::Curate(s) => s.inputs(base).map(Some),
            _ => Ok(None),
        }
    }

    /// All settings, defaults included.
    pub(super) fn settings(&self) -> Value {
        match self {
            Work::Corpus(s) => recipe::to_json(s),
            Work::Tinytown(s) => recipe::to_json(s),
            Work::Curate(s) => recipe::to_json(&**s),
            Work::Tokenizer(s) => recipe::to_json(s),
            Work::Tokenize(s) => recipe::to_json(s),
            Work::Train(s) => recipe::to_json(&**s),
            Work::Eval(s) => recipe::to_json(&**s),
            Work::Export(s) => recipe::to_json(s),
            Work::Report(s) => recipe::to_json(&**s),
        }
    }

    /// Raised by whoever changes what a step computes from the same settings.
    pub(super) fn version(&self) -> u32 {
        match self {
            Work::Tokenizer(_) | Work::Tokenize(_) | Work::Eval(_) => 2,
            _ => 1,
        }
    }

    /// Does it.
    pub(super) fn run(&self, context: &Context<'_>) -> Result<(), Failure> {
        match self {
            Work::Corpus(s) => corpus::run(s, context),
            Work::Tinytown(s) => tinytown::run(s, context),
            Work::Curate(s) => curate::run(s, context),
            Work::Tokenizer(s) => tokenizer::run(s, context),
            Work::Tokenize(s) => tokenize::run(s, context),
            Work::Train(s) => train::run(s, context),
            Work::Eval(s) => eval::run(s, context),
            Work::Export(s) => export::run(s, context),
            Work::Report(s) => report::run(s, context),
        }
    }
}
