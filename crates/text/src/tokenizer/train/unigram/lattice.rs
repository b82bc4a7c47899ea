//! Pieces with probabilities, and the segmentations of a word into them.

use super::MAX_LETTERS;
use foldhash::fast::FixedState;
use hashbrown::HashMap;

/// Pieces in order, each with its log probability, and a trie to find them by.
pub(super) struct Pieces {
    text: Vec<(String, f64)>,
    /// The child of a node by a letter.
    children: HashMap<(u32, char), u32, FixedState>,
    /// The piece that ends at a node, if one does.
    ends: Vec<Option<u32>>,
}

/// Memory that is used again for each word.
#[derive(Default)]
pub(super) struct Scratch {
    /// (from, to, piece) of every piece of the word, by `from`.
    edges: Vec<(u32, u32, u32)>,
    forward: Vec<f64>,
    backward: Vec<f64>,
    /// The edge by which the best path reaches each position.
    arrivals: Vec<u32>,
}

impl Pieces {
    pub(super) fn new(text: Vec<(String, f64)>) -> Self {
        let mut pieces = Self { text: Vec::new(), children: HashMap::default(), ends: vec![None] };
        for (id, (piece, _)) in (0..).zip(&text) {
            let mut node = 0;
            for c in piece.chars() {
                node = *pieces.children.entry((node, c)).or_insert_with(|| {
                    pieces.ends.push(None);
                    (pieces.ends.len() - 1) as u32
                });
            }
            pieces.ends[node as usize] = Some(id);
        }
        pieces.text = text;
        pieces
    }

    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.text.iter().map(|(text, score)| (text.as_str(), *score))
    }

    pub(super) fn get(&self, id: usize) -> (&str, f64) {
        let (text, score) = &self.text[id];
        (text, *score)
    }

    fn score(&self, id: u32) -> f64 {
        self.text[id as usize].1
    }

    /// All pieces of `word` but `without`; every letter is one, so each position can be reached.
    fn edges(&self, word: &[char], without: Option<u32>, edges: &mut Vec<(u32, u32, u32)>) {
        edges.clear();
        for from in 0..word.len() {
            let mut node = 0;
            for (to, &c) in word.iter().enumerate().skip(from).take(MAX_LETTERS) {
                let Some(&child) = self.children.get(&(node, c)) else { break };
                node = child;
                if let Some(id) = self.ends[node as usize].filter(|&id| Some(id) != without) {
                    edges.push((from as u32, to as u32 + 1, id));
                }
            }
        }
    }

    /// Adds `count` times the probability of each piece being used in `word`.
    pub(super) fn add_expected(
        &self,
        word: &[char],
        count: f64,
        expected: &mut [f64],
        scratch: &mut Scratch,
    ) {
        let Scratch { edges, forward, backward, .. } = scratch;
        self.edges(word, None, edges);
        for sums in [&mut *forward, &mut *backward] {
            sums.clear();
            sums.resize(word.len() + 1, f64::NEG_INFINITY);
        }
        forward[0] = 0.0;
        for &(from, to, id) in edges.iter() {
            let sum = log_add(forward[to as usize], forward[from as usize] + self.score(id));
            forward[to as usize] = sum;
        }
        backward[word.len()] = 0.0;
        for &(from, to, id) in edges.iter().rev() {
            let sum = log_add(backward[from as usize], backward[to as usize] + self.score(id));
            backward[from as usize] = sum;
        }
        let whole = forward[word.len()];
        for &(from, to, id) in edges.iter() {
            let path = forward[from as usize] + self.score(id) + backward[to as usize];
            expected[id as usize] += count * (path - whole).exp();
        }
    }

    /// The pieces of the likeliest segmentation, last first.
    pub(super) fn best(&self, word: &[char], scratch: &mut Scratch) -> Vec<u32> {
        self.viterbi(word, None, scratch)
    }

    /// The same with one piece forbidden.
    pub(super) fn best_without(&self, word: &[char], piece: u32, scratch: &mut Scratch) -> Vec<u32> {
        self.viterbi(word, Some(piece), scratch)
    }

    fn viterbi(&self, word: &[char], without: Option<u32>, scratch: &mut Scratch) -> Vec<u32> {
        let Scratch { edges, forward, arrivals, .. } = scratch;
        self.edges(word, without, edges);
        forward.clear();
        forward.resize(word.len() + 1, f64::NEG_INFINITY);
        arrivals.clear();
        arrivals.resize(word.len() + 1, 0);
        forward[0] = 0.0;
        for (edge, &(from, to, id)) in (0..).zip(edges.iter()) {
            let score = forward[from as usize] + self.score(id);
            if score > forward[to as usize] {
                forward[to as usize] = score;
                arrivals[to as usize] = edge;
            }
        }
        let mut path = Vec::new();
        let mut at = word.len();
        while at > 0 && forward[at] > f64::NEG_INFINITY {
            let (from, _, id) = edges[arrivals[at] as usize];
            path.push(id);
            at = from as usize;
        }
        path
    }
}

/// ln(eᵃ + eᵇ).
fn log_add(a: f64, b: f64) -> f64 {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    if low == f64::NEG_INFINITY { high } else { high + (low - high).exp().ln_1p() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expectations_equal_those_of_all_segmentations() {
        let text = [("a", -2.0), ("b", -3.0), ("ab", -1.5), ("ba", -2.5), ("aba", -4.0)];
        let pieces = Pieces::new(text.map(|(t, s)| (t.to_owned(), s)).to_vec());
        let word: Vec<char> = "aba".chars().collect();
        // a·b·a, ab·a, a·ba, aba
        let paths: [(&[usize], f64); 4] =
            [(&[0, 1, 0], -7.0), (&[2, 0], -3.5), (&[0, 3], -4.5), (&[4], -4.0)];
        let whole: f64 = paths.iter().map(|(_, s)| s.exp()).sum();
        let mut wanted = [0.0; 5];
        for (path, score) in paths {
            path.iter().for_each(|&id| wanted[id] += 10.0 * score.exp() / whole);
        }
        let mut expected = vec![0.0; 5];
        let mut scratch = Scratch::default();
        pieces.add_expected(&word, 10.0, &mut expected, &mut scratch);
        for (a, b) in expected.iter().zip(wanted) {
            assert!((a - b).abs() < 1e-12, "{expected:?} {wanted:?}");
        }
        assert_eq!(pieces.best(&word, &mut scratch), [0, 2]);
        assert_eq!(pieces.best_without(&word, 2, &mut scratch), [4]);
    }
}
