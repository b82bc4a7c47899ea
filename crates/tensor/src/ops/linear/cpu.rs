//! Kernels of the bias over some rows.

use crate::simd::{Elem, for_lanes};
use crate::simd_kernel;

simd_kernel! {
    /// Every row of y `[rows, out]` becomes the bias `[out]`.
    pub(super) fn set_rows<S, Y: Elem>(bias: &[f32], y: &mut [Y]) {
        let d = bias.len();
        for row in y.chunks_exact_mut(d) {
            let (from, to) = (bias.as_ptr(), row.as_mut_ptr());
            // SAFETY: `i + n <= d`, the length of the bias and of a row.
            for_lanes!(S, d, |i, n| unsafe { Y::store_n::<S>(to.add(i), f32::load_n::<S>(from.add(i), n), n) });
        }
    }
}

simd_kernel! {
    /// dy `[rows, out]` → their sum `[out]`, in order of row.
    pub(super) fn sum_rows<S, Y: Elem>(dy: &[Y], sum: &mut [f32]) {
        let d = sum.len();
        sum.fill(0.0);
        let to = sum.as_mut_ptr();
        for row in dy.chunks_exact(d) {
            let from = row.as_ptr();
            // SAFETY: `i + n <= d`, the length of a row and of the sum.
            for_lanes!(S, d, |i, n| unsafe {
                let both = S::add(f32::load_n::<S>(to.add(i), n), Y::load_n::<S>(from.add(i), n));
                f32::store_n::<S>(to.add(i), both, n);
            });
        }
    }
}
