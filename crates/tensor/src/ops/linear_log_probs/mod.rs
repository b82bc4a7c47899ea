//! What an output head says of given tokens, forward only: `ln P(token) = logit_token − log Σ_v exp logit_v` with
//! `logit = h·wᵀ`, and whether the token is the likeliest, without ever holding all logits.
//!
//! The vocabulary is walked in blocks of [`SUM_BLOCK`]: each part of the head is packed once for up to [`MOST_ROWS`] rows,
//! and a running maximum and sum per row take up its logits (Milakov and Gimelshein, Online normalizer calculation for
//! softmax, 2018), so that memory does not grow with the vocabulary. Sums are fp32 within a block and f64 over blocks, in
//! order. Logits may be capped as in [`linear_cross_entropy`](crate::ops::linear_cross_entropy).
//!
//! 2·rows·d·vocab floating-point operations, rows being those asked about, each counted once.

mod cpu;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;

use crate::Cpu;
use crate::gemm::{FEW_ROWS, Precision, View, gemm};
use crate::isa::Isa;
use crate::ops::linear_cross_entropy::{largest, sum_exponentials};
use crate::ops::select_rows;
use crate::order::SUM_BLOCK;
use crate::scratch;
use crate::simd::Elem;

/// Rows whose logits exist at one time: with a block of the vocabulary, 16 MiB.
const MOST_ROWS: usize = 1024;

/// A token, and the row that should predict it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query {
    /// Row of h.
    pub row: u32,
    /// The token.
    pub token: u32,
}

/// What a row says of a token.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LogProb {
    /// ln P.
    pub value: f64,
    /// Whether it is the likeliest token, the first of equals.
    pub greedy: bool,
}

/// What the op reads.
#[derive(Clone, Copy, Debug)]
pub struct Args<'a, E> {
    /// Outputs of the final norm, `[n, d]`.
    pub h: &'a [E],
    /// Features of a row.
    pub d: usize,
    /// Output embedding, `[vocab, d]`.
    pub w: &'a [f32],
    /// What logits are kept below in size, softly.
    pub softcap: Option<f32>,
    /// What is asked, `[q]`; rows must not decrease. A row may be asked about several tokens, or none.
    pub queries: &'a [Query],
}

/// Answers every query: out `[q]`. A row's answers do not depend on what else is asked.
///
/// # Panics
/// When shapes disagree, rows decrease, or a row or token is out of range (caller bugs: tokens are checked when fed).
pub fn forward<E: Elem>(cpu: &Cpu, precision: Precision, args: Args<'_, E>, out: &mut [LogProb]) {
    check(&args, out.len());
    let (mut queries, mut left) = (args.queries, out);
    while !queries.is_empty() {
        let (rows, taken) = some_rows(queries);
        let (now, later) = queries.split_at(taken);
        let (answers, rest) = std::mem::take(&mut left).split_at_mut(taken);
        some(cpu, precision, &args, &rows, now, answers);
        (queries, left) = (later, rest);
    }
}

/// ln P of a token under a row of logits that exist already: the sum is that of [`forward`].
///
/// # Panics
/// When the token is beyond the row.
pub fn of_logits(isa: Isa, logits: &[f32], token: u32) -> f64 {
    let max = largest(isa, logits);
    (f64::from(logits[token as usize]) - f64::from(max)) - sum_exponentials(isa, logits, max).ln()
}

fn check<E>(args: &Args<'_, E>, out: usize) {
    let Args { h, d, w, queries, .. } = *args;
    assert_eq!(out, queries.len(), "linear_log_probs: one answer per query");
    assert!(d > 0 && h.len().is_multiple_of(d) && w.len().is_multiple_of(d), "linear_log_probs: rows of {d}");
    let (n, vocab) = (h.len() / d, w.len() / d);
    let known = queries.iter().all(|q| (q.row as usize) < n && (q.token as usize) < vocab);
    assert!(known, "linear_log_probs: a row is not below {n} or a token not below {vocab}");
    assert!(queries.is_sorted_by_key(|q| q.row), "linear_log_probs: rows decrease");
}

/// The first [`MOST_ROWS`] different rows, and how many queries are about them.
fn some_rows(queries: &[Query]) -> (Vec<u32>, usize) {
    let mut rows: Vec<u32> = Vec::new();
    for (taken, query) in queries.iter().enumerate() {
        if rows.last() != Some(&query.row) {
            if rows.len() == MOST_ROWS {
                return (rows, taken);
            }
            rows.push(query.row);
        }
    }
    (rows, queries.len())
}

/// Answers the queries about `rows`.
fn some<E: Elem>(
    cpu: &Cpu,
    precision: Precision,
    args: &Args<'_, E>,
    rows: &[u32],
    queries: &[Query],
    out: &mut [LogProb],
) {
    let Args { d, w, softcap, .. } = *args;
    // Fewer rows would be summed in another order.
    let padded = rows.len().max(FEW_ROWS + 1);
    let width = SUM_BLOCK.min(w.len() / d);
    let mut states = vec![cpu::State::new(); rows.len()];
    let ends = (0..rows.len()).map(|i| queries.partition_point(|q| q.row <= rows[i]));
    states.iter_mut().zip(ends).for_each(|(state, end)| state.queries_end = end);
    for i in 1..states.len() {
        states[i].queries_start = states[i - 1].queries_end;
    }
    scratch::with(padded * d, |h: &mut [E]| {
        select_rows::forward(cpu, args.h, d, rows, &mut h[..rows.len() * d]);
        h[rows.len() * d..].fill(E::from_f32(0.0));
        scratch::with(padded * width, |logits: &mut [f32]| {
            for (block, w) in w.chunks(SUM_BLOCK * d).enumerate() {
                let width = w.len() / d;
                let logits = &mut logits[..padded * width];
                let (a, b) = (View::rows(h, d), View::rows(w, d).t());
                gemm(cpu, precision, (padded, width, d), a, b, logits, width, false);
                cpu::absorb(cpu, &mut states, logits, softcap, block * SUM_BLOCK, queries, out);
            }
        });
    });
    cpu::finish(&states, queries, out);
}
