//! Kernels over one part of a buffer.

use crate::simd::{Elem, for_lanes};
use crate::simd_kernel;

simd_kernel! {
    /// `x ← limit·tanh(x / limit)`.
    pub(crate) fn cap<S>(limit: f32, x: &mut [f32]) {
        let (p, len) = (x.as_mut_ptr(), x.len());
        let inverse = 1.0 / limit;
        // SAFETY: `i + n <= len`.
        for_lanes!(S, len, |i, n| unsafe {
            let t = S::tanh(S::mul(f32::load_n::<S>(p.add(i), n), S::splat(inverse)));
            f32::store_n::<S>(p.add(i), S::mul(t, S::splat(limit)), n);
        });
    }
}

simd_kernel! {
    /// `dy ← dy·(1 − (y / limit)²)`.
    pub(super) fn slope<S>(limit: f32, y: &[f32], dy: &mut [f32]) {
        let len = y.len().min(dy.len());
        let (y, dy) = (y.as_ptr(), dy.as_mut_ptr());
        let inverse = 1.0 / limit;
        // SAFETY: `i + n <= len`, which both slices reach.
        for_lanes!(S, len, |i, n| unsafe {
            let y = f32::load_n::<S>(y.add(i), n);
            let t = S::mul(y, S::splat(inverse));
            let slope = S::fma(S::sub(S::splat(0.0), t), t, S::splat(1.0));
            f32::store_n::<S>(dy.add(i), S::mul(f32::load_n::<S>(dy.add(i), n), slope), n);
        });
    }
}
