//! What to train, and what came out.

use super::super::TokenizerError;
use super::letters::ASCII;
use serde::{Deserialize, Serialize};

/// Embedding matrices are fastest with rows in this multiple (spec `TOK-05`).
const VOCAB_MULTIPLE: usize = 128;
/// As the reader's limit: no known vocabulary is near.
const MAX_VOCAB: usize = 1 << 20;
/// Stands for what a Unigram vocabulary lacks; it is spelled in byte tokens, so this one never comes out.
pub(super) const UNIGRAM_UNK: &str = "<unk>";
/// Stands for words with letters that a WordPiece vocabulary lacks.
pub(super) const WORDPIECE_UNK: &str = "[UNK]";

smolt_run::recipe! {
    /// How words are cut into tokens (spec TOK-02).
    pub enum Model {
        /// Merges of frequent pairs of bytes; every text comes back (GPT-2, Llama 3, Qwen, SmolLM).
        Bpe = "bpe",
        /// The likeliest segmentation under a unigram model of pieces, bytes for what it lacks (T5).
        Unigram = "unigram",
        /// The longest pieces from the left; white space and unknown letters are lost (BERT).
        WordPiece = "wordpiece",
    }

    /// How digits are cut before anything is merged (spec TOK-13).
    pub enum Digits {
        /// Every digit is a token of its own: numbers of any length are spelled alike, which helps arithmetic.
        Single = "single",
        /// Groups of up to three from the left, as in Llama 3: 1234 is 123 4.
        ThreeLeft = "three-left",
        /// Groups of up to three from the right, as people write thousands: 1234 is 1 234.
        ThreeRight = "three-right",
        /// Digits merge like letters.
        None = "none",
    }
}

/// What to train.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrainSettings {
    /// The kind of model.
    pub model: Model,
    /// Tokens in all, special ones included; rounded up to a multiple of 128 with reserved tokens.
    pub vocab_size: usize,
    /// Control tokens, which take the ids from 0 in this order. Unigram and WordPiece add their unknown token.
    pub special_tokens: Vec<String>,
    /// How digits are cut.
    pub digits: Digits,
    /// A pair must occur at least this often to be merged.
    pub min_frequency: u64,
}

impl Default for TrainSettings {
    fn default() -> Self {
        let special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"];
        Self {
            model: Model::Bpe,
            vocab_size: 8192,
            special_tokens: special.map(str::to_owned).to_vec(),
            digits: Digits::Single,
            min_frequency: 2,
        }
    }
}

impl TrainSettings {
    /// `special_tokens` and the model's unknown token.
    pub(super) fn all_special_tokens(&self) -> Vec<String> {
        let unknown = match self.model {
            Model::Bpe => None,
            Model::Unigram => Some(UNIGRAM_UNK),
            Model::WordPiece => Some(WORDPIECE_UNK),
        };
        let mut all = self.special_tokens.clone();
        all.extend(unknown.filter(|&u| !self.special_tokens.iter().any(|t| t == u)).map(str::to_owned));
        all
    }

    /// `vocab_size` rounded up to a multiple of 128.
    pub fn padded_vocab_size(&self) -> usize {
        self.vocab_size.next_multiple_of(VOCAB_MULTIPLE)
    }

    pub(super) fn check(&self) -> Result<(), TokenizerError> {
        let special = self.all_special_tokens();
        let (least, parts) = match self.model {
            Model::Bpe => (special.len() + 256, "special tokens and 256 bytes"),
            Model::Unigram => (special.len() + 256 + ASCII + 2, "special tokens, 256 bytes and ASCII"),
            Model::WordPiece => (special.len() + 2 * ASCII, "special tokens and ASCII twice"),
        };
        if !(least..=MAX_VOCAB).contains(&self.vocab_size) {
            return Err(TokenizerError::Settings(format!(
                "vocab_size = {}: choose {least} ({parts}) to {MAX_VOCAB}",
                self.vocab_size
            )));
        }
        if let Some(token) = special.iter().find(|t| t.trim().is_empty() || t.trim() != t.as_str()) {
            return Err(TokenizerError::Settings(format!(
                "special_tokens: {token:?} is empty or has outer space; write it like <|name|>"
            )));
        }
        super::unique(&special)
    }
}

/// What came out, for the user to read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainReport {
    /// `bpe`, `unigram` or `wordpiece`.
    pub model: String,
    /// `single`, `three-left`, `three-right` or `none`.
    pub digits: String,
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
    /// How many tokens the text could not fill: wanted, but nothing was frequent enough.
    pub missing: usize,
    /// Parts of documents that the pattern gave up on (numbers of a million digits); nothing was learned from them.
    #[serde(default)]
    pub uncut: u64,
}

impl std::fmt::Display for TrainReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { documents, bytes, merges, vocab_size, reserved, missing, uncut, .. } = self;
        write!(f, "{vocab_size} tokens (")?;
        if self.model == Model::Bpe.as_str() {
            write!(f, "{merges} merges, ")?;
        }
        write!(f, "{reserved} reserved) from {documents} documents, {bytes} bytes")?;
        if *missing > 0 {
            write!(
                f,
                "; the text is too small for {missing} of them, which are reserved: give more text or a smaller vocab_size"
            )?;
        }
        if *uncut > 0 {
            write!(f, "; {uncut} parts of documents could not be cut into words and were left out")?;
        }
        Ok(())
    }
}
