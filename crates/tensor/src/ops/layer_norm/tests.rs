use super::{Affine, AffineGrads, oracle};
use crate::ops::testing::{assert_slope, dot, on_every_cpu, random, stored, tolerance, wide};
use crate::simd::Elem;

const EPS: f32 = 1e-5;

#[test]
fn oracle_gradients_are_the_slopes() {
    let (x, w, b) = (wide(&random(1, 4 * 7, 2.0)), wide(&random(2, 7, 1.0)), wide(&random(3, 7, 1.0)));
    let dy = wide(&random(4, 4 * 7, 1.0));
    let (dx, dw, db) = oracle::backward(&x, &w, EPS.into(), &dy);
    assert_slope("x", &x, &dx, |x| dot(&oracle::forward(x, &w, &b, EPS.into()).y, &dy));
    assert_slope("w", &w, &dw, |w| dot(&oracle::forward(&x, w, &b, EPS.into()).y, &dy));
    assert_slope("b", &b, &db, |b| dot(&oracle::forward(&x, &w, b, EPS.into()).y, &dy));
}

fn sum(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

fn compare<E: Elem>(n: usize, d: usize, joined: bool, accumulate: bool) {
    // Off centre, so that the mean counts.
    let x: Vec<f32> = random(1, n * d, 3.0).iter().map(|x| x + 2.0).collect();
    let (w, b, delta) = (random(2, d, 1.0), random(3, d, 1.0), random(4, n * d, 3.0));
    let (dy, held) = (stored::<E>(&random(5, n * d, 1.0)), random(6, n * d, 1.0));
    let (held_dw, held_db) = (random(7, d, 1.0), random(8, d, 1.0));
    let input = if joined { sum(&wide(&x), &wide(&delta)) } else { wide(&x) };
    let want = oracle::forward(&input, &wide(&w), &wide(&b), EPS.into());
    let (mut dx, mut dw, mut db) = oracle::backward(&input, &wide(&w), EPS.into(), &wide(&dy));
    if accumulate {
        (dx, dw, db) = (sum(&dx, &wide(&held)), sum(&dw, &wide(&held_dw)), sum(&db, &wide(&held_db)));
    }
    on_every_cpu(
        |cpu| {
            let (mut x_out, mut y, mut stats) = (x.clone(), vec![E::from_f32(0.0); n * d], vec![0.0; 2 * n]);
            let (delta, out) = if joined { (Some(&delta[..]), Some(&mut x_out[..])) } else { (None, None) };
            super::forward(cpu, &x, delta, Affine { w: &w, b: &b }, EPS, out, &mut y, &mut stats);
            let (mut dx, mut dw, mut db) = (held.clone(), held_dw.clone(), held_db.clone());
            let grads = AffineGrads {
                dw: &mut dw,
                accumulate_dw: accumulate,
                db: &mut db,
                accumulate_db: accumulate,
            };
            super::backward(cpu, &x_out, &w, &stats, &dy, &mut dx, accumulate, grads);
            vec![wide(&x_out), wide(&y), wide(&stats), wide(&dx), wide(&dw), wide(&db)]
        },
        &[
            ("x_out", input.clone(), 1e-6),
            ("y", want.y, tolerance::<E>()),
            ("stats", want.stats, 1e-5),
            ("dx", dx, 2e-5),
            ("dw", dw, 1e-5),
            ("db", db, 1e-5),
        ],
    );
}

#[test]
fn every_path_matches_the_oracle() {
    for (n, d) in [(1, 5), (7, 19), (150, 64), (64, 300)] {
        for (joined, accumulate) in [(false, false), (true, true)] {
            compare::<f32>(n, d, joined, accumulate);
            compare::<half::bf16>(n, d, joined, accumulate);
        }
    }
}

#[test]
fn rows_of_one_number_become_the_bias() {
    let cpu = crate::Cpu::with_isa(crate::isa::Isa::portable(), 1);
    let (mut y, mut stats) = ([1.0f32; 8], [0.0; 4]);
    let affine = Affine { w: &[1.0; 4], b: &[0.5; 4] };
    super::forward(&cpu, &[3.0; 8], None, affine, EPS, None, &mut y, &mut stats);
    assert_eq!(y, [0.5; 8]);
}

proptest::proptest! {
    #![proptest_config(crate::ops::testing::random_shapes())]

    #[test]
    fn random_shapes_match_the_oracle(n in 1usize..170, d in 5usize..330, joined: bool, accumulate: bool) {
        compare::<f32>(n, d, joined, accumulate);
        compare::<half::bf16>(n, d, joined, accumulate);
    }
}
