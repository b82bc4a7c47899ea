//! Text → labels with probabilities, the numbers that fastText gives.

use super::model::{Loss, Matrix, Model};

/// A label and how probable it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prediction {
    /// Place in [`Model::labels`].
    pub label: usize,
    /// As fastText reports it: it adds 1e-5 before it takes logarithms, so certainty is 1.00001.
    pub probability: f32,
}

impl Model {
    /// The `k` most probable labels of at least `threshold`, the best first; none for a text without known features.
    pub fn predict(&self, text: &str, k: usize, threshold: f32) -> Vec<Prediction> {
        let Some(hidden) = self.hidden(text) else { return Vec::new() };
        let mut found = match self.args.loss {
            Loss::HierarchicalSoftmax => self.leaves(&hidden, threshold),
            _ => {
                let scores = self.scores(&hidden).into_iter().enumerate();
                let logs = scores.filter(|(_, p)| *p >= threshold).map(|(label, p)| (label, shifted_ln(p)));
                logs.collect()
            }
        };
        found.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        found.truncate(k);
        found.into_iter().map(|(label, ln)| Prediction { label, probability: ln.exp() }).collect()
    }

    /// The probability of every label, in their order; `None` for a text without known features.
    pub fn probabilities(&self, text: &str) -> Option<Vec<f32>> {
        let hidden = self.hidden(text)?;
        if self.args.loss != Loss::HierarchicalSoftmax {
            return Some(self.scores(&hidden));
        }
        let mut all = vec![0.0; self.labels.len()];
        for (label, ln) in self.leaves(&hidden, 0.0) {
            all[label] = ln.exp();
        }
        Some(all)
    }

    fn hidden(&self, text: &str) -> Option<Vec<f32>> {
        let mut hidden = vec![0.0; self.args.dim];
        let mut rows = 0u64;
        self.features(text, |row| {
            self.input.add_row(row, &mut hidden);
            rows += 1;
        });
        if rows == 0 {
            return None;
        }
        let scale = (1.0 / rows as f64) as f32;
        hidden.iter_mut().for_each(|value| *value *= scale);
        Some(hidden)
    }

    fn scores(&self, hidden: &[f32]) -> Vec<f32> {
        let mut scores: Vec<f32> =
            (0..self.labels.len()).map(|label| self.output.dot_row(label, hidden)).collect();
        match self.args.loss {
            Loss::Softmax => softmax(&mut scores),
            _ => scores.iter_mut().for_each(|score| *score = tabled_sigmoid(*score)),
        }
        scores
    }

    /// Log-probabilities of the leaves of the tree; paths that fall under the threshold are cut, as fastText does.
    fn leaves(&self, hidden: &[f32], threshold: f32) -> Vec<(usize, f32)> {
        let labels = self.labels.len();
        let least = shifted_ln(threshold);
        let mut found = Vec::new();
        // Not recursive: the tree of a hostile file is as deep as it has labels.
        let mut open = vec![(labels + self.tree.len() - 1, 0.0f32)];
        while let Some((node, ln)) = open.pop() {
            if ln < least {
                continue;
            }
            if node < labels {
                found.push((node, ln));
                continue;
            }
            let inner = node - labels;
            let right = 1.0 / (1.0 + (-self.output.dot_row(inner, hidden)).exp());
            let [left_node, right_node] = self.tree[inner];
            open.push((left_node as usize, ln + shifted_ln(1.0 - right)));
            open.push((right_node as usize, ln + shifted_ln(right)));
        }
        found
    }
}

impl Matrix {
    pub(super) fn rows(&self, columns: usize) -> usize {
        match self {
            Self::Dense { values, .. } => values.len() / columns.max(1),
            Self::Quantized(matrix) => matrix.codes.len() / matrix.codebook.slices.max(1),
        }
    }
}

/// In place.
pub(super) fn softmax(scores: &mut [f32]) {
    let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        *score = (*score - max).exp();
        sum += *score;
    }
    scores.iter_mut().for_each(|score| *score /= sum);
}

fn shifted_ln(probability: f32) -> f32 {
    (f64::from(probability) + 1e-5).ln() as f32
}

/// fastText reads the logistic function from a table of 513 places over −8…8.
pub(super) fn tabled_sigmoid(x: f32) -> f32 {
    const SIZE: f32 = 512.0;
    const LIMIT: f32 = 8.0;
    if x < -LIMIT {
        return 0.0;
    }
    if x > LIMIT {
        return 1.0;
    }
    let place = ((x + LIMIT) * SIZE / LIMIT / 2.0) as i64 as f32;
    let x = place * 2.0 * LIMIT / SIZE - LIMIT;
    (1.0 / (1.0 + f64::from((-x).exp()))) as f32
}
