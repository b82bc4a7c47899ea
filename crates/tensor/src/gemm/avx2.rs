//! AVX2 + FMA, tile 6 × 16: 12 accumulators.

use super::kernel::{Kernel, Place, fma_registers, fma_tile};
use crate::order::GEMM_K_FP32;
use crate::simd::Avx2 as Lanes;
use crate::simd::Elem;

/// fp32 on Avx2.
pub(super) struct Avx2;

impl Kernel for Avx2 {
    const ROWS: usize = 6;
    const COLS: usize = 16;
    const PAIRS: bool = false;
    const K_BLOCK: usize = GEMM_K_FP32;

    unsafe fn tile<C: Elem, B: Elem>(
        units: usize,
        a: *const f32,
        b: *const f32,
        c: Place<*mut C>,
        before: Option<Place<*const B>>,
    ) {
        #[target_feature(enable = "avx2,fma")]
        unsafe fn body<C: Elem, B: Elem>(
            units: usize,
            a: *const f32,
            b: *const f32,
            c: Place<*mut C>,
            before: Option<Place<*const B>>,
        ) {
            // SAFETY: the caller's promise.
            unsafe { fma_tile::<Lanes, C, B, 6, 2>(units, a, b, c, before) }
        }
        // SAFETY: the caller's promise.
        unsafe { body(units, a, b, c, before) }
    }

    unsafe fn registers(rounds: usize) -> u64 {
        #[target_feature(enable = "avx2,fma")]
        unsafe fn body(rounds: usize) -> u64 {
            // SAFETY: the caller's promise.
            unsafe { fma_registers::<Lanes, 6, 2>(rounds) }
        }
        // SAFETY: the caller's promise.
        unsafe { body(rounds) }
    }
}
