//! The arithmetic of each activation on one vector, and its slope.
//!
//! There are no comparisons: steps are made of `min` and `max`, which pass NaN on where it is their second operand.

use crate::simd::Simd;

/// Gates are multiplied by this before the sigmoid of the clamped form (gpt-oss).
const ALPHA: f32 = 1.702;

/// Larger than 1 / the smallest difference that counts, so that any difference times it is at least one.
const STEEP: f32 = 1e30;

/// One activation. A plain one is given by its value and slope; the gated form is then the product with `up`.
///
/// # Safety
/// As [`Simd`]: within [`simd_kernel!`](crate::simd_kernel) only.
#[allow(clippy::missing_safety_doc)]
pub(crate) trait Shape {
    /// act(x)
    unsafe fn value<S: Simd>(x: S::V) -> S::V;

    /// act(x) and act'(x)
    unsafe fn value_and_slope<S: Simd>(x: S::V) -> (S::V, S::V);

    /// act(gate)·up
    #[inline(always)]
    unsafe fn gated<S: Simd>(gate: S::V, up: S::V, _limit: f32) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { S::mul(Self::value::<S>(gate), up) }
    }

    /// Gradients of gate and up, given that of act(gate)·up.
    #[inline(always)]
    unsafe fn gated_slopes<S: Simd>(gate: S::V, up: S::V, d: S::V, _limit: f32) -> (S::V, S::V) {
        // SAFETY: the caller's promise.
        unsafe {
            let (value, slope) = Self::value_and_slope::<S>(gate);
            (S::mul(S::mul(d, up), slope), S::mul(d, value))
        }
    }
}

/// x·σ(x)
pub(crate) struct Silu;

impl Shape for Silu {
    #[inline(always)]
    unsafe fn value<S: Simd>(x: S::V) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { S::mul(x, S::sigmoid(x)) }
    }

    #[inline(always)]
    unsafe fn value_and_slope<S: Simd>(x: S::V) -> (S::V, S::V) {
        // SAFETY: the caller's promise.
        unsafe {
            let s = S::sigmoid(x);
            let value = S::mul(x, s);
            // silu' = s + x·s·(1 − s)
            (value, S::fma(value, S::sub(S::splat(1.0), s), s))
        }
    }
}

/// x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))/2, computed as x·σ(2·√(2/π)·(…)), which is the same.
pub(crate) struct GeluTanh;

impl GeluTanh {
    const CUBE: f32 = 0.044_715;
    const TWICE_ROOT: f32 = 1.595_769;

    /// x within ±10, beyond which σ is 0 or 1 in fp32 and the cube could overflow, its σ, and 1 − σ to full precision.
    #[inline(always)]
    unsafe fn sigma<S: Simd>(x: S::V) -> (S::V, S::V, S::V) {
        // SAFETY: the caller's promise.
        unsafe {
            let (x, one) = (clamp::<S>(x, 10.0), S::splat(1.0));
            let inner = S::fma(S::mul(x, x), S::splat(Self::CUBE), one);
            let e = S::exp(S::mul(S::mul(x, inner), S::splat(-Self::TWICE_ROOT)));
            let s = S::div(one, S::add(one, e));
            (x, s, S::mul(s, e))
        }
    }
}

impl Shape for GeluTanh {
    #[inline(always)]
    unsafe fn value<S: Simd>(x: S::V) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { S::mul(x, Self::sigma::<S>(x).1) }
    }

    #[inline(always)]
    unsafe fn value_and_slope<S: Simd>(x: S::V) -> (S::V, S::V) {
        // SAFETY: the caller's promise.
        unsafe {
            let (near, s, rest) = Self::sigma::<S>(x);
            // s + x·s·(1 − s)·2·√(2/π)·(1 + 3·0.044715·x²)
            let inner = S::fma(S::mul(near, near), S::splat(3.0 * Self::CUBE), S::splat(1.0));
            let bend = S::mul(S::mul(near, S::splat(Self::TWICE_ROOT)), inner);
            (S::mul(x, s), S::fma(S::mul(s, rest), bend, s))
        }
    }
}

/// x·Φ(x), Φ(x) = (1 + erf(x/√2))/2, with erfc by Abramowitz & Stegun 7.1.26: within 1.5e-7 of erf, so that the value
/// is off by at most 1.5e-7·|x|, roundings included by 3e-7·|x|. Its exponential is the density that the slope needs.
pub(crate) struct Gelu;

impl Gelu {
    /// Φ(−|x|) and exp(−x²/2).
    #[inline(always)]
    unsafe fn tail<S: Simd>(x: S::V) -> (S::V, S::V) {
        // SAFETY: the caller's promise.
        unsafe {
            let (zero, one) = (S::splat(0.0), S::splat(1.0));
            // A NaN comes out of the density.
            let size = S::max(S::sub(zero, x), x);
            let t = S::div(one, S::fma(size, S::splat(0.327_591_1 * std::f32::consts::FRAC_1_SQRT_2), one));
            let mut p = S::splat(1.061_405_4);
            for c in [-1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6] {
                p = S::fma(p, t, S::splat(c));
            }
            let density = S::exp(S::mul(S::mul(x, x), S::splat(-0.5)));
            (S::mul(S::mul(S::mul(p, t), S::splat(0.5)), density), density)
        }
    }
}

impl Shape for Gelu {
    #[inline(always)]
    unsafe fn value<S: Simd>(x: S::V) -> S::V {
        // SAFETY: the caller's promise.
        unsafe {
            let (tail, _) = Self::tail::<S>(x);
            // x·Φ(x) = max(x, 0) − |x|·Φ(−|x|) on both sides of 0.
            let size = S::max(S::sub(S::splat(0.0), x), x);
            S::sub(S::max(S::splat(0.0), x), S::mul(size, tail))
        }
    }

    #[inline(always)]
    unsafe fn value_and_slope<S: Simd>(x: S::V) -> (S::V, S::V) {
        // SAFETY: the caller's promise.
        unsafe {
            let (zero, one) = (S::splat(0.0), S::splat(1.0));
            let (tail, density) = Self::tail::<S>(x);
            let size = S::max(S::sub(zero, x), x);
            let value = S::sub(S::max(zero, x), S::mul(size, tail));
            // Between, where it is neither, Φ is ½ from both sides.
            let right = right_of_zero::<S>(x);
            let below = S::fma(right, S::fma(tail, S::splat(-2.0), one), tail);
            // Φ(x) + x·φ(x); φ is 0 long before ±20.
            let slope = S::mul(clamp::<S>(x, 20.0), S::splat(0.398_942_3));
            (value, S::fma(slope, density, below))
        }
    }
}

/// max(x, 0), whose slope at 0 is 0, as PyTorch has it.
pub(crate) struct Relu;

impl Shape for Relu {
    #[inline(always)]
    unsafe fn value<S: Simd>(x: S::V) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { S::max(S::splat(0.0), x) }
    }

    #[inline(always)]
    unsafe fn value_and_slope<S: Simd>(x: S::V) -> (S::V, S::V) {
        // SAFETY: the caller's promise.
        unsafe { (S::max(S::splat(0.0), x), right_of_zero::<S>(x)) }
    }
}

/// max(x, 0)²
pub(crate) struct Relu2;

impl Shape for Relu2 {
    #[inline(always)]
    unsafe fn value<S: Simd>(x: S::V) -> S::V {
        // SAFETY: the caller's promise.
        unsafe {
            let x = S::max(S::splat(0.0), x);
            S::mul(x, x)
        }
    }

    #[inline(always)]
    unsafe fn value_and_slope<S: Simd>(x: S::V) -> (S::V, S::V) {
        // SAFETY: the caller's promise.
        unsafe {
            let x = S::max(S::splat(0.0), x);
            (S::mul(x, x), S::add(x, x))
        }
    }
}

/// g·σ(1.702·g)·(u + 1), g = min(gate, limit), u = up within ±limit.
pub(crate) struct Clamped;

impl Shape for Clamped {
    #[inline(always)]
    unsafe fn value<S: Simd>(x: S::V) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { S::mul(x, S::sigmoid(S::mul(x, S::splat(ALPHA)))) }
    }

    #[inline(always)]
    unsafe fn value_and_slope<S: Simd>(x: S::V) -> (S::V, S::V) {
        // SAFETY: the caller's promise.
        unsafe {
            let s = S::sigmoid(S::mul(x, S::splat(ALPHA)));
            let value = S::mul(x, s);
            let rest = S::mul(S::sub(S::splat(1.0), s), S::splat(ALPHA));
            (value, S::fma(value, rest, s))
        }
    }

    #[inline(always)]
    unsafe fn gated<S: Simd>(gate: S::V, up: S::V, limit: f32) -> S::V {
        // SAFETY: the caller's promise.
        unsafe {
            let (g, u) = (S::min(S::splat(limit), gate), clamp::<S>(up, limit));
            S::mul(Self::value::<S>(g), S::add(u, S::splat(1.0)))
        }
    }

    #[inline(always)]
    unsafe fn gated_slopes<S: Simd>(gate: S::V, up: S::V, d: S::V, limit: f32) -> (S::V, S::V) {
        // SAFETY: the caller's promise.
        unsafe {
            let (g, u) = (S::min(S::splat(limit), gate), clamp::<S>(up, limit));
            let (value, slope) = Self::value_and_slope::<S>(g);
            let d_gate = S::mul(S::mul(d, S::add(u, S::splat(1.0))), slope);
            let d_up = S::mul(d, value);
            // As PyTorch's clamp, the bound itself lets the gradient through.
            (S::mul(d_gate, equal::<S>(gate, g)), S::mul(d_up, equal::<S>(up, u)))
        }
    }
}

/// x within ±limit, NaN where x is.
#[inline(always)]
unsafe fn clamp<S: Simd>(x: S::V, limit: f32) -> S::V {
    // SAFETY: the caller's promise.
    unsafe { S::max(S::splat(-limit), S::min(S::splat(limit), x)) }
}

/// 1 right of zero and 0 at and left of it; between for positive numbers below 1e-30.
#[inline(always)]
unsafe fn right_of_zero<S: Simd>(x: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe { S::min(S::splat(1.0), S::max(S::splat(0.0), S::mul(x, S::splat(STEEP)))) }
}

/// 1 where a = b, 0 where they differ by something that is not denormal.
#[inline(always)]
unsafe fn equal<S: Simd>(a: S::V, b: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        let apart = S::mul(S::sub(a, b), S::splat(STEEP));
        let apart = S::max(S::sub(S::splat(0.0), apart), apart);
        S::sub(S::splat(1.0), S::min(S::splat(1.0), apart))
    }
}
