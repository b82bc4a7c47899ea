//! `kind = "tokenizer"`: trains byte-level BPE; writes `base/` for pretraining and `chat/` for chat models.

use super::Context;
use crate::output;
use serde_json::json;
use smolt_data::document::Documents;
use smolt_run::error::{Failure, FileError};
use smolt_text::tokenizer::{self, SpecialRoles, SplitDigits, TrainSettings};
use std::path::{Path, PathBuf};

smolt_run::recipe! {
    /// A tokenizer to train (spec TOK-02).
    pub(crate) struct TokenizerSettings {
        /// JSONL or text files of documents.
        pub(crate) documents: Vec<String>,
        /// Tokens in all; rounded up to a multiple of 128 (TOK-05).
        pub(crate) vocab_size: usize = 4096,
        /// Every digit is a token of its own (TOK-13).
        pub(crate) split_digits: bool = true,
        /// A pair must occur this often to be merged.
        pub(crate) min_frequency: u64 = 2,
        /// Jinja file that overrides the bundled chat template.
        pub(crate) chat_template: Option<String>,
    }
}

pub(super) fn run(settings: &TokenizerSettings, context: &Context<'_>) -> Result<(), Failure> {
    let paths: Vec<PathBuf> = settings.documents.iter().map(|p| context.path(p)).collect();
    let template = settings.chat_template.as_ref().map(|p| context.path(p));
    let report = train(settings, &paths, template.as_deref(), context.folder)?;
    if !context.quiet {
        eprintln!("{report}");
    }
    Ok(())
}

/// Trains on the documents of `paths` and writes `base/`, `chat/` and `report.json` into `out`.
pub(crate) fn train(
    settings: &TokenizerSettings,
    paths: &[PathBuf],
    chat_template: Option<&Path>,
    out: &Path,
) -> Result<tokenizer::TrainReport, Failure> {
    let train = TrainSettings {
        vocab_size: settings.vocab_size.next_multiple_of(128),
        split_digits: if settings.split_digits { SplitDigits::Single } else { SplitDigits::None },
        min_frequency: settings.min_frequency,
        ..TrainSettings::default()
    };
    let mut failed = None;
    let documents = Documents::new(paths).map_while(|document| match document {
        Ok(document) => Some(document.text),
        Err(error) => {
            failed = Some(error);
            None
        }
    });
    let trained = tokenizer::train(documents, &train)?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    if trained.report.documents == 0 {
        let names: Vec<String> = paths.iter().map(|p| p.display().to_string()).collect();
        let text =
            format!("{}: no documents to train a tokenizer on; give files with text", names.join(", "));
        return Err(Failure::bad_input(text));
    }
    let template = match chat_template {
        Some(path) => std::fs::read_to_string(path).map_err(|e| FileError::reading(path, e))?,
        None => smolt_text::template::CHATML.to_string(),
    };
    for (name, roles, template) in
        [("base", SpecialRoles::pretrained(), None), ("chat", SpecialRoles::chat(), Some(template.as_str()))]
    {
        let dir = out.join(name);
        std::fs::create_dir_all(&dir).map_err(|e| FileError::writing(&dir, e))?;
        tokenizer::save(&dir, &trained.tokenizer, &roles, template)?;
    }
    let report = serde_json::to_string_pretty(&json!({"format_version": 1, "report": trained.report}));
    smolt_run::atomic::write(&out.join("report.json"), output::or_empty(report).as_bytes())?;
    Ok(trained.report)
}
