//! Kernel over some rows.

use super::pairing::Pairs;
use super::{Heads, Tables};
use crate::simd::{Elem, Simd, for_lanes};
use crate::simd_kernel;

/// A pair turned: `(a·cos − b·sin, b·cos + a·sin)`.
///
/// # Safety
/// As [`Simd`]'s methods.
#[inline(always)]
pub(crate) unsafe fn turned<S: Simd>((a, b): (S::V, S::V), cos: S::V, sin: S::V) -> (S::V, S::V) {
    // SAFETY: the caller's promise.
    unsafe { (S::sub(S::mul(a, cos), S::mul(b, sin)), S::fma(b, cos, S::mul(a, sin))) }
}

/// `y = x` turned by `direction` · the angles of `tables` (cosines, sines), or `+=` where `add`: the `2·half`
/// rotated features of one head. y may be x.
///
/// # Safety
/// As [`Simd`]'s methods; x and y must be valid for `2·half` elements, the angles for `half` each.
#[inline(always)]
pub(crate) unsafe fn turn<S: Simd, A: Elem, B: Elem, P: Pairs>(
    x: *const A,
    y: *mut B,
    half: usize,
    (cos, sin): (*const f32, *const f32),
    direction: f32,
    add: bool,
) {
    // SAFETY: `k + n <= half`, so all pairs and angles are those that the caller promised.
    for_lanes!(S, half, |k, n| unsafe {
        let pair = P::load::<S, A>(x, half, k, n);
        let cos = f32::load_n::<S>(cos.add(k), n);
        let sin = S::mul(f32::load_n::<S>(sin.add(k), n), S::splat(direction));
        let (mut a, mut b) = turned::<S>(pair, cos, sin);
        if add {
            let held = P::load::<S, B>(y, half, k, n);
            (a, b) = (S::add(held.0, a), S::add(held.1, b));
        }
        P::store::<S, B>(y, half, k, n, (a, b));
    });
}

simd_kernel! {
    /// Rotates the heads of rows of x by `direction` · angle.
    pub(super) fn rotate<S, E: Elem, P: Pairs>(
        tables: &Tables, positions: &[u32], x: &mut [E], row_stride: usize, heads: Heads, direction: f32,
    ) {
        let half = tables.dim / 2;
        for (row, &position) in x.chunks_exact_mut(row_stride).zip(positions) {
            let angles = tables.angles(position);
            let rotated = &mut row[heads.first..][..heads.count * heads.head_dim];
            for head in rotated.chunks_exact_mut(heads.head_dim) {
                let x = head[heads.at..][..2 * half].as_mut_ptr();
                // SAFETY: the head has 2·half features from x on, the row of the tables half angles.
                unsafe { turn::<S, E, E, P>(x, x, half, angles, direction, false) };
            }
        }
    }
}
