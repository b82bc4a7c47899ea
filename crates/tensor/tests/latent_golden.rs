//! Latent attention, explicit and absorbed, against DeepSeek-V3's in transformers (`tests/golden/rope.py`).

#![allow(clippy::unwrap_used)]

use serde_json::Value;
use smolt_tensor::Cpu;
use smolt_tensor::gemm::Precision;
use smolt_tensor::isa::Isa;
use smolt_tensor::ops::latent::{self, Rotation, Shape, absorbed};
use smolt_tensor::ops::rope::{Frequencies, Pairing, Tables, Yarn, yarn_mscale};
use smolt_tensor::ops::{linear, rms_norm};

/// Rounding errors of two ways through a layer in fp32.
const TOLERANCE: f32 = 1e-5;

fn numbers(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
}

fn project(cpu: &Cpu, x: &[f32], w: &[f32], n_in: usize) -> Vec<f32> {
    let mut y = vec![0.0; x.len() / n_in * (w.len() / n_in)];
    linear::forward(cpu, Precision::Fp32, x, w, n_in, &mut y);
    y
}

/// Causal attention of one document: means of `value(row, head)`, weighted by the softmax of `score(row, key, head)`.
fn attend<'a>(
    n: usize,
    heads: usize,
    score: impl Fn(usize, usize, usize) -> f32,
    value: impl Fn(usize, usize) -> &'a [f32],
) -> Vec<f32> {
    let mean = |r: usize, h: usize| {
        let weights: Vec<f32> = (0..=r).map(|k| score(r, k, h).exp()).collect();
        let total: f32 = weights.iter().sum();
        let at = |i: usize| weights.iter().enumerate().map(|(k, w)| w / total * value(k, h)[i]).sum::<f32>();
        (0..value(0, h).len()).map(at).collect::<Vec<f32>>()
    };
    (0..n * heads).flat_map(|i| mean(i / heads, i % heads)).collect()
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// What attention reads: queries, the latent as normalised, the shared key, and kv_b's weight.
struct Layer {
    shape: Shape,
    rank: usize,
    q: Vec<f32>,
    latent: Vec<f32>,
    k_rope: Vec<f32>,
    kv_b: Vec<f32>,
}

fn layer(cpu: &Cpu, layer: &Value) -> Layer {
    let size = |key: &str| layer[key].as_u64().unwrap() as usize;
    let [hidden, heads, nope, rope, value, rank] =
        ["hidden", "heads", "nope", "rope", "value", "rank"].map(size);
    let weight = |name: &str| numbers(&layer["weights"][name]);
    let x = numbers(&layer["x"]);
    let q = project(cpu, &x, &weight("q_proj.weight"), hidden);
    let kv_a = project(cpu, &x, &weight("kv_a_proj_with_mqa.weight"), hidden);
    let n = size("n");
    let (mut compressed, mut k_rope) = (vec![0.0; n * rank], vec![0.0; n * rope]);
    smolt_tensor::ops::split_columns::forward(cpu, &kv_a, rank + rope, rank, &mut compressed, &mut k_rope);
    let (mut latent, mut inv_rms, norm) =
        (vec![0.0; n * rank], vec![0.0; n], weight("kv_a_layernorm.weight"));
    let eps = layer["eps"].as_f64().unwrap() as f32;
    rms_norm::forward::<f32, f32>(cpu, &compressed, None, &norm, eps, None, &mut latent, &mut inv_rms);
    let shape = Shape { heads, nope, rope, value };
    Layer { shape, rank, q, latent, k_rope, kv_b: weight("kv_b_proj.weight") }
}

fn explicit(cpu: &Cpu, l: &Layer, rotation: Rotation<'_>, scale: f32) -> Vec<f32> {
    let (s, n) = (l.shape, rotation.positions.len());
    let kv_up = project(cpu, &l.latent, &l.kv_b, l.rank);
    let mut qkv = vec![0.0; n * s.qkv_width()];
    latent::forward(cpu, s, rotation, &l.q, &kv_up, &l.k_rope, &mut qkv);
    let at = |r: usize, first: usize, width: usize| &qkv[r * s.qkv_width() + first..][..width];
    let dim = s.head_dim();
    let score = |r, k, h| scale * dot(at(r, h * dim, dim), at(k, s.q_width() + h * dim, dim));
    attend(n, s.heads, score, |k, h| at(k, 2 * s.q_width() + h * s.value, s.value))
}

fn absorbed(cpu: &Cpu, l: &Layer, rotation: Rotation<'_>, scale: f32) -> Vec<f32> {
    let (s, n, key) = (l.shape, rotation.positions.len(), l.rank + l.shape.rope);
    let (mut queries, mut keys) = (vec![0.0; n * s.heads * key], vec![0.0; n * key]);
    absorbed::queries(cpu, Precision::Fp32, s, rotation, &l.q, &l.kv_b, &mut queries);
    absorbed::keys(cpu, s, rotation, &l.latent, &l.k_rope, &mut keys);
    let score = |r, k, h| scale * dot(&queries[(r * s.heads + h) * key..][..key], &keys[k * key..][..key]);
    let averaged = attend(n, s.heads, score, |k, _| &keys[k * key..][..l.rank]);
    let mut out = vec![0.0; n * s.heads * s.value];
    absorbed::values(cpu, Precision::Fp32, s, &averaged, &l.kv_b, &mut out);
    out
}

#[test]
fn latent_attention_is_that_of_transformers() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/rope/latent.json");
    let fixture: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let layers = fixture["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 2);
    for (given, isa) in
        layers.iter().flat_map(|layer| Isa::available().into_iter().map(move |isa| (layer, isa)))
    {
        let cpu = Cpu::with_isa(isa, 2);
        let (l, want, settings) = (layer(&cpu, given), numbers(&given["out"]), &given["rope_parameters"]);
        let number = |key: &str| settings[key].as_f64().unwrap();
        let trained = number("original_max_position_embeddings") as usize;
        let yarn = Yarn {
            mscale: Some(number("mscale")),
            mscale_all_dim: Some(number("mscale_all_dim")),
            ..Yarn::new(number("factor"), trained)
        };
        let tables = Tables::new(64, &Frequencies::yarn(l.shape.rope, number("rope_theta"), &yarn));
        let positions: Vec<u32> = (0..given["n"].as_u64().unwrap() as u32).collect();
        let pairing = match given["interleave"].as_bool().unwrap() {
            true => Pairing::Interleaved,
            false => Pairing::HalfSplit,
        };
        let rotation = Rotation { tables: &tables, pairing, positions: &positions };
        // DeepSeek scales the softmax by the square of what its cosines are divided by.
        let mscale = yarn_mscale(number("factor"), number("mscale_all_dim")) as f32;
        let scale = mscale * mscale / (l.shape.head_dim() as f32).sqrt();
        for (name, got) in [
            ("explicit", explicit(&cpu, &l, rotation, scale)),
            ("absorbed", absorbed(&cpu, &l, rotation, scale)),
        ] {
            assert_eq!(got.len(), want.len());
            for (i, (got, want)) in got.iter().zip(&want).enumerate() {
                let error = (got - want).abs();
                assert!(
                    error < TOLERANCE * (1.0 + want.abs()),
                    "{isa} {pairing:?} {name}[{i}]: {got}, not {want}"
                );
            }
        }
    }
}
