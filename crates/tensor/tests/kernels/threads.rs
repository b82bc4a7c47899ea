//! One, two and three threads give the same bits, for every op on every path.

use crate::inputs::{ACTIVATIONS, bits, documents, hyper, layers, noise, routing, sinks};
use half::bf16;
use smolt_tensor::Cpu;
use smolt_tensor::gemm::{Precision, View, gemm};
use smolt_tensor::isa::Isa;
use smolt_tensor::ops::activation::{self, Activation};
use smolt_tensor::ops::attention::{self, Attention, Shape};
use smolt_tensor::ops::latent::{self, absorbed};
use smolt_tensor::ops::layer_norm::{Affine, AffineGrads};
use smolt_tensor::ops::linear_cross_entropy::{self, Args};
use smolt_tensor::ops::moe_experts::{self, Dispatch, Gradient, Gradients, Layer};
use smolt_tensor::ops::moe_route::{self, Gate, Routes, Saved};
use smolt_tensor::ops::qk_norm::Part;
use smolt_tensor::ops::rope::{Heads, Pairing};
use smolt_tensor::ops::{
    adamw, add, embedding, global_norm, layer_norm, linear, qk_norm, rms_norm, rope, softcap, split_columns,
};
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

fn attend<E: Elem>(layer: &Attention, segments: &[u32]) {
    same(&format!("{layer:?}"), |cpu| {
        let (n, shape, sinks) = (segments.len(), layer.shape, sinks(layer));
        let (qkv, d_out) = (noise::<E>(1, n * shape.qkv_width()), noise::<E>(2, n * shape.out_width()));
        let (mut out, mut d_qkv) = (d_out.clone(), qkv.clone());
        let (mut lse, mut d_sinks) = (vec![0.0; n * shape.heads], vec![0.0; shape.heads]);
        attention::forward(cpu, layer, Some(&sinks), segments, &qkv, &mut out, &mut lse);
        let (output, more) = ((&out[..], &lse[..]), Some((&mut d_sinks[..], false)));
        attention::backward(cpu, layer, Some(&sinks), segments, &qkv, output, &d_out, &mut d_qkv, more);
        [bits(&out), bits(&lse), bits(&d_qkv), bits(&d_sinks)].concat()
    });
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
    for layer in layers(Shape::new(4, 2, 20)) {
        attend::<E>(&layer, &documents(&[200, 1, 70, 62]));
    }
    same("rms_norm and swiglu", |cpu| {
        let (x, delta, w, dy) =
            (noise::<f32>(1, n * d), noise::<E>(2, n * d), noise::<f32>(3, d), noise::<E>(4, n * d));
        let (mut sum, mut y, mut inv_rms) = (vec![0.0; n * d], zeros(n * d), vec![0.0; n]);
        rms_norm::forward(cpu, &x, Some(&delta[..]), &w, 1e-6, Some(&mut sum), &mut y, &mut inv_rms);
        let (mut dx, mut dw) = (vec![0.0f32; n * d], vec![0.0f32; d]);
        rms_norm::backward(cpu, &sum, &w, &inv_rms, &dy, &mut dx, true, &mut dw, false);
        let (mut act, mut d_gate_up) = (zeros(n * d / 2), zeros(n * d));
        activation::gated(cpu, Activation::Silu, &y, d / 2, &mut act);
        activation::gated_backward(cpu, Activation::Silu, &y, d / 2, &act, &mut d_gate_up);
        [bits(&sum), bits(&y), bits(&dx), bits(&dw), bits(&act), bits(&d_gate_up)].concat()
    });
    let (tables, positions) = (rope::Tables::plain(n, d, 1e4), (0..n as u32).collect::<Vec<_>>());
    same("rope", |cpu| {
        let (mut x, mut partly) = (noise::<E>(1, n * 3 * d), noise::<E>(1, n * 3 * (d + 4)));
        rope::forward(cpu, &tables, &positions, &mut x, 3 * d, Heads::whole(2, d));
        let heads = Heads { pairing: Pairing::Interleaved, first: d + 4, count: 2, head_dim: d + 4, at: 4 };
        rope::forward(cpu, &tables, &positions, &mut partly, 3 * (d + 4), heads);
        [bits(&x), bits(&partly)].concat()
    });
    let tokens: Vec<u32> = (0..n).map(|r| if r % 2 == 0 { 3 } else { (r * 7 % vocab) as u32 }).collect();
    same("embedding and loss", |cpu| {
        let (h, w) = (noise::<E>(1, n * d), noise::<f32>(2, vocab * d));
        let (mut dh, mut dw, mut nll) = (zeros(n * d), vec![0.0; vocab * d], vec![0.0; n]);
        let args = Args { h: &h[..], w: &w, labels: &tokens, scale: 0.1, z_loss: 1e-3, softcap: None };
        let totals =
            linear_cross_entropy::forward_backward(cpu, precision, args, &mut dh, &mut dw, false, &mut nll);
        let mut x = vec![0.0; n * d];
        embedding::forward(cpu, &tokens, &w, d, 1.0, &mut x);
        embedding::backward(cpu, &tokens, &x, d, 1.0, &mut dw);
        let sums = [totals.nll_sum.to_bits(), totals.z_sum.to_bits()].map(|x| (x ^ x >> 32) as u32);
        [bits(&dh), bits(&dw), bits(&nll), bits(&x), sums.to_vec()].concat()
    });
}

fn latent_attention<E: Elem>(precision: Precision) {
    let (n, d) = (333, 40);
    let zeros = |len: usize| vec![E::from_f32(0.0); len];
    let (tables, positions) = (rope::Tables::plain(n, d, 1e4), (0..n as u32).collect::<Vec<_>>());
    let (s, rank) = (latent::Shape { heads: 3, nope: 12, rope: d, value: 20 }, 24);
    same("latent", |cpu| {
        let pairing = Pairing::Interleaved;
        let rotation = latent::Rotation { tables: &tables, pairing, positions: &positions };
        let (mut q, mut kv_up) = (noise::<E>(1, n * s.q_width()), noise::<E>(2, n * s.kv_up_width()));
        let (mut k_rope, w) = (noise::<f32>(3, n * d), noise::<f32>(4, s.kv_up_width() * rank));
        let (mut queries, mut keys) = (zeros(n * s.heads * (rank + d)), zeros(n * (rank + d)));
        absorbed::queries(cpu, precision, s, rotation, &q, &w, &mut queries);
        absorbed::keys(cpu, s, rotation, &q[..n * rank], &k_rope, &mut keys);
        let mut values = zeros(n * s.heads * s.value);
        absorbed::values(cpu, precision, s, &queries[..n * s.heads * rank], &w, &mut values);
        let mut qkv = zeros(n * s.qkv_width());
        latent::forward(cpu, s, rotation, &q, &kv_up, &k_rope, &mut qkv);
        let (d_q, d_kv_up, d_k_rope) = ((&mut q[..], true), (&mut kv_up[..], true), (&mut k_rope[..], true));
        latent::backward(cpu, s, rotation, &qkv, latent::Grads { d_q, d_kv_up, d_k_rope });
        let (mut a, mut b) = (zeros(n * 100), zeros(n * (s.q_width() - 100)));
        split_columns::forward(cpu, &q, s.q_width(), 100, &mut a, &mut b);
        split_columns::backward(cpu, &a, &b, 100, &mut q, s.q_width(), true);
        [bits(&queries), bits(&keys), bits(&values), bits(&qkv), bits(&q), bits(&kv_up), bits(&k_rope)]
            .concat()
    });
}

#[test]
fn every_op_gives_the_same_bits_on_one_two_and_three_threads() {
    every_op::<f32>(Precision::Fp32);
    every_op::<bf16>(Precision::Bf16);
    latent_attention::<f32>(Precision::Fp32);
    latent_attention::<bf16>(Precision::Bf16);
}

fn mixture<E: Elem>(precision: Precision, gate: Gate) {
    let (n, d, width, experts, k) = (333, 40, 72, 12, 3);
    let routing = routing(experts, k, gate);
    same(&format!("experts of a {gate:?} gate"), |cpu| {
        let (logits, bias) = (noise::<f32>(1, n * experts), noise::<f32>(2, experts));
        let indices = |len: usize| vec![0u32; len];
        let (mut ids, mut order, mut places) = (indices(n * k), indices(n * k), indices(n * k));
        let (mut offsets, mut counts) = (indices(experts + 1), indices(experts));
        let (mut weights, mut stats) = (vec![0.0; n * k], [0.0; 3]);
        let routes = Routes {
            weights: &mut weights,
            experts: &mut ids,
            order: &mut order,
            offsets: &mut offsets,
            places: &mut places,
            counts: &mut counts,
            stats: &mut stats,
        };
        let args = moe_route::Args { logits: &logits, bias: Some(&bias), fractions: None };
        moe_route::forward(cpu, &routing, args, routes);
        let (gate_up, down) =
            (noise::<f32>(3, experts * 2 * width * d), noise::<f32>(4, experts * d * width));
        let biases = [noise::<f32>(5, experts * 2 * width), noise::<f32>(6, experts * d)];
        let layer = Layer {
            d,
            intermediate: width,
            top_k: k,
            activation: Activation::Silu,
            gate_up: &gate_up,
            down: &down,
            biases: Some([&biases[0], &biases[1]]),
            dispatch: Dispatch { weights: &weights, order: &order, offsets: &offsets, places: &places },
        };
        let x = noise::<E>(7, n * d);
        let (mut hidden, mut out) = (vec![E::from_f32(0.0); n * k * 2 * width], vec![0.0; n * d]);
        moe_experts::forward(cpu, precision, &layer, &x, &mut hidden, &mut out);
        let (mut dx, mut d_weights) = (vec![E::from_f32(0.0); n * d], vec![0.0; n * k]);
        let (mut d_gate_up, mut d_down) = (vec![0.0; gate_up.len()], vec![0.0; down.len()]);
        let mut d_biases = biases.clone();
        let gradients = Gradients {
            x: Gradient { to: &mut dx, accumulate: false },
            weights: Gradient { to: &mut d_weights, accumulate: false },
            gate_up: Gradient { to: &mut d_gate_up, accumulate: false },
            down: Gradient { to: &mut d_down, accumulate: false },
            biases: Some(d_biases.each_mut().map(|to| Gradient { to, accumulate: true })),
        };
        moe_experts::backward(cpu, precision, &layer, (&x, &hidden), &out, gradients);
        let saved =
            Saved { logits: &logits, experts: &ids, counts: &counts, fractions: None, scale_aux: 0.5 };
        let mut d_logits = vec![0.0; logits.len()];
        moe_route::backward(cpu, &routing, saved, &d_weights, &mut d_logits, false);
        let stats = stats.map(f64::to_bits).map(|x| (x ^ x >> 32) as u32).to_vec();
        let outputs = [bits(&weights), ids, order, offsets, stats, bits(&hidden), bits(&out)].concat();
        let [d_hidden, d_bias_out] = d_biases.map(|d| bits(&d));
        let of_weights = [bits(&d_gate_up), bits(&d_down), d_hidden, d_bias_out].concat();
        [outputs, bits(&dx), bits(&d_weights), of_weights, bits(&d_logits)].concat()
    });
}

#[test]
fn experts_give_the_same_bits_on_one_two_and_three_threads() {
    mixture::<f32>(Precision::Fp32, Gate::Softmax);
    mixture::<f32>(Precision::Fp32, Gate::Sigmoid);
    mixture::<bf16>(Precision::Bf16, Gate::SoftmaxTopK);
}

fn every_variant<E: Elem>(precision: Precision) {
    let (n, d, width) = (333, 40, 88);
    let zeros = |len: usize| vec![E::from_f32(0.0); len];
    same("linear with bias", |cpu| {
        let (x, w, b) = (noise::<E>(1, n * d), noise::<f32>(2, width * d), noise::<f32>(3, width));
        let (mut y, mut db) = (zeros(n * width), vec![0.0f32; width]);
        linear::forward_bias(cpu, precision, &x, &w, &b, d, &mut y);
        linear::backward_bias(cpu, &y, &mut db, false);
        [bits(&y), bits(&db)].concat()
    });
    same("activations", |cpu| {
        let (x, dy) = (noise::<E>(1, n * d), noise::<E>(2, n * d / 2));
        let mut all = Vec::new();
        for act in ACTIVATIONS {
            let (mut y, mut dx) = (zeros(n * d / 2), zeros(n * d));
            activation::gated(cpu, act, &x, d / 2, &mut y);
            activation::gated_backward(cpu, act, &x, d / 2, &dy, &mut dx);
            all.extend([bits(&y), bits(&dx)].concat());
        }
        all
    });
    same("layer_norm", |cpu| {
        let (x, w, dy) = (noise::<f32>(1, n * d), noise::<f32>(2, d), noise::<E>(3, n * d));
        let (mut y, mut stats, mut dx) = (zeros(n * d), vec![0.0; 2 * n], vec![0.0f32; n * d]);
        let (mut dw, mut db) = (vec![0.0f32; d], vec![0.0f32; d]);
        layer_norm::forward(cpu, &x, None, Affine { w: &w, b: &w }, 1e-5, None, &mut y, &mut stats);
        let grads = AffineGrads { dw: &mut dw, accumulate_dw: false, db: &mut db, accumulate_db: false };
        layer_norm::backward(cpu, &x, &w, &stats, &dy, &mut dx, false, grads);
        [bits(&y), bits(&stats), bits(&dx), bits(&dw), bits(&db)].concat()
    });
    same("qk_norm and softcap", |cpu| {
        let (x, dy, w) = (noise::<E>(1, n * width), noise::<E>(2, n * width), noise::<f32>(3, 16));
        let parts = [Part { width: 48, w: &w }, Part { width: 16, w: &w }];
        let (mut y, mut inv_rms, mut dx) = (zeros(n * width), vec![0.0; 4 * n], zeros(n * width));
        let (mut dw_q, mut dw_k) = (vec![0.0f32; 16], vec![0.0f32; 16]);
        qk_norm::forward(cpu, &x, width, parts, 1e-6, &mut y, &mut inv_rms);
        let dw = [(&mut dw_q[..], false), (&mut dw_k[..], false)];
        qk_norm::backward(cpu, &x, width, parts, &inv_rms, &dy, &mut dx, dw);
        softcap::forward(cpu, 0.1, &mut inv_rms);
        [bits(&y), bits(&inv_rms), bits(&dx), bits(&dw_q), bits(&dw_k)].concat()
    });
}

#[test]
fn every_variant_gives_the_same_bits_on_one_two_and_three_threads() {
    every_variant::<f32>(Precision::Fp32);
    every_variant::<bf16>(Precision::Bf16);
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
