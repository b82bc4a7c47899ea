//! Scripts that write words without spaces: Thai, Lao, Khmer, Burmese, Chinese, Japanese. ICU's dictionaries find them.

use std::sync::LazyLock;

use icu_segmenter::options::WordBreakInvariantOptions;
use icu_segmenter::{WordSegmenter, WordSegmenterBorrowed};

// Dictionaries, not the neural models: those take over a hundred times as long on Thai.
static SEGMENTER: LazyLock<WordSegmenterBorrowed<'static>> =
    LazyLock::new(|| WordSegmenter::new_dictionary(WordBreakInvariantOptions::default()));

/// Tells the words of a text without white space: first byte, byte behind the last.
pub(super) fn words(text: &str, mut word: impl FnMut(usize, usize)) {
    let mut start = 0;
    for end in SEGMENTER.segment_str(text) {
        if start < end {
            word(start, end);
        }
        start = end;
    }
}
