//! The language model head and its loss as one op: linear, cross-entropy and z-loss (STB-01), without
//! ever holding all logits.
//!
//! Logits may be capped first, `cap·tanh(logit / cap)` (Gemma 2). Per row with a label, with `Z = Σ_v exp(logit_v)`: `nll = log Z − logit_label`, and the z-loss adds
//! `z_loss · log² Z`, which keeps `log Z` near 0. [`loss_rows`] rows of logits exist at a time: they are
//! computed, turned into their own gradient in place and used up. The scale
//! (1 / label tokens of the global batch) is the caller's, so that masks, packing and leaves never
//! change the normalisation.
//!
//! 2·n·d·vocab floating-point operations forward and twice that backward, all in three products.

mod cpu;
mod node;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;

pub(crate) use cpu::{largest, sum_exponentials};
pub use node::Loss;

use crate::Cpu;
use crate::gemm::Precision;
use crate::order::loss_rows;
use crate::scratch;
use crate::simd::Elem;

/// The label of a row that takes no part in the loss.
pub const NO_LABEL: u32 = u32::MAX;

/// What the op reads.
#[derive(Clone, Copy, Debug)]
pub struct Args<'a, E> {
    /// Outputs of the final norm, `[n, d]`.
    pub h: &'a [E],
    /// Output embedding, `[vocab, d]`.
    pub w: &'a [f32],
    /// The token each row should predict, `[n]`; [`NO_LABEL`] for none.
    pub labels: &'a [u32],
    /// What the sum of losses is multiplied by before gradients are taken.
    pub scale: f32,
    /// Weight of log² Z; 0 for none.
    pub z_loss: f32,
    /// What logits are kept below in size, softly.
    pub softcap: Option<f32>,
}

/// Sums over the rows that have labels, in order of row, unscaled.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// Σ nll, without the z-loss.
    pub nll_sum: f64,
    /// Σ log Z (STB-01).
    pub log_z_sum: f64,
    /// Σ log² Z, not multiplied by `z_loss`.
    pub z_sum: f64,
    /// Rows with a label.
    pub label_tokens: u64,
    /// Rows whose label has the highest logit (the first of equals wins).
    pub correct: u64,
}

/// Where gradients go.
struct Gradients<'a, E> {
    dh: &'a mut [E],
    dw: &'a mut [f32],
    accumulate_dw: bool,
}

/// Loss only, for validation and scoring: per_token `[n]` is each row's nll, 0 without label.
///
/// # Panics
/// When shapes disagree or a label is not below `vocab` (a caller bug: loaders check ids).
pub fn forward<E: Elem>(cpu: &Cpu, precision: Precision, args: Args<'_, E>, per_token: &mut [f32]) -> Totals {
    run(cpu, precision, args, None, per_token)
}

/// Loss and the gradients of `scale · Σ (nll + z_loss·log² Z)`: dh `[n, d]`, overwritten, rows without
/// label exactly zero; dw `[vocab, d]`, added to or overwritten; per_token as in [`forward`].
///
/// # Panics
/// As [`forward`].
pub fn forward_backward<E: Elem>(
    cpu: &Cpu,
    precision: Precision,
    args: Args<'_, E>,
    dh: &mut [E],
    dw: &mut [f32],
    accumulate_dw: bool,
    per_token: &mut [f32],
) -> Totals {
    assert_eq!(dh.len(), args.h.len(), "linear_cross_entropy: h and its gradient have one shape");
    assert_eq!(dw.len(), args.w.len(), "linear_cross_entropy: w and its gradient have one shape");
    run(cpu, precision, args, Some(Gradients { dh, dw, accumulate_dw }), per_token)
}

fn run<E: Elem>(
    cpu: &Cpu,
    precision: Precision,
    args: Args<'_, E>,
    mut gradients: Option<Gradients<'_, E>>,
    per_token: &mut [f32],
) -> Totals {
    let (d, vocab) = check(&args, per_token.len());
    let mut totals = Totals::default();
    let most = loss_rows(vocab);
    let rows = args.labels.len().min(most);
    scratch::with(rows * vocab, |logits: &mut [f32]| {
        scratch::with(rows * cpu::STATS, |stats: &mut [f64]| {
            for (i, labels) in args.labels.chunks(most).enumerate() {
                let part = i * most..i * most + labels.len();
                let chunk = cpu::Chunk {
                    h: &args.h[part.start * d..part.end * d],
                    labels,
                    logits: &mut logits[..labels.len() * vocab],
                    stats: &mut stats[..labels.len() * cpu::STATS],
                };
                cpu::chunk(cpu, precision, &args, chunk, part.clone(), gradients.as_mut());
                totals.add(labels, stats, &mut per_token[part]);
            }
        });
    });
    if let Some(Gradients { dw, accumulate_dw: false, .. }) = gradients {
        // No row has a label: nothing was written.
        dw.fill(0.0);
    }
    totals
}

impl Totals {
    fn add(&mut self, labels: &[u32], stats: &[f64], per_token: &mut [f32]) {
        for ((&label, row), nll) in labels.iter().zip(stats.chunks_exact(cpu::STATS)).zip(per_token) {
            *nll = 0.0;
            if label != NO_LABEL {
                *nll = row[0] as f32;
                self.nll_sum += row[0];
                self.log_z_sum += row[1];
                self.z_sum += row[1] * row[1];
                self.label_tokens += 1;
                self.correct += u64::from(row[2] != 0.0);
            }
        }
    }
}

/// (d, vocab)
fn check<E>(args: &Args<'_, E>, per_token: usize) -> (usize, usize) {
    let n = args.labels.len();
    assert_eq!(per_token, n, "linear_cross_entropy: one loss per label");
    if n == 0 {
        assert!(args.h.is_empty(), "linear_cross_entropy: rows of h without labels");
        return (0, 0);
    }
    let d = args.h.len() / n;
    assert!(d > 0 && args.h.len() == n * d, "linear_cross_entropy: h has {n} rows");
    assert!(args.w.len().is_multiple_of(d), "linear_cross_entropy: w has rows of {d}");
    let vocab = args.w.len() / d;
    let known = args.labels.iter().all(|&label| label == NO_LABEL || (label as usize) < vocab);
    assert!(known, "linear_cross_entropy: a label is not below {vocab}");
    (d, vocab)
}
