//! Texts in memory, looked for in documents: what contamination of a benchmark is measured with (spec `PEV-10`, `PEV-11`).

use super::DecontaminateError;
use super::index::{Builder, Index};
use super::words::Words;

/// A text that is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needle<'a> {
    /// Words that stand before it: they complete n-grams, but n-grams of these words alone do not count.
    pub before: &'a str,
    /// The text itself.
    pub text: &'a str,
    /// Whether `before` and `text` together are looked for as a whole where they are fewer than n words.
    pub whole: bool,
}

/// A document's words; its memory is reused.
#[derive(Default)]
pub struct DocumentWords(Words);

impl DocumentWords {
    /// Splits a text of at most 4 GiB into words.
    pub fn read(&mut self, text: &str) {
        self.0.find(text);
    }
}

/// A place of a document where a needle's words stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Match {
    /// Number of the needle, in the order given.
    pub needle: u32,
    /// First byte in the document's text.
    pub start: usize,
    /// Behind its last byte.
    pub end: usize,
}

/// An index of needles.
pub struct Matcher {
    index: Index,
    checked: Vec<bool>,
}

impl Matcher {
    /// Indexes the n-grams of `needles` in at most `memory` bytes; what is shorter than n words and is looked for as a
    /// whole must have `min_words`.
    ///
    /// # Errors
    /// An n outside of 2 to 256, `min_words` outside of 1 to n, more than 2^32 needles, an index that outgrows its memory.
    pub fn new<'a>(
        needles: impl IntoIterator<Item = Needle<'a>>,
        n: u32,
        min_words: u32,
        memory: u64,
    ) -> Result<Matcher, DecontaminateError> {
        let mut builder = Builder::new(n, min_words, memory)?;
        let mut checked = Vec::new();
        for needle in needles {
            builder.next_item(0, checked.len() as u64)?;
            let fewest = if needle.whole { min_words } else { n };
            checked.push(builder.add_after(needle.before, needle.text, fewest as usize)?);
        }
        Ok(Matcher { index: builder.finish(Vec::new()), checked })
    }

    /// Whether a needle was long enough to be looked for.
    pub fn checked(&self, needle: usize) -> bool {
        self.checked.get(needle).copied().unwrap_or(false)
    }

    /// Every place of every needle, in the order of the places' first words.
    pub fn find(&self, document: &DocumentWords) -> Vec<Match> {
        let place = |hit: super::index::Hit| {
            let (start, end) = document.0.span(hit.first, hit.last);
            Match { needle: hit.item, start, end }
        };
        self.index.hits(&document.0).into_iter().map(place).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(matcher: &Matcher, text: &str) -> Vec<u32> {
        let mut words = DocumentWords::default();
        words.read(text);
        let mut needles: Vec<u32> = matcher.find(&words).iter().map(|found| found.needle).collect();
        needles.dedup();
        needles
    }

    #[test]
    fn an_answer_is_found_only_where_its_own_words_are() {
        let question = "how many clips did natalia sell in april and may together";
        let needles = [
            Needle { before: "", text: question, whole: true },
            Needle { before: question, text: "she sold seventy two", whole: true },
            Needle { before: "", text: "two words", whole: true },
        ];
        let matcher = Matcher::new(needles, 8, 6, 1 << 20).unwrap();
        assert_eq!([0, 1, 2, 3].map(|i| matcher.checked(i)), [true, true, false, false]);
        assert_eq!(found(&matcher, &format!("Q: {question}? A: five, he said")), [0]);
        assert_eq!(found(&matcher, "sell in April and May together? She sold ten"), [1], "six and two words");
        assert_eq!(found(&matcher, "two words"), [0; 0]);
        let mut words = DocumentWords::default();
        let text = format!("say: {question}!");
        words.read(&text);
        let first = matcher.find(&words)[0];
        assert_eq!(&text[first.start..first.end], "how many clips did natalia sell in april");
    }

    #[test]
    fn short_texts_are_found_whole() {
        let needles = [
            Needle { before: "", text: "What is the capital of France?", whole: true },
            Needle { before: "What is the capital of France?", text: "Paris", whole: true },
        ];
        let matcher = Matcher::new(needles, 13, 6, 1 << 20).unwrap();
        assert_eq!(found(&matcher, "quiz: what is the capital of france? Lyon!"), [0]);
        assert_eq!(found(&matcher, "quiz: what is the capital of france? Paris!"), [0, 1]);
        assert!(Matcher::new([], 1, 1, 1 << 20).is_err());
        let long = "word ".repeat(40_000).replace("word", "a b c d");
        let numbered: String = (0..40_000).map(|i| format!("{i} ")).collect();
        assert!(Matcher::new([Needle { before: &long, text: &numbered, whole: true }], 13, 6, 4096).is_err());
    }

    proptest! {
        /// Naively: a needle of at least n words is found where n of its words in a row are, of which one is its own.
        #[test]
        fn as_by_hand(
            before in proptest::collection::vec("[ab]", 0..5),
            text in proptest::collection::vec("[abc]", 0..5),
            document in proptest::collection::vec("[abc]", 0..20),
        ) {
            let n = 3;
            let needle = Needle { before: &before.join(" "), text: &text.join(" "), whole: false };
            let matcher = Matcher::new([needle], n, 1, 1 << 20).unwrap();
            let all: Vec<&String> = before.iter().chain(&text).collect();
            let mut own = all.windows(n as usize).enumerate().filter(|(i, _)| i + n as usize > before.len());
            let naive = own.any(|(_, gram)| document.windows(n as usize).any(|w| w.iter().eq(gram.iter().copied())));
            prop_assert_eq!(!found(&matcher, &document.join(" ")).is_empty(), naive && !text.is_empty());
        }
    }
}
