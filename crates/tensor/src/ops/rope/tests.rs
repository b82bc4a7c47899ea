//! The op against the oracle, and what makes it the right oracle.

use super::{Frequencies, Heads, Pairing, Tables, Yarn, convert_rows, oracle};
use crate::Cpu;
use crate::isa::Isa;
use crate::ops::testing::{assert_close, assert_slope, dot, on_every_cpu, random, stored, tolerance, wide};
use crate::simd::Elem;

const PAIRINGS: [Pairing; 2] = [Pairing::HalfSplit, Pairing::Interleaved];

fn angle(tables: &Tables, position: u32, k: usize) -> f64 {
    let at = position as usize * tables.dim() / 2 + k;
    f64::from(tables.sin[at]).atan2(tables.cos[at].into())
}

#[test]
fn position_three_of_pair_zero_is_three_radians() {
    let tables = Tables::plain(8, 64, 10_000.0);
    assert!((angle(&tables, 3, 0) - 3.0).abs() < 1e-6);
    assert_eq!((tables.positions(), tables.cos.len(), tables.dim()), (8, 8 * 32, 64));
}

#[test]
fn small_pairs_are_the_fastest() {
    let tables = Tables::plain(2, 64, 10_000.0);
    let angles: Vec<f64> = (0..32).map(|k| angle(&tables, 1, k)).collect();
    assert!(angles.windows(2).all(|pair| pair[0] > pair[1]));
    assert!((angles[0] - 1.0).abs() < 1e-6 && (angles[31] - 10_000f64.powf(-31.0 / 32.0)).abs() < 1e-9);
}

/// One head of 20 features, of which 16 from feature 3 on are rotated.
fn head(pairing: Pairing) -> Heads {
    Heads { pairing, first: 0, count: 1, head_dim: 20, at: 3 }
}

fn at(position: u32, x: &[f32], tables: &Tables, pairing: Pairing) -> Vec<f64> {
    let mut x = x.to_vec();
    let cpu = Cpu::with_isa(Isa::portable(), 1);
    super::forward(&cpu, tables, &[position], &mut x, 20, head(pairing));
    wide(&x)
}

#[test]
fn score_depends_on_the_distance_only_and_norms_are_kept() {
    let tables = Tables::plain(200, 16, 10_000.0);
    let (q, k) = (random(1, 20, 1.0), random(2, 20, 1.0));
    for pairing in PAIRINGS {
        let score = |m: u32, n: u32| dot(&at(m, &q, &tables, pairing), &at(n, &k, &tables, pairing));
        for (m, n) in [(7, 3), (104, 100), (4, 0), (199, 195)] {
            assert!((score(m, n) - score(50, 46)).abs() < 1e-5, "({m}, {n})");
            assert!((score(n, m) - score(46, 50)).abs() < 1e-5, "({n}, {m})");
        }
        // Not symmetric: the sine cross-terms matter.
        assert!((score(50, 46) - score(46, 50)).abs() > 1e-2);
        let norm = dot(&wide(&q), &wide(&q));
        let turned = at(123, &q, &tables, pairing);
        assert!((dot(&turned, &turned) - norm).abs() < 1e-5 * norm);
    }
}

#[test]
fn scores_get_the_square_of_the_attention_factor() {
    let mut yarn = Frequencies::plain(16, 1e4);
    let (q, k) = (random(1, 20, 1.0), random(2, 20, 1.0));
    let score = |f: &Frequencies| {
        let tables = Tables::new(10, f);
        let [q, k] = [(7, &q), (2, &k)].map(|(p, x)| at(p, x, &tables, Pairing::HalfSplit));
        dot(&q[3..19], &k[3..19])
    };
    let plain = score(&yarn);
    yarn.attention_factor = 1.25;
    assert!((score(&yarn) - 1.25 * 1.25 * plain).abs() < 1e-5);
}

#[test]
fn oracle_gradient_is_the_slope() {
    let (positions, x, dy) = ([0, 5, 2], wide(&random(1, 3 * 17, 1.0)), wide(&random(2, 3 * 17, 1.0)));
    let mut frequencies = Frequencies::plain(4, 500.0);
    frequencies.attention_factor = 1.3;
    for pairing in PAIRINGS {
        let heads = Heads { pairing, first: 2, count: 2, head_dim: 7, at: 3 };
        let turned = |x: &[f64], sign| oracle::rotate(&positions, x, 17, heads, &frequencies, sign);
        assert_slope("x", &x, &turned(&dy, -1.0), |x| dot(&turned(x, 1.0), &dy));
    }
}

fn compare<E: Elem>(n: usize, heads: Heads, rotary_dim: usize, rest: usize) {
    let stride = heads.first + heads.count * heads.head_dim + rest;
    let positions: Vec<u32> = (0..n as u32).map(|r| (r * 37) % 90).collect();
    let frequencies = Frequencies::yarn(rotary_dim, 10_000.0, &Yarn::new(4.0, 64));
    let (tables, x) = (Tables::new(90, &frequencies), stored::<E>(&random(1, n * stride, 2.0)));
    let turned = |sign| oracle::rotate(&positions, &wide(&x), stride, heads, &frequencies, sign);
    on_every_cpu(
        |cpu| {
            let (mut there, mut back) = (x.clone(), x.clone());
            super::forward(cpu, &tables, &positions, &mut there, stride, heads);
            super::backward(cpu, &tables, &positions, &mut back, stride, heads);
            vec![wide(&there), wide(&back)]
        },
        &[("forward", turned(1.0), tolerance::<E>()), ("backward", turned(-1.0), tolerance::<E>())],
    );
}

#[test]
fn every_path_matches_the_oracle() {
    for pairing in PAIRINGS {
        for (n, count, head_dim, rest) in [(1, 1, 2, 0), (40, 3, 20, 7), (33, 4, 64, 64)] {
            let heads = Heads { pairing, ..Heads::whole(count, head_dim) };
            compare::<f32>(n, heads, head_dim, rest);
            compare::<half::bf16>(n, heads, head_dim, rest);
        }
        for (n, first, count, head_dim, at, rotary_dim) in
            [(40, 5, 3, 20, 0, 10), (33, 0, 4, 96, 32, 64), (5, 1, 2, 47, 8, 38), (3, 0, 2, 4, 4, 0)]
        {
            let heads = Heads { pairing, first, count, head_dim, at };
            compare::<f32>(n, heads, rotary_dim, 3);
            compare::<half::bf16>(n, heads, rotary_dim, 3);
        }
    }
}

#[test]
fn backward_undoes_forward() {
    let (tables, x) = (Tables::plain(50, 32, 1e6), random(1, 50 * 64, 1.0));
    let (cpu, positions) = (Cpu::with_isa(Isa::portable(), 1), (0..50).collect::<Vec<u32>>());
    let mut turned = x.clone();
    super::forward(&cpu, &tables, &positions, &mut turned, 64, Heads::whole(2, 32));
    super::backward(&cpu, &tables, &positions, &mut turned, 64, Heads::whole(2, 32));
    assert_close("there and back", &wide(&turned), &wide(&x), 1e-6);
}

/// The same pairs elsewhere: interleaved rotation is half-split rotation of features in another order, to the bit.
fn interleaved_is_half_split_reordered<E: Elem>() {
    let (n, count, head_dim, at, dim) = (20, 3, 50, 6, 38);
    let stride = count * head_dim;
    let (x, positions) = (stored::<E>(&random(1, n * stride, 2.0)), (0..n as u32).rev().collect::<Vec<_>>());
    let tables = Tables::plain(n, dim, 1e4);
    // Each row of x is its heads one after another: weights with one input.
    let reorder = |from, to, x: &[E]| convert_rows(from, to, x, 1, head_dim, at, dim);
    for isa in Isa::available() {
        let cpu = Cpu::with_isa(isa, 2);
        let rotated = |pairing, x: &[E]| {
            let mut x = x.to_vec();
            let heads = Heads { pairing, first: 0, count, head_dim, at };
            super::forward(&cpu, &tables, &positions, &mut x, stride, heads);
            x
        };
        let split = rotated(Pairing::HalfSplit, &reorder(Pairing::Interleaved, Pairing::HalfSplit, &x));
        let back = reorder(Pairing::HalfSplit, Pairing::Interleaved, &split);
        assert!(wide(&back) == wide(&rotated(Pairing::Interleaved, &x)), "{isa}");
    }
}

#[test]
fn interleaved_pairs_get_the_bits_of_half_split_ones() {
    interleaved_is_half_split_reordered::<f32>();
    interleaved_is_half_split_reordered::<half::bf16>();
}

#[test]
fn converted_weights_give_the_same_scores() {
    let (n, n_in, count, head_dim, at, dim) = (6, 11, 2, 14, 2, 12);
    let (width, frequencies) = (count * head_dim, Frequencies::plain(dim, 100.0));
    let positions: Vec<u32> = (0..n as u32).map(|r| 3 * r).collect();
    let x = wide(&random(1, n * n_in, 1.0));
    let (w_q, w_k) = (wide(&random(2, width * n_in, 1.0)), wide(&random(3, width * n_in, 1.0)));
    let scores = |pairing, [w_q, w_k]: [&[f64]; 2]| {
        let heads = Heads { pairing, first: 0, count, head_dim, at };
        let [q, k] = [w_q, w_k].map(|w| {
            let project = |row: &[f64]| w.chunks(n_in).map(|w| dot(w, row)).collect::<Vec<_>>();
            let y: Vec<f64> = x.chunks(n_in).flat_map(project).collect();
            oracle::rotate(&positions, &y, width, heads, &frequencies, 1.0)
        });
        let of_head = |h: usize| {
            let part = move |x: &[f64], r: usize| x[r * width + h * head_dim..][..head_dim].to_vec();
            let (q, k) = (&q, &k);
            (0..n * n).map(move |i| dot(&part(q, i / n), &part(k, i % n))).collect::<Vec<_>>()
        };
        (0..count).flat_map(of_head).collect::<Vec<_>>()
    };
    let want = scores(Pairing::Interleaved, [&w_q, &w_k]);
    let convert = |w| convert_rows(Pairing::Interleaved, Pairing::HalfSplit, w, n_in, head_dim, at, dim);
    let [c_q, c_k] = [&w_q, &w_k].map(|w| convert(w));
    assert_close("converted", &scores(Pairing::HalfSplit, [&c_q, &c_k]), &want, 1e-12);
    let apart = scores(Pairing::HalfSplit, [&w_q, &w_k]);
    assert!(
        apart.iter().zip(&want).any(|(a, b)| (a - b).abs() > 0.1),
        "unconverted weights are not interchangeable"
    );
    let back = convert_rows(Pairing::HalfSplit, Pairing::Interleaved, &c_q, n_in, head_dim, at, dim);
    assert_eq!(back, w_q);
}

#[test]
#[should_panic(expected = "a position is not below 4")]
fn a_position_beyond_the_tables_is_refused() {
    let cpu = Cpu::with_isa(Isa::portable(), 1);
    super::forward(&cpu, &Tables::plain(4, 2, 1e4), &[4], &mut [0.0f32; 2], 2, Heads::whole(1, 2));
}

#[test]
#[should_panic(expected = "4 features from 1 on in heads of 4")]
fn features_beyond_the_head_are_refused() {
    let cpu = Cpu::with_isa(Isa::portable(), 1);
    let heads = Heads { at: 1, ..Heads::whole(1, 4) };
    super::forward(&cpu, &Tables::plain(4, 4, 1e4), &[0], &mut [0.0f32; 4], 4, heads);
}

proptest::proptest! {
    #![proptest_config(crate::ops::testing::random_shapes())]

    #[test]
    fn random_shapes_match_the_oracle(
        n in 1usize..60, (first, count, rest) in (0usize..4, 1usize..5, 0usize..9), (pairs, plain, at) in (0usize..40, 0usize..9, 0usize..9),
        interleaved: bool,
    ) {
        // Parts of heads that turn, between parts that do not.
        let pairing = PAIRINGS[usize::from(interleaved)];
        let heads = Heads { pairing, first, count, head_dim: (2 * pairs + plain + at).max(1), at };
        compare::<f32>(n, heads, 2 * pairs, rest);
        compare::<half::bf16>(n, heads, 2 * pairs, rest);
    }
}
