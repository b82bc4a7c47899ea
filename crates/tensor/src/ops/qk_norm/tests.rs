use super::{Part, oracle};
use crate::ops::testing::{assert_slope, dot, on_every_cpu, random, stored, tolerance, wide};
use crate::simd::Elem;

const EPS: f32 = 1e-6;

/// Widths of q and k, the sizes of their groups, and the row.
type Shape = ([usize; 2], [usize; 2], usize);

#[test]
fn oracle_gradients_are_the_slopes() {
    // Per head, and over the whole width.
    for (widths, groups, cols) in [([8, 4], [4, 4], 15), ([6, 3], [6, 3], 12)] {
        let (x, dy) = (wide(&random(1, 3 * cols, 2.0)), wide(&random(2, 3 * cols, 1.0)));
        let (w_q, w_k) = (wide(&random(3, groups[0], 1.0)), wide(&random(4, groups[1], 1.0)));
        let run = |x: &[f64], w_q: &[f64], w_k: &[f64]| {
            dot(&oracle::forward(x, cols, [(widths[0], w_q), (widths[1], w_k)], EPS.into()).0, &dy)
        };
        let parts = [(widths[0], &w_q[..]), (widths[1], &w_k[..])];
        let (dx, [dw_q, dw_k]) = oracle::backward(&x, cols, parts, EPS.into(), &dy);
        assert_slope("x", &x, &dx, |x| run(x, &w_q, &w_k));
        assert_slope("w_q", &w_q, &dw_q, |w_q| run(&x, w_q, &w_k));
        assert_slope("w_k", &w_k, &dw_k, |w_k| run(&x, &w_q, w_k));
    }
}

fn compare<E: Elem>(n: usize, (widths, groups, cols): Shape, accumulate: bool) {
    let (x, dy) = (stored::<E>(&random(1, n * cols, 3.0)), stored::<E>(&random(2, n * cols, 1.0)));
    let (w_q, w_k) = (random(3, groups[0], 1.0), random(4, groups[1], 1.0));
    let (held_q, held_k) = (random(5, groups[0], 1.0), random(6, groups[1], 1.0));
    let (wide_q, wide_k) = (wide(&w_q), wide(&w_k));
    let wanted = [(widths[0], &wide_q[..]), (widths[1], &wide_k[..])];
    let (y, inv_rms) = oracle::forward(&wide(&x), cols, wanted, EPS.into());
    let (dx, mut dw) = oracle::backward(&wide(&x), cols, wanted, EPS.into(), &wide(&dy));
    if accumulate {
        for (dw, held) in dw.iter_mut().zip([&held_q, &held_k]) {
            dw.iter_mut().zip(wide(held)).for_each(|(to, x)| *to += x);
        }
    }
    let [dw_q, dw_k] = dw;
    on_every_cpu(
        |cpu| {
            let parts = [Part { width: widths[0], w: &w_q }, Part { width: widths[1], w: &w_k }];
            let (mut y, mut dx) = (vec![E::from_f32(9.0); n * cols], vec![E::from_f32(9.0); n * cols]);
            let mut inv_rms = vec![0.0; n * (widths[0] / groups[0] + widths[1] / groups[1])];
            super::forward(cpu, &x, cols, parts, EPS, &mut y, &mut inv_rms);
            let (mut dw_q, mut dw_k) = (held_q.clone(), held_k.clone());
            let dw = [(&mut dw_q[..], accumulate), (&mut dw_k[..], accumulate)];
            super::backward(cpu, &x, cols, parts, &inv_rms, &dy, &mut dx, dw);
            vec![wide(&y), wide(&inv_rms), wide(&dx), wide(&dw_q), wide(&dw_k)]
        },
        &[
            ("y", y, tolerance::<E>()),
            ("inv_rms", inv_rms, 1e-6),
            ("dx", dx, tolerance::<E>()),
            ("dw_q", dw_q, 1e-5),
            ("dw_k", dw_k, 1e-5),
        ],
    );
}

#[test]
fn every_path_matches_the_oracle() {
    // One head; heads of 19; heads of 16 with values of another width; whole widths; nothing but q and k.
    let shapes: [Shape; 5] = [
        ([1, 1], [1, 1], 3),
        ([57, 19], [19, 19], 95),
        ([64, 32], [16, 16], 108),
        ([64, 32], [64, 32], 128),
        ([24, 8], [8, 8], 32),
    ];
    for (n, shape) in [1, 7, 150].into_iter().flat_map(|n| shapes.map(|shape| (n, shape))) {
        compare::<f32>(n, shape, n == 7);
        compare::<half::bf16>(n, shape, n == 7);
    }
}

#[test]
#[should_panic(expected = "whole groups")]
fn heads_that_do_not_fit_are_refused() {
    let cpu = crate::Cpu::with_isa(crate::isa::Isa::portable(), 1);
    let part = Part { width: 5, w: &[1.0; 2] };
    super::forward(&cpu, &[0.0f32; 12], 12, [part, part], EPS, &mut [0.0; 12], &mut [0.0; 4]);
}

proptest::proptest! {
    #![proptest_config(crate::ops::testing::random_shapes())]

    #[test]
    fn random_shapes_match_the_oracle(
        n in 1usize..170, head_dim in 2usize..70, (kv_heads, group) in (1usize..4, 1usize..4), whole: bool, rest in 0usize..40,
        accumulate: bool,
    ) {
        let widths = [kv_heads * group * head_dim, kv_heads * head_dim];
        let shape = (widths, if whole { widths } else { [head_dim; 2] }, widths[0] + widths[1] + rest);
        compare::<f32>(n, shape, accumulate);
        compare::<half::bf16>(n, shape, accumulate);
    }
}
