//! Packing: operands of either dtype and either stride order become panels of units (see [`super::kernel`]).

use super::kernel::{Kernel, Side};
use crate::simd::{Elem, Simd, for_lanes};
use crate::simd_kernel;
use crate::tape::DType;
use std::ops::Range;

/// Units per transposed square, and what a panel's length is padded to with zeros.
const SQUARE: usize = 8;

/// Units of a row that are converted at one time before they are transposed.
const STRETCH: usize = 64;

/// The most lanes of a panel, rounded up to squares.
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
            for (u, out) in out.chunks_exact_mut(W::LANES).enumerate() {
                let at = k.start + (first + u) * per;
                let row = |k: usize| &source.data[k * source.k_stride + lane..][..width];
                match (at < k.end, K::PAIRS && at + 1 < k.end) {
                    (false, _) => out.fill(0.0),
                    (true, false) => line::<S, K, W, E>(row(at), None, round, out),
                    (true, true) => line::<S, K, W, E>(row(at), Some(row(at + 1)), round, out),
                }
            }
        }
    }
}

/// One unit of every lane.
#[inline(always)]
fn line<S: Simd, K: Kernel, W: Side<K>, E: Elem>(
    low: &[E],
    high: Option<&[E]>,
    round: bool,
    out: &mut [f32],
) {
    // The whole width is a constant, so that its loop unrolls into whole vectors.
    if low.len() == W::LANES {
        fill::<S, K, E>(low, high, round, out, W::LANES);
    } else {
        out.fill(0.0);
        fill::<S, K, E>(low, high, round, out, low.len());
    }
}

#[inline(always)]
fn fill<S: Simd, K: Kernel, E: Elem>(
    low: &[E],
    high: Option<&[E]>,
    round: bool,
    out: &mut [f32],
    width: usize,
) {
    assert!(low.len() >= width && high.is_none_or(|high| high.len() >= width) && out.len() >= width);
    // SAFETY: `i + n <= width`, which all three hold.
    unsafe {
        for_lanes!(S, width, |i, n| {
            let x = E::load_n::<S>(low.as_ptr().add(i), n);
            let unit = match (K::PAIRS, high) {
                (true, Some(high)) => S::pair_bf16(x, E::load_n::<S>(high.as_ptr().add(i), n)),
                (true, None) => S::pair_bf16(x, S::splat(0.0)),
                (false, _) => rounded::<S, E>(x, round),
            };
            f32::store_n::<S>(out.as_mut_ptr().add(i), unit, n);
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

/// The inner index is contiguous: stretches of each lane become units, then squares of units are transposed.
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
    let whole_squares = W::LANES.is_multiple_of(SQUARE);
    let mut stage = [0.0f32; MAX_LANES * STRETCH];
    for (lane, out) in lanes.clone().step_by(W::LANES).zip(out.chunks_exact_mut(panel)) {
        let width = W::LANES.min(lanes.end - lane);
        stage[width * STRETCH..].fill(0.0);
        for (at, out) in k.clone().step_by(STRETCH * per).zip(out.chunks_mut(STRETCH * W::LANES)) {
            let count = (STRETCH * per).min(k.end - at);
            for (r, stage) in stage.chunks_exact_mut(STRETCH).take(width).enumerate() {
                convert::<S, K, E>(
                    &source.data[(lane + r) * source.lane_stride + at..][..count],
                    round,
                    stage,
                );
            }
            for (s, out) in out.chunks_exact_mut(SQUARE * W::LANES).enumerate() {
                if whole_squares {
                    squares::<S>(&stage, s, W::LANES, out, W::LANES);
                } else {
                    // Squares overhang such a panel.
                    let mut wide = [0.0; MAX_LANES * SQUARE];
                    squares::<S>(&stage, s, W::LANES, &mut wide, MAX_LANES);
                    for (out, wide) in out.chunks_exact_mut(W::LANES).zip(wide.chunks_exact(MAX_LANES)) {
                        out.copy_from_slice(&wide[..W::LANES]);
                    }
                }
            }
        }
    }
}

/// A stretch of one lane → its units, and zeros up to a whole square.
#[inline(always)]
fn convert<S: Simd, K: Kernel, E: Elem>(row: &[E], round: bool, out: &mut [f32]) {
    let filled = units::<K>(row.len());
    out[row.len() / if K::PAIRS { 2 } else { 1 }..filled.next_multiple_of(SQUARE)].fill(0.0);
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

/// `out[u·step + lane] = stage[lane·STRETCH + 8·s + u]` for eight units of `lanes` lanes, rounded up to squares.
#[inline(always)]
fn squares<S: Simd>(
    stage: &[f32; MAX_LANES * STRETCH],
    s: usize,
    lanes: usize,
    out: &mut [f32],
    step: usize,
) {
    let last = lanes.next_multiple_of(SQUARE);
    assert!(last <= step && out.len() >= SQUARE * step && s < STRETCH / SQUARE);
    for lane in (0..lanes).step_by(SQUARE) {
        // SAFETY: `stage` has MAX_LANES rows of STRETCH units, `out` eight rows of at least `lane + 8`.
        unsafe {
            let from = stage.as_ptr().add(lane * STRETCH + s * SQUARE);
            S::transpose8(from, STRETCH, out.as_mut_ptr().add(lane), step);
        }
    }
}
