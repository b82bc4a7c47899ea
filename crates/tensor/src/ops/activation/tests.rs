use super::{Activation, oracle};
use crate::Cpu;
use crate::isa::Isa;
use crate::ops::testing::{assert_slope, dot, on_every_cpu, random, stored, tolerance, wide};
use crate::simd::Elem;
use half::bf16;

const PLAIN: [Activation; 5] =
    [Activation::Silu, Activation::GeluTanh, Activation::Gelu, Activation::Relu, Activation::Relu2];

const CLAMPED: Activation = Activation::Clamped { limit: 7.0 };

fn all() -> impl Iterator<Item = Activation> {
    PLAIN.into_iter().chain([CLAMPED])
}

#[test]
fn oracle_gradients_are_the_slopes() {
    // Wide enough that some of both halves are clamped.
    let (x, d_out) = (wide(&random(1, 3 * 10, 10.0)), wide(&random(2, 3 * 5, 1.0)));
    for act in all() {
        let gradient = oracle::gated_backward(act, &x, 5, &d_out);
        assert_slope(&format!("{act:?}"), &x, &gradient, |x| dot(&oracle::gated(act, x, 5), &d_out));
    }
    let d_out = wide(&random(2, 3 * 10, 1.0));
    for act in PLAIN {
        let gradient = oracle::plain_backward(act, &x, &d_out);
        assert_slope(&format!("{act:?}"), &x, &gradient, |x| dot(&oracle::plain(act, x), &d_out));
    }
}

fn compare_gated<E: Elem>(act: Activation, n: usize, width: usize) {
    let (x, d_out) = (stored::<E>(&random(1, n * 2 * width, 9.0)), stored::<E>(&random(2, n * width, 1.0)));
    on_every_cpu(
        |cpu| {
            let mut out = vec![E::from_f32(0.0); n * width];
            let mut d_x = vec![E::from_f32(0.0); n * 2 * width];
            super::gated(cpu, act, &x, width, &mut out);
            super::gated_backward(cpu, act, &x, width, &d_out, &mut d_x);
            vec![wide(&out), wide(&d_x)]
        },
        &[
            ("out", oracle::gated(act, &wide(&x), width), tolerance::<E>()),
            ("d_gate_up", oracle::gated_backward(act, &wide(&x), width, &wide(&d_out)), tolerance::<E>()),
        ],
    );
}

fn compare_plain<E: Elem>(act: Activation, len: usize) {
    let (x, d_out) = (stored::<E>(&random(1, len, 9.0)), stored::<E>(&random(2, len, 1.0)));
    on_every_cpu(
        |cpu| {
            let (mut out, mut d_x) = (vec![E::from_f32(0.0); len], vec![E::from_f32(0.0); len]);
            super::plain(cpu, act, &x, &mut out);
            super::plain_backward(cpu, act, &x, &d_out, &mut d_x);
            vec![wide(&out), wide(&d_x)]
        },
        &[
            ("out", oracle::plain(act, &wide(&x)), tolerance::<E>()),
            ("d_x", oracle::plain_backward(act, &wide(&x), &wide(&d_out)), tolerance::<E>()),
        ],
    );
}

#[test]
fn every_path_matches_the_oracle() {
    for act in all() {
        for (n, width) in [(3, 1), (5, 21), (50, 64)] {
            compare_gated::<f32>(act, n, width);
            compare_gated::<bf16>(act, n, width);
        }
    }
    for act in PLAIN {
        for len in [3, 77, super::TASK + 5] {
            compare_plain::<f32>(act, len);
            compare_plain::<bf16>(act, len);
        }
    }
}

/// Of plain values at most 1e-6·|x|, which is what models can tell; of slopes 1e-6 of the largest.
#[test]
fn errors_stay_below_a_millionth() {
    let x: Vec<f32> = (-12_000..=12_000).map(|i| i as f32 * 1e-3).collect();
    for (isa, act) in Isa::available().into_iter().flat_map(|isa| PLAIN.map(|act| (isa, act))) {
        let cpu = Cpu::with_isa(isa, 1);
        let (mut out, mut d_x) = (vec![0.0; x.len()], vec![0.0; x.len()]);
        super::plain(&cpu, act, &x, &mut out);
        super::plain_backward(&cpu, act, &x, &vec![1.0; x.len()], &mut d_x);
        for ((&x, &y), &slope) in x.iter().zip(&out).zip(&d_x) {
            let (x, y, slope) = (f64::from(x), f64::from(y), f64::from(slope));
            let (value, want) = oracle::value_and_slope(act, x);
            let room = 1e-6 * x.abs().max(if act == Activation::Relu2 { value } else { 0.0 });
            assert!((y - value).abs() <= room, "{isa} {act:?}({x}) = {y}, want {value}");
            assert!(
                (slope - want).abs() <= 1e-6 * want.abs().max(1.0),
                "{isa} {act:?}'({x}) = {slope}, want {want}"
            );
        }
    }
}

#[test]
fn large_gates_saturate() {
    for act in [Activation::Silu, Activation::GeluTanh, Activation::Gelu] {
        let x = [1e4, -1e4, 2.0, 2.0];
        on_every_cpu(
            |cpu| {
                let (mut out, mut d_x) = ([0.0f32; 2], [0.0f32; 4]);
                super::gated(cpu, act, &x, 2, &mut out);
                super::gated_backward(cpu, act, &x, 2, &[1.0, 1.0], &mut d_x);
                vec![wide(&out), wide(&d_x)]
            },
            &[("out", vec![2e4, 0.0], 1e-6), ("d_gate_up", vec![2.0, 0.0, 1e4, 0.0], 1e-6)],
        );
    }
}

#[test]
fn clamps_pass_gradients_at_their_bounds_and_none_beyond() {
    let x = [7.0, 7.000_001, 1.0, 1.0, -1e3, 1.0, 7.0, -7.000_001, 1.0, 1e30];
    let (gate, up) = x.split_at(5);
    let gate_up = [gate, up].concat();
    for isa in Isa::available() {
        let cpu = Cpu::with_isa(isa, 1);
        let mut d = [9.0f32; 10];
        super::gated_backward(&cpu, CLAMPED, &gate_up, 5, &[1.0; 5], &mut d);
        assert!(d[0] > 1.9 && d[1] == 0.0 && d[4].abs() < 1e-30, "{isa}: {d:?}");
        assert!(d[5] > 6.9 && d[6] > 6.9 && d[7] == 0.0 && d[8] > 0.8 && d[9] == 0.0, "{isa}: {d:?}");
    }
}

#[test]
#[should_panic(expected = "the clamped one is gated")]
fn a_plain_clamped_activation_is_refused() {
    super::plain(&Cpu::with_isa(Isa::portable(), 1), CLAMPED, &[1.0f32], &mut [0.0]);
}

proptest::proptest! {
    #![proptest_config(crate::ops::testing::random_shapes())]

    #[test]
    fn random_shapes_match_the_oracle(n in 1usize..80, width in 1usize..200, act in 0..all().count()) {
        let gated = all().nth(act).unwrap();
        compare_gated::<f32>(gated, n, width);
        compare_gated::<bf16>(gated, n, width);
        let act = PLAIN[act % PLAIN.len()];
        compare_plain::<f32>(act, n * width);
        compare_plain::<bf16>(act, n * width);
    }
}
