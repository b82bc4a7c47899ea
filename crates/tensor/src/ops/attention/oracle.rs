//! Attention as its definition reads, in f64, one pair of rows at a time.

use super::{Attention, Window};

/// Attention problem in f64; fields as the arguments of [`forward`](super::forward).
pub(super) struct Oracle<'a> {
    pub(super) layer: &'a Attention,
    pub(super) sinks: Option<&'a [f64]>,
    pub(super) segments: &'a [u32],
    pub(super) qkv: &'a [f64],
}

/// Gradients of a problem.
pub(super) struct Gradients {
    pub(super) d_qkv: Vec<f64>,
    /// `[heads]`
    pub(super) d_sinks: Vec<f64>,
}

impl Oracle<'_> {
    fn vector(&self, row: usize, at: usize, len: usize) -> &[f64] {
        &self.qkv[row * self.layer.shape.qkv_width() + at..][..len]
    }

    /// Rows that row `row` sees.
    fn seen(&self, row: usize) -> Vec<usize> {
        let document = self.segments[row] as usize;
        let inside = |other: usize| match self.layer.window {
            Window::Full => true,
            Window::Sliding(size) => row - other < size,
            Window::Chunked(size) => (other - document) / size == (row - document) / size,
        };
        (document..=row).filter(|&other| inside(other) || other - document < self.layer.sink_tokens).collect()
    }

    /// The score of a pair, and its derivative with respect to the product of query and key.
    fn score(&self, row: usize, other: usize, head: usize) -> (f64, f64) {
        let (shape, scores) = (self.layer.shape, self.layer.scores);
        let query = self.vector(row, head * shape.head_dim, shape.head_dim);
        let key = self.vector(other, shape.key_at(head / shape.group()), shape.head_dim);
        let scale = f64::from(scores.scale);
        let (mut score, mut slope) = (scale * dot(query, key), scale);
        if let Some(cap) = scores.softcap.map(f64::from) {
            let t = (score / cap).tanh();
            (score, slope) = (cap * t, slope * (1.0 - t * t));
        }
        if scores.alibi {
            assert!(shape.heads.is_power_of_two(), "others interpolate");
            score -= (-8.0 * (head + 1) as f64 / shape.heads as f64).exp2() * (row - other) as f64;
        }
        (score, slope)
    }

    /// Probabilities of head `head` of row `row` over the rows that it sees, and their log-sum-exp.
    fn probabilities(&self, row: usize, head: usize) -> (Vec<f64>, f64) {
        let scores: Vec<f64> =
            self.seen(row).into_iter().map(|other| self.score(row, other, head).0).collect();
        let all = || scores.iter().copied().chain(self.sinks.map(|sinks| sinks[head]));
        let max = all().fold(f64::NEG_INFINITY, f64::max);
        let lse = max + all().map(|s| (s - max).exp()).sum::<f64>().ln();
        (scores.iter().map(|s| (s - lse).exp()).collect(), lse)
    }

    /// `out [n, heads·value_dim]` and `lse [heads, n]`.
    pub(super) fn forward(&self) -> (Vec<f64>, Vec<f64>) {
        let (n, shape) = (self.segments.len(), self.layer.shape);
        let d = shape.value_dim;
        let (mut out, mut lse) = (vec![0.0; n * shape.out_width()], vec![0.0; n * shape.heads]);
        for row in 0..n {
            for head in 0..shape.heads {
                let (p, total) = self.probabilities(row, head);
                lse[head * n + row] = total;
                let out = &mut out[row * shape.out_width() + head * d..][..d];
                for (p, other) in p.iter().zip(self.seen(row)) {
                    add(out, *p, self.vector(other, shape.value_at(head / shape.group()), d));
                }
            }
        }
        (out, lse)
    }

    /// Gradients of `Σ out ∘ d_out`, through the softmax of all scores, a sink's with them.
    pub(super) fn backward(&self, d_out: &[f64]) -> Gradients {
        let (n, shape) = (self.segments.len(), self.layer.shape);
        let (d, d_v, width) = (shape.head_dim, shape.value_dim, shape.qkv_width());
        let (mut d_qkv, mut d_sinks) = (vec![0.0; self.qkv.len()], vec![0.0; shape.heads]);
        for (row, head) in (0..n).flat_map(|row| (0..shape.heads).map(move |head| (row, head))) {
            let kv = head / shape.group();
            let (query, key, value) = (head * d, shape.key_at(kv), shape.value_at(kv));
            let gradient = &d_out[row * shape.out_width() + head * d_v..][..d_v];
            let (p, lse) = self.probabilities(row, head);
            let seen = self.seen(row);
            let d_p: Vec<f64> =
                seen.iter().map(|&other| dot(gradient, self.vector(other, value, d_v))).collect();
            let mean = dot(&p, &d_p);
            for (i, &other) in seen.iter().enumerate() {
                let d_score = self.score(row, other, head).1 * p[i] * (d_p[i] - mean);
                add(&mut d_qkv[row * width + query..][..d], d_score, self.vector(other, key, d));
                add(&mut d_qkv[other * width + key..][..d], d_score, self.vector(row, query, d));
                add(&mut d_qkv[other * width + value..][..d_v], p[i], gradient);
            }
            if let Some(sinks) = self.sinks {
                d_sinks[head] += (sinks[head] - lse).exp() * (0.0 - mean);
            }
        }
        Gradients { d_qkv, d_sinks }
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(to: &mut [f64], factor: f64, from: &[f64]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += factor * from);
}
