//! AVX2 (eight lanes) and AVX-512 (sixteen lanes).

use super::Simd;
use crate::isa::Path;
use std::arch::x86_64::*;

/// AVX2 + FMA, eight lanes.
#[derive(Clone, Copy, Debug)]
pub struct Avx2;

/// AVX-512, sixteen lanes.
#[derive(Clone, Copy, Debug)]
pub struct Avx512;

const ROUND: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;

// SAFETY (for every block below): `Simd`'s contract is that its methods run only where the instruction
// set is enabled and that pointers are valid for the lanes touched.
macro_rules! op {
    ($($body:tt)*) => {{
        // SAFETY: see the note above.
        unsafe { $($body)* }
    }};
}

#[inline(always)]
unsafe fn mask8(n: usize) -> __m256i {
    const TABLE: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
    op!(_mm256_loadu_si256(TABLE.as_ptr().add(8 - n.min(8)).cast()))
}

/// The bits of a lane that are its bf16.
const UPPER: i32 = 0xffff_0000_u32 as i32;

/// Lanes whose upper halves are the nearest bf16, ties to even; NaN stays NaN. The lower halves are noise.
#[inline(always)]
unsafe fn rounded8(v: __m256) -> __m256i {
    op! {
        let bits = _mm256_castps_si256(v);
        let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
        let rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
        let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x0040_0000));
        let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(v, v));
        _mm256_blendv_epi8(rounded, quiet, nan)
    }
}

impl Simd for Avx2 {
    type V = __m256;
    const LANES: usize = 8;
    const PATH: Path = Path::Avx2;

    #[inline(always)]
    unsafe fn prefetch<T>(p: *const T) {
        op!(_mm_prefetch::<_MM_HINT_T0>(p.cast()))
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> __m256 {
        op!(_mm256_set1_ps(x))
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> __m256 {
        op!(_mm256_loadu_ps(p))
    }
    #[inline(always)]
    unsafe fn load_partial(p: *const f32, n: usize) -> __m256 {
        op!(_mm256_maskload_ps(p, mask8(n)))
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: __m256) {
        op!(_mm256_storeu_ps(p, v))
    }
    #[inline(always)]
    unsafe fn store_partial(p: *mut f32, v: __m256, n: usize) {
        // In powers of two, because AMD's masked stores take as long as ten whole ones.
        op! {
            let (mut p, mut rest) = (p, _mm256_castps256_ps128(v));
            match n {
                8.. => return Self::store(p, v),
                4.. => {
                    _mm_storeu_ps(p, rest);
                    (p, rest) = (p.add(4), _mm256_extractf128_ps::<1>(v));
                }
                _ => {}
            }
            if n & 2 != 0 {
                p.cast::<i64>().write_unaligned(_mm_cvtsi128_si64(_mm_castps_si128(rest)));
                (p, rest) = (p.add(2), _mm_movehl_ps(rest, rest));
            }
            if n & 1 != 0 {
                _mm_store_ss(p, rest);
            }
        }
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u16) -> __m256 {
        op!(_mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast())))))
    }
    #[inline(always)]
    unsafe fn store_bf16(p: *mut u16, v: __m256) {
        op! {
            let high = _mm256_srli_epi32::<16>(rounded8(v));
            let packed = _mm256_permute4x64_epi64::<0b1000>(_mm256_packus_epi32(high, high));
            _mm_storeu_si128(p.cast(), _mm256_castsi256_si128(packed))
        }
    }
    #[inline(always)]
    unsafe fn round_bf16(v: __m256) -> __m256 {
        op!(_mm256_castsi256_ps(_mm256_and_si256(rounded8(v), _mm256_set1_epi32(UPPER))))
    }
    #[inline(always)]
    unsafe fn add(a: __m256, b: __m256) -> __m256 {
        op!(_mm256_add_ps(a, b))
    }
    #[inline(always)]
    unsafe fn sub(a: __m256, b: __m256) -> __m256 {
        op!(_mm256_sub_ps(a, b))
    }
    #[inline(always)]
    unsafe fn mul(a: __m256, b: __m256) -> __m256 {
        op!(_mm256_mul_ps(a, b))
    }
    #[inline(always)]
    unsafe fn div(a: __m256, b: __m256) -> __m256 {
        op!(_mm256_div_ps(a, b))
    }
    #[inline(always)]
    unsafe fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
        op!(_mm256_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    unsafe fn max(a: __m256, b: __m256) -> __m256 {
        op!(_mm256_max_ps(a, b))
    }
    #[inline(always)]
    unsafe fn min(a: __m256, b: __m256) -> __m256 {
        op!(_mm256_min_ps(a, b))
    }
    #[inline(always)]
    unsafe fn sqrt(a: __m256) -> __m256 {
        op!(_mm256_sqrt_ps(a))
    }
    #[inline(always)]
    unsafe fn round(a: __m256) -> __m256 {
        op!(_mm256_round_ps::<ROUND>(a))
    }
    #[inline(always)]
    unsafe fn pow2(n: __m256) -> __m256 {
        op! {
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))
        }
    }
    #[inline(always)]
    unsafe fn reduce_add(a: __m256) -> f32 {
        op! {
            let b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let c = _mm_add_ps(b, _mm_movehl_ps(b, b));
            _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)))
        }
    }
    #[inline(always)]
    unsafe fn reduce_max(a: __m256) -> f32 {
        op! {
            let b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let c = _mm_max_ps(b, _mm_movehl_ps(b, b));
            _mm_cvtss_f32(_mm_max_ss(c, _mm_movehdup_ps(c)))
        }
    }
    #[inline(always)]
    unsafe fn transpose(
        from: *const f32,
        from_bytes: usize,
        rows: usize,
        to: *mut f32,
        to_row: usize,
        lanes: usize,
    ) {
        op! {
            let mut a = [_mm256_setzero_ps(); 8];
            for (r, a) in a.iter_mut().enumerate() {
                *a = _mm256_loadu_ps(row_or_zeros(from, from_bytes, r, rows));
            }
            // Pairs of rows, then of pairs, within each half; then the halves.
            let mut b = a;
            for i in 0..4 {
                b[2 * i] = _mm256_unpacklo_ps(a[2 * i], a[2 * i + 1]);
                b[2 * i + 1] = _mm256_unpackhi_ps(a[2 * i], a[2 * i + 1]);
            }
            for half in [0, 4] {
                for i in 0..2 {
                    let (low, high) = (b[half + i], b[half + i + 2]);
                    a[half + 2 * i] = _mm256_shuffle_ps::<0b0100_0100>(low, high);
                    a[half + 2 * i + 1] = _mm256_shuffle_ps::<0b1110_1110>(low, high);
                }
            }
            for c in 0..8 {
                let (low, high) = (a[c % 4], a[c % 4 + 4]);
                let column = match c < 4 {
                    true => _mm256_permute2f128_ps::<0x20>(low, high),
                    false => _mm256_permute2f128_ps::<0x31>(low, high),
                };
                match lanes {
                    8.. => _mm256_storeu_ps(to.add(c * to_row), column),
                    _ => Self::store_partial(to.add(c * to_row), column, lanes),
                }
            }
        }
    }
}

/// Where row `r` of `rows` begins, or sixteen zeros for one beyond.
#[inline(always)]
unsafe fn row_or_zeros(from: *const f32, bytes: usize, r: usize, rows: usize) -> *const f32 {
    static ZEROS: [f32; 16] = [0.0; 16];
    // SAFETY: rows below `rows` are valid by the callers' promise.
    if r < rows { unsafe { from.byte_add(r * bytes) } } else { ZEROS.as_ptr() }
}

/// As [`rounded8`], and by integers, not by vcvtneps2bf16, which flushes denormals: the same bits as AVX2.
#[inline(always)]
unsafe fn rounded16(v: __m512) -> __m512i {
    op! {
        let bits = _mm512_castps_si512(v);
        let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
        let rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
        let quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x0040_0000));
        let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(v, v);
        _mm512_mask_mov_epi32(rounded, nan, quiet)
    }
}

#[inline(always)]
fn mask16(n: usize) -> __mmask16 {
    if n >= 16 { 0xffff } else { (1u16 << n) - 1 }
}

impl Simd for Avx512 {
    type V = __m512;
    const LANES: usize = 16;
    const PATH: Path = Path::Avx512;

    #[inline(always)]
    unsafe fn prefetch<T>(p: *const T) {
        op!(_mm_prefetch::<_MM_HINT_T0>(p.cast()))
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> __m512 {
        op!(_mm512_set1_ps(x))
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> __m512 {
        op!(_mm512_loadu_ps(p))
    }
    #[inline(always)]
    unsafe fn load_partial(p: *const f32, n: usize) -> __m512 {
        op!(_mm512_maskz_loadu_ps(mask16(n), p))
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: __m512) {
        op!(_mm512_storeu_ps(p, v))
    }
    #[inline(always)]
    unsafe fn store_partial(p: *mut f32, v: __m512, n: usize) {
        op!(_mm512_mask_storeu_ps(p, mask16(n), v))
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u16) -> __m512 {
        op!(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast())))))
    }
    #[inline(always)]
    unsafe fn store_bf16(p: *mut u16, v: __m512) {
        op! {
            _mm256_storeu_si256(p.cast(), _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(rounded16(v))))
        }
    }
    #[inline(always)]
    unsafe fn round_bf16(v: __m512) -> __m512 {
        op!(_mm512_castsi512_ps(_mm512_and_si512(rounded16(v), _mm512_set1_epi32(UPPER))))
    }
    #[inline(always)]
    unsafe fn pair_bf16(low: __m512, high: __m512) -> __m512 {
        op! {
            let low = _mm512_srli_epi32::<16>(rounded16(low));
            let high = _mm512_and_si512(rounded16(high), _mm512_set1_epi32(UPPER));
            _mm512_castsi512_ps(_mm512_or_si512(low, high))
        }
    }
    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        op!(_mm512_add_ps(a, b))
    }
    #[inline(always)]
    unsafe fn sub(a: __m512, b: __m512) -> __m512 {
        op!(_mm512_sub_ps(a, b))
    }
    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        op!(_mm512_mul_ps(a, b))
    }
    #[inline(always)]
    unsafe fn div(a: __m512, b: __m512) -> __m512 {
        op!(_mm512_div_ps(a, b))
    }
    #[inline(always)]
    unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
        op!(_mm512_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    unsafe fn max(a: __m512, b: __m512) -> __m512 {
        op!(_mm512_max_ps(a, b))
    }
    #[inline(always)]
    unsafe fn min(a: __m512, b: __m512) -> __m512 {
        op!(_mm512_min_ps(a, b))
    }
    #[inline(always)]
    unsafe fn sqrt(a: __m512) -> __m512 {
        op!(_mm512_sqrt_ps(a))
    }
    #[inline(always)]
    unsafe fn round(a: __m512) -> __m512 {
        op!(_mm512_roundscale_ps::<ROUND>(a))
    }
    #[inline(always)]
    unsafe fn pow2(n: __m512) -> __m512 {
        op! {
            let exponent = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(exponent))
        }
    }
    #[inline(always)]
    unsafe fn reduce_add(a: __m512) -> f32 {
        op! {
            let high = _mm512_castps512_ps256(_mm512_shuffle_f32x4::<0b1110>(a, a));
            Avx2::reduce_add(_mm256_add_ps(_mm512_castps512_ps256(a), high))
        }
    }
    #[inline(always)]
    unsafe fn reduce_max(a: __m512) -> f32 {
        op! {
            let high = _mm512_castps512_ps256(_mm512_shuffle_f32x4::<0b1110>(a, a));
            Avx2::reduce_max(_mm256_max_ps(_mm512_castps512_ps256(a), high))
        }
    }
    #[inline(always)]
    unsafe fn load_bf16_partial(p: *const u16, n: usize) -> __m512 {
        op!(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(words16(p, n)))))
    }
    #[inline(always)]
    unsafe fn store_bf16_partial(p: *mut u16, v: __m512, n: usize) {
        op! {
            let words = _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(rounded16(v)));
            _mm256_mask_storeu_epi16(p.cast(), mask16(n), words)
        }
    }
    #[inline(always)]
    unsafe fn zip_bf16(low: *const u16, high: *const u16, n: usize) -> __m512 {
        op! {
            let low = _mm512_cvtepu16_epi32(words16(low, n));
            let high = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(words16(high, n)));
            _mm512_castsi512_ps(_mm512_or_si512(low, high))
        }
    }
    #[inline(always)]
    unsafe fn transpose(
        from: *const f32,
        from_bytes: usize,
        rows: usize,
        to: *mut f32,
        to_row: usize,
        lanes: usize,
    ) {
        op! {
            let mut a = [_mm512_setzero_ps(); 16];
            for (r, a) in a.iter_mut().enumerate() {
                *a = _mm512_loadu_ps(row_or_zeros(from, from_bytes, r, rows));
            }
            // Pairs of rows, then of pairs: quarter q of b[4·i + j] is column 4·q + j of rows 4·i to 4·i + 3.
            let mut b = a;
            for i in 0..8 {
                b[2 * i] = _mm512_unpacklo_ps(a[2 * i], a[2 * i + 1]);
                b[2 * i + 1] = _mm512_unpackhi_ps(a[2 * i], a[2 * i + 1]);
            }
            for i in 0..4 {
                for j in 0..2 {
                    let (x, y) = (_mm512_castps_pd(b[4 * i + j]), _mm512_castps_pd(b[4 * i + j + 2]));
                    a[4 * i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(x, y));
                    a[4 * i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(x, y));
                }
            }
            // Then the quarters.
            for j in 0..4 {
                let even = [
                    _mm512_shuffle_f32x4::<0x88>(a[j], a[4 + j]),
                    _mm512_shuffle_f32x4::<0x88>(a[8 + j], a[12 + j]),
                ];
                let odd = [
                    _mm512_shuffle_f32x4::<0xdd>(a[j], a[4 + j]),
                    _mm512_shuffle_f32x4::<0xdd>(a[8 + j], a[12 + j]),
                ];
                b[j] = _mm512_shuffle_f32x4::<0x88>(even[0], even[1]);
                b[4 + j] = _mm512_shuffle_f32x4::<0x88>(odd[0], odd[1]);
                b[8 + j] = _mm512_shuffle_f32x4::<0xdd>(even[0], even[1]);
                b[12 + j] = _mm512_shuffle_f32x4::<0xdd>(odd[0], odd[1]);
            }
            for (c, &column) in b.iter().enumerate() {
                match lanes {
                    16.. => _mm512_storeu_ps(to.add(c * to_row), column),
                    _ => Self::store_partial(to.add(c * to_row), column, lanes),
                }
            }
        }
    }
}

/// The first `n <= 16` words, the others zero.
#[inline(always)]
unsafe fn words16(p: *const u16, n: usize) -> __m256i {
    op!(if n == 16 { _mm256_loadu_si256(p.cast()) } else { _mm256_maskz_loadu_epi16(mask16(n), p.cast()) })
}
