//! Rotary position embedding (POS-03; Su et al., RoFormer, 2021), in place.
//!
//! Pair `k` of a head at position `p` turns by the angle `p·θ^(−k/(head_dim/2))`, so pair 0 is the
//! **fastest** (1 rad per token) and the last pair the slowest, the one that carries long range. The
//! layout is Hugging Face's half-split one: pair `k` is elements `k` and `k + head_dim/2`. Weights
//! trained on the interleaved layout (2k, 2k+1) are not interchangeable with it.
//!
//! 6 floating-point operations per pair; the backward pass is the inverse rotation of the gradient.

mod cpu;
mod node;
#[cfg(test)]
mod oracle;

use crate::Cpu;
use crate::simd::Elem;

/// Rows per task.
const ROWS: usize = 16;

/// Cosines and sines of every (position, pair), computed in f64 and rounded once.
#[derive(Clone, Debug, PartialEq)]
pub struct Tables {
    /// `[max_positions, head_dim / 2]`
    pub cos: Vec<f32>,
    /// `[max_positions, head_dim / 2]`
    pub sin: Vec<f32>,
    head_dim: usize,
}

impl Tables {
    /// Tables for positions `0..max_positions` with the base `theta` (`rope_theta`).
    ///
    /// # Panics
    /// When `head_dim` is odd (configurations are checked before).
    pub fn new(max_positions: usize, head_dim: usize, theta: f64) -> Tables {
        assert!(head_dim.is_multiple_of(2), "rope: head_dim {head_dim} is not even");
        let half = head_dim / 2;
        let frequencies: Vec<f64> = (0..half).map(|k| theta.powf(-(k as f64) / half as f64)).collect();
        let angles = || (0..max_positions).flat_map(|p| frequencies.iter().map(move |f| p as f64 * f));
        Tables {
            cos: angles().map(|a| a.cos() as f32).collect(),
            sin: angles().map(|a| a.sin() as f32).collect(),
            head_dim,
        }
    }

    /// Number of positions.
    pub fn positions(&self) -> usize {
        self.cos.len() / (self.head_dim / 2).max(1)
    }
}

/// Rotates the first `heads` heads of each row of x `[n, row_stride]` by positions `[n]`.
///
/// # Panics
/// When shapes disagree or a position is beyond the tables (caller bugs).
pub fn forward<E: Elem>(
    cpu: &Cpu,
    tables: &Tables,
    positions: &[u32],
    x: &mut [E],
    row_stride: usize,
    heads: usize,
    head_dim: usize,
) {
    rotate(cpu, tables, positions, x, row_stride, heads, head_dim, 1.0);
}

/// Turns gradients dx `[n, row_stride]` back: the transpose of [`forward`], which is its inverse.
///
/// # Panics
/// As [`forward`].
pub fn backward<E: Elem>(
    cpu: &Cpu,
    tables: &Tables,
    positions: &[u32],
    dx: &mut [E],
    row_stride: usize,
    heads: usize,
    head_dim: usize,
) {
    rotate(cpu, tables, positions, dx, row_stride, heads, head_dim, -1.0);
}

#[allow(clippy::too_many_arguments)]
fn rotate<E: Elem>(
    cpu: &Cpu,
    tables: &Tables,
    positions: &[u32],
    x: &mut [E],
    row_stride: usize,
    heads: usize,
    head_dim: usize,
    direction: f32,
) {
    assert_eq!(head_dim, tables.head_dim, "rope: the tables are for another head_dim");
    assert!(heads * head_dim <= row_stride, "rope: {heads} heads of {head_dim} in a row of {row_stride}");
    assert_eq!(x.len(), positions.len() * row_stride, "rope: one row of {row_stride} per position");
    let (known, furthest) = (tables.positions(), positions.iter().max());
    assert!(furthest.is_none_or(|&p| (p as usize) < known), "rope: a position is not below {known}");
    if heads == 0 || head_dim == 0 {
        return;
    }
    cpu.pool.for_each_chunk(x, ROWS * row_stride, |i, part| {
        cpu::rotate::<E>(cpu.isa, tables, &positions[i * ROWS..], part, row_stride, heads, direction);
    });
}

#[cfg(test)]
mod tests {
    use super::{Tables, oracle};
    use crate::Cpu;
    use crate::isa::Isa;
    use crate::ops::testing::{
        assert_close, assert_slope, dot, on_every_cpu, random, stored, tolerance, wide,
    };
    use crate::simd::Elem;

    fn angle(tables: &Tables, position: usize, k: usize) -> f64 {
        let at = position * tables.head_dim / 2 + k;
        f64::from(tables.sin[at]).atan2(tables.cos[at].into())
    }

    #[test]
    fn position_three_of_pair_zero_is_three_radians() {
        let tables = Tables::new(8, 64, 10_000.0);
        assert!((angle(&tables, 3, 0) - 3.0).abs() < 1e-6);
        assert_eq!((tables.positions(), tables.cos.len()), (8, 8 * 32));
    }

    #[test]
    fn small_pairs_are_the_fastest() {
        let tables = Tables::new(2, 64, 10_000.0);
        let angles: Vec<f64> = (0..32).map(|k| angle(&tables, 1, k)).collect();
        assert!(angles.windows(2).all(|pair| pair[0] > pair[1]));
        assert!((angles[0] - 1.0).abs() < 1e-6 && (angles[31] - 10_000f64.powf(-31.0 / 32.0)).abs() < 1e-9);
    }

    fn at(position: u32, x: &[f32], tables: &Tables) -> Vec<f64> {
        let mut x = x.to_vec();
        let cpu = Cpu::with_isa(Isa::portable(), 1);
        super::forward(&cpu, tables, &[position], &mut x, 16, 1, 16);
        wide(&x)
    }

    #[test]
    fn score_depends_on_the_distance_only_and_norms_are_kept() {
        let tables = Tables::new(200, 16, 10_000.0);
        let (q, k) = (random(1, 16, 1.0), random(2, 16, 1.0));
        let score = |m: u32, n: u32| dot(&at(m, &q, &tables), &at(n, &k, &tables));
        for (m, n) in [(7, 3), (104, 100), (4, 0), (199, 195)] {
            assert!((score(m, n) - score(50, 46)).abs() < 1e-5, "({m}, {n})");
            assert!((score(n, m) - score(46, 50)).abs() < 1e-5, "({n}, {m})");
        }
        // Not symmetric: the sine cross-terms matter.
        assert!((score(50, 46) - score(46, 50)).abs() > 1e-2);
        let norm = dot(&wide(&q), &wide(&q));
        assert!((dot(&at(123, &q, &tables), &at(123, &q, &tables)) - norm).abs() < 1e-5 * norm);
    }

    #[test]
    fn oracle_gradient_is_the_slope() {
        let (positions, x, dy) = ([0, 5, 2], wide(&random(1, 3 * 10, 1.0)), wide(&random(2, 3 * 10, 1.0)));
        let dx = oracle::rotate(&positions, &dy, 10, 2, 4, 500.0, -1.0);
        assert_slope("x", &x, &dx, |x| dot(&oracle::rotate(&positions, x, 10, 2, 4, 500.0, 1.0), &dy));
    }

    fn compare<E: Elem>(n: usize, heads: usize, head_dim: usize, rest: usize) {
        let stride = heads * head_dim + rest;
        let positions: Vec<u32> = (0..n as u32).map(|r| (r * 37) % 90).collect();
        let (tables, x) = (Tables::new(90, head_dim, 10_000.0), stored::<E>(&random(1, n * stride, 2.0)));
        let turned = |sign| oracle::rotate(&positions, &wide(&x), stride, heads, head_dim, 10_000.0, sign);
        on_every_cpu(
            |cpu| {
                let (mut there, mut back) = (x.clone(), x.clone());
                super::forward(cpu, &tables, &positions, &mut there, stride, heads, head_dim);
                super::backward(cpu, &tables, &positions, &mut back, stride, heads, head_dim);
                vec![wide(&there), wide(&back)]
            },
            &[("forward", turned(1.0), tolerance::<E>()), ("backward", turned(-1.0), tolerance::<E>())],
        );
    }

    #[test]
    fn every_path_matches_the_oracle() {
        for (n, heads, head_dim, rest) in [(1, 1, 2, 0), (40, 3, 20, 7), (33, 4, 64, 64)] {
            compare::<f32>(n, heads, head_dim, rest);
            compare::<half::bf16>(n, heads, head_dim, rest);
        }
    }

    #[test]
    fn backward_undoes_forward() {
        let (tables, x) = (Tables::new(50, 32, 1e6), random(1, 50 * 64, 1.0));
        let (cpu, positions) = (Cpu::with_isa(Isa::portable(), 1), (0..50).collect::<Vec<u32>>());
        let mut turned = x.clone();
        super::forward(&cpu, &tables, &positions, &mut turned, 64, 2, 32);
        super::backward(&cpu, &tables, &positions, &mut turned, 64, 2, 32);
        assert_close("there and back", &wide(&turned), &wide(&x), 1e-6);
    }

    #[test]
    #[should_panic(expected = "a position is not below 4")]
    fn a_position_beyond_the_tables_is_refused() {
        let cpu = Cpu::with_isa(Isa::portable(), 1);
        super::forward(&cpu, &Tables::new(4, 2, 1e4), &[4], &mut [0.0f32; 2], 2, 1, 2);
    }
}
