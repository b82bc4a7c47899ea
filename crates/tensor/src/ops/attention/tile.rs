//! Tiles of scores: which entries count, and the small products over them.
//!
//! A tile is `[TILE, TILE]` in scratch. One side is *fixed* for a task (its columns, packed transposed
//! once), the other moves (its rows, copied as they are), so that nothing is transposed inside the loop:
//! scores are `rows · columns`, and results gather as `tileᵀ · rows`, both with vectors along the second
//! operand and broadcasts of the first.

use crate::order;
use crate::simd::{Elem, Simd};

/// Rows and columns of a tile.
pub(super) const TILE: usize = order::ATTENTION_TILE;

/// Rows of a register block.
const BLOCK: usize = 4;

/// `head_dim` padded so that rows are whole vectors of every instruction set.
pub(super) const fn width(head_dim: usize) -> usize {
    head_dim.next_multiple_of(16)
}

/// Which entries of a tile count: columns `low[i]..high[i]` of row `i`. Neither bound ever decreases
/// with `i`, because document starts do not.
pub(super) struct Mask {
    low: [usize; TILE],
    high: [usize; TILE],
    /// Rows in use.
    pub(super) rows: usize,
    /// Columns in use.
    pub(super) columns: usize,
    full: bool,
}

impl Mask {
    /// From the bounds of each row; a row whose bounds cross has no entry.
    fn new(rows: usize, columns: usize, bounds: impl Fn(usize) -> (usize, usize)) -> Mask {
        let (mut low, mut high, mut full) = ([0; TILE], [0; TILE], columns == TILE);
        for i in 0..rows {
            let (from, to) = bounds(i);
            high[i] = to.min(columns);
            low[i] = from.min(high[i]);
            full &= low[i] == 0 && high[i] == columns;
        }
        Mask { low, high, rows, columns, full }
    }

    /// Rows are keys from `key`, columns queries from `query`.
    pub(super) fn keys_by_queries(segments: &[u32], key: usize, query: usize) -> Mask {
        let (rows, columns) = (extent(segments, key), extent(segments, query));
        let starts = &segments[query..query + columns];
        if key + rows <= query + 1 && starts[columns - 1] as usize <= key {
            return Mask::new(rows, columns, |_| (0, columns));
        }
        Mask::new(rows, columns, |i| {
            let last = starts.partition_point(|&first| first as usize <= key + i);
            ((key + i).saturating_sub(query), last)
        })
    }

    /// Rows are queries from `query`, columns keys from `key`.
    pub(super) fn queries_by_keys(segments: &[u32], query: usize, key: usize) -> Mask {
        let starts = &segments[query..];
        Mask::new(extent(segments, query), extent(segments, key), |i| {
            ((starts[i] as usize).saturating_sub(key), (query + i + 1).saturating_sub(key))
        })
    }

    /// Rows are cached keys from position `key`; each query position has `heads` consecutive columns.
    /// `positions` increase.
    pub(super) fn cached(positions: &[u32], heads: usize, key: usize) -> Mask {
        let columns = positions.len() * heads;
        let rows = positions.last().map_or(0, |&last| (last as usize + 1).saturating_sub(key).min(TILE));
        Mask::new(rows, columns, |i| {
            let blind = positions.partition_point(|&position| (position as usize) < key + i);
            (blind * heads, columns)
        })
    }

    /// Sets the entries that do not count.
    #[inline(always)]
    pub(super) fn fill(&self, tile: &mut [f32], value: f32) {
        if self.full {
            return;
        }
        // No kernel reads beyond the last vector in use of any instruction set.
        let end = self.columns.next_multiple_of(16);
        for (i, row) in tile.chunks_exact_mut(TILE).enumerate().take(self.rows) {
            row[..self.low[i]].fill(value);
            row[self.high[i]..end].fill(value);
        }
    }

    /// Whole vectors that hold the counted entries of rows `i..=last`.
    #[inline(always)]
    pub(super) fn vectors<S: Simd>(&self, i: usize, last: usize) -> (usize, usize) {
        (self.low[i] / S::LANES * S::LANES, self.high[last].next_multiple_of(S::LANES))
    }
}

/// Rows of the tile that begins at `start`.
pub(super) fn extent(segments: &[u32], start: usize) -> usize {
    TILE.min(segments.len() - start)
}

/// One head of consecutive rows of storage.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a, E> {
    data: &'a [E],
    stride: usize,
    head_dim: usize,
}

impl<'a, E: Elem> Rows<'a, E> {
    /// `head_dim` elements from `at` on in each row of `stride` elements.
    pub(super) fn new(data: &'a [E], stride: usize, at: usize, head_dim: usize) -> Self {
        Rows { data: &data[at..], stride, head_dim }
    }

    #[inline(always)]
    pub(super) fn row(&self, i: usize) -> &'a [E] {
        &self.data[i * self.stride..][..self.head_dim]
    }

    /// Copies `count` rows from `first` on, times `scale`, to `[TILE, width]`, padded with zeros to `width`.
    #[inline(always)]
    pub(super) fn pack<S: Simd>(&self, first: usize, count: usize, scale: f32, to: &mut [f32], width: usize) {
        assert!(self.head_dim <= width && count <= TILE);
        let whole = self.head_dim / S::LANES * S::LANES;
        for (i, to) in to.chunks_exact_mut(width).enumerate().take(count) {
            let row = self.row(first + i);
            for at in (0..whole).step_by(S::LANES) {
                // SAFETY: `at + LANES` stays within `row`, which is no longer than `to`.
                unsafe {
                    let v = S::mul(E::load::<S>(row.as_ptr().add(at)), S::splat(scale));
                    S::store(to.as_mut_ptr().add(at), v);
                }
            }
            to[whole..].fill(0.0);
            for (to, from) in to[whole..].iter_mut().zip(&row[whole..]) {
                *to = from.to_f32() * scale;
            }
        }
    }

    /// As [`Rows::pack`], transposed to `[width, TILE]`, zero where no row is. `copy [TILE, width]` is scratch.
    #[inline(always)]
    pub(super) fn pack_columns<S: Simd>(
        &self,
        first: usize,
        count: usize,
        scale: f32,
        to: &mut [f32],
        copy: &mut [f32],
    ) {
        let width = copy.len() / TILE;
        assert!(copy.len() == TILE * width && to.len() == copy.len() && width.is_multiple_of(8));
        self.pack::<S>(first, count, scale, copy, width);
        copy[count * width..].fill(0.0);
        for row in (0..TILE).step_by(8) {
            for at in (0..width).step_by(8) {
                // SAFETY: both blocks lie within the tiles, whose sides are multiples of 8.
                unsafe {
                    let from = copy.as_ptr().add(row * width + at);
                    S::transpose8(from, width, to.as_mut_ptr().add(at * TILE + row), TILE);
                }
            }
        }
    }
}

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

/// Writes `scale · row` to column `c` of `[width, TILE]`.
#[inline(always)]
pub(super) fn put_column<E: Elem>(row: &[E], scale: f32, to: &mut [f32], c: usize) {
    for (line, x) in to.chunks_exact_mut(TILE).zip(row) {
        line[c] = x.to_f32() * scale;
    }
}

/// The scores a mask touches: `tile[i][c] = Σ_d rows[i][d] · columns[d][c]`.
///
/// `rows [TILE, width]`, `columns [width, TILE]`, `depth <= width` terms.
#[inline(always)]
pub(super) fn scores<S: Simd>(
    rows: &[f32],
    width: usize,
    columns: &[f32],
    depth: usize,
    mask: &Mask,
    tile: &mut [f32],
) {
    assert!(rows.len() == TILE * width && depth <= width);
    assert!(columns.len() == width * TILE && tile.len() == TILE * TILE);
    for i in (0..mask.rows).step_by(BLOCK) {
        let (from, to) = mask.vectors::<S>(i, (i + BLOCK).min(mask.rows) - 1);
        // SAFETY: rows `i..i + BLOCK` and vectors `from..to` lie within the tiles, whose sizes are asserted
        // above; rows in use beyond `mask.rows` are scratch, computed and never read.
        unsafe {
            let a = Broadcast { pointer: rows.as_ptr().add(i * width), row: width, step: 1 };
            let b = (columns.as_ptr().add(from), TILE);
            let c = (tile.as_mut_ptr().add(i * TILE + from), TILE);
            blocks::<S, true>(a, b, depth, c, (to - from) / S::LANES);
        }
    }
}

/// Gathers along the columns: `sums[c][d] += Σ_i tile[i][c] · rows[i][d]`, entries outside the mask being 0.
///
/// `rows [TILE, width]`, `sums [TILE, width]`.
#[inline(always)]
pub(super) fn gather<S: Simd>(tile: &[f32], rows: &[f32], width: usize, mask: &Mask, sums: &mut [f32]) {
    assert!(rows.len() == TILE * width && sums.len() == TILE * width && tile.len() == TILE * TILE);
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
        // SAFETY: rows `first..end` and columns `c..c + BLOCK` lie within tiles of the asserted sizes.
        unsafe {
            let a = Broadcast { pointer: tile.as_ptr().add(first * TILE + c), row: 1, step: TILE };
            let b = (rows.as_ptr().add(first * width), width);
            let c = (sums.as_mut_ptr().add(c * width), width);
            blocks::<S, false>(a, b, end - first, c, width / S::LANES);
        }
    }
}

/// The broadcast operand: element `(i, k)` at `pointer + i·row + k·step`.
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
unsafe fn blocks<S: Simd, const FRESH: bool>(
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
                1 => block::<S, FRESH, 1>(a, b, depth, c),
                2 => block::<S, FRESH, 2>(a, b, depth, c),
                3 => block::<S, FRESH, 3>(a, b, depth, c),
                _ => block::<S, FRESH, 4>(a, b, depth, c),
            }
        }
        v += now;
    }
}

/// One register block of `blocks`, `N` vectors wide.
#[inline(always)]
unsafe fn block<S: Simd, const FRESH: bool, const N: usize>(
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
                    *sum = S::fma(x, v, *sum);
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
