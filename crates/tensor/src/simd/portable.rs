//! Eight lanes of plain Rust: the reference for every other path, and what Miri runs.

use super::Simd;
use crate::isa::Path;

/// Plain Rust, eight lanes.
#[derive(Clone, Copy, Debug)]
pub struct Portable;

type V = [f32; 8];

#[inline(always)]
fn each(a: V, b: V, f: impl Fn(f32, f32) -> f32) -> V {
    std::array::from_fn(|i| f(a[i], b[i]))
}

impl Simd for Portable {
    type V = V;
    const LANES: usize = 8;
    const PATH: Path = Path::Portable;

    #[inline(always)]
    unsafe fn splat(x: f32) -> V {
        [x; 8]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> V {
        // SAFETY: the caller's promise; an array of f32 has f32's alignment.
        unsafe { p.cast::<V>().read() }
    }
    #[inline(always)]
    unsafe fn load_partial(p: *const f32, n: usize) -> V {
        // SAFETY: only lanes below n are read.
        std::array::from_fn(|i| if i < n { unsafe { *p.add(i) } } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: V) {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<V>().write(v) }
    }
    #[inline(always)]
    unsafe fn store_partial(p: *mut f32, v: V, n: usize) {
        for (i, &x) in v.iter().enumerate().take(n) {
            // SAFETY: only lanes below n are written.
            unsafe { *p.add(i) = x };
        }
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u16) -> V {
        // SAFETY: the caller's promise.
        std::array::from_fn(|i| f32::from_bits(u32::from(unsafe { *p.add(i) }) << 16))
    }
    #[inline(always)]
    unsafe fn store_bf16(p: *mut u16, v: V) {
        for (i, &x) in v.iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { *p.add(i) = half::bf16::from_f32(x).to_bits() };
        }
    }
    #[inline(always)]
    unsafe fn add(a: V, b: V) -> V {
        each(a, b, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(a: V, b: V) -> V {
        each(a, b, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(a: V, b: V) -> V {
        each(a, b, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn div(a: V, b: V) -> V {
        each(a, b, |a, b| a / b)
    }
    #[inline(always)]
    unsafe fn fma(a: V, b: V, c: V) -> V {
        // Without hardware FMA `mul_add` is a slow library call: two roundings are the lesser evil there.
        #[cfg(any(target_feature = "fma", target_arch = "aarch64"))]
        return std::array::from_fn(|i| a[i].mul_add(b[i], c[i]));
        #[cfg(not(any(target_feature = "fma", target_arch = "aarch64")))]
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    unsafe fn max(a: V, b: V) -> V {
        each(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn min(a: V, b: V) -> V {
        each(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    unsafe fn sqrt(a: V) -> V {
        a.map(f32::sqrt)
    }
    #[inline(always)]
    unsafe fn round(a: V) -> V {
        // Adding and taking off 1.5·2^23 leaves the nearest integer, ties to even.
        a.map(|x| if x.abs() < 4e6 { (x + 12_582_912.0) - 12_582_912.0 } else { x })
    }
    #[inline(always)]
    unsafe fn pow2(n: V) -> V {
        n.map(|n| f32::from_bits(((n as i32 + 127) as u32) << 23))
    }
    #[inline(always)]
    unsafe fn reduce_add(a: V) -> f32 {
        let b = [a[0] + a[4], a[1] + a[5], a[2] + a[6], a[3] + a[7]];
        (b[0] + b[2]) + (b[1] + b[3])
    }
    #[inline(always)]
    unsafe fn reduce_max(a: V) -> f32 {
        a.into_iter().fold(f32::NEG_INFINITY, |m, x| if x > m { x } else { m })
    }
}
