//! The letters that a vocabulary of letters starts from.

use std::collections::{BTreeMap, BTreeSet};

/// Rarer letters than it takes to cover this share of all letters are left out, as in SentencePiece: one-off symbols
/// would crowd out words.
const COVERAGE: f64 = 0.9995;

/// Printable characters of ASCII but the space.
pub(super) const ASCII: usize = 94;

/// The most frequent letters of `words` that cover 99.95 % of them, at most `most`
/// (or [`ASCII`]), ascending; and printable ASCII, so
/// that what special tokens are spelled in is always known.
pub(super) fn covering(words: &[(&[u8], u64)], most: usize) -> Vec<char> {
    let mut counts: BTreeMap<char, u64> = BTreeMap::new();
    let mut total = 0u64;
    for (word, count) in words {
        for c in String::from_utf8_lossy(word).chars() {
            let sum = counts.entry(c).or_default();
            *sum = sum.saturating_add(*count);
            total = total.saturating_add(*count);
        }
    }
    let mut by_count: Vec<(u64, char)> = counts.into_iter().map(|(c, n)| (n, c)).collect();
    by_count.sort_unstable_by_key(|&(n, c)| (std::cmp::Reverse(n), c));
    let mut covered = 0u64;
    let mut kept: BTreeSet<char> = ('!'..='~').collect();
    for (count, c) in by_count {
        if kept.len() >= most.max(ASCII) || covered as f64 > COVERAGE * total as f64 {
            break;
        }
        covered = covered.saturating_add(count);
        kept.insert(c);
    }
    kept.into_iter().collect()
}
