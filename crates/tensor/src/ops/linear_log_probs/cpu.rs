//! Running maxima and sums of rows over blocks of the vocabulary.

use super::{LogProb, Query};
use crate::Cpu;
use crate::ops::linear_cross_entropy::{largest, sum_exponentials};
use crate::ops::softcap;
use crate::pool::Disjoint;

/// Rows per task.
const ROWS: usize = 4;

/// What is known of a row so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct State {
    /// The largest logit, and its token, the first of equals.
    max: f32,
    likeliest: usize,
    /// Σ exp(logit − max)
    sum: f64,
    /// The queries about it.
    pub(super) queries_start: usize,
    pub(super) queries_end: usize,
}

impl State {
    pub(super) fn new() -> State {
        State { max: f32::NEG_INFINITY, likeliest: 0, sum: 0.0, queries_start: 0, queries_end: 0 }
    }
}

/// Takes up the logits of the tokens from `first` on, `[rows or more, width]`; those asked about go to `out`.
pub(super) fn absorb(
    cpu: &Cpu,
    states: &mut [State],
    logits: &mut [f32],
    cap: Option<f32>,
    first: usize,
    queries: &[Query],
    out: &mut [LogProb],
) {
    let width = logits.len() / states.len().max(crate::gemm::FEW_ROWS + 1);
    let (logits, out) = (Disjoint::new(logits), Disjoint::new(out));
    cpu.pool.for_each_chunk(states, ROWS, |task, states| {
        for (r, state) in states.iter_mut().enumerate() {
            let r = task * ROWS + r;
            // SAFETY: this row of logits and the answers to its queries belong to this task alone.
            let (row, out) = unsafe {
                (logits.slice(r * width, (r + 1) * width), out.slice(state.queries_start, state.queries_end))
            };
            if let Some(cap) = cap {
                softcap::cap(cpu.isa, cap, row);
            }
            let max = largest(cpu.isa, row);
            if max > state.max {
                state.sum *= (f64::from(state.max) - f64::from(max)).exp();
                state.max = max;
                state.likeliest = first + row.iter().position(|&x| x == max).unwrap_or(0);
            }
            state.sum += sum_exponentials(cpu.isa, row, state.max);
            for (query, answer) in queries[state.queries_start..state.queries_end].iter().zip(out) {
                if let Some(&logit) =
                    (query.token as usize).checked_sub(first).and_then(|token| row.get(token))
                {
                    answer.value = f64::from(logit);
                }
            }
        }
    });
}

/// Logits of queries → their log-probabilities.
pub(super) fn finish(states: &[State], queries: &[Query], out: &mut [LogProb]) {
    for state in states {
        let range = state.queries_start..state.queries_end;
        for (query, answer) in queries[range.clone()].iter().zip(&mut out[range]) {
            answer.value = (answer.value - f64::from(state.max)) - state.sum.ln();
            answer.greedy = query.token as usize == state.likeliest;
        }
    }
}
