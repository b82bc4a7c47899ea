//! The ops in f64, as written in their definitions.

use super::Activation;
use std::f64::consts::PI;

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// erf by its series near 0, and 1 − erfc by Lentz's continued fraction beyond.
fn erf(x: f64) -> f64 {
    let size = x.abs();
    if size < 2.5 {
        let (mut term, mut sum) = (size, size);
        for k in 1..80 {
            term *= -size * size / f64::from(k);
            sum += term / f64::from(2 * k + 1);
        }
        return (2.0 / PI.sqrt() * sum).copysign(x);
    }
    // erfc(x) = exp(−x²)/√π · 1/(x + (1/2)/(x + (2/2)/(x + (3/2)/(x + …))))
    let fraction = (1..80).rev().fold(size, |tail, k| size + f64::from(k) / 2.0 / tail);
    (1.0 - (-size * size).exp() / PI.sqrt() / fraction).copysign(x)
}

/// act(x) and act'(x)
pub(super) fn value_and_slope(act: Activation, x: f64) -> (f64, f64) {
    match act {
        Activation::Silu => {
            let s = sigmoid(x);
            (x * s, s + x * s * (1.0 - s))
        }
        Activation::GeluTanh => {
            let root = (2.0 / PI).sqrt();
            let t = (root * (x + 0.044_715 * x.powi(3))).tanh();
            let bend = root * (1.0 + 3.0 * 0.044_715 * x * x);
            (x * (1.0 + t) / 2.0, (1.0 + t) / 2.0 + x / 2.0 * (1.0 - t * t) * bend)
        }
        Activation::Gelu => {
            let below = (1.0 + erf(x / 2f64.sqrt())) / 2.0;
            (x * below, below + x * (-x * x / 2.0).exp() / (2.0 * PI).sqrt())
        }
        Activation::Relu => (x.max(0.0), f64::from(u8::from(x > 0.0))),
        Activation::Relu2 => (x.max(0.0).powi(2), 2.0 * x.max(0.0)),
        Activation::Clamped { .. } => {
            let s = sigmoid(1.702 * x);
            (x * s, s + 1.702 * x * s * (1.0 - s))
        }
    }
}

/// The gate and what it is multiplied by, and whether they let gradients through.
fn operands(act: Activation, gate: f64, up: f64) -> ((f64, f64), (f64, f64)) {
    let Activation::Clamped { limit } = act else { return ((gate, 1.0), (up, 1.0)) };
    let limit = f64::from(limit);
    let inside = |inside: bool| f64::from(u8::from(inside));
    let gate = (gate.min(limit), inside(gate <= limit));
    (gate, (up.clamp(-limit, limit) + 1.0, inside(up.abs() <= limit)))
}

pub(crate) fn gated(act: Activation, gate_up: &[f64], width: usize) -> Vec<f64> {
    let element = |row: &[f64], k: usize| {
        let ((gate, _), (up, _)) = operands(act, row[k], row[width + k]);
        value_and_slope(act, gate).0 * up
    };
    let row = |row: &[f64]| (0..width).map(|k| element(row, k)).collect::<Vec<_>>();
    gate_up.chunks_exact(2 * width).flat_map(row).collect()
}

pub(crate) fn gated_backward(act: Activation, gate_up: &[f64], width: usize, d_out: &[f64]) -> Vec<f64> {
    let mut grads = vec![0.0; gate_up.len()];
    for (r, d) in d_out.chunks_exact(width).enumerate() {
        for (k, d) in d.iter().enumerate() {
            let (gate, up) = (2 * r * width + k, (2 * r + 1) * width + k);
            let ((g, g_passes), (u, u_passes)) = operands(act, gate_up[gate], gate_up[up]);
            let (value, slope) = value_and_slope(act, g);
            grads[gate] = d * u * slope * g_passes;
            grads[up] = d * value * u_passes;
        }
    }
    grads
}

pub(super) fn plain(act: Activation, x: &[f64]) -> Vec<f64> {
    x.iter().map(|&x| value_and_slope(act, x).0).collect()
}

pub(super) fn plain_backward(act: Activation, x: &[f64], d_out: &[f64]) -> Vec<f64> {
    x.iter().zip(d_out).map(|(&x, d)| d * value_and_slope(act, x).1).collect()
}

#[test]
fn erf_is_erf() {
    // Abramowitz & Stegun, table 7.1, and both branches where they meet.
    for (x, want) in [(0.5, 0.520_499_877_8), (1.0, 0.842_700_792_9), (2.0, 0.995_322_265_0)] {
        assert!((erf(x) - want).abs() < 1e-10 && (erf(-x) + want).abs() < 1e-10);
    }
    assert!((erf(2.499_999_999) - erf(2.500_000_001)).abs() < 1e-11);
}
