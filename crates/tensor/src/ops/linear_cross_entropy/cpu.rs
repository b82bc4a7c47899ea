//! One chunk of rows: logits, their softmax in place, the three products.

use super::{Args, Gradients, NO_LABEL};
use crate::Cpu;
use crate::gemm::{Precision, View, gemm};
use crate::isa::Isa;
use crate::ops::softcap;
use crate::order::SUM_BLOCK;
use crate::pool::Disjoint;
use crate::simd::{Elem, for_lanes};
use crate::simd_kernel;
use std::ops::Range;

/// What is kept of a row: nll, log Z, whether the label has the highest logit.
pub(super) const STATS: usize = 3;

/// Rows per task of the softmax.
const ROWS: usize = 4;

/// Probabilities relative to the row's largest that count as zero: their products would be denormal,
/// which costs a hundredfold in time and changes no gradient.
const NEGLIGIBLE: f32 = 1e-24;

/// Some rows and the memory for them.
pub(super) struct Chunk<'a, E> {
    /// `[rows, d]`
    pub(super) h: &'a [E],
    /// `[rows]`
    pub(super) labels: &'a [u32],
    /// `[rows, vocab]`
    pub(super) logits: &'a mut [f32],
    /// `[rows, STATS]`, written for rows with labels.
    pub(super) stats: &'a mut [f64],
}

/// Computes a chunk's statistics and, where asked, its part of the gradients; `part` is where its rows
/// lie in the batch.
pub(super) fn chunk<E: Elem>(
    cpu: &Cpu,
    precision: Precision,
    args: &Args<'_, E>,
    chunk: Chunk<'_, E>,
    part: Range<usize>,
    gradients: Option<&mut Gradients<'_, E>>,
) {
    let Chunk { h, labels, logits, stats } = chunk;
    let (rows, d) = (labels.len(), h.len() / labels.len());
    let vocab = logits.len() / rows;
    let part = part.start * d..part.end * d;
    if labels.iter().all(|&label| label == NO_LABEL) {
        if let Some(to) = gradients {
            to.dh[part].fill(E::from_f32(0.0));
        }
        return;
    }
    let (h, w) = (View::rows(h, d), View::rows(args.w, d));
    gemm(cpu, precision, (rows, vocab, d), h, w.t(), logits, vocab, false);
    let slope = gradients.is_some().then_some((args.scale, args.z_loss));
    softmax_rows::<E>(cpu, labels, logits, stats, args.softcap, slope);
    if let Some(to) = gradients {
        let d_logits = View::rows_strided(bytemuck::cast_slice::<f32, E>(logits), row_stride::<E>(vocab));
        gemm(cpu, precision, (rows, d, vocab), d_logits, w, &mut to.dh[part], d, false);
        gemm(cpu, precision, (vocab, d, rows), d_logits.t(), h, to.dw, d, to.accumulate_dw);
        to.accumulate_dw = true;
    }
}

/// Elements from row to row of the gradients of logits, which lie at the start of the logits' own fp32 rows.
const fn row_stride<E>(vocab: usize) -> usize {
    vocab * size_of::<f32>() / size_of::<E>()
}

/// Each row of logits → its statistics; with `slope` (scale, z_loss) the row becomes its gradient, stored as `E`.
fn softmax_rows<E: Elem>(
    cpu: &Cpu,
    labels: &[u32],
    logits: &mut [f32],
    stats: &mut [f64],
    cap: Option<f32>,
    slope: Option<(f32, f32)>,
) {
    let vocab = logits.len() / labels.len();
    let logits = Disjoint::new(logits);
    cpu.pool.for_each_chunk(stats, ROWS * STATS, |i, stats| {
        for (r, stats) in stats.chunks_exact_mut(STATS).enumerate() {
            let r = i * ROWS + r;
            // SAFETY: this row belongs to task `i` alone.
            let row = unsafe { logits.slice(r * vocab, (r + 1) * vocab) };
            match labels[r] {
                NO_LABEL => row.fill(0.0),
                label => {
                    let label = label as usize;
                    let found = match cap {
                        None => softmax::<E>(cpu.isa, row, label, slope),
                        Some(cap) => capped_softmax::<E>(cpu.isa, row, label, cap, slope),
                    };
                    stats.copy_from_slice(&found);
                }
            }
        }
    });
}

fn softmax<E: Elem>(isa: Isa, row: &mut [f32], label: usize, slope: Option<(f32, f32)>) -> [f64; STATS] {
    let (max, hit) = (largest(isa, row), row[label]);
    let correct = hit == max && !row[..label].contains(&max);
    let sum = exponentials(isa, row, max);
    let log_z = f64::from(max) + sum.ln();
    if let Some((scale, z_loss)) = slope {
        // d/d logit = scale·(p − [label] + 2·z_loss·log Z·p), p = exp(logit − max) / sum
        let (scale, z_loss) = (f64::from(scale), f64::from(z_loss));
        let factor = (scale * (1.0 + 2.0 * z_loss * log_z) / sum) as f32;
        let of_label = row[label] * factor - scale as f32;
        scaled::<E>(isa, row, factor);
        bytemuck::cast_slice_mut::<f32, E>(row)[label] = E::from_f32(of_label);
    }
    [log_z - f64::from(hit), log_z, f64::from(u8::from(correct))]
}

/// The same of capped logits. What slope the cap has is read off them, so they stay until they become gradients, and
/// each exponential is computed twice.
fn capped_softmax<E: Elem>(
    isa: Isa,
    row: &mut [f32],
    label: usize,
    cap: f32,
    slope: Option<(f32, f32)>,
) -> [f64; STATS] {
    softcap::cap(isa, cap, row);
    let (max, hit) = (largest(isa, row), row[label]);
    let correct = hit == max && !row[..label].contains(&max);
    let sum = sum_exponentials(isa, row, max);
    let log_z = f64::from(max) + sum.ln();
    if let Some((scale, z_loss)) = slope {
        let (scale, z_loss) = (f64::from(scale), f64::from(z_loss));
        let factor = scale * (1.0 + 2.0 * z_loss * log_z) / sum;
        let (p, t) = (f64::from(hit - max).exp(), f64::from(hit / cap));
        let of_label = ((p * factor - scale) * (1.0 - t * t)) as f32;
        capped_slopes::<E>(isa, row, max, factor as f32, cap);
        bytemuck::cast_slice_mut::<f32, E>(row)[label] = E::from_f32(of_label);
    }
    [log_z - f64::from(hit), log_z, f64::from(u8::from(correct))]
}

simd_kernel! {
    /// The largest element.
    pub(crate) fn largest<S>(x: &[f32]) -> f32 {
        let whole = x.len() - x.len() % S::LANES;
        // SAFETY: whole vectors below `whole`.
        let max = unsafe {
            let mut max = S::splat(f32::NEG_INFINITY);
            for_lanes!(S, whole, |i, _n| max = S::max(max, S::load(x.as_ptr().add(i))));
            S::reduce_max(max)
        };
        x[whole..].iter().fold(max, |max, &v| if v > max { v } else { max })
    }
}

simd_kernel! {
    /// Each x becomes exp(x − max); returns their sum: fp32 within blocks, f64 over them.
    fn exponentials<S>(x: &mut [f32], max: f32) -> f64 {
        let mut total = 0.0;
        for block in x.chunks_mut(SUM_BLOCK) {
            let (len, p) = (block.len(), block.as_mut_ptr());
            // SAFETY: `i + n <= len`.
            unsafe {
                let mut sum = S::splat(0.0);
                for_lanes!(S, len, |i, n| {
                    let e = S::exp(S::sub(f32::load_n::<S>(p.add(i), n), S::splat(max)));
                    f32::store_n::<S>(p.add(i), e, n);
                    // Read back where lanes beyond the end hold something else than zero.
                    sum = S::add(sum, if n < S::LANES { S::load_partial(p.add(i), n) } else { e });
                });
                total += f64::from(S::reduce_add(sum));
            }
        }
        total
    }
}

simd_kernel! {
    /// Each x in 0..=1 becomes factor·x, negligible ones zero, stored as `E` from the start of the same memory on.
    fn scaled<S, E: Elem>(x: &mut [f32], factor: f32) {
        let (len, p) = (x.len(), x.as_mut_ptr());
        // SAFETY: `i + n <= len`, and an `E` is no wider than an fp32: what is written lies at or before what was read.
        for_lanes!(S, len, |i, n| unsafe {
            let floor = S::splat(NEGLIGIBLE);
            let e = S::sub(S::max(f32::load_n::<S>(p.add(i), n), floor), floor);
            E::store_n::<S>(p.cast::<E>().add(i), S::mul(e, S::splat(factor)), n);
        });
    }
}

/// As many as there are lanes on any path.
const ONES: [f32; 16] = [1.0; 16];

simd_kernel! {
    /// Σ exp(x − max), x staying as it is: fp32 within blocks, f64 over them.
    pub(crate) fn sum_exponentials<S>(x: &[f32], max: f32) -> f64 {
        let mut total = 0.0;
        for block in x.chunks(SUM_BLOCK) {
            let (len, p) = (block.len(), block.as_ptr());
            // SAFETY: `i + n <= len`.
            unsafe {
                let mut sum = S::splat(0.0);
                for_lanes!(S, len, |i, n| {
                    let mut e = S::exp(S::sub(f32::load_n::<S>(p.add(i), n), S::splat(max)));
                    if n < S::LANES {
                        // Lanes beyond the end hold something else than zero.
                        e = S::mul(e, S::load_partial(ONES.as_ptr(), n));
                    }
                    sum = S::add(sum, e);
                });
                total += f64::from(S::reduce_add(sum));
            }
        }
        total
    }
}

simd_kernel! {
    /// Each capped logit x becomes factor·exp(x − max)·(1 − (x / cap)²), where the exponential is not negligible, stored
    /// as `E` from the start of the same memory on.
    fn capped_slopes<S, E: Elem>(x: &mut [f32], max: f32, factor: f32, cap: f32) {
        let (len, p, inverse) = (x.len(), x.as_mut_ptr(), 1.0 / cap);
        // SAFETY: as in `scaled`.
        for_lanes!(S, len, |i, n| unsafe {
            let (x, floor) = (f32::load_n::<S>(p.add(i), n), S::splat(NEGLIGIBLE));
            let e = S::sub(S::max(S::exp(S::sub(x, S::splat(max))), floor), floor);
            let t = S::mul(x, S::splat(inverse));
            let slope = S::fma(S::sub(S::splat(0.0), t), t, S::splat(1.0));
            E::store_n::<S>(p.cast::<E>().add(i), S::mul(S::mul(e, S::splat(factor)), slope), n);
        });
    }
}
