//! The op against the oracle, on the tape, and absorbed against explicit.

use super::{Grads, Rotation, Shape, absorbed, oracle};
use crate::gemm::Precision;
use crate::ops::rope::{Frequencies, Pairing, Tables, Yarn};
use crate::ops::testing::{assert_slope, dot, on_every_cpu, random, stored, tolerance, wide};
use crate::simd::Elem;

const PAIRINGS: [Pairing; 2] = [Pairing::HalfSplit, Pairing::Interleaved];

fn positions(n: usize) -> Vec<u32> {
    (0..n as u32).map(|r| (r * 37) % 90).collect()
}

#[test]
fn oracle_gradients_are_the_slopes() {
    let (s, positions) = (Shape { heads: 2, nope: 3, rope: 4, value: 5 }, positions(3));
    let frequencies = Frequencies::yarn(4, 100.0, &Yarn::new(4.0, 16));
    for pairing in PAIRINGS {
        let turn = oracle::Turn { frequencies: &frequencies, pairing, positions: &positions };
        let sizes = [s.q_width(), s.kv_up_width(), s.rope, s.qkv_width()];
        let [q, kv_up, k_rope, d_qkv] = std::array::from_fn(|i| wide(&random(i as u64, 3 * sizes[i], 1.0)));
        let [d_q, d_kv_up, d_k_rope] = oracle::backward(s, &turn, &d_qkv);
        let loss = |q: &[f64], kv_up: &[f64], k_rope: &[f64]| {
            dot(&oracle::forward(s, &turn, q, kv_up, k_rope), &d_qkv)
        };
        assert_slope("q", &q, &d_q, |x| loss(x, &kv_up, &k_rope));
        assert_slope("kv_up", &kv_up, &d_kv_up, |x| loss(&q, x, &k_rope));
        assert_slope("k_rope", &k_rope, &d_k_rope, |x| loss(&q, &kv_up, x));
    }
}

/// Fresh and added-to gradients, as well as forward.
fn compare<E: Elem, K: Elem>(n: usize, s: Shape, pairing: Pairing) {
    let (positions, frequencies) = (positions(n), Frequencies::yarn(s.rope, 1e4, &Yarn::new(4.0, 64)));
    let (tables, sizes) = (Tables::new(90, &frequencies), [s.q_width(), s.kv_up_width(), s.qkv_width()]);
    let [q, kv_up, d_qkv] = std::array::from_fn(|i| stored::<E>(&random(i as u64, n * sizes[i], 1.0)));
    let k_rope = stored::<K>(&random(4, n * s.rope, 1.0));
    let turn = oracle::Turn { frequencies: &frequencies, pairing, positions: &positions };
    let qkv = oracle::forward(s, &turn, &wide(&q), &wide(&kv_up), &wide(&k_rope));
    let fresh = oracle::backward(s, &turn, &wide(&d_qkv));
    let sum = |held: Vec<f64>, fresh: &[f64]| held.iter().zip(fresh).map(|(a, b)| a + b).collect::<Vec<_>>();
    let added = [sum(wide(&q), &fresh[0]), sum(wide(&kv_up), &fresh[1]), sum(wide(&k_rope), &fresh[2])];
    let rotation = Rotation { tables: &tables, pairing, positions: &positions };
    let [fresh_q, fresh_kv, fresh_k] = fresh;
    let [added_q, added_kv, added_k] = added;
    let (narrow, k_narrow) = (tolerance::<E>(), tolerance::<K>());
    on_every_cpu(
        |cpu| {
            let mut out = stored::<E>(&random(9, qkv.len(), 1.0));
            super::forward(cpu, s, rotation, &q, &kv_up, &k_rope, &mut out);
            let mut outputs = vec![wide(&out)];
            for add in [false, true] {
                // What is there, to be added to, are the inputs themselves.
                let (mut d_q, mut d_kv_up, mut d_k_rope) = (q.clone(), kv_up.clone(), k_rope.clone());
                let grads = Grads {
                    d_q: (&mut d_q[..], add),
                    d_kv_up: (&mut d_kv_up, add),
                    d_k_rope: (&mut d_k_rope[..], add),
                };
                super::backward(cpu, s, rotation, &d_qkv, grads);
                outputs.extend([wide(&d_q), wide(&d_kv_up), wide(&d_k_rope)]);
            }
            outputs
        },
        &[
            ("qkv", qkv.clone(), narrow),
            ("d_q", fresh_q, narrow),
            ("d_kv_up", fresh_kv, 0.0),
            ("d_k_rope", fresh_k, k_narrow),
            ("d_q +=", added_q, narrow),
            ("d_kv_up +=", added_kv, narrow),
            ("d_k_rope +=", added_k, k_narrow),
        ],
    );
}

#[test]
fn every_path_matches_the_oracle() {
    for pairing in PAIRINGS {
        for (n, heads, nope, rope, value) in
            [(1, 1, 1, 2, 1), (40, 3, 20, 10, 7), (33, 4, 32, 64, 48), (5, 2, 0, 6, 3), (5, 2, 9, 0, 9)]
        {
            let shape = Shape { heads, nope, rope, value };
            compare::<f32, f32>(n, shape, pairing);
            compare::<half::bf16, f32>(n, shape, pairing);
            compare::<half::bf16, half::bf16>(n, shape, pairing);
        }
    }
}

/// What the absorbed form computes from.
struct Layer<E> {
    shape: Shape,
    rank: usize,
    q: Vec<E>,
    latent: Vec<E>,
    k_rope: Vec<E>,
    w: Vec<f32>,
}

/// Attention through the keys and values of all heads, in f64.
fn explicit<E: Elem>(layer: &Layer<E>, turn: &oracle::Turn<'_>) -> Vec<f64> {
    let (s, n) = (layer.shape, turn.positions.len());
    let (w, latent) = (wide(&layer.w), wide(&layer.latent));
    let up = |c: &[f64]| w.chunks(layer.rank).map(|row| dot(row, c)).collect::<Vec<_>>();
    let kv_up: Vec<f64> = latent.chunks(layer.rank).flat_map(up).collect();
    let qkv = oracle::forward(s, turn, &wide(&layer.q), &kv_up, &wide(&layer.k_rope));
    let at = |r: usize, first: usize, width: usize| &qkv[r * s.qkv_width() + first..][..width];
    let (dim, scale) = (s.head_dim(), 1.0 / (s.head_dim() as f64).sqrt());
    oracle::attend(
        n,
        s.heads,
        scale,
        |r, k, h| dot(at(r, h * dim, dim), at(k, s.q_width() + h * dim, dim)),
        |k, h| at(k, 2 * s.q_width() + h * s.value, s.value).to_vec(),
    )
}

fn absorbed_is_explicit<E: Elem>(
    n: usize,
    shape: Shape,
    rank: usize,
    pairing: Pairing,
    precision: Precision,
) {
    let (positions, frequencies) = (positions(n), Frequencies::plain(shape.rope, 1e4));
    let tables = Tables::new(90, &frequencies);
    let layer = Layer {
        shape,
        rank,
        q: stored::<E>(&random(1, n * shape.q_width(), 1.0)),
        latent: stored::<E>(&random(2, n * rank, 1.0)),
        k_rope: stored::<E>(&random(3, n * shape.rope, 1.0)),
        w: random(4, shape.kv_up_width() * rank, 0.5),
    };
    let want = explicit(&layer, &oracle::Turn { frequencies: &frequencies, pairing, positions: &positions });
    let rotation = Rotation { tables: &tables, pairing, positions: &positions };
    let key = rank + shape.rope;
    let tolerance = if precision == Precision::Bf16 { 1.0 / 32.0 } else { 2e-5 };
    on_every_cpu(
        |cpu| {
            let mut queries = stored::<E>(&random(5, n * shape.heads * key, 1.0));
            let mut keys = stored::<E>(&random(6, n * key, 1.0));
            absorbed::queries(cpu, precision, shape, rotation, &layer.q, &layer.w, &mut queries);
            absorbed::keys(cpu, shape, rotation, &layer.latent, &layer.k_rope, &mut keys);
            let (queries, keys) = (wide(&queries), wide(&keys));
            // One head of keys; its values are their first features.
            let averaged = oracle::attend(
                n,
                shape.heads,
                1.0 / (shape.head_dim() as f64).sqrt(),
                |r, k, h| dot(&queries[(r * shape.heads + h) * key..][..key], &keys[k * key..][..key]),
                |k, _| keys[k * key..][..rank].to_vec(),
            );
            let averaged: Vec<E> = averaged.iter().map(|&x| E::from_f32(x as f32)).collect();
            let mut out = stored::<E>(&random(7, n * shape.heads * shape.value, 1.0));
            absorbed::values(cpu, precision, shape, &averaged, &layer.w, &mut out);
            vec![wide(&out)]
        },
        &[("attended", want, tolerance)],
    );
}

#[test]
fn absorbed_attention_is_explicit_attention() {
    for pairing in PAIRINGS {
        for (n, heads, nope, rope, value, rank) in
            [(1, 1, 2, 2, 1, 3), (40, 3, 20, 10, 7, 12), (33, 4, 32, 16, 48, 64), (1, 8, 24, 8, 24, 40)]
        {
            let shape = Shape { heads, nope, rope, value };
            absorbed_is_explicit::<f32>(n, shape, rank, pairing, Precision::Fp32);
            absorbed_is_explicit::<half::bf16>(n, shape, rank, pairing, Precision::Bf16);
        }
    }
}

#[test]
#[should_panic(expected = "the tables are for another rope dimension")]
fn tables_of_another_dimension_are_refused() {
    let cpu = crate::Cpu::with_isa(crate::isa::Isa::portable(), 1);
    let shape = Shape { heads: 1, nope: 1, rope: 2, value: 1 };
    let tables = Tables::plain(4, 4, 1e4);
    let rotation = Rotation { tables: &tables, pairing: Pairing::HalfSplit, positions: &[0] };
    super::forward(&cpu, shape, rotation, &[0.0f32; 3], &[0.0; 2], &[0.0f32; 2], &mut [0.0; 7]);
}
