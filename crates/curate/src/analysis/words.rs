//! Words as spaCy 3.8's English tokenizer finds them, which is what datatrove's filters count: white space parts the text,
//! then marks are cut off the front and the back of each chunk, then out of its middle. Thai, Chinese, Japanese and
//! their like, which that tokenizer leaves whole, are cut by ICU's dictionaries.
//!
//! One pass over the bytes. A chunk of letters alone, which most are, costs a table look-up per byte; others go
//! through [`Segmenter::cut`].

use super::affixes::{infix_at, prefix, suffix};
use super::chars::is_unspaced;
use super::english::{LONGEST, SPECIALS, Specials};
use super::python::{is_ascii_space, space_at};
use super::{scripts, url};

/// A piece of a text: its first byte and the byte behind its last.
pub type Span = (u32, u32);

/// Receives what is found, in order.
pub(super) trait Sink {
    /// A word; false ends the search.
    fn word(&mut self, span: Span) -> bool;

    /// A run of white space that spaCy keeps as a token: not the single space between two words.
    fn space(&mut self, _span: Span) {}
}

const LETTER: u8 = 1;
const DIGIT: u8 = 2;
const MARK: u8 = 4;
const WIDE: u8 = 8;
const SPACE: u8 = 16;

const CLASS: [u8; 256] = {
    let mut table = [MARK; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        if b >= 0x80 {
            table[byte] = WIDE;
        } else if b.is_ascii_alphabetic() {
            table[byte] = LETTER;
        } else if b.is_ascii_digit() {
            table[byte] = DIGIT;
        } else if is_ascii_space(b) {
            table[byte] = SPACE;
        }
        byte += 1;
    }
    table
};

/// Finds words; holds the memory that this takes.
#[derive(Default)]
pub(super) struct Segmenter {
    /// What the chunk at hand is cut into.
    pieces: Vec<Span>,
    /// Its suffixes, outermost first.
    suffixes: Vec<Span>,
    joined: Vec<Span>,
}

impl Segmenter {
    /// Tells the words of a text, and the white space between where spaCy keeps it. A text has fewer than 2³² bytes.
    pub(super) fn each(&mut self, text: &str, sink: &mut impl Sink) {
        let bytes = text.as_bytes();
        let specials: &Specials = &SPECIALS;
        let mut at = 0;
        loop {
            let start = skip_space(bytes, at);
            // The first space after a word belongs to the word.
            let kept = at + usize::from(at > 0 && bytes.get(at) == Some(&b' '));
            if kept < start {
                sink.space(span(kept, start));
            }
            if start == bytes.len() {
                return;
            }
            let (end, seen) = chunk(bytes, start);
            at = end;
            if seen == LETTER {
                let goes_on = match specials.get(&bytes[start..end]) {
                    None => sink.word(span(start, end)),
                    Some(special) => self.whole(start, special.ends(), sink),
                };
                if !goes_on {
                    return;
                }
                continue;
            }
            self.cut(text, (start, end), seen, Some(specials));
            for &piece in &self.pieces {
                if !sink.word(piece) {
                    return;
                }
            }
        }
    }

    fn whole(&mut self, start: usize, ends: impl Iterator<Item = usize>, sink: &mut impl Sink) -> bool {
        let mut from = start;
        for end in ends {
            if !sink.word(span(from, start + end)) {
                return false;
            }
            from = start + end;
        }
        true
    }

    /// Cuts one chunk into `self.pieces`.
    fn cut(&mut self, text: &str, chunk: (usize, usize), seen: u8, specials: Option<&Specials>) {
        self.pieces.clear();
        self.suffixes.clear();
        let (start, end) = self.affixes(text, chunk, specials);
        if start < end {
            self.middle(text, (start, end), seen, specials);
        }
        self.pieces.extend(self.suffixes.iter().rev());
        if let Some(specials) = specials
            && self.pieces.len() > 1
        {
            self.join(text, specials);
        }
    }

    /// Takes marks off both ends until a special word or nothing more is left; gives the rest.
    fn affixes(&mut self, text: &str, chunk: (usize, usize), specials: Option<&Specials>) -> (usize, usize) {
        let bytes = text.as_bytes();
        let (mut start, mut end) = chunk;
        let special = |from: usize, to: usize| {
            from < to && specials.is_some_and(|specials| specials.get(&bytes[from..to]).is_some())
        };
        while start < end && !special(start, end) {
            let front = prefix(&text[start..end]);
            if front > 0 && special(start + front, end) {
                self.pieces.push(span(start, start + front));
                return (start + front, end);
            }
            let back = suffix(&text[start + front..end]);
            if back > 0 && special(start, end - back) {
                self.suffixes.push(span(end - back, end));
                return (start, end - back);
            }
            if front == 0 && back == 0 {
                break;
            }
            if front > 0 {
                self.pieces.push(span(start, start + front));
                start += front;
            }
            if back > 0 {
                self.suffixes.push(span(end - back, end));
                end -= back;
            }
        }
        (start, end)
    }

    fn middle(&mut self, text: &str, (start, end): (usize, usize), seen: u8, specials: Option<&Specials>) {
        let bytes = text.as_bytes();
        if let Some(special) = specials.and_then(|specials| specials.get(&bytes[start..end])) {
            let mut from = start;
            for to in special.ends() {
                self.pieces.push(span(from, start + to));
                from = start + to;
            }
            return;
        }
        if seen & WIDE != 0 && text[start..end].chars().any(is_unspaced) {
            scripts::words(&text[start..end], |from, to| self.pieces.push(span(start + from, start + to)));
            return;
        }
        if seen & (MARK | WIDE) == 0 {
            return self.pieces.push(span(start, end));
        }
        self.infixes(text, (start, end));
    }

    fn infixes(&mut self, text: &str, (start, end): (usize, usize)) {
        let part = &text[start..end];
        let before = self.pieces.len();
        let (mut at, mut from) = (0, 0);
        while at < part.len() {
            let width = infix_at(part, at);
            if width == 0 {
                at += 1;
                continue;
            }
            if at > 0 {
                if self.pieces.len() == before && url::is_url(part) {
                    break;
                }
                if from < at {
                    self.pieces.push(span(start + from, start + at));
                }
                self.pieces.push(span(start + at, start + at + width));
                from = at + width;
            }
            at += width;
        }
        if from < part.len() {
            self.pieces.push(span(start + from, end));
        }
    }

    /// Joins pieces that make a special word, as `)` and `:` make `):`; the longest first, then the leftmost.
    fn join(&mut self, text: &str, specials: &Specials) {
        let bytes = text.as_bytes();
        let pieces = &self.pieces;
        if !pieces
            .windows(2)
            .any(|pair| specials.may_join(bytes[pair[0].0 as usize], bytes[pair[1].0 as usize]))
        {
            return;
        }
        let mut found: Vec<(usize, usize)> = Vec::new();
        for first in 0..pieces.len() - 1 {
            let start = pieces[first].0 as usize;
            if !specials.may_join(bytes[start], bytes[pieces[first + 1].0 as usize]) {
                continue;
            }
            for last in first + 1..pieces.len() {
                let end = pieces[last].1 as usize;
                if end - start > LONGEST {
                    break;
                }
                let ends = pieces[first..=last].iter().map(|piece| piece.1 as usize - start);
                let same = |special: &super::english::Special| {
                    let pieces =
                        special.pieces.iter().map(|&end| usize::from(end)).take_while(|&end| end > 0);
                    pieces.eq(ends)
                };
                if specials.get(&bytes[start..end]).is_some_and(same) {
                    found.push((first, last));
                }
            }
        }
        if found.is_empty() {
            return;
        }
        found.sort_by_key(|&(first, last)| (std::cmp::Reverse(last - first), first));
        let mut taken = vec![false; pieces.len()];
        found.retain(|&(first, last)| {
            let free = !taken[first] && !taken[last];
            taken[first..=last].fill(true);
            free
        });
        found.sort_unstable();
        self.apply_joins(text, specials, &found);
    }

    fn apply_joins(&mut self, text: &str, specials: &Specials, joins: &[(usize, usize)]) {
        self.joined.clear();
        let mut next = 0;
        for &(first, last) in joins {
            self.joined.extend_from_slice(&self.pieces[next..first]);
            let (start, end) = (self.pieces[first].0, self.pieces[last].1);
            let mut from = start;
            if let Some(special) = specials.get(&text.as_bytes()[start as usize..end as usize]) {
                for to in special.ends() {
                    self.joined.push((from, start + to as u32));
                    from = start + to as u32;
                }
            }
            next = last + 1;
        }
        self.joined.extend_from_slice(&self.pieces[next..]);
        std::mem::swap(&mut self.pieces, &mut self.joined);
    }
}

/// Where the general rules would cut a special word: the ends of its pieces.
pub(super) fn pieces_of(word: &str) -> Vec<usize> {
    let mut segmenter = Segmenter::default();
    segmenter.cut(word, (0, word.len()), MARK, None);
    segmenter.pieces.iter().map(|piece| piece.1 as usize).collect()
}

fn span(start: usize, end: usize) -> Span {
    (start as u32, end as u32)
}

#[inline]
fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    while let Some(&byte) = bytes.get(at) {
        let width =
            if byte < 0x80 { usize::from(CLASS[usize::from(byte)] == SPACE) } else { space_at(bytes, at) };
        if width == 0 {
            break;
        }
        at += width;
    }
    at
}

/// The end of the chunk that begins at `at`, and the classes of its bytes.
#[inline]
fn chunk(bytes: &[u8], mut at: usize) -> (usize, u8) {
    let mut seen = 0;
    while let Some(&byte) = bytes.get(at) {
        let class = CLASS[usize::from(byte)];
        if class == SPACE || (class == WIDE && space_at(bytes, at) > 0) {
            break;
        }
        seen |= class;
        at += 1;
    }
    (at, seen)
}
