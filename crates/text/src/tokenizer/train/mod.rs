//! Training tokenizers: byte-level BPE, Unigram and WordPiece (spec `TOK-02`, `TOK-05`, `TOK-13`).

mod bpe;
mod count;
mod cut;
mod letters;
mod settings;
mod unigram;
mod wordpiece;

pub use settings::{Digits, Model, TrainReport, TrainSettings};

use super::bytes::Alphabet;
use super::write::{self, Body};
use super::{Tokenizer, TokenizerError};
use count::Words;
use cut::Cutter;
use smolt_run::resources;
use std::collections::HashMap;
use std::path::Path;

/// What the names of tokens begin with that only fill up the vocabulary.
const RESERVED: &str = "<|reserved_";

/// A trained tokenizer and what is to be said about it.
#[derive(Clone, Debug)]
pub struct Trained {
    /// Ready to encode; save it with [`super::save`].
    pub tokenizer: Tokenizer,
    /// What came out.
    pub report: TrainReport,
}

/// Trains on `documents` with the threads that the machine offers; see [`train_on`].
pub fn train(
    documents: impl Iterator<Item = String>,
    settings: &TrainSettings,
) -> Result<Trained, TokenizerError> {
    train_on(documents, settings, resources::available_threads())
}

/// Trains on `documents` with `threads` threads. The same documents in any order and with any number of threads give
/// the same bytes.
///
/// Memory holds the distinct words of the text, about twenty bytes for each of their letters, and not the text.
pub fn train_on(
    documents: impl Iterator<Item = String>,
    settings: &TrainSettings,
    threads: usize,
) -> Result<Trained, TokenizerError> {
    settings.check()?;
    let cutter = Cutter::new(splitter(settings)?);
    let counted = count::count(documents, &cutter, threads.max(1))?;
    let special = settings.all_special_tokens();
    let (documents, bytes, uncut) = (counted.documents, counted.bytes, counted.uncut);
    let made = match settings.model {
        Model::Bpe => byte_level_bpe(counted.words, settings, &special),
        Model::Unigram => unigram::train(counted.words, settings, &special, threads)?,
        Model::WordPiece => wordpiece::train(counted.words, settings, &special)?,
    };
    let (json, vocab_size, reserved) = finish(made, settings, &special)?;
    let tokenizer = Tokenizer::from_json(&json.0, Path::new("the trained tokenizer"))?;
    let missing = reserved - (vocab_size - settings.vocab_size);
    let report = TrainReport {
        model: settings.model.as_str().to_owned(),
        digits: settings.digits.as_str().to_owned(),
        documents,
        bytes,
        merges: json.1,
        vocab_size,
        reserved,
        missing,
        uncut,
    };
    Ok(Trained { tokenizer, report })
}

/// What a model's trainer made: tokens in id order, special ones first.
struct Made {
    tokens: Vec<String>,
    /// Byte-level BPE's merges.
    merges: Vec<(String, String)>,
    /// Unigram's log probabilities, one per token.
    scores: Vec<f64>,
}

/// Counted words to merges; symbols are the bytes in the order of their characters.
fn byte_level_bpe(words: Words, settings: &TrainSettings, special: &[String]) -> Made {
    let alphabet = Alphabet::new();
    let initial: Vec<Vec<u8>> =
        alphabet.sorted().into_iter().map(|c| alphabet.read(c.encode_utf8(&mut [0; 4]))).collect();
    let mut symbols = [0; 256];
    for (symbol, bytes) in (0..).zip(&initial) {
        symbols[usize::from(bytes[0])] = symbol;
    }
    let mut corpus = bpe::Corpus::with_capacity(words.len(), words.byte_len());
    for (word, count) in words.iter() {
        corpus.push(word.iter().map(|&byte| symbols[usize::from(byte)]), count);
    }
    drop(words);
    let goal = bpe::Goal {
        vocab_size: settings.vocab_size - special.len(),
        min_frequency: settings.min_frequency,
        continuing_prefix: "",
    };
    let learned = bpe::learn(corpus, initial, &goal);
    let spelled: Vec<String> = learned.tokens.iter().map(|bytes| alphabet.spell(bytes)).collect();
    let merges = learned
        .merges
        .iter()
        .map(|&(a, b)| (spelled[a as usize].clone(), spelled[b as usize].clone()))
        .collect();
    Made { tokens: special.iter().cloned().chain(spelled).collect(), merges, scores: Vec::new() }
}

/// Pads the vocabulary with reserved tokens and writes it; also returns the merges' number, the padded size and how
/// many tokens are reserved.
#[allow(clippy::type_complexity)] // three numbers of one report
fn finish(
    mut made: Made,
    settings: &TrainSettings,
    special: &[String],
) -> Result<((Vec<u8>, usize), usize, usize), TokenizerError> {
    let vocab_size = settings.padded_vocab_size();
    let reserved = vocab_size - made.tokens.len();
    made.tokens.extend((0..reserved).map(|n| format!("{RESERVED}{n}|>")));
    unique(&made.tokens)?;
    let added: Vec<(u32, &str)> = (0..special.len())
        .chain(vocab_size - reserved..vocab_size)
        .map(|id| (id as u32, made.tokens[id].as_str()))
        .collect();
    let scored: Vec<(String, f64)>;
    let body = match settings.model {
        Model::Bpe => Body::Bpe { vocab: &made.tokens, merges: &made.merges },
        Model::WordPiece => Body::WordPiece { vocab: &made.tokens },
        Model::Unigram => {
            let scores = made.scores.iter().copied().chain(std::iter::repeat(unigram::NEVER));
            scored = made.tokens.iter().cloned().zip(scores).collect();
            let unk_id = special.iter().position(|t| t == settings::UNIGRAM_UNK).unwrap_or(0);
            Body::Unigram { vocab: &scored, unk_id }
        }
    };
    let json = write::tokenizer_json(&body, &added, settings.digits);
    Ok(((json, made.merges.len()), vocab_size, reserved))
}

/// A tokenizer that has learned nothing, so that training cuts text exactly as encoding will.
fn splitter(settings: &TrainSettings) -> Result<Tokenizer, TokenizerError> {
    let tokens: Vec<String> = match settings.model {
        Model::Bpe => Alphabet::new().sorted().into_iter().map(String::from).collect(),
        Model::Unigram => unigram::byte_tokens().collect(),
        Model::WordPiece => Vec::new(),
    };
    let scored: Vec<(String, f64)>;
    let unk = [settings::WORDPIECE_UNK.to_owned()];
    let body = match settings.model {
        Model::Bpe => Body::Bpe { vocab: &tokens, merges: &[] },
        Model::Unigram => {
            let unk = [(settings::UNIGRAM_UNK.to_owned(), 0.0)];
            scored = unk.into_iter().chain(tokens.into_iter().map(|t| (t, 0.0))).collect();
            Body::Unigram { vocab: &scored, unk_id: 0 }
        }
        Model::WordPiece => Body::WordPiece { vocab: &unk },
    };
    let json = write::tokenizer_json(&body, &[], settings.digits);
    Tokenizer::from_json(&json, Path::new("the pre-tokenizer"))
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
