//! Documents of like content side by side.
//!
//! Within a window of shuffled documents a path is walked: from each document to the one, not yet visited, that BM25
//! finds most like it, its rarest tokens being the query; where none shares a token, to the first not yet visited
//! (BM25Chunk of Zhao et al., "Analysing the impact of sequence composition on language model pre-training", 2024; the
//! path of Shi et al., "In-context pretraining", 2024). The terms are token ids, so no text is needed.

use std::collections::BTreeMap;

use crate::shard::Shard;

/// A window ends at so many documents …
const WINDOW_DOCUMENTS: usize = 1 << 13;
/// … or tokens: bounds memory and time.
const WINDOW_TOKENS: u64 = 1 << 23;
/// Of a document, as query.
const QUERY_TERMS: usize = 32;
/// A token in more than this share of a window's documents tells nothing.
const COMMON: f64 = 0.25;
/// BM25's saturation of counts and its share of length.
const K1: f64 = 1.2;
const B: f64 = 0.75;

/// Documents to be ordered, and their telling tokens.
pub(super) struct Window {
    /// In shuffled order.
    pub(super) documents: Vec<u64>,
    /// Of each document: token, times it occurs; by token.
    terms: Vec<Vec<(u32, u32)>>,
    /// Of each document, in tokens.
    lengths: Vec<u64>,
}

impl Window {
    /// The next documents; none at the end.
    pub(super) fn read(shard: &Shard, documents: &mut impl Iterator<Item = u64>) -> Self {
        let mut window = Self { documents: Vec::new(), terms: Vec::new(), lengths: Vec::new() };
        let mut tokens = 0;
        while window.documents.len() < WINDOW_DOCUMENTS && tokens < WINDOW_TOKENS {
            let Some(document) = documents.next() else { break };
            let range = shard.document(document);
            tokens += range.end - range.start;
            window.lengths.push(range.end - range.start);
            window.documents.push(document);
            let mut ids: Vec<u32> = range.map(|position| shard.token(position)).collect();
            ids.sort_unstable();
            window.terms.push(ids.chunk_by(|a, b| a == b).map(|run| (run[0], run.len() as u32)).collect());
        }
        window.drop_common();
        window
    }

    /// Leaves out tokens that are in one document only, or in too many.
    fn drop_common(&mut self) {
        let mut frequency: BTreeMap<u32, u32> = BTreeMap::new();
        self.terms.iter().flatten().for_each(|&(token, _)| *frequency.entry(token).or_default() += 1);
        let most = (COMMON * self.documents.len() as f64).max(2.0) as u32;
        for terms in &mut self.terms {
            terms.retain(|(token, _)| frequency.get(token).is_some_and(|n| (2..=most).contains(n)));
        }
    }

    /// The documents' places in this window, each once, in the order of the path.
    pub(super) fn path(&self) -> Vec<usize> {
        let count = self.documents.len();
        let mut postings: BTreeMap<u32, Vec<(usize, f64)>> = BTreeMap::new();
        let mean = self.lengths.iter().sum::<u64>() as f64 / count.max(1) as f64;
        for (place, terms) in self.terms.iter().enumerate() {
            let norm = K1 * (1.0 - B + B * self.lengths[place] as f64 / mean.max(1.0));
            for &(token, times) in terms {
                let times = f64::from(times);
                postings.entry(token).or_default().push((place, times * (K1 + 1.0) / (times + norm)));
            }
        }
        let rarity = |token: u32| {
            let n = postings.get(&token).map_or(0, Vec::len) as f64;
            (1.0 + (count as f64 - n + 0.5) / (n + 0.5)).ln()
        };
        let (mut visited, mut first) = (vec![false; count], 0);
        let (mut scores, mut touched) = (vec![0.0; count], Vec::new());
        let mut path = Vec::with_capacity(count);
        let mut next = 0;
        while path.len() < count {
            visited[next] = true;
            path.push(next);
            let mut query: Vec<(u32, f64)> = self.terms[next]
                .iter()
                .map(|&(token, times)| (token, rarity(token) * f64::from(times).sqrt()))
                .collect();
            query.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            for &(token, _) in query.iter().take(QUERY_TERMS) {
                for &(place, weight) in postings.get(&token).into_iter().flatten() {
                    if !visited[place] {
                        if scores[place] == 0.0 {
                            touched.push(place);
                        }
                        scores[place] += rarity(token) * weight;
                    }
                }
            }
            let best = |a: &usize, b: &usize| scores[*a].total_cmp(&scores[*b]).then(b.cmp(a));
            let found = touched.iter().copied().max_by(best);
            while first < count && visited[first] {
                first += 1;
            }
            next = found.unwrap_or(first);
            touched.drain(..).for_each(|place| scores[place] = 0.0);
        }
        path
    }
}

/// The mean likeness of neighbours: shared telling tokens over all telling tokens of both (Jaccard).
#[derive(Default)]
pub(super) struct Likeness {
    sum: f64,
    pairs: u64,
}

impl Likeness {
    pub(super) fn add(&mut self, window: &Window, path: &[usize]) {
        for pair in path.windows(2) {
            let (a, b) = (&window.terms[pair[0]], &window.terms[pair[1]]);
            let shared =
                a.iter().filter(|term| b.binary_search_by_key(&term.0, |other| other.0).is_ok()).count();
            let all = a.len() + b.len() - shared;
            self.sum += shared as f64 / all.max(1) as f64;
            self.pairs += 1;
        }
    }

    pub(super) fn mean(&self) -> f64 {
        self.sum / self.pairs.max(1) as f64
    }
}
