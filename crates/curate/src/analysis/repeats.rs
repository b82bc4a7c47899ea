//! What repeats in a text: lines, word n-grams. Pieces are told apart by 64-bit hashes: among the ten million pieces of a
//! huge document two differ but hash alike with a chance of three in a million.

use xxhash_rust::xxh3::xxh3_64;

use super::words::Span;
use super::{python, text_of};

/// Bytes of the words from some word on that tell most places of a text apart.
const KEY: usize = 12;

/// Bytes behind the joined words, so that eight or sixteen can be read or written at once.
const SLACK: usize = 16;

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
    /// Counts the pieces that came before, of at most `most` pieces.
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

    /// Prepares [`Self::top_gram`] and, for n-grams of at least `shortest` words, [`Self::duplicate_grams`].
    pub(crate) fn words(&mut self, text: &str, words: &[Span], shortest: usize) {
        self.joined.fill(text, words);
        self.grams.start(&self.joined);
        self.joined.shortest = shortest;
        self.joined.marked = None;
    }

    /// The characters that the most frequent `n`-gram of words takes in all, a space between two words; of several the
    /// first. `None` if there are fewer than `n` words. Cheap when `n` only grows from call to call.
    pub(crate) fn top_gram(&mut self, n: usize) -> Option<usize> {
        let (first, count) = self.grams.top(n, &self.joined)?;
        Some((self.joined.chars(first, n) + n - 1) * count)
    }

    /// The characters of `n`-grams of words that came before, none counted twice; joined without spaces, as datatrove
    /// does. `None` when they are found not to be more than `enough` without counting.
    pub(crate) fn duplicate_grams(&mut self, n: usize, enough: usize) -> Option<usize> {
        let marked = match self.joined.marked.take() {
            Some(marked) => marked,
            None => self.grams.mark(&self.joined),
        };
        let (joined, seen) = (&self.joined, &mut self.seen);
        let fits = |word: &&u32| **word as usize + n <= joined.len();
        let chars = (joined.chars_from(marked.iter().take_while(fits), n) > enough).then(|| {
            let (mut chars, mut next) = (0, 0);
            seen.clear(marked.len());
            for &word in marked.iter().take_while(fits) {
                let word = word as usize;
                if word >= next && !seen.insert(xxh3_64(joined.bytes(word, n))) {
                    chars += joined.chars(word, n);
                    next = word + n;
                }
            }
            chars
        });
        self.joined.marked = Some(marked);
        chars
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
    /// With [`SLACK`] bytes behind.
    text: Vec<u8>,
    /// Where each word begins, and the end.
    starts: Vec<u32>,
    /// The same in code points; empty where it is the same.
    char_starts: Vec<u32>,
    /// Words of the shortest n-grams that will be asked for.
    shortest: usize,
    /// The words at which such an n-gram may begin that is found elsewhere too, once they were looked for.
    marked: Option<Vec<u32>>,
}

impl Joined {
    fn fill(&mut self, text: &str, words: &[Span]) {
        self.starts.clear();
        self.char_starts.clear();
        self.text.resize(text.len() + SLACK, 0);
        let (from, mut end) = (text.as_bytes(), 0);
        for &word in words {
            self.starts.push(end as u32);
            let (start, source) = (word.0 as usize, text_of(text, word).as_bytes());
            // Sixteen bytes at once are faster than as many as there are, and the next word overwrites the rest.
            match (from.get(start..start + SLACK), self.text.get_mut(end..end + SLACK)) {
                (Some(wide), Some(target)) if source.len() <= SLACK => target.copy_from_slice(wide),
                _ => {
                    let needed = end + source.len() + SLACK;
                    self.text.resize(needed.max(self.text.len()), 0);
                    self.text[end..end + source.len()].copy_from_slice(source);
                }
            }
            end += source.len();
        }
        self.starts.push(end as u32);
        self.text.resize(end + SLACK, 0);
        if !self.text[..end].is_ascii() {
            self.count_chars();
        }
    }

    fn count_chars(&mut self) {
        let mut chars = 0;
        self.char_starts.push(0);
        for word in self.starts.windows(2) {
            let bytes = &self.text[word[0] as usize..word[1] as usize];
            chars += bytes.iter().filter(|&&byte| byte & 0xc0 != 0x80).count() as u32;
            self.char_starts.push(chars);
        }
    }

    fn len(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    #[inline]
    fn bytes(&self, word: usize, n: usize) -> &[u8] {
        &self.text[self.starts[word] as usize..self.starts[word + n] as usize]
    }

    #[inline]
    fn chars(&self, word: usize, n: usize) -> usize {
        let starts = if self.char_starts.is_empty() { &self.starts } else { &self.char_starts };
        (starts[word + n] - starts[word]) as usize
    }

    /// The code points of all n-grams that begin at these words, each counted once.
    fn chars_from<'w>(&self, words: impl Iterator<Item = &'w u32>, n: usize) -> usize {
        let (mut chars, mut next) = (0, 0);
        for &word in words {
            let end = word as usize + n;
            let from = next.max(word as usize);
            chars += self.chars(from, end - from);
            next = end;
        }
        chars
    }

    #[inline]
    fn eight(&self, at: usize) -> u64 {
        self.text
            .get(at..at + 8)
            .and_then(|bytes| bytes.first_chunk())
            .map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }

    /// The hash of a word.
    #[inline]
    fn hash(&self, word: usize) -> u64 {
        let (start, end) = (self.starts[word] as usize, self.starts[word + 1] as usize);
        match end - start {
            0 => 0,
            length @ 1..=8 => mix(self.eight(start) & (u64::MAX >> (64 - 8 * length)), length as u64),
            length @ 9..=16 => mix(mix(self.eight(start), length as u64), self.eight(end - 8)),
            _ => xxh3_64(self.bytes(word, 1)),
        }
    }

    /// The hash of the next [`KEY`] bytes from a word on; `None` when there are fewer.
    #[inline]
    fn key(&self, word: usize) -> Option<u64> {
        let (start, end) = (self.starts[word] as usize, self.starts[self.len()] as usize);
        (end - start >= KEY).then(|| mix(self.eight(start), self.eight(start + KEY - 8)))
    }

    /// Whether the shortest n-gram that begins at a word has fewer than [`KEY`] bytes.
    #[inline]
    fn is_short(&self, word: usize) -> bool {
        ((self.starts[word + self.shortest] - self.starts[word]) as usize) < KEY
    }
}

/// Two numbers made one, so that pairs of different numbers hardly ever give the same.
#[inline]
fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ 0x2d35_8dcc_aa6c_78a5) * u128::from(b ^ 0x8bb8_4b93_962e_acc9);
    product as u64 ^ (product >> 64) as u64
}

/// Which n-grams of words are the same, for one n after another.
#[derive(Default)]
struct Grams {
    n: usize,
    /// By place: the number of the n-gram there, or [`ALONE`].
    numbers: Vec<u32>,
    /// By number.
    kinds: Vec<Kind>,
    /// 1 + the number of the n-gram, 0 where none is.
    slots: Vec<u32>,
}

/// An n-gram and where it is.
struct Kind {
    key: u64,
    count: u32,
    first: u32,
}

/// An n-gram that is nowhere else; so are all longer ones around it.
const ALONE: u32 = u32::MAX;

impl Grams {
    fn start(&mut self, joined: &Joined) {
        self.n = 1;
        self.numbers.clear();
        self.numbers.resize(joined.len(), 0);
        self.number(joined.len(), |_, word| Some(joined.hash(word)));
    }

    /// Where the most frequent n-gram begins first, and how often it comes.
    fn top(&mut self, n: usize, joined: &Joined) -> Option<(usize, usize)> {
        if joined.len() < n {
            return None;
        }
        if n < self.n {
            self.start(joined);
        }
        while self.n < n {
            self.n += 1;
            self.number(joined.len() + 1 - self.n, |numbers, word| {
                let (left, right) = (numbers[word], numbers[word + 1]);
                (left != ALONE && right != ALONE).then(|| mix(u64::from(left), u64::from(right)))
            });
        }
        let alone = (0, 1);
        Some(self.kinds.iter().fold(alone, |most, kind| {
            if kind.count as usize > most.1 { (kind.first as usize, kind.count as usize) } else { most }
        }))
    }

    /// Numbers the n-grams anew: `key` gives what tells them apart, from the numbers of the shorter ones.
    fn number(&mut self, places: usize, key: impl Fn(&[u32], usize) -> Option<u64>) {
        self.empty(places);
        for place in 0..places {
            self.numbers[place] = match key(&self.numbers, place) {
                Some(key) => self.find(key, place),
                None => ALONE,
            };
        }
        self.numbers.truncate(places);
        for number in &mut self.numbers {
            if *number != ALONE && self.kinds[*number as usize].count == 1 {
                *number = ALONE;
            }
        }
    }

    fn empty(&mut self, most: usize) {
        self.slots.clear();
        self.slots.resize((2 * most).next_power_of_two().max(16), 0);
        self.kinds.clear();
    }

    /// The number of the n-gram with this key, a new one if it is the first, counting it.
    #[inline]
    fn find(&mut self, key: u64, place: usize) -> u32 {
        let mask = self.slots.len() - 1;
        let mut slot = key as usize & mask;
        loop {
            let number = self.slots[slot];
            if number == 0 {
                self.kinds.push(Kind { key, count: 1, first: place as u32 });
                self.slots[slot] = self.kinds.len() as u32;
                return self.kinds.len() as u32 - 1;
            }
            let kind = &mut self.kinds[number as usize - 1];
            if kind.key == key {
                kind.count += 1;
                return number - 1;
            }
            slot = (slot + 1) & mask;
        }
    }

    /// The words at which an n-gram may begin that is found elsewhere too. Two equal n-grams share their first [`KEY`]
    /// bytes, or are shorter than that, and then so is the shortest at both places.
    fn mark(&mut self, joined: &Joined) -> Vec<u32> {
        let places = (joined.len() + 1).saturating_sub(joined.shortest);
        // Whoever asks for the most frequent n-gram next starts anew.
        self.n = usize::MAX;
        self.empty(places);
        self.numbers.clear();
        for place in 0..places {
            let number = joined.key(place).map_or(ALONE, |key| self.find(key, place));
            self.numbers.push(number);
        }
        let again = |place: usize| match self.numbers[place] {
            _ if joined.is_short(place) => true,
            ALONE => false,
            number => self.kinds[number as usize].count > 1,
        };
        (0..places).filter(|&place| again(place)).map(|place| place as u32).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn top_gram(words: &[String], n: usize) -> Option<usize> {
        let grams: Vec<String> = words.windows(n).map(|gram| gram.join(" ")).collect();
        let count = |gram: &String| grams.iter().filter(|other| *other == gram).count();
        let most = grams.iter().map(count).max()?;
        grams.iter().find(|gram| count(gram) == most).map(|gram| gram.chars().count() * most)
    }

    fn duplicate_grams(words: &[String], n: usize) -> usize {
        let (mut seen, mut chars, mut at) = (HashSet::new(), 0, 0);
        while at + n <= words.len() {
            let gram = words[at..at + n].concat();
            if seen.contains(&gram) {
                chars += gram.chars().count();
                at += n;
            } else {
                seen.insert(gram);
                at += 1;
            }
        }
        chars
    }

    proptest! {
        #[test]
        fn tables_count_as_strings_do(
            words in prop::collection::vec("[ab]{1,3}|[a-cé]{1,2}|a{4,12}|abcdefgh|abcdefghijk|a{17,18}", 0..60),
            n in 1_usize..6,
        ) {
            let text = words.join(" ");
            let mut end = 0;
            let spans: Vec<Span> = words.iter().map(|word| {
                let start = end;
                end += word.len() as u32 + 1;
                (start, end - 1)
            }).collect();
            let mut tables = Tables::default();
            tables.words(&text, &spans, 2);
            for n in [n, n + 1, 1] {
                prop_assert_eq!(tables.top_gram(n), top_gram(&words, n));
            }
            for n in [n + 1, 2, n + 2] {
                let expected = duplicate_grams(&words, n);
                match tables.duplicate_grams(n, 5) {
                    Some(chars) => prop_assert_eq!(chars, expected),
                    None => prop_assert!(expected <= 5),
                }
            }
            prop_assert_eq!(tables.top_gram(2), top_gram(&words, 2));
        }
    }
}
