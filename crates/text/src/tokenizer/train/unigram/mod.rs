//! Training Unigram (Kudo 2018, arXiv:1804.10959): many candidate pieces, their probabilities by expectation
//! maximisation, and again and again the pieces whose loss costs least are dropped, until few enough are left.
//!
//! The recipe is SentencePiece's: a million candidates, two rounds of EM, a quarter dropped at a time. Ours counts
//! words with their frequencies, and sums in an order that the number of threads does not change.

mod lattice;
mod seed;

use super::super::TokenizerError;
use super::super::write::SPACE_MARK;
use super::count::Words;
use super::{Made, RESERVED, TrainSettings, letters};
use lattice::{Pieces, Scratch};
use std::collections::{BTreeSet, HashMap, HashSet};

/// Candidates to begin with.
const SEEDS: usize = 1_000_000;
/// The longest piece, in letters.
const MAX_LETTERS: usize = 16;
/// Rounds of EM between prunings.
const ROUNDS: usize = 2;
/// The share of pieces that a pruning leaves.
const SHRINK: f64 = 0.75;
/// Prunings stop at this multiple of the wanted size; the last cut is by probability.
const SURPLUS: f64 = 1.1;
/// Pieces expected less often than this are dropped in EM.
const LEAST_EXPECTED: f64 = 0.5;
/// Words are summed in this many parts, whose sums are then added in order.
const PARTS: usize = 8;
/// The log probability of tokens that no text may be cut into: special tokens and bytes are in the vocabulary by name.
pub(super) const NEVER: f64 = -100_000.0;

/// `<0x00>` to `<0xFF>`, which spell what the vocabulary lacks.
pub(super) fn byte_tokens() -> impl Iterator<Item = String> {
    (0..=u8::MAX).map(|byte| format!("<0x{byte:02X}>"))
}

/// Words as letters of the vocabulary, in one arena; a letter that it lacks ends a word.
pub(super) struct Corpus {
    letters: Vec<char>,
    words: Vec<(usize, usize, u64)>,
}

impl Corpus {
    fn new(sorted: &[(&[u8], u64)], alphabet: &BTreeSet<char>) -> Self {
        let mut corpus = Self { letters: Vec::new(), words: Vec::new() };
        for (word, count) in sorted {
            let mut start = corpus.letters.len();
            for c in String::from_utf8_lossy(word).chars() {
                if alphabet.contains(&c) {
                    corpus.letters.push(c);
                } else {
                    corpus.end(&mut start, *count);
                }
            }
            corpus.end(&mut start, *count);
        }
        corpus
    }

    fn end(&mut self, start: &mut usize, count: u64) {
        if self.letters.len() > *start {
            self.words.push((*start, self.letters.len(), count));
        }
        *start = self.letters.len();
    }

    fn parts(&self) -> impl Iterator<Item = &[(usize, usize, u64)]> {
        self.words.chunks(self.words.len().div_ceil(PARTS).max(1))
    }
}

/// The vocabulary: special tokens, bytes, and pieces by falling probability.
pub(super) fn train(
    words: Words,
    settings: &TrainSettings,
    special: &[String],
    threads: usize,
) -> Result<Made, TokenizerError> {
    let sorted = words.sorted();
    let room = settings.vocab_size - special.len() - 256;
    let mut alphabet: BTreeSet<char> = letters::covering(&sorted, room / 2).into_iter().collect();
    alphabet.extend([SPACE_MARK, '\n']);
    while alphabet.len() > room {
        alphabet.pop_last();
    }
    let corpus = Corpus::new(&sorted, &alphabet);
    drop(sorted);
    drop(words);
    let mut pieces = Pieces::new(seed::candidates(&corpus, &alphabet, SEEDS));
    let enough = ((room as f64) * SURPLUS) as usize;
    loop {
        for _ in 0..ROUNDS {
            let expected = expect(&corpus, &pieces, threads)?;
            pieces = maximise(&pieces, &expected);
        }
        if pieces.len() <= enough {
            break;
        }
        let target = enough.max((pieces.len() as f64 * SHRINK) as usize);
        pieces = prune(&corpus, &pieces, target, threads)?;
    }
    Ok(assemble(&pieces, &alphabet, room, special))
}

/// Runs `work` over every part of the corpus on `threads` threads; results are in order of parts.
fn over_parts<T: Send>(
    corpus: &Corpus,
    threads: usize,
    work: impl Fn(&[(usize, usize, u64)], &mut Scratch) -> T + Sync,
) -> Result<Vec<T>, TokenizerError> {
    let parts: Vec<_> = corpus.parts().collect();
    let mut results: Vec<Option<T>> = parts.iter().map(|_| None).collect();
    let share = parts.len().div_ceil(threads.max(1)).max(1);
    std::thread::scope(|scope| {
        let workers: Vec<_> = parts
            .chunks(share)
            .zip(results.chunks_mut(share))
            .map(|(parts, results)| {
                let work = &work;
                scope.spawn(move || {
                    let mut scratch = Scratch::default();
                    for (part, result) in parts.iter().zip(results) {
                        *result = Some(work(part, &mut scratch));
                    }
                })
            })
            .collect();
        workers.into_iter().try_for_each(|w| w.join())
    })
    .map_err(|_| TokenizerError::Training("a thread of Unigram training failed".into()))?;
    Ok(results.into_iter().flatten().collect())
}

/// How often each piece is expected in the corpus, over all segmentations by their probability.
fn expect(corpus: &Corpus, pieces: &Pieces, threads: usize) -> Result<Vec<f64>, TokenizerError> {
    let sums = over_parts(corpus, threads, |part, scratch| {
        let mut expected = vec![0.0; pieces.len()];
        for &(start, end, count) in part {
            pieces.add_expected(&corpus.letters[start..end], count as f64, &mut expected, scratch);
        }
        expected
    })?;
    let mut total = vec![0.0; pieces.len()];
    for sum in sums {
        total.iter_mut().zip(sum).for_each(|(total, part)| *total += part);
    }
    Ok(total)
}

/// New log probabilities, with the sparse prior of the original; single letters always stay.
fn maximise(pieces: &Pieces, expected: &[f64]) -> Pieces {
    let kept: Vec<(String, f64)> = pieces
        .iter()
        .zip(expected)
        .filter(|((text, _), n)| **n >= LEAST_EXPECTED || is_letter(text))
        .map(|((text, _), &n)| (text.to_owned(), n.max(LEAST_EXPECTED)))
        .collect();
    let sum = digamma(kept.iter().map(|(_, n)| n).sum());
    Pieces::new(kept.into_iter().map(|(text, n)| (text, digamma(n) - sum)).collect())
}

fn is_letter(text: &str) -> bool {
    text.chars().nth(1).is_none()
}

/// The `target` pieces whose loss would cost most; single letters always stay.
fn prune(corpus: &Corpus, pieces: &Pieces, target: usize, threads: usize) -> Result<Pieces, TokenizerError> {
    let counts = over_parts(corpus, threads, |part, scratch| {
        let mut counts = vec![0u64; pieces.len()];
        for &(start, end, count) in part {
            for id in pieces.best(&corpus.letters[start..end], scratch) {
                counts[id as usize] = counts[id as usize].saturating_add(count);
            }
        }
        counts
    })?;
    let mut uses = vec![0u64; pieces.len()];
    for part in counts {
        uses.iter_mut().zip(part).for_each(|(all, n)| *all = all.saturating_add(n));
    }
    let total: f64 = uses.iter().map(|&n| n as f64).sum();
    let mut scratch = Scratch::default();
    let mut kept = Vec::new();
    let mut candidates = Vec::new();
    for (id, (text, score)) in pieces.iter().enumerate() {
        let uses_of_it = uses[id] as f64;
        if is_letter(text) {
            kept.push((text.to_owned(), score));
            continue;
        }
        if uses[id] == 0 {
            continue;
        }
        let letters: Vec<char> = text.chars().collect();
        let instead = pieces.best_without(&letters, id as u32, &mut scratch);
        // Its uses go to the pieces that would replace it; the change of the likelihood of the whole corpus.
        let log_total = (total + uses_of_it * (instead.len() as f64 - 1.0)).ln();
        let replaced: f64 =
            instead.iter().map(|&other| (uses[other as usize] as f64 + uses_of_it).ln() - log_total).sum();
        let loss = uses_of_it * (uses_of_it.ln() - total.ln() - replaced);
        candidates.push((loss, id));
    }
    candidates.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    candidates.truncate(target.saturating_sub(kept.len()));
    kept.extend(candidates.into_iter().map(|(_, id)| {
        let (text, score) = pieces.get(id);
        (text.to_owned(), score)
    }));
    Ok(Pieces::new(kept))
}

/// Tokens and scores: special tokens, bytes, then letters and the likeliest pieces by falling probability.
fn assemble(pieces: &Pieces, alphabet: &BTreeSet<char>, room: usize, special: &[String]) -> Made {
    let scores: HashMap<&str, f64> = pieces.iter().collect();
    let least = pieces.iter().map(|(_, score)| score).fold(0.0, f64::min);
    let mut chosen: Vec<(String, f64)> = alphabet
        .iter()
        .map(|c| {
            let text = c.to_string();
            let score = scores.get(text.as_str()).copied().unwrap_or(least);
            (text, score)
        })
        .collect();
    let by_score = |a: &(String, f64), b: &(String, f64)| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0));
    let named: Vec<String> = special.iter().cloned().chain(byte_tokens()).collect();
    // Text may hold a name often enough to make it a piece; the name is taken.
    let taken: HashSet<&str> = named.iter().map(String::as_str).collect();
    let mut rest: Vec<(String, f64)> = pieces
        .iter()
        .filter(|(text, _)| !is_letter(text) && !taken.contains(text) && !text.starts_with(RESERVED))
        .map(|(text, score)| (text.to_owned(), score))
        .collect();
    rest.sort_by(by_score);
    rest.truncate(room - chosen.len());
    chosen.extend(rest);
    chosen.sort_by(by_score);
    let scores = std::iter::repeat_n(NEVER, named.len()).chain(chosen.iter().map(|(_, s)| *s)).collect();
    let tokens = named.into_iter().chain(chosen.into_iter().map(|(text, _)| text)).collect();
    Made { tokens, merges: Vec::new(), scores }
}

/// The logarithmic derivative of Γ, by its asymptotic series from 7 on.
fn digamma(mut x: f64) -> f64 {
    let mut result = 0.0;
    while x < 7.0 {
        result -= 1.0 / x;
        x += 1.0;
    }
    let inverse = 1.0 / (x * x);
    result + x.ln() - 0.5 / x - inverse * (1.0 / 12.0 - inverse * (1.0 / 120.0 - inverse / 252.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digamma_has_its_known_values() {
        assert!((digamma(1.0) + 0.577_215_664_901_532_9).abs() < 1e-8);
        assert!((digamma(0.5) + 1.963_510_026_021_423_5).abs() < 1e-8);
        assert!((digamma(100.0) - 4.600_161_852_738_087).abs() < 1e-10);
    }
}
