//! Products over tiles of scores.
//!
//! A tile is `[TILE, TILE]` in scratch. One side is *fixed* for a task (its columns, packed transposed once), the other
//! moves (its rows), so that nothing is transposed inside the loop: scores are `rows · columns`, and results gather as
//! `tileᵀ · rows`, both with vectors along the second operand and broadcasts of the first.

use super::arithmetic::Arithmetic;
use super::mask::Mask;
use crate::order;
use crate::simd::{Elem, Simd};

/// Rows and columns of a tile.
pub(super) const TILE: usize = order::ATTENTION_TILE;

/// Rows of a register block.
const BLOCK: usize = 4;

/// Sum of the products of two rows of storage.
#[inline(always)]
pub(super) fn dot<S: Simd, E: Elem>(a: &[E], b: &[E]) -> f32 {
    assert!(a.len() == b.len());
    let whole = a.len() / S::LANES * S::LANES;
    // SAFETY: `at + LANES` stays within both rows.
    let body = unsafe {
        let mut sum = S::splat(0.0);
        for at in (0..whole).step_by(S::LANES) {
            sum = S::fma(E::load::<S>(a.as_ptr().add(at)), E::load::<S>(b.as_ptr().add(at)), sum);
        }
        S::reduce_add(sum)
    };
    a[whole..].iter().zip(&b[whole..]).fold(body, |sum, (a, b)| sum + a.to_f32() * b.to_f32())
}

/// Writes `factor · row` to storage.
#[inline(always)]
pub(super) fn take_row<S: Simd, E: Elem>(row: &[f32], factor: f32, to: &mut [E]) {
    assert!(to.len() <= row.len());
    let whole = to.len() / S::LANES * S::LANES;
    for at in (0..whole).step_by(S::LANES) {
        // SAFETY: `at + LANES` stays within `to`, which is no longer than `row`.
        unsafe {
            let v = S::mul(S::load(row.as_ptr().add(at)), S::splat(factor));
            E::store::<S>(to.as_mut_ptr().add(at), v);
        }
    }
    for (to, from) in to[whole..].iter_mut().zip(&row[whole..]) {
        *to = E::from_f32(from * factor);
    }
}

/// The scores a mask touches: `tile[i][c] = Σ_d rows[i][d] · columns[d][c]`.
///
/// `rows [TILE, width / PER]`, `columns [width / PER, TILE]`, `depth <= width` terms.
#[inline(always)]
pub(super) fn scores<S: Simd, A: Arithmetic<S>>(
    rows: &[f32],
    columns: &[f32],
    depth: usize,
    mask: &Mask,
    tile: &mut [f32],
) {
    let (units, depth) = (rows.len() / TILE, depth.div_ceil(A::PER));
    assert!(rows.len() == TILE * units && depth <= units);
    assert!(columns.len() >= units * TILE && tile.len() == TILE * TILE);
    for i in (0..mask.rows).step_by(BLOCK) {
        let (from, to) = mask.vectors::<S>(i, (i + BLOCK).min(mask.rows) - 1);
        // SAFETY: rows `i..i + BLOCK` and vectors `from..to` lie within the tiles, whose sizes are asserted
        // above; rows in use beyond `mask.rows` are scratch, computed and never read.
        unsafe {
            let a = Broadcast { pointer: rows.as_ptr().add(i * units), row: units, step: 1 };
            let b = (columns.as_ptr().add(from), TILE);
            let c = (tile.as_mut_ptr().add(i * TILE + from), TILE);
            blocks::<S, A, true>(a, b, depth, c, (to - from) / S::LANES);
        }
    }
}

/// Turns a tile of fp32 values, those outside the mask being 0, into units along its rows, `[TILE / PER, TILE]`, from the
/// start of the same memory on. fp32 units it is already.
#[inline(always)]
pub(super) fn narrow<S: Simd, A: Arithmetic<S>>(tile: &mut [f32], mask: &Mask) {
    assert!(tile.len() == TILE * TILE && mask.rows <= TILE && mask.columns <= TILE);
    if A::PER == 1 {
        return;
    }
    let start = tile.as_mut_ptr();
    for pair in 0..mask.rows.div_ceil(2) {
        for c in (0..mask.columns).step_by(S::LANES) {
            // SAFETY: row `2·pair` and, if it is in use, the next lie within the tile, and so does the vector at `c`, TILE
            // being a multiple of LANES. Row `pair` is written after rows `2·pair` and above were read at `c`.
            unsafe {
                let from = start.add(2 * pair * TILE + c);
                let low = S::load(from);
                let high = if 2 * pair + 1 < mask.rows { S::load(from.add(TILE)) } else { S::splat(0.0) };
                S::store(start.add(pair * TILE + c), A::pair(low, high));
            }
        }
    }
}

/// Turns a tile of fp32 values, those outside the mask being 0, into units along its columns, `[TILE, TILE / PER]` in
/// `to`. fp32 units it is already.
#[inline(always)]
pub(super) fn flatten<S: Simd, A: Arithmetic<S>>(tile: &[f32], mask: &Mask, to: &mut [f32]) {
    if A::PER == 1 {
        return;
    }
    let to: &mut [half::bf16] = bytemuck::cast_slice_mut(to);
    assert!(tile.len() == TILE * TILE && to.len() >= TILE * TILE && mask.rows <= TILE);
    for i in 0..mask.rows {
        for c in (i * TILE..i * TILE + mask.columns).step_by(S::LANES) {
            // SAFETY: the vector at `c` lies within row `i` of both, TILE being a multiple of LANES.
            unsafe { half::bf16::store::<S>(to.as_mut_ptr().add(c), S::load(tile.as_ptr().add(c))) };
        }
    }
}

/// Gathers along the rows: `sums[i][d] += Σ_c tile[i][c] · rows[c][d]`, entries outside the mask being 0. Rows of `sums`
/// beyond the mask's become noise.
///
/// `tile [TILE, TILE / PER]` as [`flatten`] leaves it, `rows [TILE / PER, width]`, `sums [TILE, width]`.
#[inline(always)]
pub(super) fn spread<S: Simd, A: Arithmetic<S>>(tile: &[f32], rows: &[f32], mask: &Mask, sums: &mut [f32]) {
    let (width, units) = (sums.len() / TILE, TILE / A::PER);
    assert!(rows.len() * A::PER == TILE * width && sums.len() == TILE * width && tile.len() >= TILE * units);
    assert!(width.is_multiple_of(S::LANES));
    for i in (0..mask.rows).step_by(BLOCK) {
        let last = (i + BLOCK).min(mask.rows) - 1;
        let (from, to) = (mask.low[i] / A::PER, mask.high[last].div_ceil(A::PER));
        if from >= to {
            continue;
        }
        // SAFETY: rows `i..i + BLOCK` and units `from..to` lie within tiles of the asserted sizes.
        unsafe {
            let a = Broadcast { pointer: tile.as_ptr().add(i * units + from), row: units, step: 1 };
            let b = (rows.as_ptr().add(from * width), width);
            let c = (sums.as_mut_ptr().add(i * width), width);
            blocks::<S, A, false>(a, b, to - from, c, width / S::LANES);
        }
    }
}

/// Gathers along the columns: `sums[c][d] += Σ_i tile[i][c] · rows[i][d]`, entries outside the mask being 0.
///
/// `tile` as [`narrow`] leaves it, `rows [TILE / PER, width]`, `sums [TILE, width]`.
#[inline(always)]
pub(super) fn gather<S: Simd, A: Arithmetic<S>>(tile: &[f32], rows: &[f32], mask: &Mask, sums: &mut [f32]) {
    let width = sums.len() / TILE;
    assert!(rows.len() * A::PER == TILE * width && sums.len() == TILE * width && tile.len() == TILE * TILE);
    assert!(width.is_multiple_of(S::LANES));
    let (mut first, mut end) = (0, 0);
    for c in (0..mask.columns).step_by(BLOCK) {
        while first < mask.rows && mask.high[first] <= c {
            first += 1;
        }
        while end < mask.rows && mask.low[end] < c + BLOCK {
            end += 1;
        }
        if first >= end {
            continue;
        }
        let (from, to) = (first / A::PER, end.div_ceil(A::PER));
        // SAFETY: units `from..to` and columns `c..c + BLOCK` lie within tiles of the asserted sizes.
        unsafe {
            let a = Broadcast { pointer: tile.as_ptr().add(from * TILE + c), row: 1, step: TILE };
            let b = (rows.as_ptr().add(from * width), width);
            let c = (sums.as_mut_ptr().add(c * width), width);
            blocks::<S, A, false>(a, b, to - from, c, width / S::LANES);
        }
    }
}

/// The broadcast operand: unit `(i, k)` at `pointer + i·row + k·step`.
#[derive(Clone, Copy)]
struct Broadcast {
    pointer: *const f32,
    row: usize,
    step: usize,
}

/// `C [BLOCK, vectors·LANES] (+)= A [BLOCK, depth] · B [depth, vectors·LANES]`; `b` and `c` are pointers with
/// row strides.
///
/// # Safety
/// All three operands must be valid for those extents.
#[inline(always)]
unsafe fn blocks<S: Simd, A: Arithmetic<S>, const FRESH: bool>(
    a: Broadcast,
    b: (*const f32, usize),
    depth: usize,
    c: (*mut f32, usize),
    vectors: usize,
) {
    // As many accumulators as hide the latency of FMA and fit the register file.
    let most = if S::LANES == 16 { 4 } else { 2 };
    let mut v = 0;
    while v < vectors {
        let now = (vectors - v).min(most);
        // SAFETY: vectors `v..v + now` are within the extents the caller vouches for.
        unsafe {
            let b = (b.0.add(v * S::LANES), b.1);
            let c = (c.0.add(v * S::LANES), c.1);
            match now {
                1 => block::<S, A, FRESH, 1>(a, b, depth, c),
                2 => block::<S, A, FRESH, 2>(a, b, depth, c),
                3 => block::<S, A, FRESH, 3>(a, b, depth, c),
                _ => block::<S, A, FRESH, 4>(a, b, depth, c),
            }
        }
        v += now;
    }
}

/// One register block of `blocks`, `N` vectors wide.
#[inline(always)]
unsafe fn block<S: Simd, A: Arithmetic<S>, const FRESH: bool, const N: usize>(
    a: Broadcast,
    b: (*const f32, usize),
    depth: usize,
    c: (*mut f32, usize),
) {
    // SAFETY: the extents are the caller's promise.
    unsafe {
        let mut sums = [[S::splat(0.0); N]; BLOCK];
        if !FRESH {
            for (i, sums) in sums.iter_mut().enumerate() {
                for (j, sum) in sums.iter_mut().enumerate() {
                    *sum = S::load(c.0.add(i * c.1 + j * S::LANES));
                }
            }
        }
        for k in 0..depth {
            let mut line = [S::splat(0.0); N];
            for (j, v) in line.iter_mut().enumerate() {
                *v = S::load(b.0.add(k * b.1 + j * S::LANES));
            }
            for (i, sums) in sums.iter_mut().enumerate() {
                let x = S::splat(*a.pointer.add(i * a.row + k * a.step));
                for (sum, &v) in sums.iter_mut().zip(&line) {
                    *sum = A::multiply_add(x, v, *sum);
                }
            }
        }
        for (i, sums) in sums.iter().enumerate() {
            for (j, &sum) in sums.iter().enumerate() {
                S::store(c.0.add(i * c.1 + j * S::LANES), sum);
            }
        }
    }
}
