//! Plain Rust, tile 4 × 8.

use super::kernel::{Kernel, fma_registers, fma_tile};
use crate::order::GEMM_K_FP32;
use crate::simd::Elem;

/// fp32 on any CPU.
pub(super) struct Portable;

impl Kernel for Portable {
    const ROWS: usize = 4;
    const COLS: usize = 8;
    const PAIRS: bool = false;
    const K_BLOCK: usize = GEMM_K_FP32;

    unsafe fn tile<C: Elem>(units: usize, a: *const f32, b: *const f32, c: *mut C, ld: usize, add: bool) {
        // SAFETY: the caller's promise.
        unsafe { fma_tile::<crate::simd::Portable, C, 4, 1>(units, a, b, c, ld, add) }
    }

    unsafe fn registers(rounds: usize) -> u64 {
        // SAFETY: plain Rust.
        unsafe { fma_registers::<crate::simd::Portable, 4, 1>(rounds) }
    }
}
