use super::{Args, NO_LABEL, Totals, forward, forward_backward, oracle};
use crate::Cpu;
use crate::gemm::Precision;
use crate::isa::Isa;
use crate::ops::testing::{assert_slope, on_every_cpu, random, stored, wide};
use crate::simd::Elem;

/// Every third row without label.
fn labels(n: usize, vocab: usize) -> Vec<u32> {
    (0..n).map(|r| if r % 3 == 1 { NO_LABEL } else { ((r * 7919) % vocab) as u32 }).collect()
}

#[test]
fn oracle_gradient_is_the_slope() {
    let (h, w, labels) = (wide(&random(1, 5 * 3, 1.0)), wide(&random(2, 7 * 3, 1.0)), labels(5, 7));
    let (scale, z_loss) = (0.25, 0.1);
    for cap in [None, Some(1.5)] {
        let loss = |h: &[f64], w: &[f64]| oracle::run(h, w, &labels, scale, z_loss, cap).loss(scale, z_loss);
        let want = oracle::run(&h, &w, &labels, scale, z_loss, cap);
        assert_slope("h", &h, &want.dh, |h| loss(h, &w));
        assert_slope("w", &w, &want.dw, |w| loss(&h, w));
    }
}

fn flat(totals: &Totals) -> Vec<f64> {
    vec![totals.nll_sum, totals.log_z_sum, totals.z_sum, totals.label_tokens as f64, totals.correct as f64]
}

fn compare<E: Elem>(
    precision: Precision,
    (n, vocab, d): (usize, usize, usize),
    z_loss: f32,
    softcap: Option<f32>,
    accumulate: bool,
) {
    // Inputs that bf16 holds exactly, so that only the products' gradients are rounded.
    let h = stored::<E>(&wide_bf16(&random(1, n * d, 2.0)));
    let (w, labels, scale) = (wide_bf16(&random(2, vocab * d, 1.0)), labels(n, vocab), 1.0 / 64.0);
    let held = random(3, vocab * d, 0.01);
    let mut want = oracle::run(&wide(&h), &wide(&w), &labels, scale, z_loss.into(), softcap.map(f64::from));
    if accumulate {
        want.dw.iter_mut().zip(&held).for_each(|(dw, held)| *dw += f64::from(*held));
    }
    let count = labels.iter().filter(|l| **l != NO_LABEL).count() as f64;
    let sums = vec![want.nll_sum, want.log_z_sum, want.z_sum, count, want.correct as f64];
    let rough = if precision == Precision::Bf16 { 1.0 / 128.0 } else { 2e-5 };
    on_every_cpu(
        |cpu| {
            let args = Args { h: &h, w: &w, labels: &labels, scale: scale as f32, z_loss, softcap };
            let (mut dh, mut dw) = (vec![E::from_f32(9.0); n * d], held.clone());
            let (mut per_token, mut alone) = (vec![9.0; n], vec![9.0; n]);
            let totals = forward_backward(cpu, precision, args, &mut dh, &mut dw, accumulate, &mut per_token);
            assert_eq!(totals, forward(cpu, precision, args, &mut alone), "with and without gradients");
            assert_eq!(per_token, alone);
            let unlabelled = |r: usize| labels[r] == NO_LABEL;
            assert!((0..n).all(|r| !unlabelled(r) || dh[r * d..][..d].iter().all(|x| x.to_f32() == 0.0)));
            vec![flat(&totals), wide(&per_token), wide(&dh), wide(&dw)]
        },
        &[
            ("totals", sums, 1e-5),
            ("per_token", want.per_token, 1e-5),
            ("dh", want.dh, rough),
            ("dw", want.dw, rough),
        ],
    );
}

fn wide_bf16(x: &[f32]) -> Vec<f32> {
    x.iter().map(|&v| half::bf16::from_f32(v).to_f32()).collect()
}

#[test]
fn every_path_matches_the_oracle() {
    for (shape, z_loss, accumulate) in
        [((1, 5, 3), 0.0, false), ((35, 131, 20), 1e-2, true), ((530, 77, 16), 1e-3, false)]
    {
        for softcap in [None, Some(2.5), Some(30.0)] {
            compare::<f32>(Precision::Fp32, shape, z_loss, softcap, accumulate);
            compare::<half::bf16>(Precision::Bf16, shape, z_loss, softcap, accumulate);
        }
    }
    // A vocabulary of more than one block of the softmax's sum.
    let large = (3, 2 * crate::order::SUM_BLOCK + 9, 4);
    compare::<f32>(Precision::Fp32, large, 0.0, None, false);
    compare::<f32>(Precision::Fp32, large, 0.0, Some(30.0), false);
}

#[test]
fn extreme_logits_stay_finite_and_exact() {
    // Logits ±1e4: certain and right, certain and wrong, all equal and huge, all equal and hugely negative.
    let w = [100.0, -100.0, 0.0, 0.0, 1.0, 1.0];
    let (h, labels) = ([100.0f32, 0.0, 100.0, 0.0], [0, 1]);
    let args = Args { h: &h, w: &w, labels: &labels, scale: 1.0, z_loss: 0.0, softcap: None };
    let equal =
        Args { h: &[1e4f32, -1e4], w: &[1.0; 4], labels: &[0, 3], scale: 1.0, z_loss: 1e-4, softcap: None };
    for isa in Isa::available() {
        let cpu = Cpu::with_isa(isa, 1);
        let (mut nll, mut dh, mut dw) = ([0.0; 2], [0.0; 4], [0.0; 6]);
        // w as [3, 2]: rows (100, −100), (0, 0), (1, 1).
        let totals = forward_backward(&cpu, Precision::Fp32, args, &mut dh, &mut dw, false, &mut nll);
        assert_eq!(nll, [0.0, 1e4], "{isa}");
        assert_eq!((totals.nll_sum, totals.z_sum, totals.label_tokens, totals.correct), (1e4, 2e8, 2, 1));
        assert_eq!(dh, [0.0, 0.0, 100.0, -100.0], "{isa}");
        let (mut dh, mut dw) = ([0.0; 2], [0.0; 4]);
        let totals = forward_backward(&cpu, Precision::Fp32, equal, &mut dh, &mut dw, false, &mut nll);
        assert!(nll.iter().all(|x| (x - 4f32.ln()).abs() < 1e-2), "{isa}: {nll:?}");
        assert!(dh.iter().chain(&dw).all(|x| x.is_finite()) && totals.z_sum.is_finite(), "{isa}");
        assert_eq!(totals.correct, 1, "{isa}: the first of equal logits is the answer");
    }
}

#[test]
fn a_batch_without_labels_gives_zeros() {
    let cpu = Cpu::with_isa(Isa::portable(), 2);
    let args = Args {
        h: &[1.0f32; 600],
        w: &[1.0; 8],
        labels: &[NO_LABEL; 300],
        scale: 1.0,
        z_loss: 0.1,
        softcap: None,
    };
    let (mut dh, mut dw, mut nll) = ([9.0; 600], [9.0; 8], [9.0; 300]);
    let totals = forward_backward(&cpu, Precision::Fp32, args, &mut dh, &mut dw, false, &mut nll);
    assert_eq!(totals, Totals::default());
    assert!(dh.iter().chain(&dw).chain(&nll).all(|x| *x == 0.0));
    dw.fill(9.0);
    forward_backward(&cpu, Precision::Fp32, args, &mut dh, &mut dw, true, &mut nll);
    assert_eq!(dw, [9.0; 8]);
}

#[test]
fn a_nan_is_not_hidden() {
    let cpu = Cpu::with_isa(Isa::portable(), 1);
    let args =
        Args { h: &[f32::NAN, 1.0], w: &[1.0; 8], labels: &[2], scale: 1.0, z_loss: 0.0, softcap: None };
    let mut nll = [0.0];
    assert!(forward(&cpu, Precision::Fp32, args, &mut nll).nll_sum.is_nan() && nll[0].is_nan());
    let (mut dh, mut dw) = ([0.0; 2], [0.0; 8]);
    forward_backward(&cpu, Precision::Fp32, args, &mut dh, &mut dw, false, &mut nll);
    assert!(dh.iter().chain(&dw).all(|x| x.is_nan()));
}

#[test]
#[should_panic(expected = "a label is not below 4")]
fn a_label_beyond_the_vocabulary_is_refused() {
    let cpu = Cpu::with_isa(Isa::portable(), 1);
    let args = Args { h: &[1.0f32, 1.0], w: &[1.0; 8], labels: &[4], scale: 1.0, z_loss: 0.0, softcap: None };
    forward(&cpu, Precision::Fp32, args, &mut [0.0]);
}

proptest::proptest! {
    #![proptest_config(crate::ops::testing::random_shapes())]

    #[test]
    fn random_shapes_match_the_oracle(
        n in 1usize..90, vocab in 20usize..190, d in 1usize..50, z_loss in 0f32..1e-2, cap in 0usize..3, accumulate: bool,
    ) {
        let softcap = [None, Some(2.5), Some(30.0)][cap];
        compare::<f32>(Precision::Fp32, (n, vocab, d), z_loss, softcap, accumulate);
        compare::<half::bf16>(Precision::Bf16, (n, vocab, d), z_loss, softcap, accumulate);
    }
}
