//! Words of a text in any language (spec `TOK-09`).

use icu_segmenter::options::WordBreakInvariantOptions;
use icu_segmenter::{WordSegmenter, WordSegmenterBorrowed};

/// What cut the words; fertility is comparable only under one segmenter.
pub const SEGMENTER: &str =
    "icu_segmenter 2.4 (Unicode UAX 29, dictionaries for Chinese, Japanese, Thai, Lao, Khmer, Burmese)";

/// Cuts text at Unicode word boundaries, by dictionary where a script has no spaces.
pub struct Segmenter {
    inner: WordSegmenterBorrowed<'static>,
}

impl Default for Segmenter {
    fn default() -> Self {
        Self::new()
    }
}

impl Segmenter {
    /// With the dictionaries that are part of this program.
    pub fn new() -> Self {
        Self { inner: WordSegmenter::new_dictionary(WordBreakInvariantOptions::default()) }
    }

    /// The words of `text` in order. Punctuation marks and symbols are words too, as in spaCy and NLTK; white space is
    /// not.
    pub fn words<'a>(&self, text: &'a str) -> impl Iterator<Item = &'a str> + use<'a> {
        let mut last = 0;
        let cut = self.inner.segment_str(text).map(move |end| {
            let word = &text[last..end];
            last = end;
            word
        });
        let words: Vec<&str> = cut.filter(|word| !word.trim().is_empty()).collect();
        words.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_several_languages() {
        let segmenter = Segmenter::new();
        let words = |text| segmenter.words(text).collect::<Vec<&str>>();
        assert_eq!(words("It's 3.5 km,  \n isn't it?"), ["It's", "3.5", "km", ",", "isn't", "it", "?"]);
        assert_eq!(words("今天天气很好。"), ["今天", "天气", "很好", "。"]);
        assert_eq!(words("明日は雨です"), ["明日", "は", "雨", "です"]);
        assert_eq!(words("ภาษาไทย"), ["ภาษา", "ไทย"]);
        assert_eq!(words(" \t\n"), [""; 0]);
    }
}
