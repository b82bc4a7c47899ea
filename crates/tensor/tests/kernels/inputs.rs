//! Inputs that the tests share, and how they look at results.

use smolt_tensor::Cpu;
use smolt_tensor::isa::Isa;
use smolt_tensor::ops::activation::Activation;
use smolt_tensor::ops::adamw::Hyper;
use smolt_tensor::ops::attention::{Attention, Scores, Shape, Window};
use smolt_tensor::ops::moe_route::{Gate, Groups, Routing};
use smolt_tensor::simd::Elem;

/// All that gate.
pub(crate) const ACTIVATIONS: [Activation; 6] = [
    Activation::Silu,
    Activation::GeluTanh,
    Activation::Gelu,
    Activation::Relu,
    Activation::Relu2,
    Activation::Clamped { limit: 0.5 },
];

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

/// The plain layer of a shape, and what layers may do besides.
pub(crate) fn layers(shape: Shape) -> Vec<Attention> {
    let plain = Attention::new(shape);
    let wide = Attention::new(Shape { value_dim: shape.head_dim + 9, ..shape });
    let bent = Scores { softcap: Some(0.7), alibi: true, ..plain.scores };
    vec![
        plain,
        Attention { window: Window::Chunked(23), ..wide },
        Attention { window: Window::Sliding(9), sink_tokens: 5, scores: bent, ..plain },
    ]
}

/// A score per head.
pub(crate) fn sinks(layer: &Attention) -> Vec<f32> {
    noise(11, layer.shape.heads)
}

/// Usual settings of AdamW.
pub(crate) fn hyper(step: u64, grad_scale: f32) -> Hyper {
    Hyper { lr: 1e-3, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, step, grad_scale }
}

/// A router of `experts`, in groups where they can be.
pub(crate) fn routing(experts: usize, top_k: usize, gate: Gate) -> Routing {
    let grouped = experts.is_multiple_of(4) && top_k <= experts / 2;
    Routing {
        experts,
        top_k,
        gate,
        norm_topk_prob: true,
        routed_scaling_factor: 1.5,
        groups: grouped.then_some(Groups { count: 4, chosen: 2 }),
        aux_loss_coef: 0.01,
        z_loss_coef: 0.001,
    }
}
