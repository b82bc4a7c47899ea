//! AVX-512, tile 14 × 32: 28 accumulators.

use super::kernel::{Kernel, Place, fma_registers, fma_tile};
use crate::order::GEMM_K_FP32;
use crate::simd::Avx512 as Lanes;
use crate::simd::Elem;

/// fp32 on Avx512.
pub(super) struct Avx512;

impl Kernel for Avx512 {
    const ROWS: usize = 14;
    const COLS: usize = 32;
    const PAIRS: bool = false;
    const K_BLOCK: usize = GEMM_K_FP32;

    unsafe fn tile<C: Elem, B: Elem>(
        units: usize,
        a: *const f32,
        b: *const f32,
        c: Place<*mut C>,
        before: Option<Place<*const B>>,
    ) {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
        unsafe fn body<C: Elem, B: Elem>(
            units: usize,
            a: *const f32,
            b: *const f32,
            c: Place<*mut C>,
            before: Option<Place<*const B>>,
        ) {
            // SAFETY: the caller's promise.
            unsafe { fma_tile::<Lanes, C, B, 14, 2>(units, a, b, c, before) }
        }
        // SAFETY: the caller's promise.
        unsafe { body(units, a, b, c, before) }
    }

    unsafe fn registers(rounds: usize) -> u64 {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
        unsafe fn body(rounds: usize) -> u64 {
            // SAFETY: the caller's promise.
            unsafe { fma_registers::<Lanes, 14, 2>(rounds) }
        }
        // SAFETY: the caller's promise.
        unsafe { body(rounds) }
    }
}
