//! The backward kernels: with P the probabilities and D = rowsum(dO ∘ O),
//! dV = Pᵀ·dO, dS = P ∘ (dO·Vᵀ − D), dQ = scale · dS·K, dK = scale · dSᵀ·Q.
//!
//! Each tile of P and dS is computed once and used three times. A task owns a strip of key tiles, hence their dK and dV;
//! its share of dQ goes to memory of its own, and shares are added in order.

use super::Input;
use super::arithmetic::attention_kernel;
use super::mask::{self, Mask};
use super::operands::{Moving, Rows};
use super::tile::{self, TILE};
use crate::isa::Isa;
use crate::pool::Disjoint;
use crate::scratch;
use crate::simd::{Elem, Simd};
use crate::simd_kernel;
use std::ops::Range;

/// What the backward pass reads besides [`Input`].
pub(super) struct Output<'a, E> {
    /// `[n, heads·head_dim]`
    pub(super) out: &'a [E],
    /// `[heads, n]`
    pub(super) lse: &'a [f32],
    /// `[n, heads·head_dim]`
    pub(super) d_out: &'a [E],
}

/// The two score-sized tiles: scores or probabilities, and their gradients, `[TILE, TILE]` each.
struct Tiles<'a> {
    p: &'a mut [f32],
    d: &'a mut [f32],
}

impl<'a> Tiles<'a> {
    const SCRATCH: usize = 2 * TILE * TILE;

    fn at(memory: &'a mut [f32]) -> Self {
        let (p, d) = memory.split_at_mut(TILE * TILE);
        Tiles { p, d }
    }

    /// From scores to probabilities and from dP to dS, zero where the mask is. Scores count times `scale`; `lse` and
    /// `delta` belong to the rows.
    #[inline(always)]
    fn differentiate<S: Simd>(&mut self, mask: &Mask, scale: f32, lse: &[f32], delta: &[f32]) {
        assert!(self.p.len() == TILE * TILE && self.d.len() == TILE * TILE);
        assert!(lse.len() >= TILE && delta.len() >= TILE);
        for i in 0..mask.rows {
            let (from, to) = mask.vectors::<S>(i, i);
            for c in (from..to).step_by(S::LANES) {
                // SAFETY: row `i` and the vector at `c` lie within the tile, whose sizes are asserted above.
                unsafe {
                    let (p, d) =
                        (self.p.as_mut_ptr().add(i * TILE + c), self.d.as_mut_ptr().add(i * TILE + c));
                    let (lse, delta) = (S::splat(lse[i]), S::splat(delta[i]));
                    let probability = S::exp(S::sub(S::mul(S::load(p), S::splat(scale)), lse));
                    S::store(p, probability);
                    S::store(d, S::mul(probability, S::sub(S::load(d), delta)));
                }
            }
        }
        mask.fill(self.p, 0.0);
        mask.fill(self.d, 0.0);
    }
}

/// Rows of a tile of `D`: `delta [heads, n]`, D of each head of rows `rows`.
pub(super) fn delta_rows<E: Elem>(
    isa: Isa,
    input: &Input<'_, E>,
    output: &Output<'_, E>,
    rows: Range<usize>,
    delta: &Disjoint<'_, f32>,
) {
    let (n, head_dim, stride) = (input.rows(), input.shape.head_dim, input.shape.out_width());
    for head in 0..input.shape.heads {
        let (out, d_out) = (
            Rows::new(output.out, stride, head * head_dim, head_dim),
            Rows::new(output.d_out, stride, head * head_dim, head_dim),
        );
        // SAFETY: these rows belong to this task alone.
        let delta = unsafe { delta.slice(head * n + rows.start, head * n + rows.end) };
        for (d, row) in delta.iter_mut().zip(rows.clone()) {
            *d = dot(isa, d_out.row(row), out.row(row));
        }
    }
}

simd_kernel! {
    fn dot<S, E: Elem>(a: &[E], b: &[E]) -> f32 {
        tile::dot::<S, E>(a, b)
    }
}

/// Key tiles whose gradients one task makes, and where it leaves its share of the queries' gradients.
pub(super) struct Strip {
    /// Key–value head.
    pub(super) kv: usize,
    /// Key tiles.
    pub(super) tiles: Range<usize>,
    /// Strips of one island each have a slot of their own.
    pub(super) slot: usize,
}

/// Sums of the queries' gradients, not yet times the scale: `[slots, heads, rows padded to tiles, width]`.
pub(super) struct QuerySums<'a> {
    pub(super) data: Disjoint<'a, f32>,
    /// Rows of a head, padded.
    pub(super) rows: usize,
    pub(super) heads: usize,
    pub(super) width: usize,
}

impl QuerySums<'_> {
    /// Rows `rows` of a head.
    ///
    /// # Safety
    /// Nobody else uses them meanwhile.
    #[allow(clippy::mut_from_ref)]
    pub(super) unsafe fn slice(&self, slot: usize, head: usize, rows: Range<usize>) -> &mut [f32] {
        let start = (slot * self.heads + head) * self.rows;
        // SAFETY: the caller's promise.
        unsafe { self.data.slice((start + rows.start) * self.width, (start + rows.end) * self.width) }
    }
}

/// Gradients of the keys and values of a strip, and its share of those of the queries that see it. `delta` is what
/// [`delta_rows`] left.
pub(super) fn strip<E: Elem>(
    isa: Isa,
    input: &Input<'_, E>,
    output: &Output<'_, E>,
    strip: &Strip,
    delta: &[f32],
    d_queries: &QuerySums<'_>,
    d_qkv: &Disjoint<'_, E>,
) {
    let width = d_queries.width;
    let len = Tiles::SCRATCH + TILE * (4 * width + TILE + 2) + 3 * Moving::scratch(width);
    scratch::with(len, |memory: &mut [f32]| {
        kernel(isa, input, output, strip, delta, d_queries, d_qkv, memory, width)
    });
}

attention_kernel! {
    fn kernel<S, A, E>(
        input: &Input<'_, E>,
        output: &Output<'_, E>,
        strip: &Strip,
        delta: &[f32],
        d_queries: &QuerySums<'_>,
        d_qkv: &Disjoint<'_, E>,
        memory: &mut [f32],
        width: usize,
    ) {
        let (n, head_dim, group, kv) = (input.rows(), input.shape.head_dim, input.shape.group(), strip.kv);
        let (tiles, rest) = memory.split_at_mut(Tiles::SCRATCH);
        let (columns_k, rest) = rest.split_at_mut(TILE * width);
        let (columns_v, rest) = rest.split_at_mut(TILE * width);
        let (d_k, rest) = rest.split_at_mut(TILE * width);
        let (d_v, rest) = rest.split_at_mut(TILE * width);
        let (flat, rest) = rest.split_at_mut(TILE * TILE);
        let (lse_tile, rest) = rest.split_at_mut(TILE);
        let (delta_tile, rest) = rest.split_at_mut(TILE);
        let (k, rest) = rest.split_at_mut(Moving::scratch(width));
        let (q, d_out) = rest.split_at_mut(Moving::scratch(width));
        let mut tiles = Tiles::at(tiles);
        let (at_k, at_v) = (input.shape.key_at(kv), input.shape.value_at(kv));
        let seen = strip.tiles.start * TILE..input.seen_by(strip.tiles.end - 1).next_multiple_of(TILE);
        for head in kv * group..(kv + 1) * group {
            // SAFETY: this slot of these heads' rows belongs to this task alone.
            unsafe { d_queries.slice(strip.slot, head, seen.clone()) }.fill(0.0);
        }
        for tile in strip.tiles.clone() {
            let first = tile * TILE;
            let rows = first..first + mask::extent(input.segments, first);
            let (keys, values) = (input.head(at_k), input.head(at_v));
            keys.pack_columns::<S, A>(first, rows.len(), columns_k, q, width);
            values.pack_columns::<S, A>(first, rows.len(), columns_v, q, width);
            let mut k = Moving::at::<S, A>(k, width);
            k.load_zipped::<S, A, E>(&keys, first, rows.len());
            let (mut q, mut d_out) = (Moving::at::<S, A>(q, width), Moving::at::<S, A>(d_out, width));
            d_k.fill(0.0);
            d_v.fill(0.0);
            for query in (first..input.seen_by(tile)).step_by(TILE) {
                let count = mask::extent(input.segments, query);
                let mask = Mask::queries_by_keys(input.segments, query, first);
                for head in kv * group..(kv + 1) * group {
                    let gradients = Rows::new(output.d_out, input.shape.out_width(), head * head_dim, head_dim);
                    q.load::<S, A, E>(&input.head(head * head_dim), query, count);
                    d_out.load::<S, A, E>(&gradients, query, count);
                    lse_tile[..count].copy_from_slice(&output.lse[head * n + query..][..count]);
                    delta_tile[..count].copy_from_slice(&delta[head * n + query..][..count]);
                    tile::scores::<S, A>(q.rows(), columns_k, head_dim, &mask, tiles.p);
                    tile::scores::<S, A>(d_out.rows(), columns_v, head_dim, &mask, tiles.d);
                    tiles.differentiate::<S>(&mask, input.scale, lse_tile, delta_tile);
                    // SAFETY: as above.
                    let d_q = unsafe { d_queries.slice(strip.slot, head, query..query + TILE) };
                    tile::flatten::<S, A>(tiles.d, &mask, flat);
                    let d_s = if A::PER == 1 { &*tiles.d } else { &*flat };
                    tile::spread::<S, A>(d_s, k.zipped::<S, A>(), &mask, d_q);
                    tile::narrow::<S, A>(tiles.p, &mask);
                    tile::narrow::<S, A>(tiles.d, &mask);
                    tile::gather::<S, A>(tiles.p, d_out.zipped::<S, A>(), &mask, d_v);
                    tile::gather::<S, A>(tiles.d, q.zipped::<S, A>(), &mask, d_k);
                }
            }
            store::<S, E>(input, rows.clone(), at_k, d_k, width, input.scale, d_qkv);
            store::<S, E>(input, rows, at_v, d_v, width, 1.0, d_qkv);
        }
    }
}

/// Gradients of all queries of rows `rows`, of which the slots `shares` hold parts.
pub(super) fn settle_queries<E: Elem>(
    isa: Isa,
    input: &Input<'_, E>,
    rows: Range<usize>,
    shares: impl Iterator<Item = usize> + Clone,
    d_queries: &QuerySums<'_>,
    d_qkv: &Disjoint<'_, E>,
) {
    for head in 0..input.shape.heads {
        let mut shares = shares.clone();
        let Some(first) = shares.next() else { unreachable!("every row sees itself") };
        // SAFETY: these rows of every slot belong to this task alone.
        let sums = unsafe { d_queries.slice(first, head, rows.clone()) };
        for slot in shares {
            // SAFETY: as above.
            let more = unsafe { d_queries.slice(slot, head, rows.clone()) };
            sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += *more);
        }
        write_queries(isa, input, rows.clone(), head, sums, d_queries.width, d_qkv);
    }
}

simd_kernel! {
    fn write_queries<S, E: Elem>(
        input: &Input<'_, E>,
        rows: Range<usize>,
        head: usize,
        sums: &[f32],
        width: usize,
        d_qkv: &Disjoint<'_, E>,
    ) {
        store::<S, E>(input, rows, head * input.shape.head_dim, sums, width, input.scale, d_qkv);
    }
}

/// Writes `factor · sums [rows, width]` to the head that begins at feature `at` of rows `rows` of `d_qkv`.
#[inline(always)]
fn store<S: Simd, E: Elem>(
    input: &Input<'_, E>,
    rows: Range<usize>,
    at: usize,
    sums: &[f32],
    width: usize,
    factor: f32,
    d_qkv: &Disjoint<'_, E>,
) {
    for (row, sums) in rows.zip(sums.chunks_exact(width)) {
        let start = row * input.shape.qkv_width() + at;
        // SAFETY: this head of these rows belongs to this task alone.
        tile::take_row::<S, E>(sums, factor, unsafe { d_qkv.slice(start, start + input.shape.head_dim) });
    }
}
