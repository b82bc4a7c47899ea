//! The backward kernels: with P the probabilities and D = rowsum(dO ∘ O),
//! dV = Pᵀ·dO, dS = P ∘ (dO·Vᵀ − D), dQ = scale · dS·K, dK = scale · dSᵀ·Q.
//! Where scores bend, dS counts times their slope. A learned sink takes part in P, whose other entries it makes smaller.
//!
//! Each tile of P and dS is computed once and used three times. A task owns a strip of key tiles, hence their dK and dV;
//! its share of dQ goes to memory of its own, and shares are added in order.

use super::Input;
use super::arithmetic::{self, attention_kernel};
use super::curve::Curve;
use super::layer::Shape;
use super::mask::{self, Mask};
use super::operands::{Moving, Rows, Widths};
use super::tile::{self, TILE};
use crate::Cpu;
use crate::isa::Isa;
use crate::ops::add::add_rows;
use crate::order::REDUCE_ROWS;
use crate::pool::Disjoint;
use crate::scratch;
use crate::simd::{Elem, Simd};
use crate::simd_kernel;
use std::ops::Range;

/// What the backward pass reads besides [`Input`].
pub(super) struct Output<'a, E> {
    /// `[n, heads·value_dim]`
    pub(super) out: &'a [E],
    /// `[heads, n]`
    pub(super) lse: &'a [f32],
    /// `[n, heads·value_dim]`
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
    let (n, Shape { heads, value_dim, .. }) = (input.rows(), input.shape());
    let stride = input.shape().out_width();
    for head in 0..heads {
        let (out, d_out) = (
            Rows::new(output.out, stride, head * value_dim, value_dim),
            Rows::new(output.d_out, stride, head * value_dim, value_dim),
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

/// The gradients of the sinks `[heads]`: a sink has the value zero, so its score changes the loss by −p·D in each row.
/// Blocks of rows are added in order.
pub(super) fn sinks(cpu: &Cpu, sinks: &[f32], lse: &[f32], delta: &[f32], d_sinks: &mut [f32], add: bool) {
    let n = lse.len() / sinks.len();
    cpu.pool.for_each_chunk(d_sinks, 1, |head, d_sink| {
        let rows = head * n..(head + 1) * n;
        let blocks = lse[rows.clone()].chunks(REDUCE_ROWS).zip(delta[rows].chunks(REDUCE_ROWS));
        let block = |(lse, delta): (&[f32], &[f32])| -> f32 {
            lse.iter().zip(delta).map(|(lse, delta)| (sinks[head] - lse).exp() * delta).sum()
        };
        let sum = -blocks.map(block).sum::<f32>();
        d_sink[0] = if add { d_sink[0] + sum } else { sum };
    });
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
    let widths = Widths::new(input.shape(), arithmetic::per::<E>(isa));
    let len = Tiles::SCRATCH
        + TILE * (2 * (widths.key + widths.value) + TILE + 2)
        + 2 * Moving::scratch(widths.key)
        + Moving::scratch(widths.value);
    scratch::with(len, |memory: &mut [f32]| {
        kernel(isa, input, output, strip, delta, d_queries, d_qkv, memory, widths)
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
        widths: Widths,
    ) {
        let (n, shape, kv) = (input.rows(), input.shape(), strip.kv);
        let Shape { head_dim, value_dim, .. } = shape;
        let heads = kv * shape.group()..(kv + 1) * shape.group();
        let (tiles, rest) = memory.split_at_mut(Tiles::SCRATCH);
        let (columns_k, rest) = rest.split_at_mut(TILE * widths.key);
        let (columns_v, rest) = rest.split_at_mut(TILE * widths.value);
        let (d_k, rest) = rest.split_at_mut(TILE * widths.key);
        let (d_v, rest) = rest.split_at_mut(TILE * widths.value);
        let (flat, rest) = rest.split_at_mut(TILE * TILE);
        let (lse_tile, rest) = rest.split_at_mut(TILE);
        let (delta_tile, rest) = rest.split_at_mut(TILE);
        let (k, rest) = rest.split_at_mut(Moving::scratch(widths.key));
        let (q, d_out) = rest.split_at_mut(Moving::scratch(widths.key));
        let mut tiles = Tiles::at(tiles);
        let seen = strip.tiles.start * TILE..input.reach(&strip.tiles).next_multiple_of(TILE);
        for head in heads.clone() {
            // SAFETY: this slot of these heads' rows belongs to this task alone.
            unsafe { d_queries.slice(strip.slot, head, seen.clone()) }.fill(0.0);
        }
        for tile in strip.tiles.clone() {
            let first = tile * TILE;
            let rows = first..first + mask::extent(input.starts, first);
            let keys = input.keys(kv);
            keys.pack_columns::<S, A>(first, rows.len(), columns_k, q, widths.key);
            input.values(kv).pack_columns::<S, A>(first, rows.len(), columns_v, d_out, widths.value);
            let mut k = Moving::at::<S, A>(k, widths.key);
            k.load_zipped::<S, A, E>(&keys, first, rows.len());
            let mut q = Moving::at::<S, A>(q, widths.key);
            let mut d_out = Moving::at::<S, A>(d_out, widths.value);
            d_k.fill(0.0);
            d_v.fill(0.0);
            for query in (first..input.seen_by(tile)).step_by(TILE) {
                let mask = input.queries_by_keys(query / TILE, tile);
                let count = mask.rows;
                for head in heads.clone() {
                    let gradients = Rows::new(output.d_out, shape.out_width(), head * value_dim, value_dim);
                    q.load::<S, A, E>(&input.queries(head), query, count);
                    d_out.load::<S, A, E>(&gradients, query, count);
                    lse_tile[..count].copy_from_slice(&output.lse[head * n + query..][..count]);
                    delta_tile[..count].copy_from_slice(&delta[head * n + query..][..count]);
                    tile::scores::<S, A>(q.rows(), columns_k, head_dim, &mask, tiles.p);
                    tile::scores::<S, A>(d_out.rows(), columns_v, value_dim, &mask, tiles.d);
                    let curve = Curve::of_keys(input.layer, head, query - first);
                    let scale = curve.apply_with_slope::<S>(tiles.p, tiles.d, delta_tile, &mask);
                    tiles.differentiate::<S>(&mask, scale, lse_tile, delta_tile);
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
            let (at_k, at_v) = ((shape.key_at(kv), head_dim), (shape.value_at(kv), value_dim));
            let scale = input.layer.scores.scale;
            store::<S, E>(input, rows.clone(), at_k, d_k, widths.key, scale, d_qkv);
            store::<S, E>(input, rows, at_v, d_v, widths.value, 1.0, d_qkv);
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
    for head in 0..input.shape().heads {
        let mut shares = shares.clone();
        let Some(first) = shares.next() else { unreachable!("every row sees itself") };
        // SAFETY: these rows of every slot belong to this task alone.
        let sums = unsafe { d_queries.slice(first, head, rows.clone()) };
        for slot in shares {
            // SAFETY: as above.
            let more = unsafe { d_queries.slice(slot, head, rows.clone()) };
            add_rows(isa, more, sums);
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
        let (Shape { head_dim, .. }, scale) = (input.shape(), input.layer.scores.scale);
        store::<S, E>(input, rows, (head * head_dim, head_dim), sums, width, scale, d_qkv);
    }
}

/// Writes `factor · sums [rows, width]` to the head of `features` features that begins at feature `at` of rows `rows` of
/// `d_qkv`.
#[inline(always)]
fn store<S: Simd, E: Elem>(
    input: &Input<'_, E>,
    rows: Range<usize>,
    (at, features): (usize, usize),
    sums: &[f32],
    width: usize,
    factor: f32,
    d_qkv: &Disjoint<'_, E>,
) {
    for (row, sums) in rows.zip(sums.chunks_exact(width)) {
        let start = row * input.shape().qkv_width() + at;
        // SAFETY: this head of these rows belongs to this task alone.
        tile::take_row::<S, E>(sums, factor, unsafe { d_qkv.slice(start, start + features) });
    }
}
