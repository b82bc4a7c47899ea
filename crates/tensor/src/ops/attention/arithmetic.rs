//! How the products over tiles multiply: fp32, or pairs of bf16 where the CPU multiplies those faster.
//!
//! A *unit* is the 32 bits that one multiply–add of a lane takes from each operand: an fp32 value, or two bf16 that
//! follow each other along the inner dimension. Sums are fp32 either way.

use crate::gemm::Precision;
use crate::isa::Isa;
use crate::simd::{Elem, Simd};
use crate::tape::DType;

/// What units hold and how they are multiplied.
pub(super) trait Arithmetic<S: Simd>: 'static {
    /// Values per unit.
    const PER: usize;

    /// `sum + a·b`, over all values of the units.
    ///
    /// # Safety
    /// The instruction set is enabled.
    unsafe fn multiply_add(a: S::V, b: S::V, sum: S::V) -> S::V;

    /// The units of two values each; asked only where `PER` is 2.
    ///
    /// # Safety
    /// The instruction set is enabled.
    unsafe fn pair(low: S::V, high: S::V) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { S::pair_bf16(low, high) }
    }
}

/// fp32 units.
pub(super) struct Fp32;

impl<S: Simd> Arithmetic<S> for Fp32 {
    const PER: usize = 1;

    #[inline(always)]
    unsafe fn multiply_add(a: S::V, b: S::V, sum: S::V) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { S::fma(a, b, sum) }
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use pairs::Bf16Pairs;

#[cfg(target_arch = "x86_64")]
mod pairs {
    use super::Arithmetic;
    use crate::simd::Avx512;
    use std::arch::x86_64::*;
    use std::mem::transmute;

    /// Units of two bf16. Denormal operands and sums count as zeros.
    pub(in super::super) struct Bf16Pairs;

    impl Arithmetic<Avx512> for Bf16Pairs {
        const PER: usize = 2;

        #[inline(always)]
        unsafe fn multiply_add(a: __m512, b: __m512, sum: __m512) -> __m512 {
            // SAFETY: 512 bits either way; the instruction by the caller's promise.
            unsafe {
                _mm512_dpbf16_ps(sum, transmute::<__m512, __m512bh>(a), transmute::<__m512, __m512bh>(b))
            }
        }

        #[inline(always)]
        unsafe fn pair(low: __m512, high: __m512) -> __m512 {
            // SAFETY: 256 bits either way; the instruction by the caller's promise.
            unsafe {
                let bits = |x: __m512| transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(x));
                let (low, high) = (_mm512_cvtepu16_epi32(bits(low)), _mm512_cvtepu16_epi32(bits(high)));
                _mm512_castsi512_ps(_mm512_or_si512(low, _mm512_slli_epi32::<16>(high)))
            }
        }
    }
}

/// Values per unit for storage `E`: bf16 is multiplied as such where `auto` precision would choose it.
pub(super) fn per<E: Elem>(isa: Isa) -> usize {
    if matches!(E::DTYPE, DType::Bf16) && Precision::auto(isa) == Precision::Bf16 { 2 } else { 1 }
}

/// A kernel over `S: Simd`, `A: Arithmetic<S>` and `E: Elem`, compiled for fp32 units on every path and for pairs of bf16
/// where the hardware has them; picked by path and storage.
macro_rules! attention_kernel {
    ($(#[$meta:meta])* $vis:vis fn $name:ident<$s:ident, $a:ident, $e:ident>($($arg:ident: $ty:ty),* $(,)?) $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name<$e: $crate::simd::Elem>(isa: $crate::isa::Isa, $($arg: $ty),*) {
            use $crate::ops::attention::arithmetic;

            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn kernel<$s: $crate::simd::Simd, $a: arithmetic::Arithmetic<$s>, $e: $crate::simd::Elem>($($arg: $ty),*) $body

            $crate::simd_kernel! {
                fn fp32<S, $e: $crate::simd::Elem>($($arg: $ty),*) {
                    kernel::<S, arithmetic::Fp32, $e>($($arg),*)
                }
            }
            #[cfg(target_arch = "x86_64")]
            if arithmetic::per::<$e>(isa) == 2 {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c,bmi2")]
                #[allow(clippy::too_many_arguments)]
                fn pairs<$e: $crate::simd::Elem>($($arg: $ty),*) {
                    kernel::<$crate::simd::Avx512, arithmetic::Bf16Pairs, $e>($($arg),*)
                }
                // SAFETY: `per` is 2 only on the path whose proof of these features `isa` is.
                return unsafe { pairs::<$e>($($arg),*) };
            }
            fp32::<$e>(isa, $($arg),*)
        }
    };
}
pub(super) use attention_kernel;
