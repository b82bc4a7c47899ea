//! Kernel over one part of the buffers.

use super::Hyper;
use crate::simd::{Elem, for_lanes};
use crate::simd_kernel;

/// Added and taken away again, these round moments that are as small to multiples of their last bit. Without
/// gradient, as in the rows of rare tokens, moments shrink until rounding stops them, at denormals, which cost a CPU as
/// much as a hundred operations each. What is rounded away is nothing beside `eps`.
const GRAIN_OF_FIRST: f32 = 1e-25;
const GRAIN_OF_SECOND: f32 = 1e-28;

/// What multiplies what, derived in f64 and rounded once.
pub(super) struct Factors {
    grad: f32,
    keep: f32,
    towards: f32,
    beta2: f32,
    square: f32,
    root_correction: f32,
    eps: f32,
    minus_rate: f32,
}

impl Factors {
    pub(super) fn new(h: &Hyper) -> Factors {
        let t = h.step as f64;
        Factors {
            grad: h.grad_scale,
            keep: (1.0 - h.lr * h.weight_decay) as f32,
            towards: (1.0 - h.beta1) as f32,
            beta2: h.beta2 as f32,
            square: (1.0 - h.beta2) as f32,
            root_correction: (1.0 - h.beta2.powf(t)).sqrt() as f32,
            eps: h.eps as f32,
            minus_rate: (-h.lr / (1.0 - h.beta1.powf(t))) as f32,
        }
    }
}

simd_kernel! {
    /// One step on slices of equal length.
    pub(super) fn step<S>(p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], f: &Factors) {
        let len = p.len().min(g.len()).min(m.len()).min(v.len());
        let (p, g, m, v) = (p.as_mut_ptr(), g.as_ptr(), m.as_mut_ptr(), v.as_mut_ptr());
        // SAFETY: `i + n <= len`, which all four slices reach.
        for_lanes!(S, len, |i, n| unsafe {
            let g = S::mul(f32::load_n::<S>(g.add(i), n), S::splat(f.grad));
            let old = f32::load_n::<S>(m.add(i), n);
            let first = S::fma(S::sub(g, old), S::splat(f.towards), old);
            let first = S::sub(S::add(first, S::splat(GRAIN_OF_FIRST)), S::splat(GRAIN_OF_FIRST));
            let kept = S::mul(f32::load_n::<S>(v.add(i), n), S::splat(f.beta2));
            let second = S::fma(S::mul(g, S::splat(f.square)), g, kept);
            let second = S::sub(S::add(second, S::splat(GRAIN_OF_SECOND)), S::splat(GRAIN_OF_SECOND));
            let root = S::div(S::sqrt(second), S::splat(f.root_correction));
            let direction = S::div(first, S::add(root, S::splat(f.eps)));
            let shrunk = S::mul(f32::load_n::<S>(p.add(i), n), S::splat(f.keep));
            f32::store_n::<S>(m.add(i), first, n);
            f32::store_n::<S>(v.add(i), second, n);
            f32::store_n::<S>(p.add(i), S::fma(direction, S::splat(f.minus_rate), shrunk), n);
        });
    }
}
