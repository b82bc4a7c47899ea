//! What repeats in a text: lines, word n-grams. Pieces are told apart by 64-bit hashes: among the ten million pieces of a
//! huge document two differ but hash alike with a chance of three in a million.

use xxhash_rust::xxh3::xxh3_64;

use super::words::Span;
use super::{python, text_of};

/// Bytes of the words from some word on that tell most places of a text apart.
const KEY: usize = 12;

/// Room for the tables, reused from document to document.
#[derive(Default)]
pub(crate) struct Tables {
    seen: Seen,
    grams: Grams,
    joined: Joined,
}

/// Pieces that came before, and the characters of such pieces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Duplicates {
    /// How many pieces there are.
    pub(crate) pieces: usize,
    /// How many of them came before.
    pub(crate) elements: usize,
    /// Their code points.
    pub(crate) chars: usize,
}

impl Tables {
    /// Counts the pieces that came before.
    pub(crate) fn duplicates<'t>(
        &mut self,
        pieces: impl Iterator<Item = &'t str>,
        most: usize,
    ) -> Duplicates {
        let mut duplicates = Duplicates::default();
        self.seen.clear(most);
        for piece in pieces {
            duplicates.pieces += 1;
            if !self.seen.insert(xxh3_64(piece.as_bytes())) {
                duplicates.elements += 1;
                duplicates.chars += python::len(piece);
            }
        }
        duplicates
    }

    /// Prepares [`Self::top_gram`] and [`Self::duplicate_grams`].
    pub(crate) fn words(&mut self, text: &str, words: &[Span]) {
        self.joined.fill(text, words);
        self.grams.start(&self.joined);
    }

    /// The characters that the most frequent `n`-gram of words takes in all, a space between two words; of several the
    /// first. `None` if there are fewer than `n` words. Cheap when `n` only grows from call to call.
    pub(crate) fn top_gram(&mut self, n: usize) -> Option<usize> {
        let (first, count) = self.grams.top(n, &self.joined)?;
        Some((self.joined.chars(first, n) + n - 1) * count)
    }

    /// The characters of `n`-grams of words that came before, none counted twice; joined without spaces, as datatrove
    /// does. [`Self::mark`] comes first, with an `n` that is not larger.
    pub(crate) fn duplicate_grams(&mut self, n: usize) -> usize {
        let (joined, seen) = (&self.joined, &mut self.seen);
        let count = joined.len();
        let mut chars = 0;
        seen.clear(joined.marked);
        let mut at = 0;
        while at + n <= count {
            if joined.repeats[at] && !seen.insert(xxh3_64(joined.bytes(at, n))) {
                chars += joined.chars(at, n);
                at += n;
            } else {
                at += 1;
            }
        }
        chars
    }

    /// Marks where an n-gram of at least `n` words can begin that is not alone; others need no table.
    pub(crate) fn mark(&mut self, n: usize) {
        self.joined.mark(n, &mut self.seen);
    }
}

/// A set of hashes.
#[derive(Default)]
struct Seen {
    slots: Vec<u64>,
    shift: u32,
}

impl Seen {
    /// Empties it and makes room for `most` hashes.
    fn clear(&mut self, most: usize) {
        let size = (2 * most).next_power_of_two().max(16);
        self.shift = 64 - size.trailing_zeros();
        self.slots.clear();
        self.slots.resize(size, 0);
    }

    /// Whether it was not there yet.
    #[inline]
    fn insert(&mut self, hash: u64) -> bool {
        let hash = hash.max(1);
        let mask = self.slots.len() - 1;
        let mut slot = (hash >> self.shift) as usize;
        loop {
            match self.slots[slot] {
                0 => {
                    self.slots[slot] = hash;
                    return true;
                }
                found if found == hash => return false,
                _ => slot = (slot + 1) & mask,
            }
        }
    }
}

/// The words of a text one after another without anything between.
#[derive(Default)]
struct Joined {
    text: Vec<u8>,
    /// Where each word begins, and the end.
    starts: Vec<u32>,
    /// The same in code points; empty where it is the same.
    char_starts: Vec<u32>,
    /// Whether an n-gram that begins here may be found elsewhere.
    repeats: Vec<bool>,
    /// How many of them.
    marked: usize,
}

impl Joined {
    fn fill(&mut self, text: &str, words: &[Span]) {
        self.text.clear();
        self.starts.clear();
        self.char_starts.clear();
        for &word in words {
            self.starts.push(self.text.len() as u32);
            self.text.extend_from_slice(text_of(text, word).as_bytes());
        }
        self.starts.push(self.text.len() as u32);
        if !self.text.is_ascii() {
            let mut chars = 0;
            self.char_starts.push(0);
            for word in self.starts.windows(2) {
                let bytes = &self.text[word[0] as usize..word[1] as usize];
                chars += bytes.iter().filter(|&&byte| byte & 0xc0 != 0x80).count() as u32;
                self.char_starts.push(chars);
            }
        }
    }

    fn len(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    #[inline]
    fn bytes(&self, word: usize, n: usize) -> &[u8] {
        &self.text[self.starts[word] as usize..self.starts[word + n] as usize]
    }

    fn chars(&self, word: usize, n: usize) -> usize {
        let starts = if self.char_starts.is_empty() { &self.starts } else { &self.char_starts };
        (starts[word + n] - starts[word]) as usize
    }

    /// Two equal n-grams share their first [`KEY`] bytes, or are shorter than that.
    fn mark(&mut self, n: usize, seen: &mut Seen) {
        let count = self.len();
        self.repeats.clear();
        self.repeats.resize(count, false);
        self.marked = 0;
        if count < n {
            return;
        }
        seen.clear(count);
        // Backwards finds those that come again, forwards those that came before.
        for word in (0..=count - n).rev() {
            self.repeats[word] = self.key(word, n).is_none_or(|key| !seen.insert(key));
        }
        seen.clear(count);
        for word in 0..=count - n {
            let again = self.key(word, n).is_none_or(|key| !seen.insert(key));
            self.repeats[word] |= again;
            self.marked += usize::from(self.repeats[word]);
        }
    }

    #[inline]
    fn key(&self, word: usize, n: usize) -> Option<u64> {
        let gram = self.bytes(word, n).first_chunk::<KEY>()?;
        Some(xxh3_64(gram))
    }
}

/// Which n-grams of words are the same, for one n after another.
#[derive(Default)]
struct Grams {
    n: usize,
    /// By place: the number of the n-gram there, or [`ALONE`].
    numbers: Vec<u32>,
    /// By number: how often, and where first.
    counts: Vec<(u32, u32)>,
    slots: Vec<(u64, u32)>,
}

/// An n-gram that is nowhere else; so are all longer ones around it.
const ALONE: u32 = u32::MAX;

impl Grams {
    fn start(&mut self, joined: &Joined) {
        self.n = 1;
        self.number(joined.len(), |_, word| Some(xxh3_64(joined.bytes(word, 1))));
    }

    /// Where the most frequent n-gram begins first, and how often it comes.
    fn top(&mut self, n: usize, joined: &Joined) -> Option<(usize, usize)> {
        if n < self.n {
            self.start(joined);
        }
        while self.n < n {
            self.n += 1;
            let places = (joined.len() + 1).saturating_sub(self.n);
            self.number(places, |numbers, word| {
                let (left, right) = (numbers[word], numbers[word + 1]);
                (left != ALONE && right != ALONE)
                    .then(|| u64::from(left) << 32 | u64::from(right))
                    .map(|pair| (pair + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
            });
        }
        if joined.len() < n {
            return None;
        }
        let alone = (0, 1);
        let most = self.counts.iter().fold(alone, |most, &(count, first)| {
            if count as usize > most.1 { (first as usize, count as usize) } else { most }
        });
        Some(most)
    }

    /// Numbers the n-grams anew: `key` gives what tells them apart, from the numbers of the shorter ones.
    fn number(&mut self, places: usize, key: impl Fn(&[u32], usize) -> Option<u64>) {
        let size = (2 * places).next_power_of_two().max(16);
        let shift = 64 - size.trailing_zeros();
        self.slots.clear();
        self.slots.resize(size, (0, 0));
        self.counts.clear();
        self.numbers.resize(places.max(self.numbers.len() * usize::from(self.n > 1)), 0);
        for place in 0..places {
            let Some(key) = key(&self.numbers, place) else {
                self.numbers[place] = ALONE;
                continue;
            };
            let key = key.max(1);
            let mut slot = (key >> shift) as usize;
            let number = loop {
                match self.slots[slot] {
                    (0, _) => {
                        let number = self.counts.len() as u32;
                        self.slots[slot] = (key, number);
                        self.counts.push((0, place as u32));
                        break number;
                    }
                    (found, number) if found == key => break number,
                    _ => slot = (slot + 1) & (size - 1),
                }
            };
            self.counts[number as usize].0 += 1;
            self.numbers[place] = number;
        }
        self.numbers.truncate(places);
        for number in &mut self.numbers {
            if *number != ALONE && self.counts[*number as usize].0 == 1 {
                *number = ALONE;
            }
        }
    }
}
