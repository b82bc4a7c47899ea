//! Shingles: the hash of every n consecutive words, as datatrove 0.10.1 hashes them.

use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};
use xxhash_rust::{xxh32::xxh32, xxh64::xxh64};

/// Where a word lies in the text it was found in: its first byte and the one after its last.
pub type Span = (u32, u32);

/// Finds the words of a text; appends their spans, in order and without overlap, none empty.
pub type Words<'a> = &'a dyn Fn(&str, &mut Vec<Span>);

/// The hash of a shingle's bytes; names as in datatrove.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HashFunction {
    /// XXH64 or XXH32 with seed 0.
    #[default]
    Xxhash,
    /// The first bytes of SHA-1, little endian. Slower by far.
    Sha1,
}

/// Bits of a hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub enum Precision {
    /// 32 bits.
    Bits32,
    /// 64 bits.
    #[default]
    Bits64,
}

impl TryFrom<u32> for Precision {
    type Error = String;

    fn try_from(bits: u32) -> Result<Self, String> {
        match bits {
            32 => Ok(Self::Bits32),
            64 => Ok(Self::Bits64),
            _ => Err(format!("a precision of {bits} bits; 32 and 64 are known")),
        }
    }
}

impl From<Precision> for u32 {
    fn from(precision: Precision) -> u32 {
        match precision {
            Precision::Bits32 => 32,
            Precision::Bits64 => 64,
        }
    }
}

/// The hash of `bytes`.
#[inline]
pub fn hash(bytes: &[u8], function: HashFunction, precision: Precision) -> u64 {
    match (function, precision) {
        (HashFunction::Xxhash, Precision::Bits64) => xxh64(bytes, 0),
        (HashFunction::Xxhash, Precision::Bits32) => u64::from(xxh32(bytes, 0)),
        (HashFunction::Sha1, _) => {
            let digest = Sha1::digest(bytes);
            let mut first = [0u8; 8];
            first.copy_from_slice(&digest[..8]);
            let hash = u64::from_le_bytes(first);
            if precision == Precision::Bits32 { hash & u64::from(u32::MAX) } else { hash }
        }
    }
}

/// Calls `each` with every `n` consecutive words, joined by single spaces. `joined` is workspace; `n` is at least 1.
pub fn for_each_ngram(
    text: &str,
    words: &mut [Span],
    n: usize,
    joined: &mut String,
    mut each: impl FnMut(&[u8]),
) {
    let bytes = text.as_bytes();
    let apart = |pair: &[Span]| pair[0].1 + 1 == pair[1].0 && bytes.get(pair[0].1 as usize) == Some(&b' ');
    // In simplified text words usually stand one space apart, so that the n-gram is there already.
    let source = if words.windows(2).all(apart) {
        text
    } else {
        join(text, words, joined);
        joined.as_str()
    };
    for ngram in words.windows(n) {
        let (first, last) = (ngram[0].0 as usize, ngram[n - 1].1 as usize);
        each(source.as_bytes().get(first..last).unwrap_or_default());
    }
}

fn join(text: &str, words: &mut [Span], joined: &mut String) {
    joined.clear();
    for word in words {
        if !joined.is_empty() {
            joined.push(' ');
        }
        let start = joined.len() as u32;
        joined.push_str(text.get(word.0 as usize..word.1 as usize).unwrap_or_default());
        *word = (start, joined.len() as u32);
    }
}

/// Words as runs of anything but whitespace: right for simplified text of languages that write spaces.
pub fn split_at_spaces(text: &str, words: &mut Vec<Span>) {
    let mut start = None;
    for (at, c) in text.char_indices() {
        match (c.is_whitespace(), start) {
            (true, Some(from)) => {
                words.push((from, at as u32));
                start = None;
            }
            (false, None) => start = Some(at as u32),
            _ => {}
        }
    }
    if let Some(from) = start {
        words.push((from, text.len() as u32));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ngrams(text: &str, mut words: Vec<Span>, n: usize) -> Vec<String> {
        let mut found = Vec::new();
        for_each_ngram(text, &mut words, n, &mut String::new(), |ngram| {
            found.push(String::from_utf8(ngram.to_vec()).unwrap());
        });
        found
    }

    #[test]
    fn ngrams_of_words_apart_or_not() {
        let mut words = Vec::new();
        split_at_spaces(" one two  three é", &mut words);
        assert_eq!(ngrams(" one two  three é", words.clone(), 2), ["one two", "two three", "three é"]);
        assert_eq!(ngrams(" one two  three é", words, 5), [""; 0]);
        assert_eq!(ngrams("cannot go", vec![(0, 3), (3, 6), (7, 9)], 3), ["can not go"]);
    }

    #[test]
    fn known_hashes() {
        let of = |function, precision| hash(b"hello world", function, precision);
        assert_eq!(of(HashFunction::Xxhash, Precision::Bits64), 0x45ab_6734_b21e_6968);
        assert_eq!(of(HashFunction::Xxhash, Precision::Bits32), 0xcebb_6622);
        assert_eq!(of(HashFunction::Sha1, Precision::Bits32), 0x356c_ae2a);
        assert_eq!(of(HashFunction::Sha1, Precision::Bits64) as u32, 0x356c_ae2a);
    }
}
