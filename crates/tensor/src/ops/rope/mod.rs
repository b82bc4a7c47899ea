//! Rotary position embedding (POS-03; Su et al., RoFormer, 2021), in place.
//!
//! Pair `k` of a head at position `p` turns by the angle `p·θ^(−k/(dim/2))`, so pair 0 is the **fastest**
//! (1 rad per token) and the last pair the slowest, the one that carries long range. Which features make a
//! pair is the [`Pairing`]; how fast pairs turn where contexts were extended is told by [`Frequencies`]
//! (POS-06, POS-07); [`Heads`] says which features of a row are rotated at all (partial RoPE, POS-11).
//!
//! transformers moves interleaved pairs apart before it rotates DeepSeek's (`rope_interleave`), in q and k
//! alike. Scores are those of pairs rotated where they lie, which this does.
//!
//! 6 floating-point operations per pair; the backward pass is the inverse rotation of the gradient (times
//! the same `attention_factor`).

mod convert;
mod cpu;
mod frequencies;
mod node;
#[cfg(test)]
pub(crate) mod oracle;
pub(crate) mod pairing;
#[cfg(test)]
mod tests;

pub use convert::convert_rows;
pub(crate) use cpu::{turn, turned};
pub use frequencies::{Frequencies, Llama3, Yarn, yarn_mscale};
pub use pairing::Pairing;

use crate::Cpu;
use crate::simd::Elem;
use pairing::with_pairs;

/// Rows per task.
const ROWS: usize = 16;

/// Cosines and sines of every (position, pair), computed in f64 and rounded once.
#[derive(Clone, Debug, PartialEq)]
pub struct Tables {
    /// `[max_positions, dim / 2]`
    pub cos: Vec<f32>,
    /// `[max_positions, dim / 2]`
    pub sin: Vec<f32>,
    dim: usize,
    positions: usize,
}

impl Tables {
    /// Tables for positions `0..max_positions`.
    pub fn new(max_positions: usize, frequencies: &Frequencies) -> Tables {
        let table = |of: fn(f64) -> f64| {
            let mut table = Vec::with_capacity(max_positions * frequencies.per_pair.len());
            for p in 0..max_positions {
                let angles = frequencies.per_pair.iter().map(|f| p as f64 * f);
                table.extend(angles.map(|angle| (of(angle) * frequencies.attention_factor) as f32));
            }
            table
        };
        Tables {
            cos: table(f64::cos),
            sin: table(f64::sin),
            dim: frequencies.dim(),
            positions: max_positions,
        }
    }

    /// Tables of the scheme as trained, for positions `0..max_positions` of `dim` features with the base
    /// `theta` (`rope_theta`).
    ///
    /// # Panics
    /// When `dim` is odd (configurations are checked before).
    pub fn plain(max_positions: usize, dim: usize, theta: f64) -> Tables {
        Tables::new(max_positions, &Frequencies::plain(dim, theta))
    }

    /// Number of positions.
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// Number of features that are rotated, two per pair.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Cosines and sines of a position, `dim / 2` each.
    pub(crate) fn angles(&self, position: u32) -> (*const f32, *const f32) {
        let half = self.dim / 2;
        let angles = position as usize * half..(position as usize + 1) * half;
        (self.cos[angles.clone()].as_ptr(), self.sin[angles].as_ptr())
    }

    /// Panics when a position is beyond the tables (a caller bug).
    pub(crate) fn check(&self, positions: &[u32]) {
        let (known, furthest) = (self.positions, positions.iter().max());
        assert!(furthest.is_none_or(|&p| (p as usize) < known), "rope: a position is not below {known}");
    }
}

/// Which features of a row are rotated: of `count` heads, that lie `head_dim` apart from the element `first`
/// of the row on, as many features from `at` on as the tables have ([`Tables::dim`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// How features pair up.
    pub pairing: Pairing,
    /// Element of the row at which the first head begins.
    pub first: usize,
    /// Number of heads.
    pub count: usize,
    /// Features of a head, rotated or not.
    pub head_dim: usize,
    /// Feature of the head at which the rotated ones begin: 0 in GPT-NeoX and GLM, `qk_nope_head_dim` in MLA.
    pub at: usize,
}

impl Heads {
    /// The first `count` heads of the row, half-split, from their first feature on.
    pub fn whole(count: usize, head_dim: usize) -> Heads {
        Heads { pairing: Pairing::HalfSplit, first: 0, count, head_dim, at: 0 }
    }
}

/// Rotates heads of each row of x `[n, row_stride]` by positions `[n]`.
///
/// # Panics
/// When shapes disagree or a position is beyond the tables (caller bugs).
pub fn forward<E: Elem>(
    cpu: &Cpu,
    tables: &Tables,
    positions: &[u32],
    x: &mut [E],
    row_stride: usize,
    heads: Heads,
) {
    rotate(cpu, tables, positions, x, row_stride, heads, 1.0);
}

/// Turns gradients dx `[n, row_stride]` back: the transpose of [`forward`], which is its inverse where
/// `attention_factor` is 1.
///
/// # Panics
/// As [`forward`].
pub fn backward<E: Elem>(
    cpu: &Cpu,
    tables: &Tables,
    positions: &[u32],
    dx: &mut [E],
    row_stride: usize,
    heads: Heads,
) {
    rotate(cpu, tables, positions, dx, row_stride, heads, -1.0);
}

fn rotate<E: Elem>(
    cpu: &Cpu,
    tables: &Tables,
    positions: &[u32],
    x: &mut [E],
    row_stride: usize,
    heads: Heads,
    direction: f32,
) {
    let Heads { pairing, first, count, head_dim, at } = heads;
    assert!(at + tables.dim <= head_dim, "rope: {} features from {at} on in heads of {head_dim}", tables.dim);
    assert!(
        first + count * head_dim <= row_stride,
        "rope: {count} heads of {head_dim} from {first} on in a row of {row_stride}"
    );
    assert_eq!(x.len(), positions.len() * row_stride, "rope: one row of {row_stride} per position");
    tables.check(positions);
    if count == 0 || tables.dim == 0 {
        return;
    }
    with_pairs!(pairing, P => cpu.pool.for_each_chunk(x, ROWS * row_stride, |i, part| {
        cpu::rotate::<E, P>(cpu.isa, tables, &positions[i * ROWS..], part, row_stride, heads, direction);
    }));
}
