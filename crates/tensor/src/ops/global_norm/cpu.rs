//! Kernels over one block.

use crate::simd::{Elem, for_lanes};
use crate::simd_kernel;

simd_kernel! {
    /// Σ x² in lanes.
    pub(super) fn sum_squares<S>(x: &[f32]) -> f32 {
        let (len, x) = (x.len(), x.as_ptr());
        // SAFETY: `i + n <= len`.
        unsafe {
            let mut sum = S::splat(0.0);
            for_lanes!(S, len, |i, n| {
                let v = f32::load_n::<S>(x.add(i), n);
                sum = S::fma(v, v, sum);
            });
            S::reduce_add(sum)
        }
    }
}

simd_kernel! {
    /// Whether all are finite: 0·x is 0 for those and NaN for the others.
    pub(super) fn all_finite<S>(x: &[f32]) -> bool {
        let (len, x) = (x.len(), x.as_ptr());
        // SAFETY: `i + n <= len`.
        unsafe {
            let mut zero = S::splat(0.0);
            for_lanes!(S, len, |i, n| {
                zero = S::fma(f32::load_n::<S>(x.add(i), n), S::splat(0.0), zero);
            });
            S::reduce_add(zero) == 0.0
        }
    }
}
