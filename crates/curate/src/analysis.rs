//! What several steps want to know of one text, found once: its words, its lines. One per thread, its memory reused.
//!
//! Words and sentences are those of spaCy 3.8's English tokenizer and sentencizer, because datatrove's filters, whose
//! decisions are to be met, count them; see [`Analysis::words`]. Characters and lines are Python's ([`python`]).

mod affixes;
pub mod chars;
mod english;
pub mod python;
pub(crate) mod repeats;
mod scripts;
mod sentences;
mod url;
mod words;

pub use words::Span;

use repeats::Tables;
use words::{Segmenter, Sink};

/// The analysis of the document at hand.
#[derive(Default)]
pub struct Analysis {
    segmenter: Segmenter,
    words: Vec<Span>,
    /// Whether `words` are those of the text at hand.
    known: bool,
    /// Another segmenter's sentences of each line that is asked for, next last.
    given_sentences: Option<Vec<usize>>,
    tables: Tables,
    found: Vec<u32>,
}

impl Analysis {
    /// An analysis whose words were found by another segmenter, to compare decisions apart from segmentation.
    ///
    /// `words` are byte ranges of the text at hand, in order and at the borders of its characters; `sentences` are the
    /// numbers of sentences of the lines that a step will ask for, in order. Both hold until the text changes.
    pub fn with_words(words: Vec<Span>, mut sentences: Vec<usize>) -> Self {
        sentences.reverse();
        Self { words, known: true, given_sentences: Some(sentences), ..Self::default() }
    }

    /// Forgets what was found; called for each new document and by each step that changes the text.
    pub fn text_changed(&mut self) {
        self.known = false;
        self.given_sentences = None;
    }

    /// The words of the text at hand as byte ranges, in order; white space belongs to none, marks are words of their own.
    ///
    /// English rules whatever the language, as datatrove's filters apply by default, except that Thai, Lao, Khmer,
    /// Burmese, Chinese and Japanese are cut into the words of ICU's dictionaries. Empty for a text of 4 GiB or more.
    pub fn words(&mut self, text: &str) -> &[Span] {
        self.find_words(text);
        &self.words
    }

    /// The words of the text at hand, and room to look for repeats.
    pub(crate) fn words_and_tables(&mut self, text: &str) -> (&[Span], &mut Tables) {
        self.find_words(text);
        (&self.words, &mut self.tables)
    }

    /// Room to look for repeats.
    pub(crate) fn tables(&mut self) -> &mut Tables {
        &mut self.tables
    }

    /// Notes that the step at work found a thing of its own in this document, such as an item of an evaluation set: counted
    /// over all documents, then told to [`crate::Step::report`].
    pub fn found(&mut self, thing: u32) {
        self.found.push(thing);
    }

    /// What was noted since the last call.
    pub fn take_found(&mut self) -> impl Iterator<Item = u32> + '_ {
        self.found.drain(..)
    }

    fn find_words(&mut self, text: &str) {
        if std::mem::replace(&mut self.known, true) {
            return;
        }
        self.words.clear();
        if u32::try_from(text.len()).is_ok() {
            self.segmenter.each(text, &mut Collect(&mut self.words));
        }
    }

    /// The number of sentences of a line, which need not be the text at hand; at least 1. Counting ends at `enough`.
    pub fn count_sentences(&mut self, line: &str, enough: usize) -> usize {
        if let Some(given) = &mut self.given_sentences {
            return given.pop().unwrap_or(1);
        }
        sentences::count(&mut self.segmenter, line, enough)
    }

    /// Cuts a text into sentences; white space between two belongs to the second.
    pub fn sentences<'t>(&mut self, text: &'t str) -> Vec<&'t str> {
        sentences::split(&mut self.segmenter, text)
    }
}

struct Collect<'w>(&'w mut Vec<Span>);

impl Sink for Collect<'_> {
    #[inline]
    fn word(&mut self, span: Span) -> bool {
        self.0.push(span);
        true
    }
}

/// The text of a span; empty where a span given from outside does not fit the text.
#[inline]
pub(crate) fn text_of(text: &str, span: Span) -> &str {
    text.get(span.0 as usize..span.1 as usize).unwrap_or_default()
}

#[cfg(test)]
mod tests;
