//! `y = x·wᵀ`, or `y = x·wᵀ + b`, and its gradients: x `[n, in]`, w `[out, in]`, b `[out]`, y `[n, out]`.
//! FLOPs: 2·n·in·out each.

mod cpu;
mod node;
#[cfg(test)]
mod oracle;

use crate::Cpu;
use crate::gemm::{Precision, View, gemm};
use crate::ops::add;
use crate::order::REDUCE_ROWS;
use crate::scratch;
use crate::simd::Elem;

/// Rows per task that the bias is copied to.
const ROWS: usize = 16;

/// FLOPs of one of the three products.
pub const fn flops(n: usize, n_in: usize, n_out: usize) -> u64 {
    2 * n as u64 * n_in as u64 * n_out as u64
}

/// n and out, after checking that x `[n, in]`, w `[out, in]` and y `[n, out]` belong together.
fn shape(x: usize, w: usize, y: usize, n_in: usize) -> (usize, usize) {
    assert!(n_in > 0 && x.is_multiple_of(n_in), "linear: x of {x} elements in rows of {n_in}");
    assert!(w.is_multiple_of(n_in), "linear: w of {w} elements in rows of {n_in}");
    let (n, n_out) = (x / n_in, w / n_in);
    assert_eq!(y, n * n_out, "linear: y is [{n}, {n_out}]");
    (n, n_out)
}

/// `y = x·wᵀ`.
///
/// # Panics
/// When shapes disagree (a caller bug).
pub fn forward<X: Elem, Y: Elem>(
    cpu: &Cpu,
    precision: Precision,
    x: &[X],
    w: &[f32],
    n_in: usize,
    y: &mut [Y],
) {
    let (n, n_out) = shape(x.len(), w.len(), y.len(), n_in);
    gemm(cpu, precision, (n, n_out, n_in), View::rows(x, n_in), View::rows(w, n_in).t(), y, n_out, false);
}

/// `y = x·wᵀ + b`. The bias is what the product is added to, rounded to the storage of y as PyTorch's autocast rounds
/// it; their sum is rounded once.
///
/// # Panics
/// When shapes disagree (a caller bug).
pub fn forward_bias<X: Elem, Y: Elem>(
    cpu: &Cpu,
    precision: Precision,
    x: &[X],
    w: &[f32],
    bias: &[f32],
    n_in: usize,
    y: &mut [Y],
) {
    let (n, n_out) = shape(x.len(), w.len(), y.len(), n_in);
    assert_eq!(bias.len(), n_out, "linear: the bias is [{n_out}]");
    cpu.pool.for_each_chunk(y, ROWS * n_out, |_, rows| cpu::set_rows::<Y>(cpu.isa, bias, rows));
    gemm(cpu, precision, (n, n_out, n_in), View::rows(x, n_in), View::rows(w, n_in).t(), y, n_out, true);
}

/// `db = Σ_rows dy`, or `+=` when `accumulate`: dy `[n, out]`, db `[out]`; rows in blocks ([`crate::order`]).
///
/// # Panics
/// When shapes disagree (a caller bug).
pub fn backward_bias<Y: Elem>(cpu: &Cpu, dy: &[Y], db: &mut [f32], accumulate: bool) {
    let n_out = db.len();
    assert!(n_out > 0 && dy.len().is_multiple_of(n_out), "linear: dy has rows of {n_out}");
    let block = REDUCE_ROWS * n_out;
    scratch::with(dy.len().div_ceil(block) * n_out, |partial: &mut [f32]| {
        cpu.pool.for_each_chunk(partial, n_out, |i, sum| {
            let rows = &dy[i * block..dy.len().min((i + 1) * block)];
            cpu::sum_rows::<Y>(cpu.isa, rows, sum);
        });
        add::sum_blocks(cpu, partial, db, accumulate);
    });
}

/// `dx = dy·w`, or `+=` when `accumulate`.
///
/// # Panics
/// When shapes disagree (a caller bug).
pub fn backward_input<Y: Elem, X: Elem>(
    cpu: &Cpu,
    precision: Precision,
    dy: &[Y],
    w: &[f32],
    n_in: usize,
    dx: &mut [X],
    accumulate: bool,
) {
    let (n, n_out) = shape(dx.len(), w.len(), dy.len(), n_in);
    gemm(cpu, precision, (n, n_in, n_out), View::rows(dy, n_out), View::rows(w, n_in), dx, n_in, accumulate);
}

/// `dw = dyᵀ·x`, or `+=` when `accumulate`; rows are added in order of n, in blocks ([`crate::order`]).
///
/// # Panics
/// When shapes disagree (a caller bug).
pub fn backward_weight<Y: Elem, X: Elem>(
    cpu: &Cpu,
    precision: Precision,
    dy: &[Y],
    x: &[X],
    n_in: usize,
    dw: &mut [f32],
    accumulate: bool,
) {
    let (n, n_out) = shape(x.len(), dw.len(), dy.len(), n_in);
    let (dy, x) = (View::rows(dy, n_out).t(), View::rows(x, n_in));
    gemm(cpu, precision, (n_out, n_in, n), dy, x, dw, n_in, accumulate);
}

#[cfg(test)]
mod tests {
    use super::{Precision, oracle};
    use crate::ops::testing::{assert_slope, dot, on_every_cpu, random, stored, tolerance, wide};
    use crate::simd::Elem;
    use half::bf16;

    #[test]
    fn oracle_gradients_are_the_slopes() {
        let (x, w) = (wide(&random(1, 3 * 5, 1.0)), wide(&random(2, 4 * 5, 1.0)));
        let dy = wide(&random(3, 3 * 4, 1.0));
        let (dx, dw) = oracle::backward(&x, &w, 5, &dy);
        assert_slope("x", &x, &dx, |x| dot(&oracle::forward(x, &w, 5), &dy));
        assert_slope("w", &w, &dw, |w| dot(&oracle::forward(&x, w, 5), &dy));
        let bias = wide(&random(4, 4, 1.0));
        let db = oracle::backward_bias(&dy, 4);
        assert_slope("bias", &bias, &db, |b| dot(&oracle::add_bias(oracle::forward(&x, &w, 5), b), &dy));
    }

    /// Activations stored as `E`; w holds numbers of type `E` too, so that rounding it changes nothing.
    fn compare<E: Elem>(precision: Precision, (n, n_in, n_out): (usize, usize, usize), accumulate: bool) {
        let narrow = |seed, len| stored::<E>(&random(seed, len, 1.0));
        let (x, dy) = (narrow(1, n * n_in), narrow(2, n * n_out));
        let w: Vec<f32> = narrow(3, n_out * n_in).iter().map(|w| w.to_f32()).collect();
        let (dx_before, dw_before) = (narrow(4, n * n_in), random(5, n_out * n_in, 1.0));
        let y = oracle::forward(&wide(&x), &wide(&w), n_in);
        let (mut dx, mut dw) = oracle::backward(&wide(&x), &wide(&w), n_in, &wide(&dy));
        if accumulate {
            dx.iter_mut().zip(wide(&dx_before)).for_each(|(to, x)| *to += x);
            dw.iter_mut().zip(wide(&dw_before)).for_each(|(to, x)| *to += x);
        }
        on_every_cpu(
            |cpu| {
                let (mut y, mut dx, mut dw) =
                    (vec![E::from_f32(9.0); n * n_out], dx_before.clone(), dw_before.clone());
                super::forward(cpu, precision, &x, &w, n_in, &mut y);
                super::backward_input(cpu, precision, &dy, &w, n_in, &mut dx, accumulate);
                super::backward_weight(cpu, precision, &dy, &x, n_in, &mut dw, accumulate);
                vec![wide(&y), wide(&dx), wide(&dw)]
            },
            &[("y", y, tolerance::<E>()), ("dx", dx, tolerance::<E>()), ("dw", dw, 1e-5)],
        );
    }

    #[test]
    fn every_path_matches_the_oracle() {
        for shape in [(1, 1, 1), (2, 33, 70), (37, 21, 45), (70, 64, 96)] {
            for accumulate in [false, true] {
                compare::<f32>(Precision::Fp32, shape, accumulate);
                compare::<bf16>(Precision::Bf16, shape, accumulate);
            }
        }
    }

    fn compare_bias<E: Elem>(
        precision: Precision,
        (n, n_in, n_out): (usize, usize, usize),
        accumulate: bool,
    ) {
        let narrow = |seed, len| stored::<E>(&random(seed, len, 1.0));
        let (x, dy) = (narrow(1, n * n_in), narrow(2, n * n_out));
        let w: Vec<f32> = narrow(3, n_out * n_in).iter().map(|w| w.to_f32()).collect();
        let (bias, held) = (random(4, n_out, 3.0), random(5, n_out, 1.0));
        let y = oracle::add_bias(oracle::forward(&wide(&x), &wide(&w), n_in), &wide(&bias));
        let mut db = oracle::backward_bias(&wide(&dy), n_out);
        if accumulate {
            db.iter_mut().zip(wide(&held)).for_each(|(to, x)| *to += x);
        }
        on_every_cpu(
            |cpu| {
                let (mut y, mut db) = (vec![E::from_f32(9.0); n * n_out], held.clone());
                super::forward_bias(cpu, precision, &x, &w, &bias, n_in, &mut y);
                super::backward_bias(cpu, &dy, &mut db, accumulate);
                vec![wide(&y), wide(&db)]
            },
            &[("y", y, tolerance::<E>()), ("db", db, 1e-5)],
        );
    }

    #[test]
    fn a_bias_matches_the_oracle_on_every_path() {
        for shape in [(1, 1, 1), (2, 33, 70), (131, 21, 45), (70, 64, 300)] {
            for accumulate in [false, true] {
                compare_bias::<f32>(Precision::Fp32, shape, accumulate);
                compare_bias::<bf16>(Precision::Bf16, shape, accumulate);
            }
        }
    }

    #[test]
    #[should_panic(expected = "linear: y is [2, 3]")]
    fn another_shape_is_refused() {
        let cpu = crate::Cpu::with_isa(crate::isa::Isa::portable(), 1);
        super::forward(&cpu, Precision::Fp32, &[0.0f32; 8], &[0.0; 12], 4, &mut [0.0f32; 5]);
    }

    proptest::proptest! {
        #![proptest_config(crate::ops::testing::random_shapes())]

        #[test]
        fn random_shapes_match_the_oracle(n in 1usize..80, n_in in 1usize..110, n_out in 1usize..110, accumulate: bool) {
            let shape = (n, n_in, n_out);
            compare::<f32>(Precision::Fp32, shape, accumulate);
            compare::<bf16>(Precision::Bf16, shape, accumulate);
            compare_bias::<f32>(Precision::Fp32, shape, accumulate);
            compare_bias::<bf16>(Precision::Bf16, shape, accumulate);
        }
    }
}
