//! One, two and three threads give the same bits, for every op on every path.

use crate::inputs::{bits, documents, hyper, noise, scale};
use half::bf16;
use smolt_tensor::Cpu;
use smolt_tensor::gemm::{Precision, View, gemm};
use smolt_tensor::isa::Isa;
use smolt_tensor::ops::attention::{self, Shape};
use smolt_tensor::ops::linear_cross_entropy::{self, Args};
use smolt_tensor::ops::{adamw, add, embedding, global_norm, rms_norm, rope, swiglu};
use smolt_tensor::simd::Elem;

fn same(what: &str, run: impl Fn(&Cpu) -> Vec<u32>) {
    for isa in Isa::available() {
        let one = run(&Cpu::with_isa(isa, 1));
        for threads in [2, 3] {
            assert!(
                run(&Cpu::with_isa(isa, threads)) == one,
                "{what} on {isa}: {threads} threads, other bits"
            );
        }
    }
}

fn every_op<E: Elem>(precision: Precision) {
    let (n, d, width, vocab) = (333, 40, 88, 517);
    let zeros = |len: usize| vec![E::from_f32(0.0); len];
    same("linear", |cpu| {
        let (x, dy, w) = (noise::<E>(1, n * d), noise::<E>(2, n * width), noise::<f32>(3, width * d));
        let (mut y, mut dx, mut dw) = (zeros(n * width), zeros(n * d), vec![0.0f32; width * d]);
        let (rows, weights) = (View::rows(&x, d), View::rows(&w, d));
        gemm(cpu, precision, (n, width, d), rows, weights.t(), &mut y, width, false);
        gemm(cpu, precision, (n, d, width), View::rows(&dy, width), weights, &mut dx, d, false);
        gemm(cpu, precision, (width, d, n), View::rows(&dy, width).t(), rows, &mut dw, d, false);
        [bits(&y), bits(&dx), bits(&dw)].concat()
    });
    let (shape, segments) = (Shape { heads: 4, kv_heads: 2, head_dim: 20 }, documents(&[200, 1, 70, 62]));
    same("attention", |cpu| {
        let (qkv, d_out) = (noise::<E>(1, n * shape.qkv_width()), noise::<E>(2, n * shape.out_width()));
        let (mut out, mut lse) = (zeros(n * shape.out_width()), vec![0.0; n * shape.heads]);
        let mut d_qkv = zeros(n * shape.qkv_width());
        attention::forward(cpu, shape, scale(shape), &segments, &qkv, &mut out, &mut lse);
        attention::backward(cpu, shape, scale(shape), &segments, &qkv, &out, &lse, &d_out, &mut d_qkv);
        [bits(&out), bits(&lse), bits(&d_qkv)].concat()
    });
    same("rms_norm and swiglu", |cpu| {
        let (x, delta, w, dy) =
            (noise::<f32>(1, n * d), noise::<E>(2, n * d), noise::<f32>(3, d), noise::<E>(4, n * d));
        let (mut sum, mut y, mut inv_rms) = (vec![0.0; n * d], zeros(n * d), vec![0.0; n]);
        rms_norm::forward(cpu, &x, Some(&delta[..]), &w, 1e-6, Some(&mut sum), &mut y, &mut inv_rms);
        let (mut dx, mut dw) = (vec![0.0f32; n * d], vec![0.0f32; d]);
        rms_norm::backward(cpu, &sum, &w, &inv_rms, &dy, &mut dx, &mut dw, false);
        let (mut act, mut d_gate_up) = (zeros(n * d / 2), zeros(n * d));
        swiglu::forward(cpu, &y, d / 2, &mut act);
        swiglu::backward(cpu, &y, d / 2, &act, &mut d_gate_up);
        [bits(&sum), bits(&y), bits(&dx), bits(&dw), bits(&act), bits(&d_gate_up)].concat()
    });
    let (tables, positions) = (rope::Tables::new(n, d, 1e4), (0..n as u32).collect::<Vec<_>>());
    same("rope", |cpu| {
        let mut x = noise::<E>(1, n * 3 * d);
        rope::forward(cpu, &tables, &positions, &mut x, 3 * d, 2, d);
        bits(&x)
    });
    let tokens: Vec<u32> = (0..n).map(|r| if r % 2 == 0 { 3 } else { (r * 7 % vocab) as u32 }).collect();
    same("embedding and loss", |cpu| {
        let (h, w) = (noise::<E>(1, n * d), noise::<f32>(2, vocab * d));
        let (mut dh, mut dw, mut nll) = (zeros(n * d), vec![0.0; vocab * d], vec![0.0; n]);
        let args = Args { h: &h[..], w: &w, labels: &tokens, scale: 0.1, z_loss: 1e-3 };
        let totals =
            linear_cross_entropy::forward_backward(cpu, precision, args, &mut dh, &mut dw, false, &mut nll);
        let mut x = vec![0.0; n * d];
        embedding::forward(cpu, &tokens, &w, d, &mut x);
        embedding::backward(cpu, &tokens, &x, d, &mut dw);
        let sums = [totals.nll_sum.to_bits(), totals.z_sum.to_bits()].map(|x| (x ^ x >> 32) as u32);
        [bits(&dh), bits(&dw), bits(&nll), bits(&x), sums.to_vec()].concat()
    });
}

#[test]
fn every_op_gives_the_same_bits_on_one_two_and_three_threads() {
    every_op::<f32>(Precision::Fp32);
    every_op::<bf16>(Precision::Bf16);
}

#[test]
fn the_optimizer_gives_the_same_bits_on_one_two_and_three_threads() {
    let len = 3 * (1 << 16) + 77;
    same("adamw, norm, sums", |cpu| {
        let (mut p, g) = (noise::<f32>(1, len), noise::<f32>(2, len));
        let (mut m, mut v) = (noise::<f32>(3, len), vec![0.5f32; len]);
        let norm = global_norm::sum_squares(cpu, &g);
        let hyper = hyper(2, global_norm::clip_scale(norm.sqrt(), 1.0));
        adamw::step(cpu, &mut p, &g, &mut m, &mut v, &hyper);
        add::add_assign(cpu, &mut m, &g);
        [bits(&p), bits(&m), bits(&v), vec![(norm.to_bits() ^ norm.to_bits() >> 32) as u32]].concat()
    });
}
