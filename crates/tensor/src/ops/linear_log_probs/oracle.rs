//! The op in f64, as written in its definition.

use super::{LogProb, Query};

pub(super) fn forward(
    h: &[f64],
    d: usize,
    w: &[f64],
    softcap: Option<f64>,
    queries: &[Query],
) -> Vec<LogProb> {
    let answer = |query: &Query| {
        let row = &h[query.row as usize * d..][..d];
        let capped = |logit: f64| softcap.map_or(logit, |cap| cap * (logit / cap).tanh());
        let logits: Vec<f64> =
            w.chunks_exact(d).map(|w| capped(w.iter().zip(row).map(|(a, b)| a * b).sum())).collect();
        let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let log_z = max + logits.iter().map(|l| (l - max).exp()).sum::<f64>().ln();
        LogProb {
            value: logits[query.token as usize] - log_z,
            greedy: logits.iter().position(|l| *l == max) == Some(query.token as usize),
        }
    };
    queries.iter().map(answer).collect()
}
