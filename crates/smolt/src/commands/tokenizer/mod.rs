//! `smolt tokenizer`: train, measure, compare, advise.

mod advise;
mod compare;
mod html;
mod measure;
mod train;

use crate::Outcome;
use clap::Subcommand;
use smolt_data::document::Documents;
use smolt_run::error::Failure;
use smolt_text::measure::Measure;
use smolt_text::measure::words::Segmenter;
use smolt_text::tokenizer::Tokenizer;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[derive(Subcommand)]
pub(crate) enum Action {
    /// Train a tokenizer; writes OUT/base and OUT/chat, folders that transformers loads
    Train(train::Args),
    /// Measure tokenizers on texts: tokens per word, continued words, characters and bytes per token
    Measure(measure::Args),
    /// Lay tokenizers side by side: words, sentences, numbers, the price of the embedding
    Compare(compare::Args),
    /// Say whether one of these tokenizers will do or one should be trained, and what speaks against each
    Advise(advise::Args),
}

pub(crate) fn run(action: Action) -> Outcome {
    match action {
        Action::Train(args) => train::run(&args),
        Action::Measure(args) => measure::run(&args),
        Action::Compare(args) => compare::run(&args),
        Action::Advise(args) => advise::run(&args),
    }
}

/// A tokenizer with the name that tables call it.
struct Named {
    name: String,
    /// Where its files lie.
    folder: PathBuf,
    tokenizer: Tokenizer,
}

/// Loads folders, or tokenizer.json files; a name is the end of the path that tells it from the others.
fn load(paths: &[PathBuf]) -> Result<Vec<Named>, Failure> {
    let mut all = Vec::new();
    for path in paths {
        let folder = match path.is_dir() {
            true => path.clone(),
            false => path.parent().unwrap_or(Path::new("")).to_owned(),
        };
        let file = if path.is_dir() { path.join("tokenizer.json") } else { path.clone() };
        all.push(Named { name: String::new(), folder, tokenizer: Tokenizer::load(&file)? });
    }
    let end = |path: &Path, parts: usize| {
        let names: Vec<_> = path.components().map(|c| c.as_os_str().to_string_lossy()).collect();
        names[names.len().saturating_sub(parts)..].join("/")
    };
    let longest = paths.iter().map(|p| p.components().count()).max().unwrap_or(1);
    let different = |parts: &usize| {
        let names: std::collections::BTreeSet<String> = paths.iter().map(|p| end(p, *parts)).collect();
        names.len() == paths.len()
    };
    let parts = (1..=longest).find(different).unwrap_or(longest);
    for (named, path) in all.iter_mut().zip(paths) {
        named.name = end(path, parts);
    }
    Ok(all)
}

/// `LANG=FILE`, as `--text` has it.
#[derive(Clone, Debug)]
struct Text {
    label: String,
    path: PathBuf,
}

impl std::str::FromStr for Text {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((label, path)) if !label.is_empty() && !path.is_empty() => {
                Ok(Self { label: label.into(), path: path.into() })
            }
            _ => Err("write it as LANG=FILE, e.g. fr=wiki-fr.jsonl".into()),
        }
    }
}

/// `NAME=NUMBER`, as `--mixture` has it.
#[derive(Clone, Debug)]
struct Share(String, f64);

impl std::str::FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('=').and_then(|(name, n)| Some(Self(name.to_owned(), n.parse().ok()?)));
        match parsed {
            Some(Self(name, share)) if !name.is_empty() && share > 0.0 && share.is_finite() => {
                Ok(Self(name, share))
            }
            _ => Err("write it as SOURCE=SHARE with a positive share, e.g. code=0.15".into()),
        }
    }
}

/// The documents of each label, in order of labels.
fn read_texts(texts: &[Text]) -> Result<BTreeMap<String, Vec<String>>, Failure> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for text in texts {
        let documents = all.entry(text.label.clone()).or_default();
        for document in Documents::new(std::slice::from_ref(&text.path)) {
            documents.push(document?.text);
        }
        if documents.iter().all(|d| d.trim().is_empty()) {
            return Err(Failure::bad_input(format!("{}: no text to measure on", text.path.display())));
        }
    }
    Ok(all)
}

/// Each tokenizer's measure of each label.
fn measure_all(
    tokenizers: &[Named],
    texts: &BTreeMap<String, Vec<String>>,
) -> Vec<BTreeMap<String, Measure>> {
    let segmenter = Segmenter::new();
    let of = |tokenizer: &Tokenizer, documents: &[String]| {
        Measure::of(tokenizer, &segmenter, documents.iter().map(String::as_str))
    };
    tokenizers
        .iter()
        .map(|t| texts.iter().map(|(label, d)| (label.clone(), of(&t.tokenizer, d))).collect())
        .collect()
}

/// The geometric mean of fertility over labels: a tenth more tokens weighs the same in each.
fn mean_fertility(measures: &BTreeMap<String, Measure>) -> f64 {
    let logs: f64 = measures.values().map(|m| m.fertility().max(f64::MIN_POSITIVE).ln()).sum();
    (logs / measures.len().max(1) as f64).exp()
}
