//! From products of queries and keys to scores, for layers that do more than scale.

use super::layer::{Attention, Scores};
use super::mask::Mask;
use super::tile::TILE;
use crate::simd::Simd;

/// The scores of one tile.
pub(super) struct Curve {
    scores: Scores,
    /// For ALiBi: a score loses `slope[c]·(at[c] − i)` in row `i` of column `c`.
    ramp: Option<([f32; TILE], [f32; TILE])>,
}

impl Curve {
    /// `ramp`: slope and place of column `c`, asked only where scores have a slope. Where columns are keys and rows
    /// queries, both signs are turned.
    #[inline(always)]
    pub(super) fn new(scores: Scores, ramp: impl Fn(usize) -> (f32, f32)) -> Curve {
        let ramp = scores.alibi.then(|| {
            let (mut slope, mut at) = ([0.0; TILE], [0.0; TILE]);
            for c in 0..TILE {
                (slope[c], at[c]) = ramp(c);
            }
            (slope, at)
        });
        Curve { scores, ramp }
    }

    /// Of a tile whose columns are queries of head `head`, the first of which is `ahead` rows after the first key.
    #[inline(always)]
    pub(super) fn of_queries(layer: &Attention, head: usize, ahead: usize) -> Curve {
        let slope = layer.slope(head);
        Curve::new(layer.scores, |c| (slope, (ahead + c) as f32))
    }

    /// Of a tile whose rows are queries of head `head`, the first of which is `ahead` rows after the first key.
    #[inline(always)]
    pub(super) fn of_keys(layer: &Attention, head: usize, ahead: usize) -> Curve {
        let slope = layer.slope(head);
        Curve::new(layer.scores, |c| (-slope, c as f32 - ahead as f32))
    }

    /// Turns the products that a mask touches into scores; returns the factor by which they still count.
    #[inline(always)]
    pub(super) fn apply<S: Simd>(&self, tile: &mut [f32], mask: &Mask) -> f32 {
        if self.scores.softcap.is_none() && self.ramp.is_none() {
            return self.scores.scale;
        }
        assert!(tile.len() == TILE * TILE);
        for i in 0..mask.rows {
            let (from, to) = mask.vectors::<S>(i, i);
            for c in (from..to).step_by(S::LANES) {
                // SAFETY: row `i` and the vector at `c` lie within the tile, whose size is asserted above.
                unsafe {
                    let at = tile.as_mut_ptr().add(i * TILE + c);
                    S::store(at, self.score::<S>(S::load(at), i, c).0);
                }
            }
        }
        1.0
    }

    /// As [`apply`](Curve::apply), for backward: where the curve bends, `d [TILE, TILE]` becomes `(d − delta)` times its
    /// slope and the rows' `delta` 0.
    #[inline(always)]
    pub(super) fn apply_with_slope<S: Simd>(
        &self,
        tile: &mut [f32],
        d: &mut [f32],
        delta: &mut [f32],
        mask: &Mask,
    ) -> f32 {
        if self.scores.softcap.is_none() {
            return self.apply::<S>(tile, mask);
        }
        assert!(tile.len() == TILE * TILE && d.len() == TILE * TILE && delta.len() >= mask.rows);
        for (i, delta) in delta.iter_mut().enumerate().take(mask.rows) {
            let (from, to) = mask.vectors::<S>(i, i);
            for c in (from..to).step_by(S::LANES) {
                // SAFETY: row `i` and the vector at `c` lie within the tiles, whose sizes are asserted above.
                unsafe {
                    let (at, d) = (tile.as_mut_ptr().add(i * TILE + c), d.as_mut_ptr().add(i * TILE + c));
                    let (score, slope) = self.score::<S>(S::load(at), i, c);
                    S::store(at, score);
                    S::store(d, S::mul(S::sub(S::load(d), S::splat(*delta)), slope));
                }
            }
            *delta = 0.0;
        }
        1.0
    }

    /// Scores of the vector of products at row `i` and column `c`, and what they change by when the scaled product does:
    /// `1 − tanh²`.
    ///
    /// # Safety
    /// The instruction set is enabled, and the vector lies within the tile.
    #[inline(always)]
    unsafe fn score<S: Simd>(&self, product: S::V, i: usize, c: usize) -> (S::V, S::V) {
        // SAFETY: the caller's promise.
        unsafe {
            let (mut score, mut slope) = (S::mul(product, S::splat(self.scores.scale)), S::splat(1.0));
            if let Some(cap) = self.scores.softcap {
                let t = S::tanh(S::div(score, S::splat(cap)));
                score = S::mul(t, S::splat(cap));
                slope = S::sub(slope, S::mul(t, t));
            }
            if let Some((slopes, at)) = &self.ramp {
                let back = S::sub(S::load(at.as_ptr().add(c)), S::splat(i as f32));
                score = S::sub(score, S::mul(S::load(slopes.as_ptr().add(c)), back));
            }
            (score, slope)
        }
    }
}
