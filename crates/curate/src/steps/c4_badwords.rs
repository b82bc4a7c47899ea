//! C4's filter of bad words as datatrove 0.10.1 applies it. The list is data of the user's; C4 took LDNOOBW's, a file per
//! language.

use aho_corasick::{AhoCorasick, BuildError, MatchKind};
use smolt_data::document::Document;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::analysis::Analysis;
use crate::analysis::chars::is_letter;
use crate::step::{Rejection, Step, Verdict};

smolt_run::recipe! {
    /// C4's filter of bad words.
    pub struct C4BadWordsSettings {
        /// A file with a word or phrase per line.
        pub words: String,
        /// Of the list; words of `ja`, `th` and `zh` are also found within others.
        pub default_language: String = "en".to_owned(),
        /// Share of the documents with bad words that are kept all the same.
        pub keep_fraction: f64 = 0.0,
        /// Of the choice of those. A document's text decides with it, where datatrove draws numbers in order.
        pub seed: u64 = 0,
    }
}

/// Ordinary syllables of Japanese and Chinese that the lists contain; C4 takes them out of every list.
const ALLOWED: [&str; 4] = ["sm", "グロ", "女の子", "性"];

/// Rejects documents that contain a word of the list, as `document_removed_with_badwords`.
///
/// The detail is the word. Case does not matter; outside `ja`, `th` and `zh` it must stand between characters that are
/// neither letters, digits nor `_`.
pub struct C4BadWords {
    words: AhoCorasick,
    within: bool,
    keep_fraction: f64,
    seed: u64,
}

impl C4BadWords {
    /// The filter with the contents of the file that `settings.words` names.
    ///
    /// # Errors
    /// A list too large for the automaton, of about 2³¹ bytes.
    pub fn new(settings: &C4BadWordsSettings, list: &str) -> Result<Self, BuildError> {
        let words = list.lines().map(|line| line.trim().to_lowercase());
        let words = words.filter(|word| !word.is_empty() && !ALLOWED.contains(&word.as_str()));
        Ok(Self {
            words: AhoCorasick::builder().match_kind(MatchKind::Standard).build(words)?,
            within: matches!(settings.default_language.as_str(), "ja" | "th" | "zh"),
            keep_fraction: settings.keep_fraction,
            seed: settings.seed,
        })
    }

    fn find<'t>(&self, lower: &'t str) -> Option<&'t str> {
        let stands_alone = |start: usize, end: usize| {
            let before = lower[..start].chars().next_back();
            let after = lower[end..].chars().next();
            !before.is_some_and(is_word) && !after.is_some_and(is_word)
        };
        let mut found = self.words.find_overlapping_iter(lower).map(|found| (found.start(), found.end()));
        found
            .find(|&(start, end)| self.within || stands_alone(start, end))
            .map(|(start, end)| &lower[start..end])
    }

    fn is_kept(&self, text: &str) -> bool {
        // The upper 53 bits make an even number from 0 to 1.
        let drawn = (xxh3_64_with_seed(text.as_bytes(), self.seed) >> 11) as f64 / (1_u64 << 53) as f64;
        drawn < self.keep_fraction
    }
}

impl Step for C4BadWords {
    fn apply(&self, document: &mut Document, _: &mut Analysis) -> Verdict {
        let lower = document.text.to_lowercase();
        match self.find(&lower) {
            Some(word) if !self.is_kept(&document.text) => Verdict::Reject(Rejection {
                reason: "document_removed_with_badwords",
                detail: word.to_owned(),
            }),
            _ => Verdict::Keep,
        }
    }
}

/// `\w` of Python's `re`.
fn is_word(c: char) -> bool {
    is_letter(c) || c.is_numeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keeps(settings: &C4BadWordsSettings, text: &str) -> bool {
        let step = C4BadWords::new(settings, "bad\nvery bad\n\n性\nb-d\nWorse\n").unwrap();
        let mut document = Document { text: text.to_owned(), ..Document::default() };
        step.apply(&mut document, &mut Analysis::default()).keeps()
    }

    fn settings(language: &str, keep_fraction: f64) -> C4BadWordsSettings {
        let default_language = language.to_owned();
        C4BadWordsSettings { words: String::new(), default_language, keep_fraction, seed: 1 }
    }

    #[test]
    fn words_stand_alone_where_spaces_part_them() {
        let english = settings("en", 0.0);
        for rejected in ["bad", "So BAD!", "(bad)", "a b-d one", "worse", "WORSE"] {
            assert!(!keeps(&english, rejected), "{rejected}");
        }
        for kept in ["", "badly", "_bad", "bad1", "b -d", "性"] {
            assert!(keeps(&english, kept), "{kept}");
        }
        assert!(!keeps(&settings("ja", 0.0), "xbadx"));
    }

    #[test]
    fn a_share_can_be_kept() {
        let settings = settings("en", 0.25);
        let kept = (0..1000).filter(|number| keeps(&settings, &format!("bad {number}"))).count();
        assert!((180..320).contains(&kept), "{kept}");
    }
}
