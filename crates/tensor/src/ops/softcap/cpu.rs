//! The kernel over one part of a buffer.

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
