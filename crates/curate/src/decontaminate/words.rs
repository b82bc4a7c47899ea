//! Words as decontamination compares them.
//!
//! A word is a run of letters and digits, in lower case and without accents. Apostrophes and marks within it are left out,
//! anything else separates. Characters of scripts that write no spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese) are
//! a word each.

use unicode_normalization::UnicodeNormalization;
use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

/// The words of a text; its memory is reused.
#[derive(Default)]
pub(super) struct Words {
    /// The words, each followed by a space.
    normal: String,
    /// Of each word: where it starts and ends in `normal`, and in the text.
    spans: Vec<[u32; 4]>,
}

impl Words {
    pub(super) fn find(&mut self, text: &str) {
        self.normal.clear();
        self.spans.clear();
        self.append(text);
    }

    /// Adds the words of another text; a word ends with its text.
    pub(super) fn append(&mut self, text: &str) {
        let mut open = false;
        let mut start = 0;
        let mut at = 0;
        for c in text.chars() {
            let from = at;
            at += c.len_utf8();
            if c.is_ascii_alphanumeric() {
                if !open {
                    (open, start) = (true, from);
                    self.begin(from);
                }
                self.normal.push(c.to_ascii_lowercase());
            } else if c.is_ascii() {
                if c != '\'' && open {
                    open = self.end(start, from);
                }
            } else if is_word_alone(c) {
                if open {
                    self.end(start, from);
                }
                self.begin(from);
                self.push(c);
                open = self.end(from, at);
            } else if c.is_alphanumeric() {
                if !open {
                    (open, start) = (true, from);
                    self.begin(from);
                }
                self.push(c);
            } else if open && !is_within(c) {
                open = self.end(start, from);
            }
        }
        if open {
            self.end(start, text.len());
        }
    }

    fn push(&mut self, c: char) {
        let lower = c.to_lowercase().nfd();
        self.normal.extend(lower.filter(|c| c.general_category_group() != GeneralCategoryGroup::Mark));
    }

    fn begin(&mut self, at: usize) {
        let normal = self.normal.len() as u32;
        self.spans.push([normal, normal, at as u32, at as u32]);
    }

    /// Closes the word that began at `start`; no word is open afterwards.
    fn end(&mut self, start: usize, end: usize) -> bool {
        if let Some(span) = self.spans.last_mut() {
            *span = [span[0], self.normal.len() as u32, start as u32, end as u32];
        }
        self.normal.push(' ');
        false
    }

    pub(super) fn len(&self) -> usize {
        self.spans.len()
    }

    /// `n` words from `first`, one space apart; `None` where there are not as many.
    pub(super) fn ngram(&self, first: usize, n: usize) -> Option<&[u8]> {
        let last = self.spans.get(first + n - 1)?;
        self.normal.as_bytes().get(self.spans[first][0] as usize..last[1] as usize)
    }

    /// The bytes of the text from the word `first` to the word `last`.
    pub(super) fn span(&self, first: usize, last: usize) -> (usize, usize) {
        (self.spans[first][2] as usize, self.spans[last][3] as usize)
    }
}

/// Left out without ending a word.
fn is_within(c: char) -> bool {
    matches!(c, '’' | 'ʼ' | '\u{AD}' | '\u{200C}' | '\u{200D}')
        || c.general_category_group() == GeneralCategoryGroup::Mark
}

/// Thai and Lao; Burmese; Khmer; kana and the ideographs with their extensions.
fn is_word_alone(c: char) -> bool {
    matches!(c, '\u{0E00}'..='\u{0EFF}' | '\u{1000}'..='\u{109F}' | '\u{1780}'..='\u{17FF}'
        | '\u{3040}'..='\u{30FF}' | '\u{3400}'..='\u{4DBF}' | '\u{4E00}'..='\u{9FFF}' | '\u{F900}'..='\u{FAFF}'
        | '\u{20000}'..='\u{323AF}')
        && c.is_alphanumeric()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(text: &str) -> String {
        let mut words = Words::default();
        words.find(text);
        words
            .ngram(0, words.len().max(1))
            .map_or(String::new(), |all| String::from_utf8(all.to_vec()).unwrap())
    }

    #[test]
    fn known_texts() {
        for (text, expected) in [
            ("", ""),
            (" Don't STOP — well-known, 3.5% (x^2)! ", "dont stop well known 3 5 x 2"),
            ("Don’t e\u{301}tude Étude", "dont etude etude"),
            ("我们a1去", "我 们 a1 去"),
            ("ЁЖИК İx", "ежик ix"),
            ("''", ""),
        ] {
            assert_eq!(found(text), expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn spans_hold_the_words(text in "([a-zA-Z0-9 .,'’-]|[À-ÿ一-三ก-ฮ\u{300}-\u{305}]|\\PC){0,40}") {
            let mut words = Words::default();
            words.find(&text);
            let mut before = 0;
            for at in 0..words.len() {
                let (first, last) = words.span(at, at);
                prop_assert!(before <= first && first < last);
                prop_assert_eq!(&found(&text[first..last]), std::str::from_utf8(words.ngram(at, 1).unwrap()).unwrap());
                before = last;
            }
            prop_assert_eq!(words.ngram(words.len(), 1), None);
        }
    }
}
