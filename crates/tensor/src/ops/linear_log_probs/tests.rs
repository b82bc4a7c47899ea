use super::{Args, LogProb, MOST_ROWS, Query, forward, of_logits, oracle};
use crate::Cpu;
use crate::gemm::Precision;
use crate::isa::Isa;
use crate::ops::testing::{on_every_cpu, random, stored, wide};
use crate::order::SUM_BLOCK;
use crate::simd::Elem;
use half::bf16;
use proptest::prelude::*;

/// Numbers that bf16 holds, in steps of 1/8, so that their products are exact and equals are equal on every path.
fn numbers(seed: u64, len: usize, size: f32) -> Vec<f32> {
    random(seed, len, 8.0 * size).iter().map(|x| x.round() / 8.0).collect()
}

fn query(row: u32, token: u32) -> Query {
    Query { row, token }
}

/// Some rows asked about one token, some about three, some about none.
fn queries(n: usize, vocab: usize) -> Vec<Query> {
    let tokens = |r: usize| (0..[1, 3, 0, 2][r % 4]).map(move |i| (r * 7919 + i * 4099) % vocab);
    (0..n).flat_map(|r| tokens(r).map(move |token| query(r as u32, token as u32))).collect()
}

fn compare<E: Elem>(
    precision: Precision,
    (n, d, vocab): (usize, usize, usize),
    softcap: Option<f32>,
    size: f32,
) {
    let (h, w) = (stored::<E>(&numbers(1, n * d, size)), numbers(2, vocab * d, 1.0));
    let queries = queries(n, vocab);
    let want = oracle::forward(&wide(&h), d, &wide(&w), softcap.map(f64::from), &queries);
    // The cap is within 1e-6 of itself, and of many times what is left of it.
    let tolerance = if softcap.is_some() { 1e-5 } else { 1e-6 };
    let values = want.iter().map(|a| a.value).collect();
    on_every_cpu(
        |cpu| {
            let mut got = vec![LogProb { value: 9.0, greedy: true }; queries.len()];
            forward(cpu, precision, Args { h: &h, d, w: &w, softcap, queries: &queries }, &mut got);
            if softcap.is_none() {
                assert!(got.iter().zip(&want).all(|(got, want)| got.greedy == want.greedy), "likeliest");
            }
            vec![got.iter().map(|a| a.value).collect()]
        },
        &[("ln P", values, tolerance)],
    );
}

#[test]
fn every_path_matches_the_oracle() {
    let wide_vocabulary = (5, 4, 2 * SUM_BLOCK + 9);
    for shape in [(1, 1, 1), (4, 3, 5), (35, 20, 131), (70, 16, SUM_BLOCK), wide_vocabulary] {
        for (softcap, size) in [(None, 1.0), (None, 20.0), (Some(2.5), 1.0), (Some(30.0), 4.0)] {
            compare::<f32>(Precision::Fp32, shape, softcap, size);
            compare::<bf16>(Precision::Bf16, shape, softcap, size);
        }
    }
    compare::<f32>(Precision::Fp32, (MOST_ROWS + 300, 2, 33), None, 1.0);
}

#[test]
fn the_first_of_equals_is_the_likeliest_whatever_block_it_lies_in() {
    // Logit v is w[v]: equal largest ones at 3, SUM_BLOCK + 1 and 2·SUM_BLOCK.
    let mut w = vec![0.0; 2 * SUM_BLOCK + 1];
    for at in [3, SUM_BLOCK + 1, 2 * SUM_BLOCK] {
        w[at] = 2.0;
    }
    let asked: Vec<Query> =
        [3, SUM_BLOCK + 1, 2 * SUM_BLOCK].iter().map(|&token| query(0, token as u32)).collect();
    for isa in Isa::available() {
        let mut out = [LogProb::default(); 3];
        let args = Args { h: &[1.0f32], d: 1, w: &w, softcap: None, queries: &asked };
        forward(&Cpu::with_isa(isa, 2), Precision::Fp32, args, &mut out);
        assert_eq!(out.map(|a| a.greedy), [true, false, false], "{isa}");
        assert!(out.iter().all(|a| a.value.to_bits() == out[0].value.to_bits()), "{isa}");
    }
}

#[test]
fn extreme_logits_stay_finite_and_a_nan_is_not_hidden() {
    // Logits ±1e4, the largest in the second block.
    let mut w = vec![-1e4; SUM_BLOCK + 2];
    w[SUM_BLOCK + 1] = 1e4;
    for isa in Isa::available() {
        let cpu = Cpu::with_isa(isa, 1);
        let asked = [query(0, 0), query(0, SUM_BLOCK as u32 + 1)];
        let mut out = [LogProb::default(); 2];
        let args = Args { h: &[1.0f32], d: 1, w: &w, softcap: None, queries: &asked };
        forward(&cpu, Precision::Fp32, args, &mut out);
        assert_eq!(out.map(|a| (a.value, a.greedy)), [(-2e4, false), (0.0, true)], "{isa}");
        for at in [0, 1, SUM_BLOCK - 1, SUM_BLOCK, SUM_BLOCK + 1] {
            let mut w = w.clone();
            w[at] = f32::NAN;
            forward(&cpu, Precision::Fp32, Args { w: &w, ..args }, &mut out);
            assert!(out.iter().all(|a| a.value.is_nan()), "{isa}: NaN at {at}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// What a row is asked with changes no bit.
    #[test]
    fn a_row_is_answered_alone_as_among_others(n in 1usize..60, d in 1usize..300, pick in 0usize..60) {
        let (vocab, pick) = (77, pick % n);
        for (isa, precision) in Isa::available().into_iter().flat_map(|isa| [(isa, Precision::Fp32), (isa, Precision::Bf16)]) {
            let (h, w) = (random(3, n * d, 1.0), random(4, vocab * d, 1.0));
            let all: Vec<Query> = (0..n).map(|r| query(r as u32, (r % vocab) as u32)).collect();
            let mut together = vec![LogProb::default(); n];
            let args = Args { h: &h, d, w: &w, softcap: None, queries: &all };
            forward(&Cpu::with_isa(isa, 2), precision, args, &mut together);
            let mut alone = [LogProb::default()];
            forward(&Cpu::with_isa(isa, 1), precision, Args { queries: &all[pick..=pick], ..args }, &mut alone);
            prop_assert_eq!(alone[0].value.to_bits(), together[pick].value.to_bits());
        }
    }
}

#[test]
#[should_panic(expected = "a token not below 4")]
fn a_token_beyond_the_vocabulary_is_refused() {
    let args = Args { h: &[1.0f32, 1.0], d: 2, w: &[1.0; 8], softcap: None, queries: &[query(0, 4)] };
    forward(&Cpu::with_isa(Isa::portable(), 1), Precision::Fp32, args, &mut [LogProb::default()]);
}

#[test]
fn logits_that_exist_say_the_same_as_those_that_never_do() {
    let w = random(5, 2 * SUM_BLOCK + 7, 3.0);
    let asked: Vec<Query> = [0, 9, SUM_BLOCK, 2 * SUM_BLOCK + 6].map(|token| query(0, token as u32)).to_vec();
    for isa in Isa::available() {
        let mut want = vec![LogProb::default(); asked.len()];
        let args = Args { h: &[1.0f32], d: 1, w: &w, softcap: None, queries: &asked };
        forward(&Cpu::with_isa(isa, 1), Precision::Fp32, args, &mut want);
        for (query, want) in asked.iter().zip(want) {
            let got = of_logits(isa, &w, query.token);
            assert!((got - want.value).abs() < 1e-5, "{isa}: {got} {want:?}");
        }
    }
}
