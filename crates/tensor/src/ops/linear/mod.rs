//! `y = x·wᵀ` and its gradients: x `[n, in]`, w `[out, in]`, y `[n, out]`. FLOPs: 2·n·in·out each.

mod node;

use crate::Cpu;
use crate::gemm::{Precision, View, gemm};
use crate::simd::Elem;

/// `y = x·wᵀ`.
pub fn forward<X: Elem, Y: Elem>(
    cpu: &Cpu,
    precision: Precision,
    x: &[X],
    w: &[f32],
    n_in: usize,
    y: &mut [Y],
) {
    let (n, n_out) = (x.len() / n_in, w.len() / n_in);
    gemm(cpu, precision, (n, n_out, n_in), View::rows(x, n_in), View::rows(w, n_in).t(), y, n_out, false);
}

/// `dx = dy·w`, or `+=` when `accumulate`.
pub fn backward_input<Y: Elem, X: Elem>(
    cpu: &Cpu,
    precision: Precision,
    dy: &[Y],
    w: &[f32],
    n_in: usize,
    dx: &mut [X],
    accumulate: bool,
) {
    let (n, n_out) = (dx.len() / n_in, w.len() / n_in);
    gemm(cpu, precision, (n, n_in, n_out), View::rows(dy, n_out), View::rows(w, n_in), dx, n_in, accumulate);
}

/// `dw = dyᵀ·x`, or `+=` when `accumulate`.
pub fn backward_weight<Y: Elem, X: Elem>(
    cpu: &Cpu,
    precision: Precision,
    dy: &[Y],
    x: &[X],
    n_in: usize,
    dw: &mut [f32],
    accumulate: bool,
) {
    let (n, n_out) = (x.len() / n_in, dw.len() / n_in);
    gemm(
        cpu,
        precision,
        (n_out, n_in, n),
        View::rows(dy, n_out).t(),
        View::rows(x, n_in),
        dw,
        n_in,
        accumulate,
    );
}
