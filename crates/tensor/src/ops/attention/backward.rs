//! The backward kernels: with P the probabilities and D = rowsum(dO ∘ O),
//! dV = Pᵀ·dO, dS = P ∘ (dO·Vᵀ − D), dQ = scale · dS·K, dK = scale · dSᵀ·Q.

use super::Input;
use super::arithmetic::{self, Arithmetic, attention_kernel};
use super::mask::{self, Mask};
use super::operands::{self, Moving, Rows};
use super::tile::{self, TILE};
use crate::isa::Isa;
use crate::pool::Disjoint;
use crate::scratch;
use crate::simd::{Elem, Simd};
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

/// One head's query gradients in the making: the tile's queries are the columns.
struct Queries<'a> {
    /// `[width / PER, TILE]` units.
    queries: &'a mut [f32],
    /// `[width / PER, TILE]` units.
    d_out: &'a mut [f32],
    /// Log-sum-exp of each column, `[TILE]`.
    lse: &'a mut [f32],
    /// D of each column, `[TILE]`.
    delta: &'a mut [f32],
    /// dQ / scale, `[TILE, width]`.
    sums: &'a mut [f32],
}

impl<'a> Queries<'a> {
    const fn scratch(width: usize) -> usize {
        TILE * (3 * width + 2)
    }

    fn at(memory: &'a mut [f32], width: usize) -> Self {
        let (queries, rest) = memory.split_at_mut(TILE * width);
        let (d_out, rest) = rest.split_at_mut(TILE * width);
        let (lse, rest) = rest.split_at_mut(TILE);
        let (delta, sums) = rest.split_at_mut(TILE);
        Queries { queries, d_out, lse, delta, sums }
    }

    /// Reads head `head` of rows `rows`, and leaves their D in `delta [heads, n]` for the keys' pass.
    /// `aside [TILE, width]` is scratch.
    #[inline(always)]
    fn load<S: Simd, A: Arithmetic<S>, E: Elem>(
        &mut self,
        input: &Input<'_, E>,
        output: &Output<'_, E>,
        rows: Range<usize>,
        head: usize,
        delta: &Disjoint<'_, f32>,
        aside: &mut [f32],
    ) {
        let (n, head_dim, stride) = (input.rows(), input.shape.head_dim, input.shape.out_width());
        let d_out = Rows::new(output.d_out, stride, head * head_dim, head_dim);
        let out = Rows::new(output.out, stride, head * head_dim, head_dim);
        let (queries, width) = (input.head(head * head_dim), aside.len() / TILE);
        queries.pack_columns::<S, A>(rows.start, rows.len(), self.queries, aside, width);
        d_out.pack_columns::<S, A>(rows.start, rows.len(), self.d_out, aside, width);
        self.sums.fill(0.0);
        self.lse.fill(0.0);
        self.delta.fill(0.0);
        let place = head * n + rows.start..head * n + rows.end;
        self.lse[..rows.len()].copy_from_slice(&output.lse[place.clone()]);
        for (d, row) in self.delta.iter_mut().zip(rows) {
            *d = tile::dot::<S, E>(d_out.row(row), out.row(row));
        }
        // SAFETY: this head of these rows belongs to this task alone.
        unsafe { delta.slice(place.start, place.end) }.copy_from_slice(&self.delta[..place.len()]);
    }
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
    /// `delta` belong to the rows of the tile if `BY_ROW`, else to its columns.
    #[inline(always)]
    fn differentiate<S: Simd, const BY_ROW: bool>(
        &mut self,
        mask: &Mask,
        scale: f32,
        lse: &[f32],
        delta: &[f32],
    ) {
        assert!(self.p.len() == TILE * TILE && self.d.len() == TILE * TILE);
        assert!(lse.len() >= TILE && delta.len() >= TILE);
        for i in 0..mask.rows {
            let (from, to) = mask.vectors::<S>(i, i);
            for c in (from..to).step_by(S::LANES) {
                // SAFETY: row `i` and the vector at `c` lie within the tile, whose sizes are asserted above.
                unsafe {
                    let (p, d) =
                        (self.p.as_mut_ptr().add(i * TILE + c), self.d.as_mut_ptr().add(i * TILE + c));
                    let (lse, delta) = if BY_ROW {
                        (S::splat(lse[i]), S::splat(delta[i]))
                    } else {
                        (S::load(lse.as_ptr().add(c)), S::load(delta.as_ptr().add(c)))
                    };
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

/// Gradients of the queries of tile `tile` of the heads of key–value head `kv`, and their D.
pub(super) fn query_tile<E: Elem>(
    isa: Isa,
    input: &Input<'_, E>,
    output: &Output<'_, E>,
    kv: usize,
    tile: usize,
    delta: &Disjoint<'_, f32>,
    d_qkv: &Disjoint<'_, E>,
) {
    let width = operands::width(input.shape.head_dim, arithmetic::per::<E>(isa));
    let len = input.shape.group() * Queries::scratch(width) + Tiles::SCRATCH + 2 * Moving::scratch(width);
    scratch::with(len, |memory: &mut [f32]| {
        queries(isa, input, output, kv, tile, delta, d_qkv, memory, width)
    });
}

attention_kernel! {
    fn queries<S, A, E>(
        input: &Input<'_, E>,
        output: &Output<'_, E>,
        kv: usize,
        tile: usize,
        delta: &Disjoint<'_, f32>,
        d_qkv: &Disjoint<'_, E>,
        memory: &mut [f32],
        width: usize,
    ) {
        let (head_dim, scale) = (input.shape.head_dim, input.scale);
        let (each, group) = (Queries::scratch(width), input.shape.group());
        let (heads, rest) = memory.split_at_mut(group * each);
        let (tiles, rest) = rest.split_at_mut(Tiles::SCRATCH);
        let (k, v) = rest.split_at_mut(Moving::scratch(width));
        let mut tiles = Tiles::at(tiles);
        let first = tile * TILE;
        let rows = first..first + mask::extent(input.segments, first);
        for (g, memory) in heads.chunks_exact_mut(each).enumerate() {
            let mut queries = Queries::at(memory, width);
            queries.load::<S, A, E>(input, output, rows.clone(), kv * group + g, delta, k);
        }
        let (mut k, mut v) = (Moving::at::<S, A>(k, width), Moving::at::<S, A>(v, width));
        let (keys, values) = (input.head(input.shape.key_at(kv)), input.head(input.shape.value_at(kv)));
        for key in (input.segments[first] as usize / TILE * TILE..=first).step_by(TILE) {
            let count = mask::extent(input.segments, key);
            k.load::<S, A, E>(&keys, key, count);
            v.load_rows::<S, A, E>(&values, key, count);
            let mask = Mask::keys_by_queries(input.segments, key, first);
            for memory in heads.chunks_exact_mut(each) {
                let head = Queries::at(memory, width);
                tile::scores::<S, A>(k.rows(), head.queries, head_dim, &mask, tiles.p);
                tile::scores::<S, A>(v.rows(), head.d_out, head_dim, &mask, tiles.d);
                tiles.differentiate::<S, false>(&mask, scale, head.lse, head.delta);
                tile::narrow::<S, A>(tiles.d, &mask);
                tile::gather::<S, A>(tiles.d, k.zipped::<S, A>(), &mask, head.sums);
            }
        }
        for (g, memory) in heads.chunks_exact_mut(each).enumerate() {
            let at = (kv * group + g) * head_dim;
            store::<S, E>(input, rows.clone(), at, Queries::at(memory, width).sums, scale, d_qkv);
        }
    }
}

/// Gradients of tile `tile` of key–value head `kv`. `delta` is what [`query_tile`] left.
pub(super) fn key_tile<E: Elem>(
    isa: Isa,
    input: &Input<'_, E>,
    output: &Output<'_, E>,
    kv: usize,
    tile: usize,
    delta: &[f32],
    d_qkv: &Disjoint<'_, E>,
) {
    let width = operands::width(input.shape.head_dim, arithmetic::per::<E>(isa));
    let len = Tiles::SCRATCH + 2 * TILE * (2 * width + 1) + 2 * Moving::scratch(width);
    scratch::with(len, |memory: &mut [f32]| keys(isa, input, output, kv, tile, delta, d_qkv, memory, width));
}

attention_kernel! {
    fn keys<S, A, E>(
        input: &Input<'_, E>,
        output: &Output<'_, E>,
        kv: usize,
        tile: usize,
        delta: &[f32],
        d_qkv: &Disjoint<'_, E>,
        memory: &mut [f32],
        width: usize,
    ) {
        let (n, head_dim, group) = (input.rows(), input.shape.head_dim, input.shape.group());
        let (tiles, rest) = memory.split_at_mut(Tiles::SCRATCH);
        let (k, rest) = rest.split_at_mut(TILE * width);
        let (v, rest) = rest.split_at_mut(TILE * width);
        let (lse_tile, rest) = rest.split_at_mut(TILE);
        let (delta_tile, rest) = rest.split_at_mut(TILE);
        let (q, rest) = rest.split_at_mut(Moving::scratch(width));
        let (d_out, sums) = rest.split_at_mut(Moving::scratch(width));
        let (d_k, d_v) = sums.split_at_mut(TILE * width);
        let mut tiles = Tiles::at(tiles);
        let first = tile * TILE;
        let rows = first..first + mask::extent(input.segments, first);
        let (at_k, at_v) = (input.shape.key_at(kv), input.shape.value_at(kv));
        input.head(at_k).pack_columns::<S, A>(first, rows.len(), k, q, width);
        input.head(at_v).pack_columns::<S, A>(first, rows.len(), v, q, width);
        let (mut q, mut d_out) = (Moving::at::<S, A>(q, width), Moving::at::<S, A>(d_out, width));
        d_k.fill(0.0);
        d_v.fill(0.0);
        // The rows that see the last key of the tile are the last that see any of it.
        let end = input.segments.partition_point(|&start| (start as usize) < rows.end);
        for query in (first..end).step_by(TILE) {
            let count = mask::extent(input.segments, query);
            let mask = Mask::queries_by_keys(input.segments, query, first);
            for head in kv * group..(kv + 1) * group {
                let gradients = Rows::new(output.d_out, input.shape.out_width(), head * head_dim, head_dim);
                q.load::<S, A, E>(&input.head(head * head_dim), query, count);
                d_out.load::<S, A, E>(&gradients, query, count);
                lse_tile[..count].copy_from_slice(&output.lse[head * n + query..][..count]);
                delta_tile[..count].copy_from_slice(&delta[head * n + query..][..count]);
                tile::scores::<S, A>(q.rows(), k, head_dim, &mask, tiles.p);
                tile::scores::<S, A>(d_out.rows(), v, head_dim, &mask, tiles.d);
                tiles.differentiate::<S, true>(&mask, input.scale, lse_tile, delta_tile);
                tile::narrow::<S, A>(tiles.p, &mask);
                tile::narrow::<S, A>(tiles.d, &mask);
                tile::gather::<S, A>(tiles.p, d_out.zipped::<S, A>(), &mask, d_v);
                tile::gather::<S, A>(tiles.d, q.zipped::<S, A>(), &mask, d_k);
            }
        }
        store::<S, E>(input, rows.clone(), at_k, d_k, input.scale, d_qkv);
        store::<S, E>(input, rows, at_v, d_v, 1.0, d_qkv);
    }
}

/// Writes `factor · sums` to the head that begins at feature `at` of rows `rows` of `d_qkv`.
#[inline(always)]
fn store<S: Simd, E: Elem>(
    input: &Input<'_, E>,
    rows: Range<usize>,
    at: usize,
    sums: &[f32],
    factor: f32,
    d_qkv: &Disjoint<'_, E>,
) {
    for (row, sums) in rows.zip(sums.chunks_exact(sums.len() / TILE)) {
        let start = row * input.shape.qkv_width() + at;
        // SAFETY: this head of these rows belongs to this task alone.
        tile::take_row::<S, E>(sums, factor, unsafe { d_qkv.slice(start, start + input.shape.head_dim) });
    }
}
