//! NEON, two registers of four lanes as one vector: what kernels lay out for AVX2's 16 registers of eight lanes
//! fills the 32 of NEON, and hides the latency of their multiply–adds.

use super::Simd;
use crate::isa::Path;
use std::arch::aarch64::*;

/// NEON, eight lanes.
#[derive(Clone, Copy, Debug)]
pub struct Neon;

type V = [float32x4_t; 2];

// SAFETY (for every block below): every CPU of this architecture has NEON, and `Simd`'s contract is that
// pointers are valid for the lanes touched.
macro_rules! op {
    ($($body:tt)*) => {{
        // SAFETY: see the note above.
        unsafe { $($body)* }
    }};
}

/// The first `n` lanes from memory, all four if `n` is more, the rest zero.
#[inline(always)]
unsafe fn load_up_to_4(p: *const f32, n: usize) -> float32x4_t {
    op! {
        let zero = vdupq_n_f32(0.0);
        match n {
            0 => zero,
            1 => vld1q_lane_f32::<0>(p, zero),
            2 => vcombine_f32(vld1_f32(p), vget_low_f32(zero)),
            3 => vld1q_lane_f32::<2>(p.add(2), vcombine_f32(vld1_f32(p), vget_low_f32(zero))),
            _ => vld1q_f32(p),
        }
    }
}

/// The first `n` lanes to memory, all four if `n` is more.
#[inline(always)]
unsafe fn store_up_to_4(p: *mut f32, v: float32x4_t, n: usize) {
    op! {
        match n {
            0 => {}
            1 => vst1q_lane_f32::<0>(p, v),
            2 => vst1_f32(p, vget_low_f32(v)),
            3 => {
                vst1_f32(p, vget_low_f32(v));
                vst1q_lane_f32::<2>(p.add(2), v);
            }
            _ => vst1q_f32(p, v),
        }
    }
}

/// Lanes to bf16 bits, ties to even; NaN stays NaN. By integers: the same bits as on every path.
#[inline(always)]
unsafe fn narrowed(v: float32x4_t) -> uint16x4_t {
    op! {
        let bits = vreinterpretq_u32_f32(v);
        let odd = vandq_u32(vshrq_n_u32::<16>(bits), vdupq_n_u32(1));
        let rounded = vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
        let quiet = vorrq_u32(bits, vdupq_n_u32(0x0040_0000));
        vshrn_n_u32::<16>(vbslq_u32(vceqq_f32(v, v), rounded, quiet))
    }
}

/// Lanes from bf16 bits.
#[inline(always)]
unsafe fn widened(bits: uint16x4_t) -> float32x4_t {
    op!(vreinterpretq_f32_u32(vshlq_n_u32::<16>(vmovl_u16(bits))))
}

/// 2^n
#[inline(always)]
unsafe fn pow2(n: float32x4_t) -> float32x4_t {
    op! {
        let exponent = vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127));
        vreinterpretq_f32_s32(vshlq_n_s32::<23>(exponent))
    }
}

/// [`Simd::transpose`] of a quarter.
#[inline(always)]
unsafe fn transpose4(from: *const f32, from_bytes: usize, to: *mut f32, to_row: usize) {
    op! {
        let row = |r: usize| vld1q_f32(from.byte_add(r * from_bytes));
        let (a, b, c, d) = (row(0), row(1), row(2), row(3));
        // Even and odd columns of pairs of rows, then pairs of pairs.
        let (even_ab, odd_ab) = (vtrn1q_f32(a, b), vtrn2q_f32(a, b));
        let (even_cd, odd_cd) = (vtrn1q_f32(c, d), vtrn2q_f32(c, d));
        vst1q_f32(to, vcombine_f32(vget_low_f32(even_ab), vget_low_f32(even_cd)));
        vst1q_f32(to.add(to_row), vcombine_f32(vget_low_f32(odd_ab), vget_low_f32(odd_cd)));
        vst1q_f32(to.add(2 * to_row), vcombine_f32(vget_high_f32(even_ab), vget_high_f32(even_cd)));
        vst1q_f32(to.add(3 * to_row), vcombine_f32(vget_high_f32(odd_ab), vget_high_f32(odd_cd)));
    }
}

impl Simd for Neon {
    type V = V;
    const LANES: usize = 8;
    const PATH: Path = Path::Neon;

    #[inline(always)]
    unsafe fn splat(x: f32) -> V {
        op!([vdupq_n_f32(x); 2])
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> V {
        op!([vld1q_f32(p), vld1q_f32(p.add(4))])
    }
    #[inline(always)]
    unsafe fn load_partial(p: *const f32, n: usize) -> V {
        // The second half need not exist, and is not touched unless `n` reaches into it.
        op!([load_up_to_4(p, n), load_up_to_4(p.wrapping_add(4), n.saturating_sub(4))])
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: V) {
        op! {
            vst1q_f32(p, v[0]);
            vst1q_f32(p.add(4), v[1]);
        }
    }
    #[inline(always)]
    unsafe fn store_partial(p: *mut f32, v: V, n: usize) {
        op! {
            store_up_to_4(p, v[0], n);
            store_up_to_4(p.wrapping_add(4), v[1], n.saturating_sub(4));
        }
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u16) -> V {
        op! {
            let bits = vld1q_u16(p);
            [widened(vget_low_u16(bits)), widened(vget_high_u16(bits))]
        }
    }
    #[inline(always)]
    unsafe fn store_bf16(p: *mut u16, v: V) {
        op!(vst1q_u16(p, vcombine_u16(narrowed(v[0]), narrowed(v[1]))))
    }
    #[inline(always)]
    unsafe fn round_bf16(v: V) -> V {
        op!([widened(narrowed(v[0])), widened(narrowed(v[1]))])
    }
    #[inline(always)]
    unsafe fn add(a: V, b: V) -> V {
        op!([vaddq_f32(a[0], b[0]), vaddq_f32(a[1], b[1])])
    }
    #[inline(always)]
    unsafe fn sub(a: V, b: V) -> V {
        op!([vsubq_f32(a[0], b[0]), vsubq_f32(a[1], b[1])])
    }
    #[inline(always)]
    unsafe fn mul(a: V, b: V) -> V {
        op!([vmulq_f32(a[0], b[0]), vmulq_f32(a[1], b[1])])
    }
    #[inline(always)]
    unsafe fn div(a: V, b: V) -> V {
        op!([vdivq_f32(a[0], b[0]), vdivq_f32(a[1], b[1])])
    }
    #[inline(always)]
    unsafe fn fma(a: V, b: V, c: V) -> V {
        op!([vfmaq_f32(c[0], a[0], b[0]), vfmaq_f32(c[1], a[1], b[1])])
    }
    #[inline(always)]
    unsafe fn max(a: V, b: V) -> V {
        op!([vmaxq_f32(a[0], b[0]), vmaxq_f32(a[1], b[1])])
    }
    #[inline(always)]
    unsafe fn min(a: V, b: V) -> V {
        op!([vminq_f32(a[0], b[0]), vminq_f32(a[1], b[1])])
    }
    #[inline(always)]
    unsafe fn sqrt(a: V) -> V {
        op!([vsqrtq_f32(a[0]), vsqrtq_f32(a[1])])
    }
    #[inline(always)]
    unsafe fn round(a: V) -> V {
        op!([vrndnq_f32(a[0]), vrndnq_f32(a[1])])
    }
    #[inline(always)]
    unsafe fn pow2(n: V) -> V {
        op!([pow2(n[0]), pow2(n[1])])
    }
    #[inline(always)]
    unsafe fn reduce_add(a: V) -> f32 {
        op! {
            let b = vaddq_f32(a[0], a[1]);
            vpadds_f32(vadd_f32(vget_low_f32(b), vget_high_f32(b)))
        }
    }
    #[inline(always)]
    unsafe fn reduce_max(a: V) -> f32 {
        op!(vmaxvq_f32(vmaxq_f32(a[0], a[1])))
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
        // Quarters that are whole in both; the rest one by one.
        let whole = rows.min(lanes) / 4 * 4;
        for r in (0..whole).step_by(4) {
            for c in [0, 4] {
                op!(transpose4(
                    from.byte_add(r * from_bytes).add(c),
                    from_bytes,
                    to.add(c * to_row + r),
                    to_row
                ));
            }
        }
        for r in whole..lanes {
            for c in 0..8 {
                op! {
                    let x = if r < rows { from.byte_add(r * from_bytes).add(c).read_unaligned() } else { 0.0 };
                    *to.add(c * to_row + r) = x;
                }
            }
        }
    }
}
