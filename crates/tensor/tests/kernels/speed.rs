//! Rates, for eyes and not for asserting: `cargo test --release -p smolt-tensor --test kernels speed -- --ignored
//! --nocapture`, on a machine that does nothing else.

use crate::inputs::noise;
use smolt_tensor::Cpu;
use smolt_tensor::gemm::Precision;
use smolt_tensor::isa::Isa;
use smolt_tensor::ops::activation::Activation;
use smolt_tensor::ops::moe_experts::{self, Dispatch, Gradient, Gradients, Layer};
use smolt_tensor::ops::moe_route::{self, Args, Gate, Routes, Routing};
use smolt_tensor::ops::{activation, linear};
use std::time::Instant;

const RUNS: usize = 9;

/// The shortest of some runs, in seconds.
fn shortest(mut run: impl FnMut()) -> f64 {
    let time = |_| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    };
    (0..=RUNS).map(time).fold(f64::INFINITY, f64::min)
}

struct Shape {
    n: usize,
    experts: usize,
    top_k: usize,
    d: usize,
    intermediate: usize,
    /// Added to the logits of the first expert, which skews the load.
    skew: f32,
}

/// Forward and backward of a dense MLP with as many rows, each of one product after another.
fn dense(cpu: &Cpu, rows: usize, d: usize, width: usize) -> [f64; 2] {
    let (x, w, w_down) =
        (noise::<f32>(1, rows * d), noise::<f32>(2, 2 * width * d), noise::<f32>(3, d * width));
    let (mut hidden, mut act, mut y) =
        (vec![0.0; rows * 2 * width], vec![0.0; rows * width], vec![0.0; rows * d]);
    let precision = Precision::Fp32;
    let forward = shortest(|| {
        linear::forward(cpu, precision, &x, &w, d, &mut hidden);
        activation::gated(cpu, Activation::Silu, &hidden, width, &mut act);
        linear::forward(cpu, precision, &act, &w_down, width, &mut y);
    });
    let (mut dx, mut dw, mut dw_down) = (vec![0.0; rows * d], vec![0.0; 2 * width * d], vec![0.0; d * width]);
    let (mut d_act, mut d_hidden) = (vec![0.0; rows * width], vec![0.0; rows * 2 * width]);
    let backward = shortest(|| {
        linear::backward_weight(cpu, precision, &y, &act, width, &mut dw_down, false);
        linear::backward_input(cpu, precision, &y, &w_down, width, &mut d_act, false);
        activation::gated_backward(cpu, Activation::Silu, &hidden, width, &d_act, &mut d_hidden);
        linear::backward_weight(cpu, precision, &d_hidden, &x, d, &mut dw, false);
        linear::backward_input(cpu, precision, &d_hidden, &w, d, &mut dx, false);
    });
    [forward, backward]
}

/// Route, and forward and backward of the experts.
fn mixture(cpu: &Cpu, shape: &Shape) -> [f64; 3] {
    let Shape { n, experts, top_k, d, intermediate: width, skew } = *shape;
    let rows = n * top_k;
    let routing = Routing {
        experts,
        top_k,
        gate: Gate::Softmax,
        norm_topk_prob: true,
        routed_scaling_factor: 1.0,
        groups: None,
        aux_loss_coef: 0.01,
        z_loss_coef: 0.001,
    };
    let mut logits = noise::<f32>(4, n * experts);
    logits.iter_mut().step_by(experts).for_each(|x| *x += skew);
    let indices = |len: usize| vec![0u32; len];
    let (mut ids, mut order, mut places) = (indices(rows), indices(rows), indices(rows));
    let (mut offsets, mut counts) = (indices(experts + 1), indices(experts));
    let (mut weights, mut stats) = (vec![0.0; rows], [0.0; 3]);
    let route = shortest(|| {
        let routes = Routes {
            weights: &mut weights,
            experts: &mut ids,
            order: &mut order,
            offsets: &mut offsets,
            places: &mut places,
            counts: &mut counts,
            stats: &mut stats,
        };
        moe_route::forward(cpu, &routing, Args { logits: &logits, bias: None, fractions: None }, routes);
    });
    let x = noise::<f32>(1, n * d);
    let (gate_up, down) = (noise::<f32>(2, experts * 2 * width * d), noise::<f32>(3, experts * d * width));
    let layer = Layer {
        d,
        intermediate: width,
        top_k,
        activation: Activation::Silu,
        gate_up: &gate_up,
        down: &down,
        biases: None,
        dispatch: Dispatch { weights: &weights, order: &order, offsets: &offsets, places: &places },
    };
    let (mut hidden, mut out) = (vec![0.0f32; rows * 2 * width], vec![0.0; n * d]);
    let forward = shortest(|| moe_experts::forward(cpu, Precision::Fp32, &layer, &x, &mut hidden, &mut out));
    let (mut dx, mut d_weights) = (vec![0.0; n * d], vec![0.0; rows]);
    let (mut d_gate_up, mut d_down) = (vec![0.0; gate_up.len()], vec![0.0; down.len()]);
    let backward = shortest(|| {
        let gradients = Gradients {
            x: Gradient { to: &mut dx, accumulate: false },
            weights: Gradient { to: &mut d_weights, accumulate: false },
            gate_up: Gradient { to: &mut d_gate_up, accumulate: false },
            down: Gradient { to: &mut d_down, accumulate: false },
            biases: None,
        };
        moe_experts::backward(cpu, Precision::Fp32, &layer, (&x, &hidden), &out, gradients);
    });
    [route, forward, backward]
}

#[test]
#[ignore = "measures"]
fn experts_beside_a_dense_layer_of_the_same_flops() {
    let shapes = [
        Shape { n: 2048, experts: 8, top_k: 2, d: 384, intermediate: 512, skew: 0.0 },
        Shape { n: 2048, experts: 8, top_k: 2, d: 384, intermediate: 512, skew: 1.0 },
        Shape { n: 2048, experts: 64, top_k: 8, d: 384, intermediate: 128, skew: 0.0 },
        Shape { n: 2048, experts: 32, top_k: 4, d: 256, intermediate: 256, skew: 0.0 },
    ];
    let isa = Isa::available().last().copied().unwrap();
    for threads in [1, 2] {
        let cpu = Cpu::with_isa(isa, threads);
        for shape in &shapes {
            let Shape { n, experts, top_k, d, intermediate, skew } = *shape;
            let flops = moe_experts::flops(n * top_k, d, intermediate) as f64 / 1e9;
            let [f, b] = dense(&cpu, n * top_k, d, intermediate);
            let [route, forward, backward] = mixture(&cpu, shape);
            println!(
                "{isa} ×{threads} n {n} E {experts} k {top_k} d {d} I {intermediate} skew {skew}: \
                 forward {:.1} GFLOP/s, {:.2} of dense; backward {:.1}, {:.2} of dense; route {:.2} ms",
                flops / forward,
                f / forward,
                2.0 * flops / backward,
                b / backward,
                1e3 * route
            );
        }
    }
}
