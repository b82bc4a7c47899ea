//! Packing: operands of either dtype and either stride order become panels of units (see [`super::kernel`]).

use super::kernel::{Kernel, Side};
use crate::simd::{Elem, Simd, for_lanes};
use crate::simd_kernel;
use crate::tape::DType;
use std::ops::Range;

/// Units that are transposed at one time, a multiple of every path's vectors, and what a panel's length is padded to
/// with zeros.
const SQUARE: usize = 16;

/// The most lanes of a panel.
const MAX_LANES: usize = 32;

/// An operand as its panels see it: lanes (rows of a, columns of b) by inner index. One stride is 1.
#[derive(Clone, Copy)]
pub(super) struct Source<'a, E> {
    pub(super) data: &'a [E],
    pub(super) lane_stride: usize,
    pub(super) k_stride: usize,
}

/// Units that hold `k` values.
pub(super) const fn units<K: Kernel>(k: usize) -> usize {
    if K::PAIRS { k.div_ceil(2) } else { k }
}

/// Elements of one packed panel of `lanes` over `k` values.
pub(super) const fn panel_len<K: Kernel>(lanes: usize, k: usize) -> usize {
    lanes * units::<K>(k).next_multiple_of(SQUARE)
}

simd_kernel! {
    /// Packs a range of lanes and of inner indices into consecutive panels. Lanes and units beyond the range
    /// become zeros. With `round`, fp32 values become the nearest bf16 first.
    pub(super) fn pack<S, K: Kernel, W: Side<K>, E: Elem>(
        source: Source<'_, E>,
        lanes: Range<usize>,
        k: Range<usize>,
        round: bool,
        out: &mut [f32],
    ) {
        if const { S::PATH as u8 != K::Lanes::PATH as u8 } {
            // A kernel runs on its own path only; packing for it is compiled for that alone.
            unreachable!("gemm: a kernel of another path");
        }
        let panel = panel_len::<K>(W::LANES, k.len());
        assert_eq!(out.len(), lanes.len().div_ceil(W::LANES) * panel, "gemm: room for the panels");
        if source.lane_stride == 1 {
            across::<S, K, W, E>(source, lanes, k, round, out, panel);
        } else {
            along::<S, K, W, E>(source, lanes, k, round, out, panel);
        }
    }
}

/// Lanes are contiguous: rows of the source are cut into panels, a few rows at a time so that the source is
/// read in its order.
#[inline(always)]
fn across<S: Simd, K: Kernel, W: Side<K>, E: Elem>(
    source: Source<'_, E>,
    lanes: Range<usize>,
    k: Range<usize>,
    round: bool,
    out: &mut [f32],
    panel: usize,
) {
    let per = if K::PAIRS { 2 } else { 1 };
    for first in (0..panel / W::LANES).step_by(SQUARE) {
        for (lane, out) in lanes.clone().step_by(W::LANES).zip(out.chunks_exact_mut(panel)) {
            let width = W::LANES.min(lanes.end - lane);
            let out = &mut out[first * W::LANES..][..SQUARE * W::LANES];
            let at = k.start + first * per;
            let row = |k: usize| &source.data[k * source.k_stride + lane..][..width];
            if width == W::LANES && at + SQUARE * per <= k.end {
                let _last = row(at + SQUARE * per - 1);
                let from = row(at).as_ptr();
                for (u, out) in out.chunks_exact_mut(W::LANES).enumerate() {
                    // SAFETY: as many rows of this width are valid, the last of them by the slice above.
                    unsafe {
                        let low = from.add(u * per * source.k_stride);
                        let high = K::PAIRS.then(|| low.add(source.k_stride));
                        // The rows of the next square lie far apart, where no hardware looks ahead.
                        S::prefetch(low.wrapping_add(SQUARE * per * source.k_stride));
                        fill::<S, K, E>(low, high, round, out.as_mut_ptr(), W::LANES);
                    }
                }
                continue;
            }
            for (u, out) in out.chunks_exact_mut(W::LANES).enumerate() {
                let at = at + u * per;
                match (at < k.end, K::PAIRS && at + 1 < k.end) {
                    (false, _) => out.fill(0.0),
                    (true, false) => line::<S, K, E>(row(at), None, round, out),
                    (true, true) => line::<S, K, E>(row(at), Some(row(at + 1)), round, out),
                }
            }
        }
    }
}

/// One unit of fewer lanes than a panel has, or the last, which has no second half.
#[inline(always)]
fn line<S: Simd, K: Kernel, E: Elem>(low: &[E], high: Option<&[E]>, round: bool, out: &mut [f32]) {
    let width = low.len();
    assert!(high.is_none_or(|high| high.len() >= width) && out.len() >= width);
    out.fill(0.0);
    // SAFETY: all three hold `width`.
    unsafe { fill::<S, K, E>(low.as_ptr(), high.map(<[E]>::as_ptr), round, out.as_mut_ptr(), width) };
}

/// One unit of `width` lanes.
///
/// # Safety
/// All three places hold `width` elements.
#[inline(always)]
unsafe fn fill<S: Simd, K: Kernel, E: Elem>(
    low: *const E,
    high: Option<*const E>,
    round: bool,
    out: *mut f32,
    width: usize,
) {
    // SAFETY: `i + n <= width`.
    unsafe {
        for_lanes!(S, width, |i, n| {
            let low = low.add(i);
            let unit = match (K::PAIRS, high) {
                (true, Some(high)) => E::zip_n::<S>(low, high.add(i), n),
                (true, None) => S::pair_bf16(E::load_n::<S>(low, n), S::splat(0.0)),
                (false, _) => rounded::<S, E>(E::load_n::<S>(low, n), round),
            };
            f32::store_n::<S>(out.add(i), unit, n);
        });
    }
}

/// `x` as it enters a product of fp32 units.
///
/// # Safety
/// The instruction set is enabled.
#[inline(always)]
pub(super) unsafe fn rounded<S: Simd, E: Elem>(x: S::V, round: bool) -> S::V {
    // SAFETY: the caller's promise.
    if round && matches!(E::DTYPE, DType::F32) { unsafe { S::round_bf16(x) } } else { x }
}

/// The inner index is contiguous: squares of units are transposed, straight from the source where it already holds
/// units, else from a stage where they are made.
#[inline(always)]
fn along<S: Simd, K: Kernel, W: Side<K>, E: Elem>(
    source: Source<'_, E>,
    lanes: Range<usize>,
    k: Range<usize>,
    round: bool,
    out: &mut [f32],
    panel: usize,
) {
    const { assert!(W::LANES <= MAX_LANES) };
    let per = if K::PAIRS { 2 } else { 1 };
    let holds_units = size_of::<E>() * per == size_of::<f32>() && (K::PAIRS || !round);
    let mut stage = [0.0f32; MAX_LANES * SQUARE];
    for (lane, out) in lanes.clone().step_by(W::LANES).zip(out.chunks_exact_mut(panel)) {
        let width = W::LANES.min(lanes.end - lane);
        for (at, out) in k.clone().step_by(SQUARE * per).zip(out.chunks_exact_mut(SQUARE * W::LANES)) {
            let count = (SQUARE * per).min(k.end - at);
            let row = |r: usize| &source.data[(lane + r) * source.lane_stride + at..][..count];
            if holds_units && count == SQUARE * per {
                let _last = row(width - 1);
                let from = row(0).as_ptr().cast::<f32>();
                // SAFETY: SQUARE units of `width` rows are valid, the last of them by the slice above.
                unsafe { square::<S>(from, source.lane_stride * size_of::<E>(), width, out, W::LANES) };
            } else {
                for (r, stage) in stage.chunks_exact_mut(SQUARE).take(width).enumerate() {
                    convert::<S, K, E>(row(r), round, stage);
                }
                // SAFETY: the stage has SQUARE units of MAX_LANES rows.
                unsafe { square::<S>(stage.as_ptr(), SQUARE * size_of::<f32>(), width, out, W::LANES) };
            }
        }
    }
}

/// A stretch of one lane → its units, and zeros up to a whole square.
#[inline(always)]
fn convert<S: Simd, K: Kernel, E: Elem>(row: &[E], round: bool, out: &mut [f32]) {
    let filled = units::<K>(row.len());
    out[row.len() / if K::PAIRS { 2 } else { 1 }..].fill(0.0);
    let to = out[..filled].as_mut_ptr();
    // SAFETY: `row.len()` elements of four bytes, or of two where a unit is a pair, fit `filled` units.
    unsafe {
        for_lanes!(S, row.len(), |i, n| {
            let x = E::load_n::<S>(row.as_ptr().add(i), n);
            if K::PAIRS {
                half::bf16::store_n::<S>(to.cast::<half::bf16>().add(i), x, n);
            } else {
                f32::store_n::<S>(to.add(i), rounded::<S, E>(x, round), n);
            }
        });
    }
}

/// SQUARE units of `rows` lanes, whose rows are `bytes` apart, to `out [SQUARE, lanes]`; lanes beyond `rows` are zero.
///
/// # Safety
/// The rows are valid.
#[inline(always)]
unsafe fn square<S: Simd>(from: *const f32, bytes: usize, rows: usize, out: &mut [f32], lanes: usize) {
    assert!(out.len() == SQUARE * lanes && SQUARE.is_multiple_of(S::LANES));
    for lane in (0..lanes).step_by(S::LANES) {
        let (rows, width) = (rows.saturating_sub(lane).min(S::LANES), (lanes - lane).min(S::LANES));
        for unit in (0..SQUARE).step_by(S::LANES) {
            // It may lie beyond the matrix where there are no rows.
            let from = from.wrapping_byte_add(lane * bytes).wrapping_add(unit);
            // SAFETY: rows by the caller's promise, `out` by the assertion.
            unsafe {
                S::transpose(from, bytes, rows, out.as_mut_ptr().add(unit * lanes + lane), lanes, width);
            }
        }
    }
}
