//! Kernel over some rows.

use super::Tables;
use crate::simd::{Elem, for_lanes};
use crate::simd_kernel;

simd_kernel! {
    /// Rotates the first `heads` heads of rows of x by `direction` · angle.
    pub(super) fn rotate<S, E: Elem>(
        tables: &Tables, positions: &[u32], x: &mut [E], row_stride: usize, heads: usize, direction: f32,
    ) {
        let half = tables.head_dim / 2;
        for (row, &position) in x.chunks_exact_mut(row_stride).zip(positions) {
            let angles = position as usize * half..(position as usize + 1) * half;
            let (cos, sin) = (tables.cos[angles.clone()].as_ptr(), tables.sin[angles].as_ptr());
            for head in row[..heads * 2 * half].chunks_exact_mut(2 * half) {
                let (low, high) = head.split_at_mut(half);
                let (low, high) = (low.as_mut_ptr(), high.as_mut_ptr());
                // SAFETY: `i + n <= half`, the length of both halves and of the angles' rows.
                for_lanes!(S, half, |i, n| unsafe {
                    let (a, b) = (E::load_n::<S>(low.add(i), n), E::load_n::<S>(high.add(i), n));
                    let cos = f32::load_n::<S>(cos.add(i), n);
                    let sin = S::mul(f32::load_n::<S>(sin.add(i), n), S::splat(direction));
                    E::store_n::<S>(low.add(i), S::sub(S::mul(a, cos), S::mul(b, sin)), n);
                    E::store_n::<S>(high.add(i), S::fma(b, cos, S::mul(a, sin)), n);
                });
            }
        }
    }
}
