//! Inputs that the tests share, and how they look at results.

use smolt_tensor::Cpu;
use smolt_tensor::isa::Isa;
use smolt_tensor::ops::adamw::Hyper;
use smolt_tensor::ops::attention::Shape;
use smolt_tensor::simd::Elem;

/// `len` numbers in −1..1, the same for the same seed.
pub(crate) fn noise<E: Elem>(seed: u64, len: usize) -> Vec<E> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..len).map(|_| E::from_f32(next())).collect()
}

pub(crate) fn wide<E: Elem>(x: &[E]) -> Vec<f64> {
    x.iter().map(|x| f64::from(x.to_f32())).collect()
}

pub(crate) fn bits<E: Elem>(x: &[E]) -> Vec<u32> {
    x.iter().map(|x| x.to_f32().to_bits()).collect()
}

/// Every path of this machine on two threads.
pub(crate) fn cpus() -> Vec<Cpu> {
    Isa::available().into_iter().map(|isa| Cpu::with_isa(isa, 2)).collect()
}

/// Segments of consecutive documents of these lengths.
pub(crate) fn documents(lengths: &[usize]) -> Vec<u32> {
    let mut segments = Vec::new();
    for &length in lengths {
        let start = segments.len() as u32;
        segments.extend(std::iter::repeat_n(start, length));
    }
    segments
}

pub(crate) fn scale(shape: Shape) -> f32 {
    1.0 / (shape.head_dim as f32).sqrt()
}

/// Usual settings of AdamW.
pub(crate) fn hyper(step: u64, grad_scale: f32) -> Hyper {
    Hyper { lr: 1e-3, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, step, grad_scale }
}
