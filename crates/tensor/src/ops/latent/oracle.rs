//! The op in f64, as written in its definition, and attention as explicit as it gets.

use super::Shape;
use crate::ops::rope::{Frequencies, Heads, Pairing, oracle};

/// How positional parts are rotated.
pub(super) struct Turn<'a> {
    pub frequencies: &'a Frequencies,
    pub pairing: Pairing,
    pub positions: &'a [u32],
}

impl Turn<'_> {
    /// Rotates the last `rope` features of each of `count` heads of rows.
    fn rows(&self, x: &[f64], count: usize, head_dim: usize, rope: usize, sign: f64) -> Vec<f64> {
        let heads = Heads { pairing: self.pairing, first: 0, count, head_dim, at: head_dim - rope };
        oracle::rotate(self.positions, x, count * head_dim, heads, self.frequencies, sign)
    }
}

pub(super) fn forward(s: Shape, turn: &Turn<'_>, q: &[f64], kv_up: &[f64], k_rope: &[f64]) -> Vec<f64> {
    let q = turn.rows(q, s.heads, s.head_dim(), s.rope, 1.0);
    let shared = turn.rows(k_rope, 1, s.rope, s.rope, 1.0);
    let mut qkv = Vec::new();
    for r in 0..turn.positions.len() {
        let up = |h: usize| &kv_up[r * s.kv_up_width() + h * (s.nope + s.value)..][..s.nope + s.value];
        qkv.extend(&q[r * s.q_width()..][..s.q_width()]);
        (0..s.heads).for_each(|h| qkv.extend(up(h)[..s.nope].iter().chain(&shared[r * s.rope..][..s.rope])));
        (0..s.heads).for_each(|h| qkv.extend(&up(h)[s.nope..]));
    }
    qkv
}

/// d_q, d_kv_up, d_k_rope.
pub(super) fn backward(s: Shape, turn: &Turn<'_>, d_qkv: &[f64]) -> [Vec<f64>; 3] {
    let (mut d_q, mut d_kv_up, mut d_shared) = (Vec::new(), Vec::new(), Vec::new());
    for row in d_qkv.chunks(s.qkv_width()) {
        let (q, rest) = row.split_at(s.q_width());
        let (keys, values) = rest.split_at(s.q_width());
        d_q.extend(q);
        for h in 0..s.heads {
            d_kv_up.extend(&keys[h * s.head_dim()..][..s.nope]);
            d_kv_up.extend(&values[h * s.value..][..s.value]);
        }
        let at = |i: usize| (0..s.heads).map(|h| keys[h * s.head_dim() + s.nope + i]).sum::<f64>();
        d_shared.extend((0..s.rope).map(at));
    }
    let d_q = turn.rows(&d_q, s.heads, s.head_dim(), s.rope, -1.0);
    [d_q, d_kv_up, turn.rows(&d_shared, 1, s.rope, s.rope, -1.0)]
}

/// Causal attention of one document: row r of head h gives the mean of `value(key row, h)` weighted by
/// softmax of `scale · score(r, key row, h)`.
pub(super) fn attend(
    n: usize,
    heads: usize,
    scale: f64,
    score: impl Fn(usize, usize, usize) -> f64,
    value: impl Fn(usize, usize) -> Vec<f64>,
) -> Vec<f64> {
    let mut out = Vec::new();
    for r in 0..n {
        for h in 0..heads {
            let weights: Vec<f64> = (0..=r).map(|k| (scale * score(r, k, h)).exp()).collect();
            let total: f64 = weights.iter().sum();
            let mut mean = vec![0.0; value(0, h).len()];
            for (k, weight) in weights.iter().enumerate() {
                mean.iter_mut().zip(value(k, h)).for_each(|(m, v)| *m += weight / total * v);
            }
            out.extend(mean);
        }
    }
    out
}
