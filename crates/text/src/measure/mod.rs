//! How well a tokenizer fits a text (spec `TOK-06`, `TOK-07`, `TOK-08`, `TOK-13`).

pub mod digits;
pub mod words;

use crate::tokenizer::Tokenizer;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use words::Segmenter;

/// Sums over texts; ratios are derived, so that measures of parts can be added.
///
/// Compare bytes or characters per token only within one language: a character is one byte in English and three in
/// Chinese, and a Chinese word has two characters where a German one has ten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measure {
    /// UTF-8 bytes of all texts.
    pub bytes: u64,
    /// Characters (Unicode scalar values) of all texts.
    pub characters: u64,
    /// Tokens of all texts, encoded whole.
    pub tokens: u64,
    /// Words, as [`words::SEGMENTER`] cuts them.
    pub words: u64,
    /// Of the words, each encoded alone.
    pub alone: WordTokens,
    /// Of the words, each encoded with a space before it.
    pub spaced: WordTokens,
}

/// Tokens of words, each encoded by itself and without special tokens. A word that gives no token counts as 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WordTokens {
    /// Tokens in all.
    pub tokens: u64,
    /// Words of two or more tokens.
    pub continued: u64,
}

impl WordTokens {
    fn add(&mut self, tokens: u64) {
        self.tokens += tokens;
        self.continued += u64::from(tokens >= 2);
    }
}

impl std::ops::AddAssign for Measure {
    fn add_assign(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.characters += other.characters;
        self.tokens += other.tokens;
        self.words += other.words;
        for (sum, part) in [(&mut self.alone, other.alone), (&mut self.spaced, other.spaced)] {
            sum.tokens += part.tokens;
            sum.continued += part.continued;
        }
    }
}

impl Measure {
    /// Measures `texts`.
    pub fn of<'a>(
        tokenizer: &Tokenizer,
        segmenter: &Segmenter,
        texts: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let mut sum = Self::default();
        let mut known: HashMap<&str, [u64; 2]> = HashMap::new();
        let mut spaced = String::new();
        for text in texts {
            sum.bytes += text.len() as u64;
            sum.characters += text.chars().count() as u64;
            sum.tokens += tokenizer.encode_ordinary(text).len() as u64;
            for word in segmenter.words(text) {
                let [alone, with_space] = *known.entry(word).or_insert_with(|| {
                    spaced.clear();
                    spaced.push(' ');
                    spaced.push_str(word);
                    [word, &spaced].map(|text| tokenizer.encode_ordinary(text).len() as u64)
                });
                sum.words += 1;
                sum.alone.add(alone);
                sum.spaced.add(with_space);
            }
        }
        sum
    }

    /// Bytes per token, the compression; 0 without tokens.
    pub fn bytes_per_token(&self) -> f64 {
        ratio(self.bytes, self.tokens)
    }

    /// Characters per token; 0 without tokens.
    pub fn characters_per_token(&self) -> f64 {
        ratio(self.characters, self.tokens)
    }

    /// Fertility: mean tokens per word encoded alone, without a leading space (spec `TOK-06`); lower is better.
    pub fn fertility(&self) -> f64 {
        ratio(self.alone.tokens, self.words)
    }

    /// Proportion of continued words: the share of words with at least two tokens (spec `TOK-07`).
    pub fn continued_share(&self) -> f64 {
        ratio(self.alone.continued, self.words)
    }

    /// Fertility of words with a space before them, as most stand in running text.
    pub fn fertility_spaced(&self) -> f64 {
        ratio(self.spaced.tokens, self.words)
    }

    /// Continued share of words with a space before them.
    pub fn continued_share_spaced(&self) -> f64 {
        ratio(self.spaced.continued, self.words)
    }
}

fn ratio(a: u64, b: u64) -> f64 {
    if b == 0 { 0.0 } else { a as f64 / b as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::{TrainSettings, train};

    #[test]
    fn words_are_encoded_one_by_one() {
        let documents = vec!["ab ab ab cd cd cd".to_owned(); 8];
        let settings = TrainSettings { vocab_size: 384, ..TrainSettings::default() };
        let tokenizer = train(documents.into_iter(), &settings).unwrap().tokenizer;
        let segmenter = Segmenter::new();
        let measure = Measure::of(&tokenizer, &segmenter, ["ab cd, ab"]);
        // ab | cd | , | ab
        assert_eq!((measure.bytes, measure.characters, measure.words), (9, 9, 4));
        let counted = |text: &str| tokenizer.encode_ordinary(text).len() as u64;
        let alone = 2 * counted("ab") + counted("cd") + counted(",");
        assert_eq!((measure.tokens, measure.alone.tokens), (counted("ab cd, ab"), alone));
        let spaced = 2 * counted(" ab") + counted(" cd") + counted(" ,");
        assert_eq!(measure.spaced.tokens, spaced);
        assert!((measure.fertility() - alone as f64 / 4.0).abs() < 1e-12);
        let mut twice = measure;
        twice += measure;
        assert_eq!(twice.words, 8);
        assert_eq!(twice.continued_share(), measure.continued_share());
        assert_eq!(Measure::default().fertility(), 0.0);
    }
}
