//! How a tokenizer cuts numbers (spec `TOK-13`), found by giving it some.

use crate::tokenizer::{Digits, Tokenizer};
use serde::Serialize;

/// Numbers that tell the ways apart, and enough others to meet merges that only some numbers have.
fn probes() -> impl Iterator<Item = String> {
    let fixed = ["342792", "1234567", "2024", "1000000", "3141592653589793", "12", "100"];
    // Digits of the powers of 7 are as good as any, and the same everywhere.
    let powers = (1..=22).map(|n| 7u64.pow(n).to_string());
    fixed.map(str::to_owned).into_iter().chain(powers)
}

/// What came out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DigitAudit {
    /// The way that explains every probe: `single`, `three-left`, `three-right`, or `none` when digits merge like letters.
    pub policy: String,
    /// Digits of the longest token that a probe gave.
    pub longest: usize,
    /// Tokens of the vocabulary that are two or more digits and nothing else but a space before them.
    pub multi_digit_tokens: usize,
    /// `342792` as it is cut.
    pub example: Vec<String>,
}

impl DigitAudit {
    /// Audits `tokenizer`.
    pub fn of(tokenizer: &Tokenizer) -> Self {
        let cut: Vec<Vec<usize>> = probes().map(|number| lengths(tokenizer, &number)).collect();
        let fits = |expected: fn(usize) -> Vec<usize>| {
            cut.iter().zip(probes()).all(|(found, number)| *found == expected(number.len()))
        };
        let policy = if fits(|n| vec![1; n]) {
            Digits::Single
        } else if fits(|n| groups(n, false)) {
            Digits::ThreeLeft
        } else if fits(|n| groups(n, true)) {
            Digits::ThreeRight
        } else {
            Digits::None
        };
        let multi_digit = |id: &u32| {
            let bytes = tokenizer.token_bytes(*id);
            let digits = bytes.strip_prefix(b" ").unwrap_or(bytes);
            digits.len() >= 2 && digits.iter().all(u8::is_ascii_digit) && !tokenizer.is_special(*id)
        };
        Self {
            policy: policy.as_str().to_owned(),
            longest: cut.into_iter().flatten().max().unwrap_or(0),
            multi_digit_tokens: (0..tokenizer.vocab_size() as u32).filter(multi_digit).count(),
            example: pieces(tokenizer, "342792"),
        }
    }

    /// Whether arithmetic suffers: numbers longer than three digits can be single tokens, to be learned by heart.
    pub fn memorises(&self) -> bool {
        self.longest > 3
    }
}

fn groups(digits: usize, from_right: bool) -> Vec<usize> {
    let mut groups = vec![3; digits / 3];
    if !digits.is_multiple_of(3) {
        let place = if from_right { 0 } else { groups.len() };
        groups.insert(place, digits % 3);
    }
    groups
}

/// Digits in each token of `number` that has any.
fn lengths(tokenizer: &Tokenizer, number: &str) -> Vec<usize> {
    let count = |id: u32| tokenizer.token_bytes(id).iter().filter(|b| b.is_ascii_digit()).count();
    tokenizer.encode_ordinary(number).into_iter().map(count).filter(|&n| n > 0).collect()
}

/// The text of each token of `text`, for people: unfinished characters are U+FFFD.
pub fn pieces(tokenizer: &Tokenizer, text: &str) -> Vec<String> {
    let piece = |id| String::from_utf8_lossy(tokenizer.token_bytes(id)).into_owned();
    tokenizer.encode_ordinary(text).into_iter().map(piece).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::{Model, TrainSettings, train};

    #[test]
    fn every_policy_is_recognised() {
        // Every group of up to three digits, often enough to be merged wherever groups are left whole.
        let all: String = (0..1000).map(|n| format!(" {n:03} {:02} {}", n % 100, n % 10)).collect();
        let long = " 1000000".repeat(5000);
        for digits in [Digits::Single, Digits::ThreeLeft, Digits::ThreeRight, Digits::None] {
            let settings = TrainSettings { vocab_size: 1536, digits, ..TrainSettings::default() };
            let documents = vec![all.clone(), all.clone(), long.clone()];
            let tokenizer = train(documents.into_iter(), &settings).unwrap().tokenizer;
            let audit = DigitAudit::of(&tokenizer);
            assert_eq!(audit.policy, digits.as_str(), "{audit:?}");
            assert_eq!(audit.memorises(), digits == Digits::None, "{audit:?}");
            assert_eq!(audit.example.concat(), "342792");
        }
    }

    #[test]
    fn the_other_models_have_policies_too() {
        let text = (0..4000).map(|n| format!("number {n} ")).collect::<String>();
        for model in [Model::Unigram, Model::WordPiece] {
            for (digits, longest) in [(Digits::Single, 1), (Digits::ThreeLeft, 3), (Digits::ThreeRight, 3)] {
                let settings = TrainSettings { model, vocab_size: 1536, digits, ..TrainSettings::default() };
                let tokenizer = train([text.clone()].into_iter(), &settings).unwrap().tokenizer;
                let audit = DigitAudit::of(&tokenizer);
                assert!(audit.longest <= longest, "{model} {digits} {audit:?}");
            }
        }
    }
}
