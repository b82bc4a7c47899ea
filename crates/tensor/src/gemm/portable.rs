//! Plain Rust, tile 4 × 8.

use super::kernel::{Kernel, Place, fma_registers, fma_tile};
use crate::order::GEMM_K_FP32;
use crate::simd::Elem;

/// fp32 on any CPU.
pub(super) struct Portable;

impl Kernel for Portable {
    const ROWS: usize = 4;
    const COLS: usize = 8;
    const PAIRS: bool = false;
    const K_BLOCK: usize = GEMM_K_FP32;

    unsafe fn tile<C: Elem, B: Elem>(
        units: usize,
        a: *const f32,
        b: *const f32,
        c: Place<*mut C>,
        before: Option<Place<*const B>>,
    ) {
        // SAFETY: the caller's promise.
        unsafe { fma_tile::<crate::simd::Portable, C, B, 4, 1>(units, a, b, c, before) }
    }

    unsafe fn registers(rounds: usize) -> u64 {
        // SAFETY: plain Rust.
        unsafe { fma_registers::<crate::simd::Portable, 4, 1>(rounds) }
    }
}
