//! LayerNorm with the residual addition before it (COR-03):
//! `s = x + delta`, `y = (s − mean(s)) / √(var(s) + eps) ⊙ w + b` (Ba et al., 2016), var the mean square of the differences.
//!
//! The residual stream and the statistics are fp32; only `y` has the activation's storage. About 8
//! floating-point operations per element forward and 15 backward: memory bounds both.

mod cpu;
mod node;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;

use crate::Cpu;
use crate::ops::add;
use crate::order::REDUCE_ROWS;
use crate::pool::Disjoint;
use crate::scratch;
use crate::simd::Elem;

/// Rows per task of the forward pass.
const ROWS: usize = 16;

/// What is kept of a row: its mean and 1 / √(var + eps).
pub const STATS: usize = 2;

/// Weights and bias, `[d]` each.
#[derive(Clone, Copy, Debug)]
pub struct Affine<'a> {
    /// What the normalised row is multiplied by.
    pub w: &'a [f32],
    /// What is added to it.
    pub b: &'a [f32],
}

/// Where the gradients of weights and bias go, `[d]` each.
#[derive(Debug)]
pub struct AffineGrads<'a> {
    /// Of the weights.
    pub dw: &'a mut [f32],
    /// Whether they are added to what is there.
    pub accumulate_dw: bool,
    /// Of the bias.
    pub db: &'a mut [f32],
    /// Whether they are added to what is there.
    pub accumulate_db: bool,
}

/// x `[n, d]`, delta `[n, d]` (a branch that joins the stream) → x_out `[n, d]` = x + delta (given exactly when delta
/// is), y `[n, d]`, stats `[n, 2]`, saved for backward.
///
/// # Panics
/// When shapes disagree (a caller bug).
#[allow(clippy::too_many_arguments)]
pub fn forward<E: Elem>(
    cpu: &Cpu,
    x: &[f32],
    delta: Option<&[f32]>,
    affine: Affine<'_>,
    eps: f32,
    x_out: Option<&mut [f32]>,
    y: &mut [E],
    stats: &mut [f32],
) {
    let (d, n) = (affine.w.len(), stats.len() / STATS);
    assert!(d > 0 && affine.b.len() == d, "layer_norm: weights and bias are [{d}]");
    assert!(
        stats.len() == n * STATS && x.len() == n * d && y.len() == n * d,
        "layer_norm: x and y are [{n}, {d}]"
    );
    assert!(delta.is_none_or(|delta| delta.len() == n * d), "layer_norm: delta is [{n}, {d}]");
    assert_eq!(delta.is_some(), x_out.is_some(), "layer_norm: x_out is given exactly when delta is");
    let x_out = x_out.unwrap_or_default();
    assert!(delta.is_none() || x_out.len() == n * d, "layer_norm: x_out is [{n}, {d}]");
    let (x_out, y, stats) = (Disjoint::new(x_out), Disjoint::new(y), Disjoint::new(stats));
    cpu.pool.run(n.div_ceil(ROWS), |i| {
        let (first, last) = (i * ROWS, ((i + 1) * ROWS).min(n));
        let part = first * d..last * d;
        let sum = if delta.is_some() { part.clone() } else { 0..0 };
        // SAFETY: these rows belong to task `i` alone.
        let (sum, y, stats) = unsafe {
            (
                x_out.slice(sum.start, sum.end),
                y.slice(part.start, part.end),
                stats.slice(first * STATS, last * STATS),
            )
        };
        let delta = delta.map(|delta| &delta[part.clone()]);
        cpu::forward::<E>(cpu.isa, &x[part], delta, affine, eps, sum, y, stats);
    });
}

/// x `[n, d]` (the normalised input, x_out where there was a delta), w `[d]`, stats `[n, 2]`, dy `[n, d]` → dx
/// `[n, d]`, added to what flows along the residual stream or overwritten, and the gradients of weights and bias. The
/// gradient of delta is that of x.
///
/// # Panics
/// When shapes disagree (a caller bug).
#[allow(clippy::too_many_arguments)]
pub fn backward<E: Elem>(
    cpu: &Cpu,
    x: &[f32],
    w: &[f32],
    stats: &[f32],
    dy: &[E],
    dx: &mut [f32],
    accumulate_dx: bool,
    grads: AffineGrads<'_>,
) {
    let (d, n) = (w.len(), stats.len() / STATS);
    let AffineGrads { dw, accumulate_dw, db, accumulate_db } = grads;
    assert!(d > 0 && x.len() == n * d && dy.len() == n * d, "layer_norm: x and dy are [{n}, {d}]");
    assert!(
        dx.len() == n * d && dw.len() == d && db.len() == d,
        "layer_norm: dx is [{n}, {d}], dw and db [{d}]"
    );
    let blocks = n.div_ceil(REDUCE_ROWS);
    scratch::with(2 * blocks * d, |partial: &mut [f32]| {
        let (of_w, of_b) = partial.split_at_mut(blocks * d);
        let (dx, of_b_parts) = (Disjoint::new(dx), Disjoint::new(of_b));
        cpu.pool.for_each_chunk(of_w, d, |i, of_w| {
            let (first, last) = (i * REDUCE_ROWS, ((i + 1) * REDUCE_ROWS).min(n));
            let part = first * d..last * d;
            // SAFETY: these rows and this block belong to task `i` alone.
            let (dx, of_b) =
                unsafe { (dx.slice(part.start, part.end), of_b_parts.slice(i * d, (i + 1) * d)) };
            let (x, dy, stats) = (&x[part.clone()], &dy[part], &stats[first * STATS..last * STATS]);
            cpu::backward::<E>(cpu.isa, x, w, stats, dy, dx, accumulate_dx, of_w, of_b);
        });
        add::sum_blocks(cpu, of_w, dw, accumulate_dw);
        add::sum_blocks(cpu, of_b, db, accumulate_db);
    });
}
