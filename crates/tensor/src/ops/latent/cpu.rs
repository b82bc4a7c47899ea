//! Kernels over some rows.

use super::{Grads, Rotation, Shape};
use crate::ops::rope::pairing::Pairs;
use crate::ops::rope::{turn, turned};
use crate::ops::split_columns::put_lanes;
use crate::simd::{Elem, Simd, for_lanes};
use crate::simd_kernel;

simd_kernel! {
    /// Rows of qkv, of which there are as many as positions or fewer.
    pub(super) fn forward<S, E: Elem, K: Elem, P: Pairs>(
        shape: Shape, rotation: Rotation<'_>, q: &[E], kv_up: &[E], k_rope: &[K], qkv: &mut [E],
    ) {
        let Shape { heads, nope, rope, value } = shape;
        let head_dim = nope + rope;
        for (r, row) in qkv.chunks_exact_mut(shape.qkv_width()).enumerate() {
            let angles = rotation.tables.angles(rotation.positions[r]);
            let (q, kv_up) = (&q[r * shape.q_width()..], &kv_up[r * shape.kv_up_width()..]);
            let (queries, rest) = row.split_at_mut(shape.q_width());
            let (keys, values) = rest.split_at_mut(shape.q_width());
            let shared = k_rope[r * rope..][..rope].as_ptr();
            for h in 0..heads {
                let (from, to) = (&q[h * head_dim..][..head_dim], &mut queries[h * head_dim..][..head_dim]);
                to[..nope].copy_from_slice(&from[..nope]);
                let (from, to) = (from[nope..].as_ptr(), to[nope..].as_mut_ptr());
                // SAFETY: both have `rope` features from there on, the row of the tables half as many angles.
                unsafe { turn::<S, E, E, P>(from, to, rope / 2, angles, 1.0, false) };
                let up = &kv_up[h * (nope + value)..][..nope + value];
                let key = &mut keys[h * head_dim..][..head_dim];
                key[..nope].copy_from_slice(&up[..nope]);
                // SAFETY: as above. Every head turns the shared key anew, to the same bits.
                unsafe { turn::<S, K, E, P>(shared, key[nope..].as_mut_ptr(), rope / 2, angles, 1.0, false) };
                values[h * value..][..value].copy_from_slice(&up[nope..]);
            }
        }
    }
}

simd_kernel! {
    /// Gradients of rows, all of as many as there are positions.
    pub(super) fn backward<S, E: Elem, K: Elem, P: Pairs>(
        shape: Shape, rotation: Rotation<'_>, d_qkv: &[E], grads: Grads<'_, E, K>,
    ) {
        let Shape { heads, nope, rope, value } = shape;
        let head_dim = nope + rope;
        let Grads { d_q: (d_q, add_q), d_kv_up: (d_kv_up, add_kv), d_k_rope: (d_k_rope, add_k) } = grads;
        for (r, &position) in rotation.positions.iter().enumerate() {
            let angles = rotation.tables.angles(position);
            let row = &d_qkv[r * shape.qkv_width()..][..shape.qkv_width()];
            let (queries, rest) = row.split_at(shape.q_width());
            let (keys, values) = rest.split_at(shape.q_width());
            let (d_q, d_kv_up) = (&mut d_q[r * shape.q_width()..], &mut d_kv_up[r * shape.kv_up_width()..]);
            for h in 0..heads {
                let (from, to) = (&queries[h * head_dim..][..head_dim], &mut d_q[h * head_dim..][..head_dim]);
                put_lanes::<S, E>(&from[..nope], &mut to[..nope], add_q);
                let (from, to) = (from[nope..].as_ptr(), to[nope..].as_mut_ptr());
                // SAFETY: both have `rope` features from there on, the row of the tables half as many angles.
                unsafe { turn::<S, E, E, P>(from, to, rope / 2, angles, -1.0, add_q) };
                let up = &mut d_kv_up[h * (nope + value)..][..nope + value];
                put_lanes::<S, E>(&keys[h * head_dim..][..nope], &mut up[..nope], add_kv);
                put_lanes::<S, E>(&values[h * value..][..value], &mut up[nope..], add_kv);
            }
            let shared = d_k_rope[r * rope..][..rope].as_mut_ptr();
            // SAFETY: of each head's key `rope` features lie behind the first `nope`; the rest as above.
            unsafe { turn_sum_back::<S, E, K, P>(&keys[nope.min(keys.len())..], heads, head_dim, shared, rope / 2, angles, add_k) };
        }
    }
}

/// `to = Σ` over heads, in order, of the rotated features, turned back; or `+=` where `add`.
///
/// # Safety
/// As [`turn`], with heads `head_dim` apart from the start of `keys` on.
#[inline(always)]
unsafe fn turn_sum_back<S: Simd, E: Elem, K: Elem, P: Pairs>(
    keys: &[E],
    heads: usize,
    head_dim: usize,
    to: *mut K,
    half: usize,
    (cos, sin): (*const f32, *const f32),
    add: bool,
) {
    let keys = keys.as_ptr();
    // SAFETY: `k + n <= half`, so all pairs and angles are those that the caller promised.
    for_lanes!(S, half, |k, n| unsafe {
        let mut sum = (S::splat(0.0), S::splat(0.0));
        for h in 0..heads {
            let (a, b) = P::load::<S, E>(keys.add(h * head_dim), half, k, n);
            sum = (S::add(sum.0, a), S::add(sum.1, b));
        }
        let cos = f32::load_n::<S>(cos.add(k), n);
        let sin = S::sub(S::splat(0.0), f32::load_n::<S>(sin.add(k), n));
        let (mut a, mut b) = turned::<S>(sum, cos, sin);
        if add {
            let held = P::load::<S, K>(to, half, k, n);
            (a, b) = (S::add(held.0, a), S::add(held.1, b));
        }
        P::store::<S, K>(to, half, k, n, (a, b));
    });
}

/// Where the rotated features of heads lie in a matrix.
#[derive(Clone, Copy)]
pub(super) struct Places {
    /// Features of a row.
    pub row: usize,
    /// Where those of the first head begin.
    pub first: usize,
    /// From head to head.
    pub head: usize,
}

simd_kernel! {
    /// Turns the positional parts of `heads` heads of rows of x into those of y.
    pub(super) fn rotate<S, A: Elem, B: Elem, P: Pairs>(
        rotation: Rotation<'_>, heads: usize, x: &[A], from: Places, y: &mut [B], to: Places,
    ) {
        let rope = rotation.tables.dim();
        for (r, y) in y.chunks_exact_mut(to.row).enumerate() {
            let angles = rotation.tables.angles(rotation.positions[r]);
            for h in 0..heads {
                let x = x[r * from.row + from.first + h * from.head..][..rope].as_ptr();
                let y = y[to.first + h * to.head..][..rope].as_mut_ptr();
                // SAFETY: both have `rope` features from there on, the row of the tables half as many angles.
                unsafe { turn::<S, A, B, P>(x, y, rope / 2, angles, 1.0, false) };
            }
        }
    }
}
