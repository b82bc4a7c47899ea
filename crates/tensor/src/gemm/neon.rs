//! NEON, tile 8 × 12: 24 accumulators, three registers of b, and rows of a multiplied from the lanes they lie in.

use super::kernel::{Kernel, Place, fma_registers};
use crate::order::GEMM_K_FP32;
use crate::simd::{Elem, Neon as Lanes, Simd, for_lanes};
use std::arch::aarch64::*;

const ROWS: usize = 8;
const COLS: usize = 12;

/// fp32 on NEON.
pub(super) struct Neon;

impl Kernel for Neon {
    const ROWS: usize = ROWS;
    const COLS: usize = COLS;
    const PAIRS: bool = false;
    const K_BLOCK: usize = GEMM_K_FP32;
    type Lanes = Lanes;

    unsafe fn tile<C: Elem, B: Elem>(
        units: usize,
        mut a: *const f32,
        mut b: *const f32,
        c: Place<*mut C>,
        before: Option<Place<*const B>>,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut sums = [[vdupq_n_f32(0.0); 3]; ROWS];
            for _ in 0..units {
                let columns = [vld1q_f32(b), vld1q_f32(b.add(4)), vld1q_f32(b.add(8))];
                for (half, sums) in sums.chunks_exact_mut(4).enumerate() {
                    let rows = vld1q_f32(a.add(4 * half));
                    add_row::<0>(&mut sums[0], rows, &columns);
                    add_row::<1>(&mut sums[1], rows, &columns);
                    add_row::<2>(&mut sums[2], rows, &columns);
                    add_row::<3>(&mut sums[3], rows, &columns);
                }
                a = a.add(ROWS);
                b = b.add(COLS);
            }
            for (r, sums) in sums.iter().enumerate() {
                let mut row = [0.0f32; COLS];
                for (j, &sum) in sums.iter().enumerate() {
                    vst1q_f32(row.as_mut_ptr().add(4 * j), sum);
                }
                for_lanes!(Lanes, COLS, |i, n| {
                    let mut sum = f32::load_n::<Lanes>(row.as_ptr().add(i), n);
                    if let Some(before) = before {
                        sum = Lanes::add(B::load_n::<Lanes>(before.start.add(r * before.ld + i), n), sum);
                    }
                    C::store_n::<Lanes>(c.start.add(r * c.ld + i), sum, n);
                });
            }
        }
    }

    unsafe fn registers(rounds: usize) -> u64 {
        // SAFETY: every CPU of this architecture has NEON.
        unsafe { fma_registers::<Lanes, COLS, 1>(rounds) }
    }
}

/// `sums += rows[LANE] · columns`
///
/// # Safety
/// NEON.
#[inline(always)]
unsafe fn add_row<const LANE: i32>(
    sums: &mut [float32x4_t; 3],
    rows: float32x4_t,
    columns: &[float32x4_t; 3],
) {
    for (sum, &column) in sums.iter_mut().zip(columns) {
        // SAFETY: the caller's promise.
        *sum = unsafe { vfmaq_laneq_f32::<LANE>(*sum, column, rows) };
    }
}
