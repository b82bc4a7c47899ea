//! Random ragged shapes against the definition in f64, on every path.

use crate::inputs::{cpus, noise, scale, wide};
use half::bf16;
use proptest::prelude::*;
use smolt_tensor::gemm::{Precision, View, gemm};
use smolt_tensor::ops::attention::{Shape, backward, forward};
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
}

fn exact(shape: Shape, segments: &[u32], qkv: &[f64], d_out: &[f64]) -> Exact {
    let (n, d, qw, ow) = (segments.len(), shape.head_dim, shape.qkv_width(), shape.out_width());
    let (mut out, mut d_qkv) = (vec![0.0; n * ow], vec![0.0; n * qw]);
    let scale = f64::from(scale(shape));
    for head in 0..shape.heads {
        let kv = head / shape.group();
        let query = |r: usize| r * qw + head * d;
        let key = |r: usize| r * qw + (shape.heads + kv) * d;
        let value = |r: usize| r * qw + (shape.heads + shape.kv_heads + kv) * d;
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        for r in 0..n {
            let seen = segments[r] as usize..r + 1;
            let score = |s: usize| scale * dot(&qkv[query(r)..][..d], &qkv[key(s)..][..d]);
            let sum: f64 = seen.clone().map(|s| score(s).exp()).sum();
            let (o, go) = (r * ow + head * d, &d_out[r * ow + head * d..][..d]);
            for s in seen.clone() {
                let p = score(s).exp() / sum;
                (0..d).for_each(|i| out[o + i] += p * qkv[value(s) + i]);
            }
            let delta = dot(go, &out[o..][..d]);
            for s in seen {
                let p = score(s).exp() / sum;
                let slope = scale * p * (dot(go, &qkv[value(s)..][..d]) - delta);
                for i in 0..d {
                    d_qkv[value(s) + i] += p * go[i];
                    d_qkv[query(r) + i] += slope * qkv[key(s) + i];
                    d_qkv[key(s) + i] += slope * qkv[query(r) + i];
                }
            }
        }
    }
    Exact { out, d_qkv }
}

fn attend<E: Elem>(shape: Shape, segments: &[u32], tolerance: f64) {
    let n = segments.len();
    let (qkv, d_out) = (noise::<E>(1, n * shape.qkv_width()), noise::<E>(2, n * shape.out_width()));
    let want = exact(shape, segments, &wide(&qkv), &wide(&d_out));
    for cpu in cpus() {
        let (mut out, mut lse) = (d_out.clone(), vec![0.0; n * shape.heads]);
        let mut d_qkv = qkv.clone();
        forward(&cpu, shape, scale(shape), segments, &qkv, &mut out, &mut lse);
        backward(&cpu, shape, scale(shape), segments, &qkv, &out, &lse, &d_out, &mut d_qkv);
        for (what, got, want) in [("out", &out, &want.out), ("d_qkv", &d_qkv, &want.d_qkv)] {
            for (i, (got, want)) in wide(got).iter().zip(want).enumerate() {
                assert!(
                    (got - want).abs() <= tolerance * (1.0 + want.abs()),
                    "{} {:?} {shape:?} {segments:?} {what}[{i}] = {got}, want {want}",
                    cpu.isa,
                    E::DTYPE
                );
            }
        }
    }
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
        let shape = Shape { heads: kv_heads * group, kv_heads, head_dim };
        attend::<f32>(shape, &segments, 2e-5);
        attend::<bf16>(shape, &segments, 2e-2);
    }
}
