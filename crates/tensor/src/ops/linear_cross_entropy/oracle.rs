//! The op in f64, as written in its definition.

use super::NO_LABEL;

pub(super) struct Output {
    pub(super) per_token: Vec<f64>,
    pub(super) nll_sum: f64,
    pub(super) log_z_sum: f64,
    pub(super) z_sum: f64,
    pub(super) correct: u64,
    pub(super) dh: Vec<f64>,
    pub(super) dw: Vec<f64>,
}

impl Output {
    /// What `dh` and `dw` are the gradients of.
    pub(super) fn loss(&self, scale: f64, z_loss: f64) -> f64 {
        scale * (self.nll_sum + z_loss * self.z_sum)
    }
}

pub(super) fn run(h: &[f64], w: &[f64], labels: &[u32], scale: f64, z_loss: f64, cap: Option<f64>) -> Output {
    let d = h.len() / labels.len();
    let (mut dh, mut dw) = (vec![0.0; h.len()], vec![0.0; w.len()]);
    let (mut per_token, mut nll_sum, mut correct) = (vec![0.0; labels.len()], 0.0, 0);
    let (mut log_z_sum, mut z_sum) = (0.0, 0.0);
    for (r, &label) in labels.iter().enumerate().filter(|(_, label)| **label != NO_LABEL) {
        let row = &h[r * d..(r + 1) * d];
        let capped = |logit: f64| cap.map_or(logit, |cap| cap * (logit / cap).tanh());
        let logits: Vec<f64> =
            w.chunks_exact(d).map(|w| capped(w.iter().zip(row).map(|(a, b)| a * b).sum())).collect();
        let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let log_z = max + logits.iter().map(|l| (l - max).exp()).sum::<f64>().ln();
        per_token[r] = log_z - logits[label as usize];
        nll_sum += per_token[r];
        log_z_sum += log_z;
        z_sum += log_z * log_z;
        correct += u64::from(logits.iter().position(|l| *l == max) == Some(label as usize));
        for (v, logit) in logits.iter().enumerate() {
            let p = (logit - log_z).exp();
            let hit = f64::from(u8::from(v == label as usize));
            let slope = cap.map_or(1.0, |cap| 1.0 - (logit / cap).powi(2));
            let d_logit = scale * (p - hit + 2.0 * z_loss * log_z * p) * slope;
            for k in 0..d {
                dh[r * d + k] += d_logit * w[v * d + k];
                dw[v * d + k] += d_logit * row[k];
            }
        }
    }
    Output { per_token, nll_sum, log_z_sum, z_sum, correct, dh, dw }
}
