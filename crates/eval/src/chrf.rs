//! chrF and chrF++ of translations, such as those of FLORES, as sacrebleu computes them (spec WRP-03).
//!
//! Popović, "chrF: character n-gram F-score for automatic MT evaluation" (2015), and "chrF++: words helping character
//! n-grams" (2017). Over n-grams of 1 to 6 characters without white space, and for chrF++ also of 1 and 2 words with the
//! punctuation at one of their ends split off: precision and recall are averaged over the orders that occur in both texts,
//! and F = (1 + β²) P R / (β² P + R) with β = 2, in percent. One reference a sentence. Equal to sacrebleu's `CHRF()` and
//! `CHRF(word_order=2)`: case kept, no smoothing.

use std::collections::HashMap;
use std::hash::Hash;

/// Longest n-gram of characters.
const CHARACTERS: usize = 6;

/// Longest n-gram of words.
const WORDS: usize = 2;

/// β²: recall counts so much more than precision.
const BETA_SQUARED: f64 = 4.0;

/// Which n-grams count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// Characters alone.
    Chrf,
    /// Characters and words.
    ChrfPlusPlus,
}

/// n-grams of one order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Order {
    hypothesis: u64,
    reference: u64,
    both: u64,
}

/// n-grams of any number of sentences by order: what a score is computed from. Sums of them are those of a corpus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts([Order; CHARACTERS + WORDS]);

impl Counts {
    /// The n-grams of a hypothesis and its reference.
    pub fn of(variant: Variant, hypothesis: &str, reference: &str) -> Self {
        let mut counts = Self::default();
        let characters = |text: &str| -> Vec<char> { text.chars().filter(|&c| !is_space(c)).collect() };
        let (ours, theirs) = (characters(hypothesis), characters(reference));
        for length in 1..=CHARACTERS {
            counts.0[length - 1] = matched(&ours, &theirs, length);
        }
        if variant == Variant::ChrfPlusPlus {
            let (ours, theirs) = (words(hypothesis), words(reference));
            for length in 1..=WORDS {
                counts.0[CHARACTERS + length - 1] = matched(&ours, &theirs, length);
            }
        }
        counts
    }

    /// Adds those of other sentences.
    pub fn add(&mut self, other: &Self) {
        for (sum, order) in self.0.iter_mut().zip(&other.0) {
            sum.hypothesis += order.hypothesis;
            sum.reference += order.reference;
            sum.both += order.both;
        }
    }

    /// The score, 0..=100.
    pub fn score(&self) -> f64 {
        let (mut precision, mut recall, mut orders) = (0.0, 0.0, 0u32);
        for order in self.0.iter().filter(|order| order.hypothesis > 0 && order.reference > 0) {
            precision += order.both as f64 / order.hypothesis as f64;
            recall += order.both as f64 / order.reference as f64;
            orders += 1;
        }
        if precision + recall == 0.0 {
            return 0.0;
        }
        let (precision, recall) = (precision / f64::from(orders), recall / f64::from(orders));
        let score = (1.0 + BETA_SQUARED) * precision * recall;
        100.0 * (score / (BETA_SQUARED * precision + recall))
    }
}

/// The score of one sentence, 0..=100. An empty reference scores 0.
pub fn sentence(variant: Variant, hypothesis: &str, reference: &str) -> f64 {
    Counts::of(variant, hypothesis, reference).score()
}

/// The score of a corpus of (hypothesis, reference), 0..=100: of the sums of its n-grams, not the mean of its sentences.
pub fn corpus<'a>(variant: Variant, pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> f64 {
    let mut counts = Counts::default();
    for (hypothesis, reference) in pairs {
        counts.add(&Counts::of(variant, hypothesis, reference));
    }
    counts.score()
}

/// n-grams of one length in both. Where the reference has none, those of the hypothesis do not count.
fn matched<T: Hash + Eq>(hypothesis: &[T], reference: &[T], length: usize) -> Order {
    let mut left: HashMap<&[T], u64> = HashMap::new();
    for ngram in reference.windows(length) {
        *left.entry(ngram).or_default() += 1;
    }
    if left.is_empty() {
        return Order::default();
    }
    let mut order = Order { reference: reference.windows(length).len() as u64, ..Order::default() };
    for ngram in hypothesis.windows(length) {
        order.hypothesis += 1;
        if let Some(times) = left.get_mut(ngram).filter(|times| **times > 0) {
            *times -= 1;
            order.both += 1;
        }
    }
    order
}

/// Words; of one that is longer than a character, ASCII punctuation at its end is split off, or else at its beginning.
fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    for word in text.split(is_space).filter(|word| !word.is_empty()) {
        let (Some(first), Some(last)) = (word.chars().next(), word.chars().next_back()) else { continue };
        if first.len_utf8() == word.len() {
            words.push(word);
        } else if last.is_ascii_punctuation() {
            words.extend([&word[..word.len() - 1], &word[word.len() - 1..]]);
        } else if first.is_ascii_punctuation() {
            words.extend([&word[..1], &word[1..]]);
        } else {
            words.push(word);
        }
    }
    words
}

/// What Python's `str.split` takes for white space: Unicode's, and the four separators of ASCII.
fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::Deserialize;

    #[derive(Deserialize)]
    struct Golden {
        cases: Vec<Case>,
        corpus: Scores,
    }

    #[derive(Deserialize)]
    struct Case {
        hypothesis: String,
        reference: String,
        #[serde(flatten)]
        scores: Scores,
    }

    #[derive(Deserialize)]
    struct Scores {
        chrf: f64,
        chrf_plus_plus: f64,
    }

    #[test]
    fn scores_are_those_of_sacrebleu() {
        let path =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/chrf/cases.json");
        let golden: Golden = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert!(golden.cases.len() >= 30);
        for Case { hypothesis, reference, scores } in &golden.cases {
            for (variant, expected) in
                [(Variant::Chrf, scores.chrf), (Variant::ChrfPlusPlus, scores.chrf_plus_plus)]
            {
                let score = sentence(variant, hypothesis, reference);
                assert!(
                    (score - expected).abs() < 1e-9,
                    "{variant:?} {hypothesis:?}: {score}, not {expected}"
                );
            }
        }
        let pairs = || golden.cases.iter().map(|case| (case.hypothesis.as_str(), case.reference.as_str()));
        assert!((corpus(Variant::Chrf, pairs()) - golden.corpus.chrf).abs() < 1e-9);
        assert!((corpus(Variant::ChrfPlusPlus, pairs()) - golden.corpus.chrf_plus_plus).abs() < 1e-9);
    }

    #[test]
    fn words_lose_punctuation_at_one_end() {
        assert_eq!(words("(hi) \"a, . é! ab\u{1f}c"), ["(hi", ")", "\"a", ",", ".", "é", "!", "ab", "c"]);
        assert_eq!(words("\"ab (c"), ["\"", "ab", "(", "c"]);
    }

    #[test]
    fn nothing_scores_nothing() {
        for variant in [Variant::Chrf, Variant::ChrfPlusPlus] {
            assert_eq!(sentence(variant, "", "a"), 0.0);
            assert_eq!(sentence(variant, "a", ""), 0.0);
            assert_eq!(corpus(variant, []), 0.0);
        }
    }

    proptest! {
        #[test]
        fn scores_are_percentages_and_the_same_text_has_them_all(a in "\\PC{0,60}", b in "[a-c .]{0,30}", c in "[a-c .]{0,30}") {
            for variant in [Variant::Chrf, Variant::ChrfPlusPlus] {
                let same = sentence(variant, &a, &a);
                let blank = a.chars().all(is_space);
                let expected = if blank { 0.0 } else { 100.0 };
                prop_assert!((same - expected).abs() < 1e-9);
                prop_assert!((0.0..=100.0 + 1e-9).contains(&sentence(variant, &b, &c)));
            }
        }
    }
}
