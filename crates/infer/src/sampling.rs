//! From logits to a token.

use smolt_run::random::Stream;

/// How the next token is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// 0 picks the likeliest token; 1 samples from the model's distribution.
    pub temperature: f64,
    /// Only the `top_k` likeliest tokens; 0 = all.
    pub top_k: usize,
    /// Only the likeliest tokens whose probabilities sum to at least `top_p`; 1 = all.
    pub top_p: f64,
}

impl Default for Sampling {
    fn default() -> Self {
        Sampling { temperature: 0.0, top_k: 0, top_p: 1.0 }
    }
}

/// The likeliest token; the first of equals.
pub fn argmax(logits: &[f32]) -> u32 {
    let better = |best: usize, i: usize| if logits[i] > logits[best] { i } else { best };
    (1..logits.len()).fold(0, better) as u32
}

/// Log-probability of `token` under `logits`, in f64: what [`score`](crate::score()) finds faster, for one row.
pub fn log_probability(logits: &[f32], token: u32) -> f64 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&l| f64::from(l - max).exp()).sum();
    f64::from(logits[token as usize] - max) - sum.ln()
}

impl Sampling {
    /// Chooses a token. Equal logits, settings and stream position give the same token on any machine.
    pub fn choose(&self, logits: &[f32], stream: &mut Stream) -> u32 {
        if self.temperature <= 0.0 {
            return argmax(logits);
        }
        let mut order: Vec<u32> = (0..logits.len() as u32).collect();
        let descending =
            |&a: &u32, &b: &u32| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b));
        if self.top_k > 0 && self.top_k < order.len() {
            order.select_nth_unstable_by(self.top_k - 1, descending);
            order.truncate(self.top_k);
        }
        order.sort_unstable_by(descending);
        let max = logits[order[0] as usize];
        let weights: Vec<f64> =
            order.iter().map(|&t| (f64::from(logits[t as usize] - max) / self.temperature).exp()).collect();
        let total: f64 = weights.iter().sum();
        let mut kept = 0.0;
        let nucleus = weights.iter().take_while(|&&w| {
            let before = kept;
            kept += w;
            before < self.top_p * total
        });
        let count = nucleus.count().max(1);
        let mass: f64 = weights[..count].iter().sum();
        let mut left = stream.uniform() * mass;
        for (&token, weight) in order.iter().zip(&weights[..count]) {
            left -= weight;
            if left < 0.0 {
                return token;
            }
        }
        order[count - 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(sampling: Sampling) -> [f64; 4] {
        let logits = [1.0, 3.0, 2.0, -1.0];
        let mut counts = [0.0; 4];
        let mut stream = Stream::new(1, "test", 0);
        for _ in 0..20_000 {
            counts[sampling.choose(&logits, &mut stream) as usize] += 1.0 / 20_000.0;
        }
        counts
    }

    #[test]
    fn samples_the_distribution() {
        let got = shares(Sampling { temperature: 1.0, ..Sampling::default() });
        let z: f64 = [1.0f64, 3.0, 2.0, -1.0].iter().map(|l| l.exp()).sum();
        for (got, l) in got.iter().zip([1.0f64, 3.0, 2.0, -1.0]) {
            assert!((got - l.exp() / z).abs() < 0.015);
        }
    }

    #[test]
    fn top_k_and_top_p_cut_the_tail() {
        let k = shares(Sampling { temperature: 1.0, top_k: 2, ..Sampling::default() });
        assert!(k[0] == 0.0 && k[3] == 0.0 && k[1] > k[2] && k[2] > 0.0);
        let p = shares(Sampling { temperature: 1.0, top_p: 0.5, ..Sampling::default() });
        assert!((p[1] - 1.0).abs() < 1e-9, "the likeliest token alone has more than half the mass");
    }

    #[test]
    fn zero_temperature_is_greedy_and_first_of_equals() {
        assert_eq!(Sampling::default().choose(&[0.0, 5.0, 5.0], &mut Stream::new(0, "", 0)), 1);
        assert!((log_probability(&[0.0, 0.0], 1) - 0.5f64.ln()).abs() < 1e-12);
    }
}
