//! AVX-512 with `vdpbf16ps`, tile 14 × 32: 28 accumulators, two products per lane and instruction.
//! The instruction takes denormal operands and sums for zeros.

use super::kernel::{Kernel, Place};
use crate::order::GEMM_K_BF16;
use crate::simd::{Avx512 as Lanes, Elem};
use crate::tape::DType;
use std::arch::x86_64::*;
use std::sync::OnceLock;

const ROWS: usize = 14;
const COLS: usize = 32;

/// bf16 pairs on AVX-512 BF16.
pub(super) struct Avx512Bf16;

impl Kernel for Avx512Bf16 {
    const ROWS: usize = ROWS;
    const COLS: usize = COLS;
    const PAIRS: bool = true;
    const K_BLOCK: usize = GEMM_K_BF16;
    type Lanes = Lanes;

    unsafe fn tile<C: Elem, B: Elem>(
        units: usize,
        a: *const f32,
        b: *const f32,
        c: Place<*mut C>,
        before: Option<Place<*const B>>,
    ) {
        // SAFETY: the caller's promise.
        unsafe { tile(units, a, b, c, before) }
    }

    unsafe fn registers(rounds: usize) -> u64 {
        // SAFETY: the caller's promise.
        unsafe { registers(rounds) }
    }
}

/// Whether `vdpbf16ps` is faster than fp32 multiply–adds on rounded operands. AMD runs it at their rate, so at
/// twice their FLOPs; Intel (measured on a Xeon with AMX) at a quarter of it, so at half, since its bf16 speed
/// lies in AMX. The maker decides and no timing, so that a machine always gives the same bits.
pub(super) fn pays() -> bool {
    static PAYS: OnceLock<bool> = OnceLock::new();
    *PAYS.get_or_init(|| {
        let maker = __cpuid(0);
        (maker.ebx, maker.edx, maker.ecx)
            == (u32::from_le_bytes(*b"Auth"), u32::from_le_bytes(*b"enti"), u32::from_le_bytes(*b"cAMD"))
    })
}

/// Thirty-two bf16 that came as bits.
///
/// # Safety
/// AVX-512F.
#[inline(always)]
unsafe fn pairs(bits: __m512) -> __m512bh {
    // SAFETY: both are 512 bits without invalid values.
    unsafe { std::mem::transmute::<__m512, __m512bh>(bits) }
}

/// Sixteen bf16 as bits.
///
/// # Safety
/// AVX-512F.
#[inline(always)]
unsafe fn bits(values: __m256bh) -> __m256i {
    // SAFETY: both are 256 bits without invalid values.
    unsafe { std::mem::transmute::<__m256bh, __m256i>(values) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
unsafe fn tile<C: Elem, B: Elem>(
    units: usize,
    mut a: *const f32,
    mut b: *const f32,
    c: Place<*mut C>,
    before: Option<Place<*const B>>,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
        c.fetch::<Lanes>(ROWS, COLS);
        for _ in 0..units {
            let columns = [pairs(_mm512_loadu_ps(b)), pairs(_mm512_loadu_ps(b.add(16)))];
            for (r, sums) in sums.iter_mut().enumerate() {
                let row = pairs(_mm512_set1_ps(*a.add(r)));
                sums[0] = _mm512_dpbf16_ps(sums[0], row, columns[0]);
                sums[1] = _mm512_dpbf16_ps(sums[1], row, columns[1]);
            }
            a = a.add(ROWS);
            b = b.add(COLS);
        }
        for (r, sums) in sums.iter().enumerate() {
            for (j, &sum) in sums.iter().enumerate() {
                let sum = match before {
                    Some(before) => {
                        _mm512_add_ps(B::load::<Lanes>(before.start.add(r * before.ld + 16 * j)), sum)
                    }
                    None => sum,
                };
                let c = c.start.add(r * c.ld + 16 * j);
                match C::DTYPE {
                    DType::Bf16 => _mm256_storeu_si256(c.cast(), bits(_mm512_cvtneps_pbh(sum))),
                    _ => C::store::<Lanes>(c, sum),
                }
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn registers(rounds: usize) -> u64 {
    const SUMS: usize = 2 * ROWS;
    // SAFETY: no memory is touched but locals.
    unsafe {
        let (x, y) = (std::hint::black_box(0x3f00_3f00), std::hint::black_box(0x3e80_3e80));
        let (x, y) = (pairs(_mm512_set1_ps(f32::from_bits(x))), pairs(_mm512_set1_ps(f32::from_bits(y))));
        let mut sums = [_mm512_setzero_ps(); SUMS];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm512_dpbf16_ps(*sum, x, y);
            }
        }
        let mut total = _mm512_setzero_ps();
        for &sum in &sums {
            total = _mm512_add_ps(total, sum);
        }
        std::hint::black_box(_mm512_reduce_add_ps(total));
    }
    (rounds * SUMS * 64) as u64
}
