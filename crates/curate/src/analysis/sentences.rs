//! Sentences as spaCy 3.8's sentencizer finds them: one ends with a word that is a full stop, an exclamation or question
//! mark of any script, and the marks that follow; the next begins with the word, or the kept white space, after those.

use super::chars::{ends_sentence, is_punctuation};
use super::words::{Segmenter, Sink, Span};

struct Sentences<'t, 'f> {
    text: &'t str,
    enough: usize,
    count: usize,
    /// A mark that ends a sentence was seen, and no word since.
    ended: bool,
    /// Where the last word ended.
    last: u32,
    /// Told where each sentence but the last ends.
    found: &'f mut dyn FnMut(usize),
}

impl Sentences<'_, '_> {
    fn begins(&mut self, end: u32) {
        if self.count > 0 {
            (self.found)(self.last as usize);
        }
        self.count += 1;
        self.ended = false;
        self.last = end;
    }
}

impl Sink for Sentences<'_, '_> {
    fn word(&mut self, span: Span) -> bool {
        let word = &self.text[span.0 as usize..span.1 as usize];
        let mut chars = word.chars();
        let ends = match (chars.next(), chars.next()) {
            (Some(c), None) => ends_sentence(c),
            _ => false,
        };
        if self.count == 0 || (self.ended && !ends && !word.chars().all(is_punctuation)) {
            self.begins(span.1);
        }
        self.last = span.1;
        self.ended |= ends;
        self.count < self.enough
    }

    fn space(&mut self, span: Span) {
        if self.count == 0 || self.ended {
            self.begins(span.1);
        }
        self.last = span.1;
    }
}

fn run(segmenter: &mut Segmenter, text: &str, enough: usize, found: &mut dyn FnMut(usize)) -> usize {
    let mut sentences = Sentences { text, enough, count: 0, ended: false, last: 0, found };
    if u32::try_from(text.len()).is_ok() {
        segmenter.each(text, &mut sentences);
    }
    sentences.count.max(1)
}

/// How many sentences, at least 1; not more than `enough` are looked for.
pub(super) fn count(segmenter: &mut Segmenter, text: &str, enough: usize) -> usize {
    run(segmenter, text, enough, &mut |_| {})
}

/// The sentences themselves; white space between two belongs to the second.
pub(super) fn split<'t>(segmenter: &mut Segmenter, text: &'t str) -> Vec<&'t str> {
    let mut ends = Vec::new();
    run(segmenter, text, usize::MAX, &mut |end| ends.push(end));
    let mut start = 0;
    let mut sentences = Vec::with_capacity(ends.len() + 1);
    for end in ends.into_iter().chain([text.len()]) {
        sentences.push(&text[start..end]);
        start = end;
    }
    sentences
}
