//! The forward kernel: one tile of queries of the heads that share one key–value head.

use super::Input;
use super::arithmetic::{self, Arithmetic, attention_kernel};
use super::curve::Curve;
use super::mask::{self, Mask};
use super::operands::{Moving, Widths};
use super::tile::{self, TILE};
use crate::isa::Isa;
use crate::pool::Disjoint;
use crate::scratch;
use crate::simd::{Elem, Simd};
use std::ops::Range;

/// Online softmax of one tile of columns (queries).
pub(super) struct Online<'a> {
    /// Queries, `[key width / PER, TILE]` units.
    pub(super) queries: &'a mut [f32],
    /// Unnormalised outputs `[TILE, value width]`.
    pub(super) out: &'a mut [f32],
    /// Largest scaled score so far, `[TILE]`.
    pub(super) max: &'a mut [f32],
    /// Sum of e^(score − max) so far, `[TILE]`.
    pub(super) sum: &'a mut [f32],
}

impl<'a> Online<'a> {
    /// Scratch elements of one tile.
    pub(super) const fn scratch(widths: Widths) -> usize {
        TILE * (widths.key + widths.value + 2)
    }

    /// The softmax kept in `memory` of [`Online::scratch`] elements.
    pub(super) fn at(memory: &'a mut [f32], widths: Widths) -> Self {
        let (queries, rest) = memory.split_at_mut(TILE * widths.key);
        let (max, rest) = rest.split_at_mut(TILE);
        let (sum, out) = rest.split_at_mut(TILE);
        Online { queries, out, max, sum }
    }

    /// Empties it, except for the queries.
    pub(super) fn reset(&mut self) {
        self.out.fill(0.0);
        self.sum.fill(0.0);
        // Finite, so that a column that has not met a key yet makes no NaN.
        self.max.fill(f32::MIN);
    }

    /// Takes in a key whose score is `sink` and whose value is zero, the first of columns `columns`.
    pub(super) fn absorb_sink(&mut self, columns: Range<usize>, sink: f32) {
        self.max[columns.clone()].fill(sink);
        self.sum[columns].fill(1.0);
    }

    /// Takes in one tile of keys and values. `scores` is scratch `[TILE, TILE]`.
    #[inline(always)]
    pub(super) fn absorb<S: Simd, A: Arithmetic<S>>(
        &mut self,
        (keys, values): (&Moving<'_>, &Moving<'_>),
        head_dim: usize,
        curve: &Curve,
        mask: &Mask,
        scores: &mut [f32],
    ) {
        tile::scores::<S, A>(keys.rows(), self.queries, head_dim, mask, scores);
        let scale = curve.apply::<S>(scores, mask);
        mask.fill(scores, f32::NEG_INFINITY);
        let mut rescale = [1.0; TILE];
        let columns = mask.columns.next_multiple_of(S::LANES);
        let mut c = 0;
        while c < columns {
            if columns - c >= 4 * S::LANES {
                self.softmax::<S, 4>(scores, scale, mask.rows, c, &mut rescale);
                c += 4 * S::LANES;
            } else {
                self.softmax::<S, 1>(scores, scale, mask.rows, c, &mut rescale);
                c += S::LANES;
            }
        }
        mask.fill(scores, 0.0);
        let width = self.out.len() / TILE;
        for (row, &factor) in self.out.chunks_exact_mut(width).zip(&rescale).take(mask.columns) {
            if factor != 1.0 {
                row.iter_mut().for_each(|x| *x *= factor);
            }
        }
        tile::narrow::<S, A>(scores, mask);
        tile::gather::<S, A>(scores, values.zipped::<S, A>(), mask, self.out);
    }

    /// Turns `N` vectors of columns from `c` on into e^(scale·score − max) and updates max and sum.
    #[inline(always)]
    fn softmax<S: Simd, const N: usize>(
        &mut self,
        scores: &mut [f32],
        scale: f32,
        rows: usize,
        c: usize,
        rescale: &mut [f32; TILE],
    ) {
        assert!(scores.len() == TILE * TILE && rows <= TILE && c + N * S::LANES <= TILE);
        assert!(self.max.len() == TILE && self.sum.len() == TILE);
        // SAFETY: by the assertions every vector lies within its row of TILE elements.
        unsafe {
            let start = scores.as_mut_ptr().add(c);
            let scale = S::splat(scale);
            let mut old = [S::splat(0.0); N];
            for (j, v) in old.iter_mut().enumerate() {
                *v = S::load(self.max.as_ptr().add(c + j * S::LANES));
            }
            let mut top = [S::splat(f32::NEG_INFINITY); N];
            for i in 0..rows {
                for (j, top) in top.iter_mut().enumerate() {
                    *top = S::max(*top, S::load(start.add(i * TILE + j * S::LANES)));
                }
            }
            for (top, &old) in top.iter_mut().zip(&old) {
                *top = S::max(old, S::mul(*top, scale));
            }
            let mut total = [S::splat(0.0); N];
            for i in 0..rows {
                for (j, total) in total.iter_mut().enumerate() {
                    let at = start.add(i * TILE + j * S::LANES);
                    let p = S::exp(S::sub(S::mul(S::load(at), scale), top[j]));
                    S::store(at, p);
                    *total = S::add(*total, p);
                }
            }
            for j in 0..N {
                let at = c + j * S::LANES;
                let factor = S::exp(S::sub(old[j], top[j]));
                let sum = S::fma(S::load(self.sum.as_ptr().add(at)), factor, total[j]);
                S::store(rescale.as_mut_ptr().add(at), factor);
                S::store(self.sum.as_mut_ptr().add(at), sum);
                S::store(self.max.as_mut_ptr().add(at), top[j]);
            }
        }
    }
}

/// Outputs and log-sum-exp of query tile `tile` for the heads of key–value head `kv`.
pub(super) fn query_tile<E: Elem>(
    isa: Isa,
    input: &Input<'_, E>,
    kv: usize,
    tile: usize,
    out: &Disjoint<'_, E>,
    lse: &Disjoint<'_, f32>,
) {
    let widths = Widths::new(input.shape(), arithmetic::per::<E>(isa));
    let len = input.shape().group() * Online::scratch(widths)
        + TILE * TILE
        + Moving::scratch(widths.key)
        + Moving::scratch(widths.value);
    scratch::with(len, |memory: &mut [f32]| kernel(isa, input, kv, tile, out, lse, memory, widths));
}

attention_kernel! {
    fn kernel<S, A, E>(
        input: &Input<'_, E>,
        kv: usize,
        tile: usize,
        out: &Disjoint<'_, E>,
        lse: &Disjoint<'_, f32>,
        memory: &mut [f32],
        widths: Widths,
    ) {
        let (shape, each) = (input.shape(), Online::scratch(widths));
        let group = shape.group();
        let (heads, rest) = memory.split_at_mut(group * each);
        let (scores, rest) = rest.split_at_mut(TILE * TILE);
        let (k, v) = rest.split_at_mut(Moving::scratch(widths.key));
        let first = tile * TILE;
        let rows = mask::extent(input.starts, first);
        for (g, memory) in heads.chunks_exact_mut(each).enumerate() {
            let mut state = Online::at(memory, widths);
            state.reset();
            if let Some(sinks) = input.sinks {
                state.absorb_sink(0..TILE, sinks[kv * group + g]);
            }
            input.queries(kv * group + g).pack_columns::<S, A>(first, rows, state.queries, k, widths.key);
        }
        let (mut k, mut v) = (Moving::at::<S, A>(k, widths.key), Moving::at::<S, A>(v, widths.value));
        let (keys, values) = (input.keys(kv), input.values(kv));
        for key in input.seen_from(tile) {
            let (start, mask) = (key * TILE, input.keys_by_queries(key, tile));
            k.load_rows::<S, A, E>(&keys, start, mask.rows);
            v.load_zipped::<S, A, E>(&values, start, mask.rows);
            for (g, memory) in heads.chunks_exact_mut(each).enumerate() {
                let curve = Curve::of_queries(input.layer, kv * group + g, first - start);
                Online::at(memory, widths).absorb::<S, A>((&k, &v), shape.head_dim, &curve, &mask, scores);
            }
        }
        for (g, memory) in heads.chunks_exact_mut(each).enumerate() {
            finish::<S, E>(input, &Online::at(memory, widths), first..first + rows, kv * group + g, out, lse);
        }
    }
}

/// Writes head `head` of the rows of a tile whose keys have all been absorbed.
#[inline(always)]
fn finish<S: Simd, E: Elem>(
    input: &Input<'_, E>,
    state: &Online<'_>,
    rows: Range<usize>,
    head: usize,
    out: &Disjoint<'_, E>,
    lse: &Disjoint<'_, f32>,
) {
    let (n, value_dim) = (input.rows(), input.shape().value_dim);
    // SAFETY: this head of these rows belongs to this task alone.
    let lse = unsafe { lse.slice(head * n + rows.start, head * n + rows.end) };
    let sums = state.out.chunks_exact(state.out.len() / TILE);
    for (i, (row, sums)) in rows.zip(sums).enumerate() {
        let at = row * input.shape().out_width() + head * value_dim;
        // SAFETY: as above.
        tile::take_row::<S, E>(sums, 1.0 / state.sum[i], unsafe { out.slice(at, at + value_dim) });
        lse[i] = state.max[i] + state.sum[i].ln();
    }
}
