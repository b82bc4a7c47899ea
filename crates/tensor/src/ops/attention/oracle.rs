//! Attention as its definition reads, in f64, one pair of rows at a time.

use super::Shape;

/// Attention problem in f64; fields as the arguments of [`forward`](super::forward).
pub(super) struct Oracle<'a> {
    pub(super) shape: Shape,
    pub(super) scale: f64,
    pub(super) segments: &'a [u32],
    pub(super) qkv: &'a [f64],
}

impl Oracle<'_> {
    fn vector(&self, row: usize, at: usize) -> &[f64] {
        &self.qkv[row * self.shape.qkv_width() + at..][..self.shape.head_dim]
    }

    /// Probabilities of head `head` of row `row` over `segments[row]..=row`, and their log-sum-exp.
    fn probabilities(&self, row: usize, head: usize) -> (Vec<f64>, f64) {
        let key = self.shape.key_at(head / self.shape.group());
        let query = self.vector(row, head * self.shape.head_dim);
        let scores: Vec<f64> = (self.segments[row] as usize..=row)
            .map(|other| self.scale * dot(query, self.vector(other, key)))
            .collect();
        let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let lse = max + scores.iter().map(|s| (s - max).exp()).sum::<f64>().ln();
        (scores.iter().map(|s| (s - lse).exp()).collect(), lse)
    }

    /// `out [n, heads·head_dim]` and `lse [heads, n]`.
    pub(super) fn forward(&self) -> (Vec<f64>, Vec<f64>) {
        let (n, d) = (self.segments.len(), self.shape.head_dim);
        let (mut out, mut lse) = (vec![0.0; n * self.shape.out_width()], vec![0.0; n * self.shape.heads]);
        for row in 0..n {
            for head in 0..self.shape.heads {
                let (p, total) = self.probabilities(row, head);
                lse[head * n + row] = total;
                let out = &mut out[row * self.shape.out_width() + head * d..][..d];
                for (p, other) in p.iter().zip(self.segments[row] as usize..) {
                    add(out, *p, self.vector(other, self.shape.value_at(head / self.shape.group())));
                }
            }
        }
        (out, lse)
    }

    /// Gradient of `Σ out ∘ d_out` with respect to `qkv`.
    pub(super) fn backward(&self, d_out: &[f64]) -> Vec<f64> {
        let (n, d, width) = (self.segments.len(), self.shape.head_dim, self.shape.qkv_width());
        let mut d_qkv = vec![0.0; self.qkv.len()];
        for row in 0..n {
            for head in 0..self.shape.heads {
                let kv = head / self.shape.group();
                let (query, key, value) = (head * d, self.shape.key_at(kv), self.shape.value_at(kv));
                let gradient = &d_out[row * self.shape.out_width() + head * d..][..d];
                let (p, _) = self.probabilities(row, head);
                let first = self.segments[row] as usize;
                let d_p: Vec<f64> =
                    (first..=row).map(|other| dot(gradient, self.vector(other, value))).collect();
                let mean = dot(&p, &d_p);
                for (i, other) in (first..=row).enumerate() {
                    let d_score = self.scale * p[i] * (d_p[i] - mean);
                    add(&mut d_qkv[row * width + query..][..d], d_score, self.vector(other, key));
                    add(&mut d_qkv[other * width + key..][..d], d_score, self.vector(row, query));
                    add(&mut d_qkv[other * width + value..][..d], p[i], gradient);
                }
            }
        }
        d_qkv
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(to: &mut [f64], factor: f64, from: &[f64]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += factor * from);
}
