//! Kernels over rows, and how rows are moved between tokens and experts.

use super::{Dispatch, Gradient};
use crate::Cpu;
use crate::ops::add::{add_rows, add_scaled_rows, convert_rows};
use crate::order::REDUCE_ROWS;
use crate::pool::Disjoint;
use crate::scratch;
use crate::simd::{Elem, for_lanes};
use crate::simd_kernel;

/// Rows per task.
pub(super) const ROWS: usize = 16;

/// Columns per task of a sum over rows.
const COLS: usize = 256;

/// from `[n, d]` → to `[n·k, d]`: each row is its token's.
pub(super) fn gather<A: Elem, B: Elem>(
    cpu: &Cpu,
    order: &[u32],
    top_k: usize,
    d: usize,
    from: &[A],
    to: &mut [B],
) {
    cpu.pool.for_each_chunk(to, ROWS * d, |i, part| {
        for (row, &slot) in part.chunks_exact_mut(d).zip(&order[i * ROWS..]) {
            convert_rows::<A, B>(cpu.isa, &from[slot as usize / top_k * d..][..d], row);
        }
    });
}

/// to `[n·k, width]`: each row is its expert's bias.
pub(super) fn fill<E: Elem>(cpu: &Cpu, dispatch: &Dispatch<'_>, bias: &[f32], to: &mut [E]) {
    let width = bias.len() / dispatch.experts();
    cpu.pool.for_each_chunk(to, ROWS * width, |i, part| {
        for (r, row) in part.chunks_exact_mut(width).enumerate() {
            let expert = dispatch.expert_of(i * ROWS + r);
            convert_rows::<f32, E>(cpu.isa, &bias[expert * width..][..width], row);
        }
    });
}

/// rows `[n·k, d]` → to `[n, d]`: each token's sum over its slots, weighted by `weights` `[n, k]` if there are any.
pub(super) fn combine<E: Elem>(
    cpu: &Cpu,
    (places, top_k, d): (&[u32], usize, usize),
    weights: Option<&[f32]>,
    rows: &[f32],
    to: &mut [E],
    accumulate: bool,
) {
    cpu.pool.for_each_chunk(to, ROWS * d, |i, part| {
        for (r, to) in part.chunks_exact_mut(d).enumerate() {
            let slots = (i * ROWS + r) * top_k..(i * ROWS + r + 1) * top_k;
            let weights = weights.map(|w| &w[slots.clone()]);
            sum_slots::<E>(cpu.isa, &places[slots], weights, rows, to, accumulate);
        }
    });
}

simd_kernel! {
    /// One token: `to = Σ_s weights[s]·rows[places[s]]`, or `+=`.
    fn sum_slots<S, E: Elem>(
        places: &[u32], weights: Option<&[f32]>, rows: &[f32], to: &mut [E], accumulate: bool,
    ) {
        let d = to.len();
        assert!(places.iter().all(|&place| (place as usize + 1) * d <= rows.len()));
        assert!(weights.is_none_or(|weights| weights.len() == places.len()));
        let (rows, to) = (rows.as_ptr(), to.as_mut_ptr());
        // SAFETY: `i + n <= d`, the length of `to` and of every row, which lie in `rows` by the assertion.
        for_lanes!(S, d, |i, n| unsafe {
            let mut sum = S::splat(0.0);
            for (s, &place) in places.iter().enumerate() {
                let x = f32::load_n::<S>(rows.add(place as usize * d + i), n);
                sum = S::fma(S::splat(weights.map_or(1.0, |weights| weights[s])), x, sum);
            }
            if accumulate {
                sum = S::add(E::load_n::<S>(to.add(i), n), sum);
            }
            E::store_n::<S>(to.add(i), sum, n);
        });
    }
}

simd_kernel! {
    /// One row: `d_act = weight·g`, `act *= weight`; returns ⟨g, act⟩ with act as it was.
    pub(super) fn weigh<S, E: Elem>(g: &[f32], weight: f32, act: &mut [E], d_act: &mut [E]) -> f32 {
        let len = g.len();
        assert!(act.len() == len && d_act.len() == len);
        let (g, act, d_act) = (g.as_ptr(), act.as_mut_ptr(), d_act.as_mut_ptr());
        // SAFETY: `i + n <= len`, the length of all three.
        unsafe {
            let (mut dot, weight) = (S::splat(0.0), S::splat(weight));
            for_lanes!(S, len, |i, n| {
                let (g, a) = (f32::load_n::<S>(g.add(i), n), E::load_n::<S>(act.add(i), n));
                dot = S::fma(g, a, dot);
                E::store_n::<S>(act.add(i), S::mul(weight, a), n);
                E::store_n::<S>(d_act.add(i), S::mul(weight, g), n);
            });
            S::reduce_add(dot)
        }
    }
}

simd_kernel! {
    /// ⟨a, b⟩
    pub(super) fn dot<S, E: Elem>(a: &[f32], b: &[E]) -> f32 {
        let len = a.len();
        assert_eq!(b.len(), len);
        let (a, b) = (a.as_ptr(), b.as_ptr());
        // SAFETY: `i + n <= len`, the length of both.
        unsafe {
            let mut dot = S::splat(0.0);
            for_lanes!(S, len, |i, n| {
                dot = S::fma(f32::load_n::<S>(a.add(i), n), E::load_n::<S>(b.add(i), n), dot);
            });
            S::reduce_add(dot)
        }
    }
}

/// The gradient `[E, width]` of a bias: each expert's sum over its rows `[n·k, width]`, in order, in blocks of
/// [`REDUCE_ROWS`]; rows are multiplied by their weight if `weighted`.
pub(super) fn sum_rows<E: Elem>(
    cpu: &Cpu,
    dispatch: &Dispatch<'_>,
    rows: &[E],
    weighted: bool,
    gradient: Gradient<'_, f32>,
) {
    let Gradient { to, accumulate } = gradient;
    let width = to.len() / dispatch.experts();
    let stripes = width.div_ceil(COLS);
    let to = Disjoint::new(to);
    cpu.pool.run(dispatch.experts() * stripes, |task| {
        let (expert, first) = (task / stripes, task % stripes * COLS);
        let cols = first..(first + COLS).min(width);
        // SAFETY: these columns belong to this task alone.
        let to = unsafe { to.slice(expert * width + cols.start, expert * width + cols.end) };
        if !accumulate {
            to.fill(0.0);
        }
        scratch::with(cols.len(), |block: &mut [f32]| {
            let mut at = dispatch.rows(expert);
            while !at.is_empty() {
                let end = (at.start + REDUCE_ROWS).min(at.end);
                block.fill(0.0);
                for row in at.start..end {
                    let weight = if weighted { dispatch.weights[dispatch.order[row] as usize] } else { 1.0 };
                    add_scaled_rows::<E>(
                        cpu.isa,
                        weight,
                        &rows[row * width + cols.start..][..cols.len()],
                        block,
                    );
                }
                add_rows(cpu.isa, block, to);
                at.start = end;
            }
        });
    });
}
