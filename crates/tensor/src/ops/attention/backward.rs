//! The backward kernels: with P the probabilities and D = rowsum(dO ∘ O),
//! dV = Pᵀ·dO, dS = P ∘ (dO·Vᵀ − D), dQ = scale · dS·K, dK = scale · dSᵀ·Q.

use super::Input;
use super::tile::{self, Mask, Rows, TILE};
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

/// One head's query gradients in the making: the tile's queries are the columns.
struct Queries<'a> {
    /// Scaled queries `[width, TILE]`.
    queries: &'a mut [f32],
    /// Output gradients `[width, TILE]`.
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
    /// `copy [TILE, width]` is scratch.
    #[inline(always)]
    fn load<S: Simd, E: Elem>(
        &mut self,
        input: &Input<'_, E>,
        output: &Output<'_, E>,
        rows: Range<usize>,
        head: usize,
        delta: &Disjoint<'_, f32>,
        copy: &mut [f32],
    ) {
        let (n, head_dim, stride) = (input.rows(), input.shape.head_dim, input.shape.out_width());
        let d_out = Rows::new(output.d_out, stride, head * head_dim, head_dim);
        let out = Rows::new(output.out, stride, head * head_dim, head_dim);
        input.head(head * head_dim).pack_columns::<S>(
            rows.start,
            rows.len(),
            input.scale,
            self.queries,
            copy,
        );
        d_out.pack_columns::<S>(rows.start, rows.len(), 1.0, self.d_out, copy);
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

    /// From scores to probabilities and from dP to dS, zero where the mask is. `lse` and `delta` belong to
    /// the rows of the tile if `BY_ROW`, else to its columns.
    #[inline(always)]
    fn differentiate<S: Simd, const BY_ROW: bool>(&mut self, mask: &Mask, lse: &[f32], delta: &[f32]) {
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
                    let probability = S::exp(S::sub(S::load(p), lse));
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
    let width = tile::width(input.shape.head_dim);
    let len = input.shape.group() * Queries::scratch(width) + Tiles::SCRATCH + TILE * 2 * width;
    scratch::with(len, |memory: &mut [f32]| queries(isa, input, output, kv, tile, delta, d_qkv, memory));
}

simd_kernel! {
    fn queries<S, E: Elem>(
        input: &Input<'_, E>,
        output: &Output<'_, E>,
        kv: usize,
        tile: usize,
        delta: &Disjoint<'_, f32>,
        d_qkv: &Disjoint<'_, E>,
        memory: &mut [f32],
    ) {
        let (head_dim, width) = (input.shape.head_dim, tile::width(input.shape.head_dim));
        let (each, group) = (Queries::scratch(width), input.shape.group());
        let (heads, rest) = memory.split_at_mut(group * each);
        let (tiles, rest) = rest.split_at_mut(Tiles::SCRATCH);
        let (k, v) = rest.split_at_mut(TILE * width);
        let mut tiles = Tiles::at(tiles);
        let first = tile * TILE;
        let rows = first..first + tile::extent(input.segments, first);
        for (g, memory) in heads.chunks_exact_mut(each).enumerate() {
            Queries::at(memory, width).load::<S, E>(input, output, rows.clone(), kv * group + g, delta, k);
        }
        let (keys, values) = (input.head(input.shape.key_at(kv)), input.head(input.shape.value_at(kv)));
        for key in (input.segments[first] as usize / TILE * TILE..=first).step_by(TILE) {
            let count = tile::extent(input.segments, key);
            keys.pack::<S>(key, count, 1.0, k, width);
            values.pack::<S>(key, count, 1.0, v, width);
            let mask = Mask::keys_by_queries(input.segments, key, first);
            for memory in heads.chunks_exact_mut(each) {
                let head = Queries::at(memory, width);
                tile::scores::<S>(k, width, head.queries, head_dim, &mask, tiles.p);
                tile::scores::<S>(v, width, head.d_out, head_dim, &mask, tiles.d);
                tiles.differentiate::<S, false>(&mask, head.lse, head.delta);
                tile::gather::<S>(tiles.d, k, width, &mask, head.sums);
            }
        }
        for (g, memory) in heads.chunks_exact_mut(each).enumerate() {
            let at = (kv * group + g) * head_dim;
            store::<S, E>(input, rows.clone(), at, Queries::at(memory, width).sums, input.scale, d_qkv);
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
    let width = tile::width(input.shape.head_dim);
    let len = Tiles::SCRATCH + 2 * TILE * (3 * width + 1);
    scratch::with(len, |memory: &mut [f32]| keys(isa, input, output, kv, tile, delta, d_qkv, memory));
}

simd_kernel! {
    fn keys<S, E: Elem>(
        input: &Input<'_, E>,
        output: &Output<'_, E>,
        kv: usize,
        tile: usize,
        delta: &[f32],
        d_qkv: &Disjoint<'_, E>,
        memory: &mut [f32],
    ) {
        let (n, head_dim, group) = (input.rows(), input.shape.head_dim, input.shape.group());
        let width = tile::width(head_dim);
        let (tiles, rest) = memory.split_at_mut(Tiles::SCRATCH);
        let (k, rest) = rest.split_at_mut(TILE * width);
        let (v, rest) = rest.split_at_mut(TILE * width);
        let (lse_tile, rest) = rest.split_at_mut(TILE);
        let (delta_tile, rest) = rest.split_at_mut(TILE);
        let (q, rest) = rest.split_at_mut(TILE * width);
        let (d_out, sums) = rest.split_at_mut(TILE * width);
        let (d_k, d_v) = sums.split_at_mut(TILE * width);
        let mut tiles = Tiles::at(tiles);
        let first = tile * TILE;
        let rows = first..first + tile::extent(input.segments, first);
        let (at_k, at_v) = (input.shape.key_at(kv), input.shape.value_at(kv));
        input.head(at_k).pack_columns::<S>(first, rows.len(), input.scale, k, q);
        input.head(at_v).pack_columns::<S>(first, rows.len(), 1.0, v, q);
        d_k.fill(0.0);
        d_v.fill(0.0);
        // The rows that see the last key of the tile are the last that see any of it.
        let end = input.segments.partition_point(|&start| (start as usize) < rows.end);
        for query in (first..end).step_by(TILE) {
            let count = tile::extent(input.segments, query);
            let mask = Mask::queries_by_keys(input.segments, query, first);
            for head in kv * group..(kv + 1) * group {
                let gradients = Rows::new(output.d_out, input.shape.out_width(), head * head_dim, head_dim);
                input.head(head * head_dim).pack::<S>(query, count, 1.0, q, width);
                gradients.pack::<S>(query, count, 1.0, d_out, width);
                lse_tile[..count].copy_from_slice(&output.lse[head * n + query..][..count]);
                delta_tile[..count].copy_from_slice(&delta[head * n + query..][..count]);
                tile::scores::<S>(q, width, k, head_dim, &mask, tiles.p);
                tile::scores::<S>(d_out, width, v, head_dim, &mask, tiles.d);
                tiles.differentiate::<S, true>(&mask, lse_tile, delta_tile);
                tile::gather::<S>(tiles.p, d_out, width, &mask, d_v);
                tile::gather::<S>(tiles.d, q, width, &mask, d_k);
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
