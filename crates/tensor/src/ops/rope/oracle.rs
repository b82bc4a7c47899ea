//! The op in f64, as written in its definition.

use super::{Frequencies, Heads};

/// Rotates rows of x; `sign` −1 turns back.
pub(crate) fn rotate(
    positions: &[u32],
    x: &[f64],
    stride: usize,
    heads: Heads,
    frequencies: &Frequencies,
    sign: f64,
) -> Vec<f64> {
    let (mut out, half) = (x.to_vec(), frequencies.per_pair.len());
    for (r, &p) in positions.iter().enumerate() {
        for head in 0..heads.count {
            for (k, frequency) in frequencies.per_pair.iter().enumerate() {
                let (sin, cos) = (sign * f64::from(p) * frequency).sin_cos();
                let start = r * stride + heads.first + head * heads.head_dim + heads.at;
                let [a, b] = heads.pairing.features(k, half).map(|feature| start + feature);
                out[a] = frequencies.attention_factor * (x[a] * cos - x[b] * sin);
                out[b] = frequencies.attention_factor * (x[b] * cos + x[a] * sin);
            }
        }
    }
    out
}
