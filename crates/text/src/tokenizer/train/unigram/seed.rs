//! Candidate pieces: the substrings that the words of a corpus repeat.

use super::{Corpus, MAX_LETTERS};
use std::collections::{BTreeSet, HashMap};

/// Up to `most` substrings of at least two letters by falling (letters × occurrences), and every letter, each with its
/// log probability.
pub(super) fn candidates(corpus: &Corpus, alphabet: &BTreeSet<char>, most: usize) -> Vec<(String, f64)> {
    let mut letters: HashMap<char, u64> = alphabet.iter().map(|&c| (c, 1)).collect();
    for &(start, end, count) in &corpus.words {
        for c in &corpus.letters[start..end] {
            let sum = letters.entry(*c).or_default();
            *sum = sum.saturating_add(count);
        }
    }
    let mut found = repeated(corpus);
    let order = |a: &(f64, &[char]), b: &(f64, &[char])| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1));
    if found.len() > most {
        found.select_nth_unstable_by(most, order);
        found.truncate(most);
    }
    found.sort_unstable_by(order);
    let singles = alphabet.iter().map(|c| (c.to_string(), letters[c] as f64));
    let mut all: Vec<(String, f64)> =
        singles.chain(found.into_iter().map(|(score, text)| (text.iter().collect(), score))).collect();
    let log_sum = all.iter().map(|(_, score)| score).sum::<f64>().ln();
    all.iter_mut().for_each(|(_, score)| *score = score.ln() - log_sum);
    all
}

/// One suffix of a word, cut to the longest piece, with the word's count.
type Suffix<'a> = (&'a [char], u64);

/// Every substring of at least two letters that cannot be made longer without becoming rarer, and that occurs twice,
/// with letters × occurrences.
fn repeated(corpus: &Corpus) -> Vec<(f64, &[char])> {
    let mut suffixes: Vec<Suffix<'_>> = Vec::with_capacity(corpus.letters.len());
    for &(start, end, count) in &corpus.words {
        suffixes.extend((start..end - 1).map(|at| (&corpus.letters[at..end.min(at + MAX_LETTERS)], count)));
    }
    suffixes.sort_unstable();
    let mut found = Vec::new();
    // Open prefixes of the last suffix, by growing length, each with what was counted of it.
    let mut open: Vec<(usize, u64)> = Vec::new();
    let mut last: &[char] = &[];
    for (suffix, count) in suffixes.iter().copied().chain([(&[][..], 0)]) {
        let common = last.iter().zip(suffix).take_while(|(a, b)| a == b).count();
        let mut carried = 0u64;
        while let Some(&(length, sum)) = open.last()
            && length > common
        {
            open.pop();
            carried = carried.saturating_add(sum);
            if carried >= 2 && length >= 2 {
                found.push((length as f64 * carried as f64, &last[..length]));
            }
        }
        if carried > 0 {
            match open.last_mut() {
                Some((length, sum)) if *length == common => *sum = sum.saturating_add(carried),
                _ => open.push((common, carried)),
            }
        }
        match open.last_mut() {
            Some((length, sum)) if *length == suffix.len() => *sum = sum.saturating_add(count),
            _ => open.push((suffix.len(), count)),
        }
        last = suffix;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn substrings_are_counted_with_their_words() {
        let words: Vec<(&[u8], u64)> = vec![(b"banana", 3), (b"ban", 2), (b"xy", 1)];
        let alphabet: BTreeSet<char> = "abnxy".chars().collect();
        let corpus = Corpus::new(&words, &alphabet);
        let mut found: Vec<(String, f64)> =
            repeated(&corpus).into_iter().map(|(n, text)| (text.iter().collect(), n)).collect();
        found.sort_by(|a, b| a.0.cmp(&b.0));
        let wanted = [
            ("an", 2.0 * 8.0),
            ("ana", 3.0 * 6.0),
            ("anana", 5.0 * 3.0),
            ("ban", 3.0 * 5.0),
            ("banana", 6.0 * 3.0),
            ("na", 2.0 * 6.0),
            ("nana", 4.0 * 3.0),
        ];
        assert_eq!(found, wanted.map(|(text, n)| (text.to_owned(), n)));
        assert_eq!(candidates(&corpus, &alphabet, 2).len(), alphabet.len() + 2);
    }
}
