//! `kind = "tokenizer"`: trains a tokenizer; writes `base/` for pretraining and `chat/` for chat models.

use super::Context;
use crate::output;
use crate::output::note;
use serde_json::json;
use smolt_data::document::{Document, Documents};
use smolt_run::error::{Failure, FileError};
use smolt_text::sample::{self, ByBytes};
use smolt_text::tokenizer::{self, Digits, Model, SourceRecord, SpecialRoles, TrainSettings, TrainingRecord};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

smolt_run::recipe! {
    /// A tokenizer to train (spec TOK-02).
    pub(crate) struct TokenizerSettings {
        /// JSONL or text files of documents, all of them read.
        pub(crate) documents: Vec<String> = Vec::new(),
        /// Instead of `documents`: the mixture that the sample mirrors.
        pub(crate) sources: Vec<TokenizerSource> = Vec::new(),
        /// The most bytes that a sample of `sources` has; the most that mirror them without repeating when left out.
        pub(crate) sample_bytes: Option<u64>,
        /// How words are cut into tokens.
        pub(crate) model: Model = Model::Bpe,
        /// Tokens in all; rounded up to a multiple of 128 (TOK-05).
        pub(crate) vocab_size: usize = 4096,
        /// How digits are cut before anything is merged (TOK-13).
        pub(crate) digits: Digits = Digits::Single,
        /// Control tokens besides those of documents, chats and padding.
        pub(crate) special_tokens: Vec<String> = Vec::new(),
        /// A pair must occur this often to be merged.
        pub(crate) min_frequency: u64 = 2,
        /// Jinja file that overrides the bundled chat template.
        pub(crate) chat_template: Option<String>,
    }

    /// A source of the mixture.
    pub(crate) struct TokenizerSource {
        /// What it is called in the mixture.
        pub(crate) name: String,
        /// Its share of the sample's bytes, relative to the other sources' weights.
        pub(crate) weight: f64,
        /// JSONL or text files.
        pub(crate) documents: Vec<String>,
    }
}

/// What documents without a named source are called.
pub(crate) const UNNAMED: &str = "documents";

/// A source with its files found.
pub(crate) struct Source {
    /// What it is called in the mixture.
    pub(crate) name: String,
    /// Relative to the other sources' weights.
    pub(crate) weight: f64,
    /// JSONL or text files.
    pub(crate) paths: Vec<PathBuf>,
}

pub(super) fn run(settings: &TokenizerSettings, context: &Context<'_>) -> Result<(), Failure> {
    let find = |paths: &[String]| context.files(paths);
    if settings.documents.is_empty() == settings.sources.is_empty() {
        return Err(Failure::bad_input("a tokenizer step needs either `documents` or `sources`"));
    }
    let mut sources: Vec<Source> = settings
        .sources
        .iter()
        .map(|s| Ok(Source { name: s.name.clone(), weight: s.weight, paths: find(&s.documents)? }))
        .collect::<Result<_, Failure>>()?;
    if sources.is_empty() {
        sources.push(Source { name: UNNAMED.into(), weight: 1.0, paths: find(&settings.documents)? });
    }
    let template = settings.chat_template.as_ref().map(|p| context.path(p));
    let report = train(settings, &sources, template.as_deref(), context.threads, context.folder)?;
    if !context.quiet {
        note!("{report}");
    }
    Ok(())
}

/// Trains on a sample of `sources` and writes `base/`, `chat/` and `report.json` into `out`.
pub(crate) fn train(
    settings: &TokenizerSettings,
    sources: &[Source],
    chat_template: Option<&Path>,
    threads: usize,
    out: &Path,
) -> Result<tokenizer::TrainReport, Failure> {
    let mut train = TrainSettings {
        model: settings.model,
        vocab_size: settings.vocab_size.next_multiple_of(128),
        digits: settings.digits,
        min_frequency: settings.min_frequency,
        ..TrainSettings::default()
    };
    train.special_tokens.extend(settings.special_tokens.iter().cloned());
    let template = match chat_template {
        Some(path) => std::fs::read_to_string(path).map_err(|e| FileError::reading(path, e))?,
        None => smolt_text::template::CHATML.to_string(),
    };
    let rates = rates(sources, settings.sample_bytes)?;
    let mut taken: BTreeMap<String, SourceRecord> = BTreeMap::new();
    let mut failed = None;
    let documents = sources.iter().zip(&rates).flat_map(|(source, &rate)| {
        let mut sample = ByBytes::new(rate);
        let taking = move |d: &Result<Document, _>| match d {
            Ok(document) => sample.takes(document.text.len() as u64),
            Err(_) => true,
        };
        Documents::new(&source.paths).filter(taking).map(move |document| (source, document))
    });
    let texts = documents.map_while(|(source, document)| match document {
        Ok(document) => {
            let empty = SourceRecord { weight: source.weight, documents: 0, bytes: 0 };
            let sum = taken.entry(source.name.clone()).or_insert(empty);
            sum.documents += 1;
            sum.bytes += document.text.len() as u64;
            Some(document.text)
        }
        Err(error) => {
            failed = Some(error);
            None
        }
    });
    let trained = tokenizer::train_on(texts, &train, threads)?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    if trained.report.documents == 0 {
        let paths = sources.iter().flat_map(|s| &s.paths);
        let names: Vec<String> = paths.map(|p| p.display().to_string()).collect();
        let text =
            format!("{}: no documents to train a tokenizer on; give files with text", names.join(", "));
        return Err(Failure::bad_input(text));
    }
    let tokenizer_hash = trained.tokenizer.hash().to_owned();
    let record = TrainingRecord { format_version: 1, tokenizer_hash, sources: taken };
    // Documents that nobody named are no mixture, and a record of them would seem to differ from every one.
    let record = sources.iter().any(|s| s.name != UNNAMED).then_some(record);
    save(out, &trained, &template, record.as_ref())?;
    Ok(trained.report)
}

/// Writes `base/`, `chat/` and `report.json`.
fn save(
    out: &Path,
    trained: &tokenizer::Trained,
    template: &str,
    record: Option<&TrainingRecord>,
) -> Result<(), Failure> {
    for (name, roles, template) in
        [("base", SpecialRoles::pretrained(), None), ("chat", SpecialRoles::chat(), Some(template))]
    {
        let dir = out.join(name);
        std::fs::create_dir_all(&dir).map_err(|e| FileError::writing(&dir, e))?;
        tokenizer::save(&dir, &trained.tokenizer, &roles, template)?;
        if let Some(record) = record {
            record.save(&dir)?;
        }
    }
    let report = serde_json::to_string_pretty(&json!({"format_version": 1, "report": trained.report}));
    smolt_run::atomic::write(&out.join("report.json"), output::or_empty(report).as_bytes())?;
    Ok(())
}

/// What share of each source belongs to the sample; sources are read once to know their sizes, unless all is taken.
fn rates(sources: &[Source], sample_bytes: Option<u64>) -> Result<Vec<f64>, Failure> {
    for (i, source) in sources.iter().enumerate() {
        if !(source.weight > 0.0 && source.weight.is_finite()) {
            let text =
                format!("source {:?} has the weight {}; weights are positive", source.name, source.weight);
            return Err(Failure::bad_input(text));
        }
        if sources[..i].iter().any(|other| other.name == source.name) {
            return Err(Failure::bad_input(format!(
                "two sources are called {:?}; name each once",
                source.name
            )));
        }
    }
    if sources.len() == 1 && sample_bytes.is_none() {
        return Ok(vec![1.0]);
    }
    let mut sizes = Vec::new();
    for source in sources {
        let mut bytes = 0;
        for document in Documents::new(&source.paths) {
            bytes += document?.text.len() as u64;
        }
        if bytes == 0 {
            return Err(Failure::bad_input(format!("source {:?} has no text; leave it out", source.name)));
        }
        sizes.push((bytes, source.weight));
    }
    Ok(sample::rates(&sizes, sample_bytes))
}
