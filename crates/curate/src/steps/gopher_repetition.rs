//! Gopher's repetition rules (Rae et al. 2021, arXiv 2112.11446, table A1) as datatrove 0.10.1 applies them (spec
//! `CLN-01`): the same decision and the same reason, given the same words.

use smolt_data::document::Document;
use thiserror::Error;

use crate::analysis::repeats::Duplicates;
use crate::analysis::{Analysis, python};
use crate::step::{Rejection, Step, Verdict};

smolt_run::recipe! {
    /// Gopher's repetition rules. A limit of 0 turns a rule about lines or paragraphs off; n-grams are left out of their list.
    pub struct GopherRepetitionSettings {
        /// Largest share of lines that came before.
        pub dup_line_frac: f64 = 0.3,
        /// Largest share of paragraphs that came before.
        pub dup_para_frac: f64 = 0.3,
        /// Largest share of characters in lines that came before.
        pub dup_line_char_frac: f64 = 0.2,
        /// Largest share of characters in paragraphs that came before.
        pub dup_para_char_frac: f64 = 0.2,
        /// Largest shares of characters in the most frequent n-gram of words.
        pub top_n_grams: Vec<NGramLimit> = limits(&[(2, 0.2), (3, 0.18), (4, 0.16)]),
        /// Largest shares of characters in n-grams of words that came before.
        pub dup_n_grams: Vec<NGramLimit> =
            limits(&[(5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10)]),
    }

    /// How much of a text n-grams of one length may take.
    pub struct NGramLimit {
        /// How many words.
        pub n: usize,
        /// Largest share of the text's characters.
        pub fraction: f64,
    }
}

fn limits(pairs: &[(usize, f64)]) -> Vec<NGramLimit> {
    pairs.iter().map(|&(n, fraction)| NGramLimit { n, fraction }).collect()
}

/// The longest n-gram that a rule can be about.
pub const MAX_N: usize = 20;

macro_rules! reasons {
    ($before:literal, $after:literal) => {
        reasons!($before, $after, 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20)
    };
    ($before:literal, $after:literal, $($n:literal)*) => { [$(concat!($before, $n, $after)),*] };
}

const TOP: [&str; MAX_N] = reasons!("top_", "_gram");
const DUPLICATED: [&str; MAX_N] = reasons!("duplicated_", "_n_grams");

/// Settings that no rule can follow.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{key}: n is {n}; it must be from 1 to {MAX_N}")]
pub struct NGramError {
    /// The setting.
    pub key: &'static str,
    /// Its n.
    pub n: usize,
}

/// Rejects documents that repeat themselves.
///
/// Reasons, in the order of the rules: `empty`, `dup_para_frac`, `dup_para_char_frac`, `dup_line_frac`,
/// `dup_line_char_frac`, `top_2_gram` …, `duplicated_5_n_grams` …. Licences, tables and generated code fall to the
/// rules about lines.
pub struct GopherRepetition {
    settings: GopherRepetitionSettings,
}

impl GopherRepetition {
    /// The rules with these limits.
    ///
    /// # Errors
    /// An `n` of 0 or above [`MAX_N`].
    pub fn new(settings: GopherRepetitionSettings) -> Result<Self, NGramError> {
        for (key, limits) in [("top_n_grams", &settings.top_n_grams), ("dup_n_grams", &settings.dup_n_grams)]
        {
            if let Some(limit) = limits.iter().find(|limit| !(1..=MAX_N).contains(&limit.n)) {
                return Err(NGramError { key, n: limit.n });
            }
        }
        Ok(Self { settings })
    }

    fn judge(&self, text: &str, analysis: &mut Analysis) -> Option<Rejection> {
        if text.is_empty() {
            return Some(Rejection { reason: "empty", detail: String::new() });
        }
        let s = &self.settings;
        let chars = python::len(text);
        let newlines = memchr::memchr_iter(b'\n', text.as_bytes()).count();
        let tables = analysis.tables();
        let paragraphs = tables.duplicates(split_newlines(python::strip(text), 2), newlines / 2 + 1);
        over(
            paragraphs,
            chars,
            (s.dup_para_frac, "dup_para_frac"),
            (s.dup_para_char_frac, "dup_para_char_frac"),
        )
        .or_else(|| {
            let lines = tables.duplicates(split_newlines(text, 1), newlines + 1);
            over(
                lines,
                chars,
                (s.dup_line_frac, "dup_line_frac"),
                (s.dup_line_char_frac, "dup_line_char_frac"),
            )
        })
        .or_else(|| self.n_grams(text, chars, analysis))
    }

    fn n_grams(&self, text: &str, chars: usize, analysis: &mut Analysis) -> Option<Rejection> {
        let s = &self.settings;
        let shortest = s.dup_n_grams.iter().map(|limit| limit.n).min().unwrap_or(1);
        let (words, tables) = analysis.words_and_tables(text);
        tables.words(text, words, shortest);
        for limit in &s.top_n_grams {
            let Some(top) = tables.top_gram(limit.n) else { continue };
            if let Some(rejection) = exceeds(top, chars, limit.fraction, TOP[limit.n - 1]) {
                return Some(rejection);
            }
        }
        s.dup_n_grams.iter().find_map(|limit| {
            // Rounded down, so that what is not counted is surely within the limit.
            let enough = (limit.fraction * chars as f64) as usize;
            let duplicated = tables.duplicate_grams(limit.n, enough.saturating_sub(1))?;
            exceeds(duplicated, chars, limit.fraction, DUPLICATED[limit.n - 1])
        })
    }
}

impl Step for GopherRepetition {
    fn apply(&self, document: &mut Document, analysis: &mut Analysis) -> Verdict {
        self.judge(&document.text, analysis).map_or(Verdict::Keep, Verdict::Reject)
    }
}

/// Splits at runs of at least `least` newlines, 1 or 2; such runs at the ends leave empty pieces there.
fn split_newlines(text: &str, least: usize) -> impl Iterator<Item = &str> {
    let bytes = text.as_bytes();
    let mut start = Some(0);
    std::iter::from_fn(move || {
        let from = start?;
        let mut at = from;
        while let Some(found) = memchr::memchr(b'\n', &bytes[at..]) {
            let first = at + found;
            let run = bytes[first..].iter().take_while(|&&byte| byte == b'\n').count();
            if run >= least {
                start = Some(first + run);
                return Some(&text[from..first]);
            }
            at = first + run;
        }
        start = None;
        Some(&text[from..])
    })
}

fn over(
    found: Duplicates,
    chars: usize,
    pieces: (f64, &'static str),
    length: (f64, &'static str),
) -> Option<Rejection> {
    let rule = |part, whole, (limit, reason): (f64, _)| {
        if limit > 0.0 { exceeds(part, whole, limit, reason) } else { None }
    };
    rule(found.elements, found.pieces, pieces).or_else(|| rule(found.chars, chars, length))
}

fn exceeds(part: usize, whole: usize, limit: f64, reason: &'static str) -> Option<Rejection> {
    let share = part as f64 / whole as f64;
    (share > limit).then(|| Rejection { reason, detail: format!("{share:.3}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(text: &str) -> Option<&'static str> {
        let step = GopherRepetition::new(smolt_run::recipe::defaults().unwrap()).unwrap();
        let mut document = Document { text: text.to_owned(), ..Document::default() };
        match step.apply(&mut document, &mut Analysis::default()) {
            Verdict::Keep => None,
            Verdict::Reject(rejection) => Some(rejection.reason),
        }
    }

    #[test]
    fn every_rule_has_its_reason() {
        let words: Vec<String> = (0..200).map(|number| format!("w{}", number * number)).collect();
        let text = words.join(" ");
        assert_eq!(reason(&text), None);
        assert_eq!(reason(""), Some("empty"));
        assert_eq!(reason("a\n\na\n\na"), Some("dup_para_frac"));
        let long = "A long paragraph, it is.";
        assert_eq!(reason(&format!("{long}\n\n{long}\n\nb\n\nc")), Some("dup_para_char_frac"));
        assert_eq!(reason("a\nb\na\nb\na"), Some("dup_line_frac"));
        assert_eq!(reason(&format!("{long}\n{long}\nb\nc")), Some("dup_line_char_frac"));
        assert_eq!(reason(&format!("{text} {}", "the cat sat ".repeat(60))), Some("top_2_gram"));
        let some = words[..30].join(" ");
        assert_eq!(reason(&format!("{some} {some} {some}")), Some("duplicated_5_n_grams"));
        // The third of its three words is another each time: only three in a row are too rare to count.
        assert_eq!(reason("word"), None);
    }

    #[test]
    fn newlines_split_as_pythons_re_does() {
        let split = |text, least| split_newlines(text, least).collect::<Vec<_>>();
        assert_eq!(split("", 1), [""]);
        assert_eq!(split("\na\n\n\nb\n", 1), ["", "a", "b", ""]);
        assert_eq!(split("a\nb\n\n\nc", 2), ["a\nb", "c"]);
        assert_eq!(split("\n", 2), ["\n"]);
    }

    #[test]
    fn an_impossible_n_is_refused() {
        let mut settings: GopherRepetitionSettings = smolt_run::recipe::defaults().unwrap();
        settings.dup_n_grams[0].n = 21;
        let error = GopherRepetition::new(settings).err().unwrap().to_string();
        assert_eq!(error, "dup_n_grams: n is 21; it must be from 1 to 20");
    }
}
