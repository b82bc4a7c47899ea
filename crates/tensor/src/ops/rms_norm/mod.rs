//! RMSNorm with the residual addition before it (COR-03):
//! `s = x + delta`, `y = s / rms(s) ⊙ w`, `rms(s) = √(mean(s²) + eps)` (Zhang & Sennrich, 2019), or `… ⊙ (1 + w)`, as
//! Gemma stores its weights ([`Gain`]).
//!
//! The residual stream and the statistics are fp32; only `y` has the activation's storage. About 5
//! floating-point operations per element forward and 10 backward: memory bounds both.

mod cpu;
mod node;
#[cfg(test)]
mod oracle;

pub use node::Gain;
pub(crate) use node::with_offset;

use crate::Cpu;
use crate::ops::add;
use crate::order::REDUCE_ROWS;
use crate::pool::Disjoint;
use crate::scratch;
use crate::simd::Elem;

/// Rows per task of the forward pass.
const ROWS: usize = 16;

/// x `[n, d]`, delta `[n, d]` (a branch that joins the stream), w `[d]` → x_out `[n, d]` = x + delta
/// (given exactly when delta is), y `[n, d]`, inv_rms `[n]` = 1 / rms, saved for backward.
///
/// # Panics
/// When shapes disagree (a caller bug).
#[allow(clippy::too_many_arguments)]
pub fn forward<E: Elem, D: Elem>(
    cpu: &Cpu,
    x: &[f32],
    delta: Option<&[D]>,
    w: &[f32],
    eps: f32,
    x_out: Option<&mut [f32]>,
    y: &mut [E],
    inv_rms: &mut [f32],
) {
    let (d, n) = (w.len(), inv_rms.len());
    assert!(d > 0 && x.len() == n * d && y.len() == n * d, "rms_norm: x and y are [{n}, {d}]");
    assert!(delta.is_none_or(|delta| delta.len() == n * d), "rms_norm: delta is [{n}, {d}]");
    assert_eq!(delta.is_some(), x_out.is_some(), "rms_norm: x_out is given exactly when delta is");
    let x_out = x_out.unwrap_or_default();
    assert!(delta.is_none() || x_out.len() == n * d, "rms_norm: x_out is [{n}, {d}]");
    let (x_out, y, inv_rms) = (Disjoint::new(x_out), Disjoint::new(y), Disjoint::new(inv_rms));
    cpu.pool.run(n.div_ceil(ROWS), |i| {
        let (first, last) = (i * ROWS, ((i + 1) * ROWS).min(n));
        let part = first * d..last * d;
        let sum = if delta.is_some() { part.clone() } else { 0..0 };
        // SAFETY: these rows belong to task `i` alone.
        let (sum, y, inv_rms) = unsafe {
            (x_out.slice(sum.start, sum.end), y.slice(part.start, part.end), inv_rms.slice(first, last))
        };
        let delta = delta.map(|delta| &delta[part.clone()]);
        cpu::forward::<E, D>(cpu.isa, &x[part], delta, w, eps, sum, y, inv_rms);
    });
}

/// x `[n, d]` (the normalised input, x_out where there was a delta), w `[d]`, inv_rms `[n]`,
/// dy `[n, d]` → dx `[n, d]`, added to what flows along the residual stream or overwritten, and dw `[d]`,
/// added to or overwritten. The gradient of delta is that of x.
///
/// # Panics
/// When shapes disagree (a caller bug).
#[allow(clippy::too_many_arguments)]
pub fn backward<E: Elem>(
    cpu: &Cpu,
    x: &[f32],
    w: &[f32],
    inv_rms: &[f32],
    dy: &[E],
    dx: &mut [f32],
    accumulate_dx: bool,
    dw: &mut [f32],
    accumulate_dw: bool,
) {
    let (d, n) = (w.len(), inv_rms.len());
    assert!(d > 0 && x.len() == n * d && dy.len() == n * d, "rms_norm: x and dy are [{n}, {d}]");
    assert!(dx.len() == n * d && dw.len() == d, "rms_norm: dx is [{n}, {d}] and dw [{d}]");
    let blocks = n.div_ceil(REDUCE_ROWS);
    scratch::with(blocks * d, |partial: &mut [f32]| {
        let dx = Disjoint::new(dx);
        cpu.pool.for_each_chunk(partial, d, |i, partial| {
            let (first, last) = (i * REDUCE_ROWS, ((i + 1) * REDUCE_ROWS).min(n));
            let part = first * d..last * d;
            // SAFETY: these rows belong to task `i` alone.
            let dx = unsafe { dx.slice(part.start, part.end) };
            let (x, inv_rms, dy) = (&x[part.clone()], &inv_rms[first..last], &dy[part]);
            cpu::backward::<E>(cpu.isa, x, w, inv_rms, dy, dx, accumulate_dx, partial);
        });
        add::sum_blocks(cpu, partial, dw, accumulate_dw);
    });
}

#[cfg(test)]
mod tests {
    use super::oracle;
    use crate::ops::testing::{assert_slope, dot, on_every_cpu, random, stored, tolerance, wide};
    use crate::simd::Elem;

    const EPS: f32 = 1e-6;

    #[test]
    fn oracle_gradient_is_the_slope() {
        let (x, w, dy) =
            (wide(&random(1, 4 * 7, 2.0)), wide(&random(2, 7, 1.0)), wide(&random(3, 4 * 7, 1.0)));
        let (dx, dw) = oracle::backward(&x, &w, EPS.into(), &dy);
        assert_slope("x", &x, &dx, |x| dot(&oracle::forward(x, &w, EPS.into()).0, &dy));
        assert_slope("w", &w, &dw, |w| dot(&oracle::forward(&x, w, EPS.into()).0, &dy));
    }

    fn sum(a: &[f64], b: &[f64]) -> Vec<f64> {
        a.iter().zip(b).map(|(a, b)| a + b).collect()
    }

    fn compare<E: Elem>(n: usize, d: usize, joined: bool, accumulate: bool) {
        let (x, w) = (random(1, n * d, 3.0), random(2, d, 1.0));
        let delta = stored::<E>(&random(3, n * d, 3.0));
        let (dy, held, held_dw) =
            (stored::<E>(&random(4, n * d, 1.0)), random(5, n * d, 1.0), random(6, d, 1.0));
        let input = if joined { sum(&wide(&x), &wide(&delta)) } else { wide(&x) };
        let (y, inv_rms) = oracle::forward(&input, &wide(&w), EPS.into());
        let (dx, dw) = oracle::backward(&input, &wide(&w), EPS.into(), &wide(&dy));
        on_every_cpu(
            |cpu| {
                let (mut x_out, mut y, mut inv_rms) =
                    (x.clone(), vec![E::from_f32(0.0); n * d], vec![0.0; n]);
                let (delta, out) =
                    if joined { (Some(&delta[..]), Some(&mut x_out[..])) } else { (None, None) };
                super::forward(cpu, &x, delta, &w, EPS, out, &mut y, &mut inv_rms);
                let (mut dx, mut dw) = (held.clone(), held_dw.clone());
                super::backward(cpu, &x_out, &w, &inv_rms, &dy, &mut dx, accumulate, &mut dw, accumulate);
                vec![wide(&x_out), wide(&y), wide(&inv_rms), wide(&dx), wide(&dw)]
            },
            &[
                ("x_out", input.clone(), 1e-6),
                ("y", y, tolerance::<E>()),
                ("inv_rms", inv_rms, 1e-6),
                ("dx", if accumulate { sum(&dx, &wide(&held)) } else { dx }, 1e-5),
                ("dw", if accumulate { sum(&dw, &wide(&held_dw)) } else { dw }, 1e-5),
            ],
        );
    }

    #[test]
    fn every_path_matches_the_oracle() {
        // A row of one number has a gradient of zero, which rounding alone would decide.
        for (n, d) in [(1, 3), (7, 19), (150, 64), (64, 300)] {
            for (joined, accumulate) in [(false, false), (true, true)] {
                compare::<f32>(n, d, joined, accumulate);
                compare::<half::bf16>(n, d, joined, accumulate);
            }
        }
    }

    #[test]
    fn rows_of_zeros_stay_finite() {
        let cpu = crate::Cpu::with_isa(crate::isa::Isa::portable(), 1);
        let (mut y, mut inv_rms) = ([1.0f32; 8], [0.0; 2]);
        super::forward::<f32, f32>(&cpu, &[0.0; 8], None, &[1.0; 4], EPS, None, &mut y, &mut inv_rms);
        assert_eq!(y, [0.0; 8]);
        assert!(inv_rms.iter().all(|r| (r - 1e3).abs() < 0.1));
    }

    proptest::proptest! {
        #![proptest_config(crate::ops::testing::random_shapes())]

        #[test]
        fn random_shapes_match_the_oracle(n in 1usize..170, d in 3usize..330, joined: bool, accumulate: bool) {
            compare::<f32>(n, d, joined, accumulate);
            compare::<half::bf16>(n, d, joined, accumulate);
        }
    }
}
