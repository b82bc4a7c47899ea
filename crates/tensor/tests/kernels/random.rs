//! Random ragged shapes against the definition in f64, on every path.

use crate::inputs::{cpus, noise, wide};
use half::bf16;
use proptest::prelude::*;
use smolt_tensor::gemm::{Precision, View, gemm};
use smolt_tensor::ops::attention::{Attention, Scores, Shape, Window, alibi_slope, backward, forward};
use smolt_tensor::simd::Elem;

/// Unit roundoff of fp32 and bf16.
const FP32: f64 = 1.0 / (1u64 << 24) as f64;
const BF16: f64 = 1.0 / 256.0;

/// The bound of a product's error, relative to Σ|a·b|: k roundings of fp32 sums, and in bf16 those of both operands
/// where they are not stored as bf16 already.
fn bound(k: usize, rounded_operands: i32) -> f64 {
    let sums = (k + 2) as f64 * FP32;
    (1.0 + BF16).powi(rounded_operands) * (1.0 + sums) - 1.0
}

fn product<A: Elem, B: Elem, C: Elem>(precision: Precision, dims: (usize, usize, usize), layout: u8) {
    let (m, n, k) = dims;
    let (a, b, before) = (noise::<A>(1, m * k), noise::<B>(2, k * n), noise::<C>(3, m * n));
    let a_at = |i: usize, p: usize| a[if layout & 1 == 1 { p * m + i } else { i * k + p }];
    let b_at = |p: usize, j: usize| b[if layout & 2 == 2 { j * k + p } else { p * n + j }];
    let accumulate = layout & 4 == 4;
    let rounds = |size: usize| i32::from(precision == Precision::Bf16 && size == 4);
    let relative = bound(k, rounds(size_of::<A>()) + rounds(size_of::<B>()));
    for cpu in cpus() {
        let mut c = before.clone();
        let a = if layout & 1 == 1 { View::rows(&a, m).t() } else { View::rows(&a, k) };
        let b = if layout & 2 == 2 { View::rows(&b, k).t() } else { View::rows(&b, n) };
        gemm(&cpu, precision, dims, a, b, &mut c, n, accumulate);
        for (at, got) in c.iter().enumerate() {
            let (i, j) = (at / n, at % n);
            let terms = (0..k).map(|p| f64::from(a_at(i, p).to_f32()) * f64::from(b_at(p, j).to_f32()));
            let (sum, size) = terms.fold((0.0, 0.0), |(sum, size), x| (sum + x, size + x.abs()));
            let held = if accumulate { f64::from(before[at].to_f32()) } else { 0.0 };
            let (want, got) = (held + sum, f64::from(got.to_f32()));
            let stored = if size_of::<C>() == 2 { BF16 } else { FP32 };
            let allowed = relative * size + 2.0 * stored * (want.abs() + relative * size + held.abs());
            assert!(
                (got - want).abs() <= allowed,
                "{} {precision:?} {dims:?} layout {layout} c[{i}, {j}] = {got}, want {want} ± {allowed:e}",
                cpu.isa
            );
        }
    }
}

/// Forward and backward of attention as defined: softmax over the rows that are seen.
struct Exact {
    out: Vec<f64>,
    d_qkv: Vec<f64>,
    d_sinks: Vec<f64>,
}

/// Whether row `row` sees row `other`, no later and of the same document.
fn sees(layer: &Attention, document: usize, row: usize, other: usize) -> bool {
    let (row, other) = (row - document, other - document);
    other < layer.sink_tokens
        || match layer.window {
            Window::Full => true,
            Window::Sliding(size) => row - other < size,
            Window::Chunked(size) => row / size == other / size,
        }
}

fn exact(layer: &Attention, sinks: &[f64], segments: &[u32], qkv: &[f64], d_out: &[f64]) -> Exact {
    let (n, shape) = (segments.len(), layer.shape);
    let (d, dv, qw, ow) = (shape.head_dim, shape.value_dim, shape.qkv_width(), shape.out_width());
    let (mut out, mut d_qkv) = (vec![0.0; n * ow], vec![0.0; n * qw]);
    let mut d_sinks = vec![0.0; sinks.len()];
    let (scale, cap) = (f64::from(layer.scores.scale), layer.scores.softcap.map(f64::from));
    for head in 0..shape.heads {
        let kv = head / shape.group();
        let query = |r: usize| r * qw + head * d;
        let key = |r: usize| r * qw + (shape.heads + kv) * d;
        let value = |r: usize| r * qw + (shape.heads + shape.kv_heads) * d + kv * dv;
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let fall = if layer.scores.alibi { f64::from(alibi_slope(shape.heads, head)) } else { 0.0 };
        for r in 0..n {
            let document = segments[r] as usize;
            let seen = (document..r + 1).filter(|&s| sees(layer, document, r, s));
            // A score, and its slope along the product.
            let score = |s: usize| {
                let x = scale * dot(&qkv[query(r)..][..d], &qkv[key(s)..][..d]);
                let t = cap.map_or(0.0, |cap| (x / cap).tanh());
                (cap.map_or(x, |cap| cap * t) - fall * (r - s) as f64, scale * (1.0 - t * t))
            };
            let sink = sinks.get(head).map_or(0.0, |sink| sink.exp());
            let sum = sink + seen.clone().map(|s| score(s).0.exp()).sum::<f64>();
            let (o, go) = (r * ow + head * dv, &d_out[r * ow + head * dv..][..dv]);
            for s in seen.clone() {
                let p = score(s).0.exp() / sum;
                (0..dv).for_each(|i| out[o + i] += p * qkv[value(s) + i]);
            }
            let delta = dot(go, &out[o..][..dv]);
            if let Some(d_sink) = d_sinks.get_mut(head) {
                *d_sink -= sink / sum * delta;
            }
            for s in seen {
                let (score, slope) = score(s);
                let p = score.exp() / sum;
                let slope = slope * p * (dot(go, &qkv[value(s)..][..dv]) - delta);
                (0..dv).for_each(|i| d_qkv[value(s) + i] += p * go[i]);
                for i in 0..d {
                    d_qkv[query(r) + i] += slope * qkv[key(s) + i];
                    d_qkv[key(s) + i] += slope * qkv[query(r) + i];
                }
            }
        }
    }
    Exact { out, d_qkv, d_sinks }
}

fn attend<E: Elem>(layer: &Attention, sinks: &[f32], segments: &[u32], tolerance: f64) {
    let (n, shape) = (segments.len(), layer.shape);
    let (qkv, d_out) = (noise::<E>(1, n * shape.qkv_width()), noise::<E>(2, n * shape.out_width()));
    let want = exact(layer, &wide(sinks), segments, &wide(&qkv), &wide(&d_out));
    let given = (!sinks.is_empty()).then_some(sinks);
    for cpu in cpus() {
        let (mut out, mut lse) = (d_out.clone(), vec![0.0; n * shape.heads]);
        let (mut d_qkv, mut d_sinks) = (qkv.clone(), vec![0.0f32; sinks.len()]);
        forward(&cpu, layer, given, segments, &qkv, &mut out, &mut lse);
        let more = given.map(|_| (&mut d_sinks[..], false));
        backward(&cpu, layer, given, segments, &qkv, (&out, &lse), &d_out, &mut d_qkv, more);
        for (what, got, want) in [
            ("out", wide(&out), &want.out),
            ("d_qkv", wide(&d_qkv), &want.d_qkv),
            ("d_sinks", wide(&d_sinks), &want.d_sinks),
        ] {
            for (i, (got, want)) in got.iter().zip(want).enumerate() {
                assert!(
                    (got - want).abs() <= tolerance * (1.0 + want.abs()),
                    "{} {:?} {layer:?} {segments:?} {what}[{i}] = {got}, want {want}",
                    cpu.isa,
                    E::DTYPE
                );
            }
        }
    }
}

/// A layer of any kind.
fn layers() -> impl Strategy<Value = Attention> {
    let window = prop_oneof![
        Just(Window::Full),
        (1usize..150).prop_map(Window::Sliding),
        (1usize..150).prop_map(Window::Chunked)
    ];
    let shape = (1usize..4, 1usize..4, 1usize..70, 1usize..70);
    let scores = (proptest::option::of(0.3f32..5.0), proptest::bool::ANY);
    (shape, scores, window, prop_oneof![Just(0), 0usize..100]).prop_map(
        |((kv_heads, group, head_dim, value_dim), (softcap, alibi), window, sink_tokens)| {
            let plain = Attention::new(Shape { heads: kv_heads * group, kv_heads, head_dim, value_dim });
            Attention { scores: Scores { softcap, alibi, ..plain.scores }, window, sink_tokens, ..plain }
        },
    )
}

/// Documents, or a sliding window.
fn segments() -> impl Strategy<Value = Vec<u32>> {
    prop_oneof![
        proptest::collection::vec(1usize..90, 1..5).prop_map(|lengths| crate::inputs::documents(&lengths)),
        (1u32..200, 0u32..100)
            .prop_map(|(n, window)| (0..n).map(|row| row.saturating_sub(window)).collect::<Vec<_>>()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn products_of_random_shapes_are_within_their_bound(
        m in 1usize..70, n in 1usize..110, k in prop_oneof![1usize..150, 500usize..1100], layout in 0u8..8,
    ) {
        product::<f32, f32, f32>(Precision::Fp32, (m, n, k), layout);
        product::<f32, f32, f32>(Precision::Bf16, (m, n, k), layout);
        product::<bf16, f32, bf16>(Precision::Bf16, (m, n, k), layout);
        product::<bf16, bf16, f32>(Precision::Bf16, (m, n, k), layout);
    }

    #[test]
    fn attention_of_random_shapes_is_close(
        kv_heads in 1usize..4, group in 1usize..4, head_dim in 1usize..70, segments in segments(),
    ) {
        let layer = Attention::new(Shape::new(kv_heads * group, kv_heads, head_dim));
        attend::<f32>(&layer, &[], &segments, 2e-5);
        attend::<bf16>(&layer, &[], &segments, 2e-2);
    }

    #[test]
    fn attention_of_every_kind_is_close(
        layer in layers(), lengths in proptest::collection::vec(1usize..200, 1..5), has_sinks in proptest::bool::ANY,
    ) {
        let sinks = if has_sinks { crate::inputs::sinks(&layer) } else { Vec::new() };
        let segments = crate::inputs::documents(&lengths);
        attend::<f32>(&layer, &sinks, &segments, 3e-5);
        attend::<bf16>(&layer, &sinks, &segments, 2e-2);
    }
}
