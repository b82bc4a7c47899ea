//! NaN and infinity reach everything that depends on them, on every path; denormal numbers do no harm.

use crate::inputs::{ACTIVATIONS, cpus, documents, hyper, noise, wide};
use half::bf16;
use smolt_tensor::gemm::{Precision, View, gemm};
use smolt_tensor::ops::activation::{self, Activation};
use smolt_tensor::ops::attention::{self, Attention, Scores, Shape, Window};
use smolt_tensor::ops::latent;
use smolt_tensor::ops::linear_cross_entropy::{self, Args};
use smolt_tensor::ops::rope::Pairing;
use smolt_tensor::ops::{adamw, add, embedding, global_norm, rms_norm, rope};
use smolt_tensor::simd::Elem;

const BAD: [f32; 3] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];

/// Asserts that x is not finite exactly where `touched` says.
fn reaches<E: Elem>(what: &str, x: &[E], touched: impl Fn(usize) -> bool) {
    for (i, x) in x.iter().enumerate() {
        assert_eq!(!x.to_f32().is_finite(), touched(i), "{what}[{i}] = {}", x.to_f32());
    }
}

/// Asserts that x is not finite where `touched` says.
fn reaches_at_least<E: Elem>(what: &str, x: &[E], touched: impl Fn(usize) -> bool) {
    for (i, x) in x.iter().enumerate().filter(|(i, _)| touched(*i)) {
        assert!(!x.to_f32().is_finite(), "{what}[{i}] = {}", x.to_f32());
    }
}

fn with<E: Elem>(mut x: Vec<E>, at: usize, value: f32) -> Vec<E> {
    x[at] = E::from_f32(value);
    x
}

fn products<A: Elem, C: Elem>(precision: Precision) {
    // Few rows, whole tiles, ragged tiles, several passes along k.
    for (m, n, k) in [(3, 70, 33), (28, 64, 64), (17, 35, 61), (29, 35, 2100)] {
        for (cpu, bad) in cpus().iter().flat_map(|cpu| BAD.map(|bad| (cpu, bad))) {
            let (row, col, inner) = (m / 2, n - 1, k - 1);
            let a = with(noise::<A>(1, m * k), row * k + inner, bad);
            let b = with(noise::<f32>(2, k * n), inner * n + col, bad);
            let mut c = vec![C::from_f32(0.0); m * n];
            let clean = noise::<f32>(2, k * n);
            let (a, clean) = (View::rows(&a, k), View::rows(&clean, n));
            gemm(cpu, precision, (m, n, k), a, clean, &mut c, n, false);
            reaches(&format!("{} {precision:?} a·b, a = {bad}", cpu.isa), &c, |i| i / n == row);
            let clean = noise::<A>(1, m * k);
            gemm(cpu, precision, (m, n, k), View::rows(&clean, k), View::rows(&b, n), &mut c, n, false);
            reaches(&format!("{} {precision:?} a·b, b = {bad}", cpu.isa), &c, |i| i % n == col);
        }
    }
}

#[test]
fn products_carry_them_to_their_row_or_column_and_no_further() {
    products::<f32, f32>(Precision::Fp32);
    products::<bf16, bf16>(Precision::Bf16);
    products::<f32, f32>(Precision::Bf16);
}

fn attend<E: Elem>(layer: &Attention) {
    let shape = layer.shape;
    let (qw, ow, d) = (shape.qkv_width(), shape.out_width(), shape.head_dim);
    let segments = documents(&[150]);
    let n = segments.len();
    let row = 70;
    // A query, a key and a value of head 1 (key-value head 0), and which outputs see them.
    let (query, key, value) = (d + 3, shape.heads * d + 3, (shape.heads + shape.kv_heads) * d + 3);
    for (cpu, bad) in cpus().iter().flat_map(|cpu| BAD.map(|bad| (cpu, bad))) {
        let (mut out, mut lse) = (vec![E::from_f32(0.0); n * ow], vec![0.0; n * shape.heads]);
        for (what, at) in [("query", query), ("key", key), ("value", value)] {
            let what = format!("{} {:?} {what} = {bad}", cpu.isa, E::DTYPE);
            let qkv = with(noise::<E>(1, n * qw), row * qw + at, bad);
            attention::forward(cpu, layer, None, &segments, &qkv, &mut out, &mut lse);
            if bad.is_nan() {
                let sees = |i: usize| match (i / ow, i % ow / d) {
                    (r, head) if at == query => r == row && head == 1,
                    (r, head) if at == key => r >= row && head < 2,
                    (r, head) => r >= row && head < 2 && i % d == 3,
                };
                reaches_at_least(&format!("{what}: out"), &out, sees);
            }
            // An infinite key may rightly get no attention, but then the gradient knows.
            let d_out = noise::<E>(2, n * ow);
            let mut d_qkv = vec![E::from_f32(0.0); n * qw];
            let output = (&out[..], &lse[..]);
            attention::backward(cpu, layer, None, &segments, &qkv, output, &d_out, &mut d_qkv, None);
            let lost = d_qkv.iter().chain(&out).all(|x| x.to_f32().is_finite());
            assert!(!lost, "{what}: no trace in outputs and gradients");
        }
        let qkv = noise::<E>(1, n * qw);
        attention::forward(cpu, layer, None, &segments, &qkv, &mut out, &mut lse);
        let d_out = with(noise::<E>(2, n * ow), row * ow + d + 3, bad);
        let mut d_qkv = vec![E::from_f32(0.0); n * qw];
        let output = (&out[..], &lse[..]);
        attention::backward(cpu, layer, None, &segments, &qkv, output, &d_out, &mut d_qkv, None);
        // Its own query, and the keys and values that its row sees.
        reaches_at_least(&format!("{} d_out = {bad}: d_qkv", cpu.isa), &d_qkv, |i| {
            let (r, at) = (i / qw, i % qw);
            (r == row && (d..2 * d).contains(&at)) || (r < row && at == value)
        });
    }
}

#[test]
fn attention_carries_them_to_every_row_that_sees_them() {
    let plain = Attention::new(Shape::new(4, 2, 16));
    let layers = [
        plain,
        Attention { scores: Scores { softcap: Some(20.0), alibi: true, ..plain.scores }, ..plain },
        Attention { window: Window::Sliding(100), sink_tokens: 3, ..plain },
    ];
    for layer in &layers {
        attend::<f32>(layer);
        attend::<bf16>(layer);
    }
}

fn rows<E: Elem>() {
    let (n, d, row, at) = (70, 19, 41, 17);
    for (cpu, bad) in cpus().iter().flat_map(|cpu| BAD.map(|bad| (cpu, bad))) {
        let isa = cpu.isa;
        let in_row = |i: usize| i / d == row;
        let (x, w) = (with(noise::<f32>(1, n * d), row * d + at, bad), noise::<f32>(2, d));
        let (mut y, mut inv_rms) = (vec![E::from_f32(0.0); n * d], vec![0.0; n]);
        rms_norm::forward::<E, f32>(cpu, &x, None, &w, 1e-6, None, &mut y, &mut inv_rms);
        // ∞ / ∞ is NaN; the row's other elements are divided by ∞.
        reaches(&format!("{isa} rms_norm({bad})"), &y, |i| {
            if bad.is_nan() { in_row(i) } else { i == row * d + at }
        });
        let (x, dy) = (noise::<f32>(1, n * d), with(noise::<E>(3, n * d), row * d + at, bad));
        rms_norm::forward::<E, f32>(cpu, &x, None, &w, 1e-6, None, &mut y, &mut inv_rms);
        let (mut dx, mut dw) = (vec![0.0f32; n * d], vec![0.0f32; d]);
        rms_norm::backward(cpu, &x, &w, &inv_rms, &dy, &mut dx, false, &mut dw, false);
        reaches(&format!("{isa} rms_norm: dy = {bad}, dx"), &dx, in_row);
        reaches(&format!("{isa} rms_norm: dy = {bad}, dw"), &dw, |i| i == at);

        for act in ACTIVATIONS {
            // Infinity is clamped, and no gate where it is negative and the others' limit is zero; NaN is neither.
            let clamps = matches!(
                act,
                Activation::Clamped { .. } | Activation::Relu | Activation::Relu2 | Activation::Gelu
            );
            for gate in [true, false].into_iter().filter(|_| bad.is_nan() || !clamps) {
                let place = row * 2 * d + if gate { at } else { d + at };
                let gate_up = with(noise::<E>(4, 2 * n * d), place, bad);
                activation::gated(cpu, act, &gate_up, d, &mut y);
                reaches(&format!("{isa} {act:?}({bad})"), &y, |i| i == row * d + at);
            }
        }
        let (gate_up, d_out) = (noise::<E>(4, 2 * n * d), with(noise::<E>(5, n * d), row * d + at, bad));
        let mut d_gate_up = vec![E::from_f32(0.0); 2 * n * d];
        activation::gated_backward(cpu, Activation::Silu, &gate_up, d, &d_out, &mut d_gate_up);
        reaches(&format!("{isa} swiglu: d_out = {bad}"), &d_gate_up, |i| i / (2 * d) == row && i % d == at);

        let (tables, positions) =
            (rope::Tables::plain(n + 1, 2 * d, 1e4), (1..=n as u32).collect::<Vec<_>>());
        let mut x = with(noise::<E>(6, n * 2 * d), row * 2 * d + at, bad);
        rope::forward(cpu, &tables, &positions, &mut x, 2 * d, rope::Heads::whole(1, 2 * d));
        reaches(&format!("{isa} rope({bad})"), &x, |i| i / (2 * d) == row && i % d == at);
    }
}

/// The shared key reaches its pair in all heads' keys, a pair of any head's gradient the shared key's.
fn latents<E: Elem>() {
    let (s, n) = (latent::Shape { heads: 3, nope: 5, rope: 38, value: 7 }, 4);
    let (tables, positions) = (rope::Tables::plain(n + 1, s.rope, 1e4), (1..=n as u32).collect::<Vec<_>>());
    for (cpu, bad) in cpus().iter().flat_map(|cpu| BAD.map(|bad| (cpu, bad))) {
        for pairing in [Pairing::HalfSplit, Pairing::Interleaved] {
            let rotation = latent::Rotation { tables: &tables, pairing, positions: &positions };
            let (row, pair, dim) = (2, pairing.features(18, 19), s.head_dim());
            let k_rope = with(noise::<f32>(1, n * s.rope), row * s.rope + pair[0], bad);
            let (q, kv_up) = (noise::<E>(2, n * s.q_width()), noise::<E>(3, n * s.kv_up_width()));
            let mut qkv = vec![E::from_f32(0.0); n * s.qkv_width()];
            latent::forward(cpu, s, rotation, &q, &kv_up, &k_rope, &mut qkv);
            let in_keys = |i: usize| {
                let keys = (i % s.qkv_width()).checked_sub(s.q_width()).filter(|i| *i < s.q_width());
                let feature = keys.and_then(|i| (i % dim).checked_sub(s.nope));
                i / s.qkv_width() == row && feature.is_some_and(|i| pair.contains(&i))
            };
            reaches(&format!("{} latent: k_rope = {bad}", cpu.isa), &qkv, in_keys);
            let at = row * s.qkv_width() + s.q_width() + dim + s.nope + pair[1];
            let d_qkv = with(noise::<E>(4, n * s.qkv_width()), at, bad);
            let (mut d_q, mut d_kv_up, mut d_k_rope) = (q.clone(), kv_up.clone(), vec![0.0f32; n * s.rope]);
            let (d_q, d_kv_up) = ((&mut d_q[..], false), (&mut d_kv_up[..], false));
            let grads = latent::Grads { d_q, d_kv_up, d_k_rope: (&mut d_k_rope[..], false) };
            latent::backward(cpu, s, rotation, &d_qkv, grads);
            let in_pair = |i: usize| i / s.rope == row && pair.contains(&(i % s.rope));
            reaches(&format!("{} latent: d_key = {bad}", cpu.isa), &d_k_rope, in_pair);
        }
    }
}

#[test]
fn ops_over_rows_carry_them_to_what_they_touch() {
    rows::<f32>();
    rows::<bf16>();
    latents::<f32>();
    latents::<bf16>();
}

#[test]
fn flat_ops_carry_them() {
    let (len, at) = (5003, 4999);
    for (cpu, bad) in cpus().iter().flat_map(|cpu| BAD.map(|bad| (cpu, bad))) {
        let isa = cpu.isa;
        let g = with(noise::<f32>(1, len), at, bad);
        assert!(!global_norm::sum_squares(cpu, &g).is_finite() && !global_norm::all_finite(cpu, &g));
        let (mut p, mut m, mut v) = (noise::<f32>(2, len), vec![0.0f32; len], vec![0.0f32; len]);
        let hyper = hyper(1, 1.0);
        adamw::step(cpu, &mut p, &g, &mut m, &mut v, &hyper);
        for (what, x) in [("p", &p), ("m", &m), ("v", &v)] {
            reaches(&format!("{isa} adamw: g = {bad}, {what}"), x, |i| i == at);
        }
        let mut sum = noise::<f32>(3, len);
        add::add_assign(cpu, &mut sum, &g);
        add::scale(cpu, &mut sum, 0.5);
        let mut narrow = vec![bf16::ZERO; len];
        add::convert(cpu, &sum, &mut narrow);
        reaches(&format!("{isa} add, scale, convert ({bad})"), &narrow, |i| i == at);
        let mut out = vec![0.0; 3 * 7];
        let table = with(noise::<f32>(4, 5 * 7), 2 * 7 + 6, bad);
        embedding::forward(cpu, &[1, 2, 4], &table, 7, 1.0, &mut out);
        reaches(&format!("{isa} embedding({bad})"), &out, |i| i == 7 + 6);
    }
}

fn head<E: Elem>(precision: Precision) {
    let (n, d, vocab, row) = (23, 16, 131, 9);
    let labels: Vec<u32> = (0..n).map(|r| (r * 7 % vocab) as u32).collect();
    for (cpu, bad) in cpus().iter().flat_map(|cpu| BAD.map(|bad| (cpu, bad))) {
        let (mut dh, mut dw, mut nll) = (vec![E::from_f32(0.0); n * d], vec![0.0; vocab * d], vec![0.0; n]);
        let mut run = |h: &[E], w: &[f32]| {
            let args = Args { h, w, labels: &labels, scale: 1.0, z_loss: 0.0, softcap: None };
            linear_cross_entropy::forward_backward(cpu, precision, args, &mut dh, &mut dw, false, &mut nll);
            (dh.clone(), dw.clone(), nll.clone())
        };
        let what = format!("{} {precision:?} loss, h = {bad}", cpu.isa);
        let (dh, dw, nll) = run(&with(noise::<E>(1, n * d), row * d + 3, bad), &noise(2, vocab * d));
        reaches(&what, &nll, |i| i == row);
        reaches(&format!("{what}, dh"), &dh, |i| i / d == row);
        reaches_at_least(&format!("{what}, dw"), &dw, |i| i % d == 3);
        // A weight of a token that is nobody's label: its logit is in every sum.
        let token = 130;
        assert!(!labels.contains(&token));
        let what = format!("{} {precision:?} loss, w = {bad}", cpu.isa);
        let w = with(noise::<f32>(2, vocab * d), token as usize * d + 3, bad);
        let (dh, _, nll) = run(&noise::<E>(1, n * d), &w);
        if bad.is_nan() {
            reaches(&what, &nll, |_| true);
        }
        // A logit of −∞ rightly has no probability; its weight is infinite all the same.
        reaches_at_least(&format!("{what}, dh"), &dh, |i| i % d == 3);
    }
}

#[test]
fn the_loss_carries_them_into_losses_and_gradients() {
    head::<f32>(Precision::Fp32);
    head::<bf16>(Precision::Bf16);
}

/// Denormal operands may count as zero (`vdpbf16ps` takes them so), which is far below any sum's rounding.
#[test]
fn denormal_numbers_do_no_harm() {
    let tiny = |seed, len| noise::<f32>(seed, len).iter().map(|x| x * 1e-39).collect::<Vec<f32>>();
    let (m, n, k) = (17, 35, 61);
    let (a, b) = (tiny(1, m * k), noise::<f32>(2, k * n));
    let shape = Shape::new(2, 1, 16);
    let layer = Attention::new(shape);
    let segments = documents(&[70]);
    for cpu in cpus() {
        for precision in [Precision::Fp32, Precision::Bf16] {
            let mut c = vec![f32::NAN; m * n];
            gemm(&cpu, precision, (m, n, k), View::rows(&a, k), View::rows(&b, n), &mut c, n, false);
            for (i, c) in wide(&c).into_iter().enumerate() {
                let want: f64 =
                    (0..k).map(|p| f64::from(a[i / n * k + p]) * f64::from(b[p * n + i % n])).sum();
                assert!((c - want).abs() < 1e-37, "{} {precision:?} c[{i}] = {c}, want {want}", cpu.isa);
            }
        }
        let (qkv, d_out) = (tiny(3, 70 * shape.qkv_width()), noise::<f32>(4, 70 * shape.out_width()));
        let (mut out, mut lse) = (d_out.clone(), vec![0.0; 140]);
        let mut d_qkv = qkv.clone();
        attention::forward(&cpu, &layer, None, &segments, &qkv, &mut out, &mut lse);
        let output = (&out[..], &lse[..]);
        attention::backward(&cpu, &layer, None, &segments, &qkv, output, &d_out, &mut d_qkv, None);
        assert!(out.iter().all(|x| x.abs() < 1e-38) && d_qkv.iter().all(|x| x.is_finite()));
        for (row, lse) in lse[..70].iter().enumerate() {
            assert!(
                (f64::from(*lse) - (row as f64 + 1.0).ln()).abs() < 1e-5,
                "{} lse[{row}] = {lse}",
                cpu.isa
            );
        }
        let (mut y, mut inv_rms) = (vec![0.0f32; 4 * 19], vec![0.0; 4]);
        rms_norm::forward::<f32, f32>(&cpu, &tiny(5, 76), None, &[1.0; 19], 1e-6, None, &mut y, &mut inv_rms);
        assert!(y.iter().all(|y| y.abs() < 1e-35) && inv_rms.iter().all(|r| (r - 1e3).abs() < 0.1));
        activation::gated(&cpu, Activation::Silu, &[tiny(6, 19), vec![1.0; 19]].concat(), 19, &mut y[..19]);
        assert!(y[..19].iter().all(|y| y.abs() < 1e-38));
        assert_eq!(global_norm::clip_scale(global_norm::sum_squares(&cpu, &a).sqrt(), 1.0), 1.0);
    }
}
