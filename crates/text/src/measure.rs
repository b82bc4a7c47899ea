//! How well a tokenizer fits a text (spec `TOK-06`, `TOK-07`, `TOK-08`).

use crate::tokenizer::Tokenizer;
use serde::{Deserialize, Serialize};

/// Sums over texts; ratios are derived, so that measures of parts can be added.
///
/// Compare bytes per token only within one language: a character is one byte in English and three in Chinese.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measure {
    /// UTF-8 bytes of all texts.
    pub bytes: u64,
    /// Tokens of all texts, encoded whole.
    pub tokens: u64,
    /// Words: runs without white space.
    pub words: u64,
    /// Tokens of all words, each encoded alone, without a space before it.
    pub word_tokens: u64,
    /// Words of two or more tokens.
    pub continued_words: u64,
}

impl Measure {
    /// Measures `texts`.
    pub fn of<'a>(tokenizer: &Tokenizer, texts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut sum = Self::default();
        for text in texts {
            sum.bytes += text.len() as u64;
            sum.tokens += tokenizer.encode_ordinary(text).len() as u64;
            for word in text.split_whitespace() {
                let tokens = tokenizer.encode_ordinary(word).len() as u64;
                sum.words += 1;
                sum.word_tokens += tokens;
                sum.continued_words += u64::from(tokens >= 2);
            }
        }
        sum
    }

    /// Bytes per token, the compression; 0 without tokens.
    pub fn bytes_per_token(&self) -> f64 {
        ratio(self.bytes, self.tokens)
    }

    /// Fertility: mean tokens per word; lower is better, 1 is the least.
    pub fn tokens_per_word(&self) -> f64 {
        ratio(self.word_tokens, self.words)
    }

    /// Proportion of continued words: the share of words with at least two tokens.
    pub fn continued_share(&self) -> f64 {
        ratio(self.continued_words, self.words)
    }
}

fn ratio(a: u64, b: u64) -> f64 {
    if b == 0 { 0.0 } else { a as f64 / b as f64 }
}
