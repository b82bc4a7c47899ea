//! Kernels over one part of a buffer.

use crate::simd::{Elem, for_lanes};
use crate::simd_kernel;

simd_kernel! {
    /// `dst += src`.
    pub(crate) fn add_rows<S>(src: &[f32], dst: &mut [f32]) {
        let len = src.len().min(dst.len());
        let (src, dst) = (src.as_ptr(), dst.as_mut_ptr());
        // SAFETY: `i + n <= len`, which both slices reach.
        for_lanes!(S, len, |i, n| unsafe {
            let sum = S::add(f32::load_n::<S>(dst.add(i), n), f32::load_n::<S>(src.add(i), n));
            f32::store_n::<S>(dst.add(i), sum, n);
        });
    }
}

simd_kernel! {
    /// `dst += factor·src`.
    pub(crate) fn add_scaled_rows<S, E: Elem>(factor: f32, src: &[E], dst: &mut [f32]) {
        let len = src.len().min(dst.len());
        let (src, dst) = (src.as_ptr(), dst.as_mut_ptr());
        // SAFETY: `i + n <= len`, which both slices reach.
        for_lanes!(S, len, |i, n| unsafe {
            let sum = S::fma(E::load_n::<S>(src.add(i), n), S::splat(factor), f32::load_n::<S>(dst.add(i), n));
            f32::store_n::<S>(dst.add(i), sum, n);
        });
    }
}

simd_kernel! {
    /// `sum = a + b`.
    pub(crate) fn add<S>(a: &[f32], b: &[f32], sum: &mut [f32]) {
        let len = a.len().min(b.len()).min(sum.len());
        let (a, b, sum) = (a.as_ptr(), b.as_ptr(), sum.as_mut_ptr());
        // SAFETY: `i + n <= len`, which all three slices reach.
        for_lanes!(S, len, |i, n| unsafe {
            let both = S::add(f32::load_n::<S>(a.add(i), n), f32::load_n::<S>(b.add(i), n));
            f32::store_n::<S>(sum.add(i), both, n);
        });
    }
}

simd_kernel! {
    /// `x *= factor`.
    pub(crate) fn scale<S>(factor: f32, x: &mut [f32]) {
        let (p, len) = (x.as_mut_ptr(), x.len());
        // SAFETY: `i + n <= len`.
        for_lanes!(S, len, |i, n| unsafe {
            f32::store_n::<S>(p.add(i), S::mul(f32::load_n::<S>(p.add(i), n), S::splat(factor)), n);
        });
    }
}

simd_kernel! {
    /// `dst = src`.
    pub(crate) fn convert<S, A: Elem, B: Elem>(src: &[A], dst: &mut [B]) {
        let len = src.len().min(dst.len());
        let (src, dst) = (src.as_ptr(), dst.as_mut_ptr());
        // SAFETY: `i + n <= len`, which both slices reach.
        for_lanes!(S, len, |i, n| unsafe { B::store_n::<S>(dst.add(i), A::load_n::<S>(src.add(i), n), n) });
    }
}

simd_kernel! {
    /// Adds up columns `first..first + out.len()` of partial `[blocks, d]` in order of block.
    pub(super) fn add_blocks<S>(partial: &[f32], d: usize, first: usize, out: &mut [f32], accumulate: bool) {
        let (len, blocks) = (out.len(), partial.len() / d);
        assert!(first + len <= d, "sum_blocks: columns beyond the row");
        let (partial, out) = (partial.as_ptr(), out.as_mut_ptr());
        // SAFETY: column `first + i + n` lies within each of the `blocks` rows.
        for_lanes!(S, len, |i, n| unsafe {
            let mut sum = S::splat(0.0);
            for block in 0..blocks {
                sum = S::add(sum, f32::load_n::<S>(partial.add(block * d + first + i), n));
            }
            if accumulate {
                sum = S::add(f32::load_n::<S>(out.add(i), n), sum);
            }
            f32::store_n::<S>(out.add(i), sum, n);
        });
    }
}
