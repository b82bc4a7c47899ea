//! Gopher's quality rules (Rae et al. 2021, arXiv 2112.11446, table A1) as datatrove 0.10.1 applies them (spec `CLN-01`):
//! the same decision and the same reason, given the same words.

use memchr::memchr_iter;
use memchr::memmem;
use smolt_data::document::Document;

use crate::analysis::chars::{is_letter, is_symbol};
use crate::analysis::{Analysis, Span, python, text_of};
use crate::step::{Rejection, Step, Verdict};

smolt_run::recipe! {
    /// Gopher's quality rules; a limit of 0 turns its rule off.
    pub struct GopherQualitySettings {
        /// Fewest words that are not symbols alone.
        pub min_doc_words: usize = 50,
        /// Most words that are not symbols alone.
        pub max_doc_words: usize = 100_000,
        /// Least mean length of words that are not symbols alone, in characters.
        pub min_avg_word_length: f64 = 3.0,
        /// Largest mean length of words that are not symbols alone, in characters.
        pub max_avg_word_length: f64 = 10.0,
        /// Most `#` per word, and most ellipses per word.
        pub max_symbol_word_ratio: f64 = 0.1,
        /// Largest share of lines that begin with `•` or `-`.
        pub max_bullet_lines_ratio: f64 = 0.9,
        /// Largest share of lines that end with an ellipsis.
        pub max_ellipsis_lines_ratio: f64 = 0.3,
        /// Least share of words with a letter in them. The name is datatrove's.
        pub max_non_alpha_words_ratio: f64 = 0.8,
        /// How many of the stop words must occur.
        pub min_stop_words: usize = 2,
        /// Words that connected text contains, as they are written.
        pub stop_words: Vec<String> = ["the", "be", "to", "of", "and", "that", "have", "with"].map(String::from).to_vec(),
    }
}

/// Rejects documents that do not read like text.
///
/// Reasons, in the order of the rules: `gopher_short_doc`, `gopher_long_doc`, `gopher_below_avg_threshold`,
/// `gopher_above_avg_threshold`, `gopher_too_many_hashes`, `gopher_too_many_ellipsis`, `gopher_too_many_bullets`,
/// `gopher_too_many_end_ellipsis`, `gopher_below_alpha_threshold`, `gopher_enough_stop_words` (too few of them).
/// Source code and tables fall to the letters' rule, texts in other languages than the stop words' to the last.
pub struct GopherQuality {
    settings: GopherQualitySettings,
}

/// What the rules ask of the words.
#[derive(Default)]
struct Counts {
    words: usize,
    /// Words of more than symbols.
    real: usize,
    /// Their code points.
    chars: usize,
    /// Words with a letter.
    alphabetic: usize,
}

impl GopherQuality {
    /// The rules with these limits.
    pub fn new(settings: GopherQualitySettings) -> Self {
        Self { settings }
    }

    fn judge(&self, text: &str, words: &[Span]) -> Option<Rejection> {
        let counts = Counts::of(text, words);
        self.lengths(&counts)
            .or_else(|| self.symbols(text, counts.words))
            .or_else(|| self.lines(text))
            .or_else(|| self.letters(&counts))
            .or_else(|| self.stop_words(text, words))
    }

    fn lengths(&self, counts: &Counts) -> Option<Rejection> {
        let s = &self.settings;
        if s.min_doc_words > 0 && counts.real < s.min_doc_words {
            return reject("gopher_short_doc", format!("{} words", counts.real));
        }
        if s.max_doc_words > 0 && counts.real > s.max_doc_words {
            return reject("gopher_long_doc", format!("{} words", counts.real));
        }
        // Of no words it is not a number, which no limit excludes, as in datatrove.
        let mean = counts.chars as f64 / counts.real as f64;
        if s.min_avg_word_length > 0.0 && mean < s.min_avg_word_length {
            return reject("gopher_below_avg_threshold", format!("{mean:.2} characters a word"));
        }
        if s.max_avg_word_length > 0.0 && mean > s.max_avg_word_length {
            return reject("gopher_above_avg_threshold", format!("{mean:.2} characters a word"));
        }
        None
    }

    fn symbols(&self, text: &str, words: usize) -> Option<Rejection> {
        let most = self.settings.max_symbol_word_ratio;
        if most <= 0.0 {
            return None;
        }
        let bytes = text.as_bytes();
        let hashes = ratio(memchr_iter(b'#', bytes).count(), words);
        if hashes > most {
            return reject("gopher_too_many_hashes", format!("{hashes:.3} a word"));
        }
        let dots = memmem::find_iter(bytes, "...").count() + memmem::find_iter(bytes, "…").count();
        let ellipses = ratio(dots, words);
        if ellipses > most {
            return reject("gopher_too_many_ellipsis", format!("{ellipses:.3} a word"));
        }
        None
    }

    fn lines(&self, text: &str) -> Option<Rejection> {
        let s = &self.settings;
        let (mut lines, mut bullets, mut ellipses) = (0, 0, 0);
        for line in python::split_lines(text) {
            lines += 1;
            bullets += usize::from(python::strip_start(line).starts_with(['•', '-']));
            let end = python::strip_end(line);
            ellipses += usize::from(end.ends_with("...") || end.ends_with('…'));
        }
        let bullets = ratio(bullets, lines);
        if s.max_bullet_lines_ratio > 0.0 && bullets > s.max_bullet_lines_ratio {
            return reject("gopher_too_many_bullets", format!("{bullets:.3} of the lines"));
        }
        let ellipses = ratio(ellipses, lines);
        if s.max_ellipsis_lines_ratio > 0.0 && ellipses > s.max_ellipsis_lines_ratio {
            return reject("gopher_too_many_end_ellipsis", format!("{ellipses:.3} of the lines"));
        }
        None
    }

    fn letters(&self, counts: &Counts) -> Option<Rejection> {
        let least = self.settings.max_non_alpha_words_ratio;
        let share = ratio(counts.alphabetic, counts.words);
        if least > 0.0 && share < least {
            return reject("gopher_below_alpha_threshold", format!("{share:.3} of the words"));
        }
        None
    }

    fn stop_words(&self, text: &str, words: &[Span]) -> Option<Rejection> {
        let s = &self.settings;
        let mut found = vec![false; s.stop_words.len()];
        let mut count = 0;
        let mut rest = words.iter();
        while count < s.min_stop_words {
            let Some(&word) = rest.next() else {
                return reject("gopher_enough_stop_words", format!("{count} stop words"));
            };
            let word = text_of(text, word);
            // Comparing lengths first makes this a look at two bytes for most words.
            if let Some(index) = s.stop_words.iter().position(|stop| stop == word)
                && !std::mem::replace(&mut found[index], true)
            {
                count += 1;
            }
        }
        None
    }
}

impl Step for GopherQuality {
    fn apply(&self, document: &mut Document, analysis: &mut Analysis) -> Verdict {
        let words = analysis.words(&document.text);
        self.judge(&document.text, words).map_or(Verdict::Keep, Verdict::Reject)
    }
}

impl Counts {
    fn of(text: &str, words: &[Span]) -> Self {
        let mut counts = Self { words: words.len(), ..Self::default() };
        for &word in words {
            let word = text_of(text, word);
            let (chars, real, alphabetic) = kind(word);
            counts.real += usize::from(real);
            counts.chars += if real { chars } else { 0 };
            counts.alphabetic += usize::from(alphabetic);
        }
        counts
    }
}

/// A word's code points, whether it is more than symbols, whether it has a letter.
#[inline]
fn kind(word: &str) -> (usize, bool, bool) {
    if word.is_ascii() {
        let alphabetic = word.bytes().any(|byte| byte.is_ascii_alphabetic());
        let real = alphabetic || word.bytes().any(|byte| !is_symbol(char::from(byte)));
        return (word.len(), real, alphabetic);
    }
    let real = word.chars().any(|c| !is_symbol(c));
    (python::len(word), real, word.chars().any(is_letter))
}

/// The share; 0 of nothing, where datatrove would divide by zero.
fn ratio(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn reject(reason: &'static str, detail: String) -> Option<Rejection> {
    Some(Rejection { reason, detail })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(text: &str) -> Option<&'static str> {
        let step = GopherQuality::new(smolt_run::recipe::defaults().unwrap());
        let mut document = Document { text: text.to_owned(), ..Document::default() };
        match step.apply(&mut document, &mut Analysis::default()) {
            Verdict::Keep => None,
            Verdict::Reject(rejection) => Some(rejection.reason),
        }
    }

    #[test]
    fn every_rule_has_its_reason() {
        let good = "the quick brown fox jumps over a lazy dog and runs to its den\n".repeat(5);
        assert_eq!(reason(&good), None);
        assert_eq!(reason("too short"), Some("gopher_short_doc"));
        assert_eq!(reason(""), Some("gopher_short_doc"));
        assert_eq!(reason(&"word ".repeat(100_001)), Some("gopher_long_doc"));
        assert_eq!(reason(&"it is so ".repeat(50)), Some("gopher_below_avg_threshold"));
        assert_eq!(reason(&"incomprehensibilities ".repeat(50)), Some("gopher_above_avg_threshold"));
        assert_eq!(reason(&good.replace("fox", "#fox #")), Some("gopher_too_many_hashes"));
        assert_eq!(reason(&good.replace("fox", "fox … ...")), Some("gopher_too_many_ellipsis"));
        assert_eq!(reason(&good.replace("the", " • the")), Some("gopher_too_many_bullets"));
        assert_eq!(reason(&good.replace("den", "den...")), Some("gopher_too_many_end_ellipsis"));
        assert_eq!(reason(&good.replace("fox", "1234 1234 1234 1234")), Some("gopher_below_alpha_threshold"));
        assert_eq!(
            reason(&good.replace("the", "The").replace("and", "und")),
            Some("gopher_enough_stop_words")
        );
    }
}
