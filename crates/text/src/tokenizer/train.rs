//! Training byte-level BPE.

use super::bytes::Alphabet;
use super::{Tokenizer, TokenizerError, write};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::mpsc::sync_channel;
use tokenizers::pipeline::{PipelineTokenizer, PreTokenizer, PreTokenizerScratch};
use tokenizers::trainers::BpeTrainer;
use tokenizers::{Trainer, trainers};

/// Embedding matrices are fastest with rows in this multiple (spec `TOK-05`).
const VOCAB_MULTIPLE: usize = 128;
/// As the reader's limit: no known vocabulary is near.
const MAX_VOCAB: usize = 1 << 20;

/// How digits are cut before merging (spec `TOK-13`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SplitDigits {
    /// Every digit is a token of its own: numbers of any length are spelled alike, which helps arithmetic.
    #[default]
    Single,
    /// Digits merge like letters.
    None,
}

/// What to train.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainSettings {
    /// Tokens in all, special ones included; rounded up to a multiple of 128 with reserved tokens.
    pub vocab_size: usize,
    /// Control tokens, which take the ids from 0 in this order.
    pub special_tokens: Vec<String>,
    /// How digits are cut.
    pub split_digits: SplitDigits,
    /// A pair must occur at least this often to be merged.
    pub min_frequency: u64,
}

impl Default for TrainSettings {
    fn default() -> Self {
        let special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"];
        Self {
            vocab_size: 8192,
            special_tokens: special.map(str::to_owned).to_vec(),
            split_digits: SplitDigits::Single,
            min_frequency: 2,
        }
    }
}

/// What came out, for the user to read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainReport {
    /// Documents read.
    pub documents: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Merges learned.
    pub merges: usize,
    /// Final vocabulary size, a multiple of 128.
    pub vocab_size: usize,
    /// How many of these are `<|reserved_N|>`.
    pub reserved: usize,
    /// How many tokens the text could not fill: merges wanted but not found often enough.
    pub missing: usize,
}

impl std::fmt::Display for TrainReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { documents, bytes, merges, vocab_size, reserved, missing } = self;
        write!(
            f,
            "{vocab_size} tokens ({merges} merges, {reserved} reserved) from {documents} documents, {bytes} bytes"
        )?;
        if *missing > 0 {
            write!(
                f,
                "; the text is too small for {missing} of them, which are reserved: give more text or a smaller vocab_size"
            )?;
        }
        Ok(())
    }
}

/// A trained tokenizer and what is to be said about it.
#[derive(Clone, Debug)]
pub struct Trained {
    /// Ready to encode; save it with [`super::save`].
    pub tokenizer: Tokenizer,
    /// What came out.
    pub report: TrainReport,
}

/// Trains byte-level BPE on `documents`. The same documents in any order and with any number of threads
/// (`RAYON_NUM_THREADS`) give the same bytes.
///
/// Pair counts are 32-bit in the trainer: give a sample, not more than some gigabytes of text.
pub fn train(
    documents: impl Iterator<Item = String>,
    settings: &TrainSettings,
) -> Result<Trained, TokenizerError> {
    check(settings)?;
    let alphabet = Alphabet::new();
    let special = settings.special_tokens.len();
    let mut trainer = BpeTrainer::builder()
        .show_progress(false)
        .progress_format(tokenizers::ProgressFormat::Silent)
        .vocab_size(settings.vocab_size - special)
        .min_frequency(settings.min_frequency)
        .initial_alphabet(alphabet.sorted().into_iter().collect())
        .build();
    let (read, bytes) = feed(&mut trainer, documents, settings, &alphabet)?;
    let (vocab, merges, _) = trainer.train_vocab().map_err(|e| TokenizerError::Training(e.to_string()))?;
    let mut learned: Vec<(u32, String)> = vocab.into_iter().map(|(token, id)| (id, token)).collect();
    learned.sort_unstable();
    let missing = settings.vocab_size - special - learned.len();
    let mut tokens = settings.special_tokens.clone();
    tokens.extend(learned.into_iter().map(|(_, token)| token));
    let vocab_size = settings.vocab_size.next_multiple_of(VOCAB_MULTIPLE);
    let reserved = vocab_size - tokens.len();
    tokens.extend((0..reserved).map(|n| format!("<|reserved_{n}|>")));
    unique(&tokens)?;
    // The trainer repeats a merge when the same string was made in two ways; only the first can ever apply.
    let mut seen = HashSet::new();
    let merges: Vec<_> = merges.into_iter().filter(|merge| seen.insert(merge.clone())).collect();
    let added: Vec<(u32, &str)> = (0..special)
        .chain(vocab_size - reserved..vocab_size)
        .map(|id| (id as u32, tokens[id].as_str()))
        .collect();
    let json = write::tokenizer_json(&tokens, &merges, &added, settings.split_digits);
    let tokenizer = Tokenizer::from_json(&json, Path::new("the trained tokenizer"))?;
    let report = TrainReport { documents: read, bytes, merges: merges.len(), vocab_size, reserved, missing };
    Ok(Trained { tokenizer, report })
}

/// Counts words: documents come from this thread, whose iterator need not be `Send`, and are cut on all cores.
fn feed(
    trainer: &mut trainers::BpeTrainer,
    documents: impl Iterator<Item = String>,
    settings: &TrainSettings,
    alphabet: &Alphabet,
) -> Result<(u64, u64), TokenizerError> {
    let splitter = splitter(settings.split_digits, alphabet)?;
    let engine: &PipelineTokenizer = &splitter.inner.engine;
    let words = |text: &str| -> tokenizers::Result<Vec<String>> {
        let mut spans = Vec::new();
        engine.get_pre_tokenizer().pre_tokenize(text, &mut PreTokenizerScratch::default(), &mut spans)?;
        Ok(spans.into_iter().map(|span| alphabet.spell(&text.as_bytes()[span.range()])).collect())
    };
    let (mut read, mut bytes) = (0, 0);
    std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel::<String>(256);
        let feeder = scope.spawn(move || trainer.feed(receiver.into_iter(), words));
        for document in documents {
            read += 1;
            bytes += document.len() as u64;
            if sender.send(document).is_err() {
                break;
            }
        }
        drop(sender);
        match feeder.join() {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(TokenizerError::Training(error.to_string())),
            Err(_) => Err(TokenizerError::Training("cutting the text into words failed".into())),
        }
    })?;
    Ok((read, bytes))
}

/// A tokenizer without merges, so that training cuts text exactly as encoding will.
fn splitter(split_digits: SplitDigits, alphabet: &Alphabet) -> Result<Tokenizer, TokenizerError> {
    let bytes: Vec<String> = alphabet.sorted().into_iter().map(String::from).collect();
    Tokenizer::from_json(
        &write::tokenizer_json(&bytes, &[], &[], split_digits),
        Path::new("the pre-tokenizer"),
    )
}

fn check(settings: &TrainSettings) -> Result<(), TokenizerError> {
    let least = settings.special_tokens.len() + 256;
    if !(least..=MAX_VOCAB).contains(&settings.vocab_size) {
        return Err(TokenizerError::Settings(format!(
            "vocab_size = {}: choose {least} (special tokens and 256 bytes) to {MAX_VOCAB}",
            settings.vocab_size
        )));
    }
    if let Some(token) =
        settings.special_tokens.iter().find(|t| t.trim().is_empty() || t.trim() != t.as_str())
    {
        return Err(TokenizerError::Settings(format!(
            "special_tokens: {token:?} is empty or has outer space; write it like <|name|>"
        )));
    }
    unique(&settings.special_tokens)
}

fn unique(tokens: &[String]) -> Result<(), TokenizerError> {
    let mut seen = HashMap::new();
    for (id, token) in tokens.iter().enumerate() {
        if let Some(first) = seen.insert(token, id) {
            return Err(TokenizerError::Settings(format!(
                "special_tokens: {token:?} would be token {first} and token {id}; choose a name that no text has, like <|name|>"
            )));
        }
    }
    Ok(())
}
