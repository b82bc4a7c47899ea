//! The op in f64, as written in its definition.

use super::{Gate, Groups, Routing, Stats};

pub(super) struct Output {
    pub(super) weights: Vec<f64>,
    pub(super) experts: Vec<u32>,
    /// Rows per expert.
    pub(super) counts: Vec<u32>,
    pub(super) stats: Stats,
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn log_sum(x: &[f64]) -> f64 {
    x.iter().map(|x| x.exp()).sum::<f64>().ln()
}

fn softmax(x: &[f64]) -> Vec<f64> {
    let log_z = log_sum(x);
    x.iter().map(|x| (x - log_z).exp()).collect()
}

/// The `count` highest, highest first, of equals the first.
fn top(scores: &[(usize, f64)], count: usize) -> Vec<usize> {
    let mut sorted = scores.to_vec();
    sorted.sort_by(|a, b| b.1.total_cmp(&a.1));
    sorted.iter().take(count).map(|(i, _)| *i).collect()
}

fn affinities(routing: &Routing, x: &[f64]) -> Vec<f64> {
    match routing.gate {
        Gate::Softmax => softmax(x),
        Gate::SoftmaxTopK => x.to_vec(),
        Gate::Sigmoid => x.iter().map(|&x| sigmoid(x)).collect(),
    }
}

fn choose(routing: &Routing, x: &[f64], bias: &[f64]) -> Vec<usize> {
    let scores: Vec<(usize, f64)> =
        affinities(routing, x).iter().zip(bias).map(|(s, b)| s + b).enumerate().collect();
    let Some(Groups { count, chosen }) = routing.groups else { return top(&scores, routing.top_k) };
    let size = routing.experts / count;
    let best_two = |group: &[(usize, f64)]| top(group, 2).iter().map(|i| scores[*i].1).sum::<f64>();
    let groups: Vec<(usize, f64)> = scores.chunks_exact(size).map(best_two).enumerate().collect();
    let groups = top(&groups, chosen);
    let competing: Vec<(usize, f64)> =
        scores.iter().filter(|(i, _)| groups.contains(&(i / size))).copied().collect();
    top(&competing, routing.top_k)
}

fn weights(routing: &Routing, x: &[f64], chosen: &[usize]) -> Vec<f64> {
    let s = affinities(routing, x);
    let mut of: Vec<f64> = chosen.iter().map(|i| s[*i]).collect();
    if routing.gate == Gate::SoftmaxTopK {
        of = softmax(&of);
    } else if routing.norm_topk_prob {
        let sum = of.iter().sum::<f64>() + 1e-20;
        of.iter_mut().for_each(|w| *w /= sum);
    }
    of.iter().map(|w| w * f64::from(routing.routed_scaling_factor)).collect()
}

/// The probabilities whose mean is P.
fn probabilities(routing: &Routing, x: &[f64]) -> Vec<f64> {
    if routing.gate != Gate::Sigmoid {
        return softmax(x);
    }
    let s = affinities(routing, x);
    let sum: f64 = s.iter().sum();
    s.iter().map(|s| s / sum).collect()
}

pub(super) fn forward(routing: &Routing, logits: &[f64], bias: &[f64], fractions: Option<&[f64]>) -> Output {
    let e = routing.experts;
    let n = (logits.len() / e) as f64;
    let mut out =
        Output { weights: Vec::new(), experts: Vec::new(), counts: vec![0; e], stats: Stats::default() };
    let mut mean = vec![0.0; e];
    for x in logits.chunks_exact(e) {
        let chosen = choose(routing, x, bias);
        out.weights.extend(weights(routing, x, &chosen));
        for &i in &chosen {
            out.experts.push(i as u32);
            out.counts[i] += 1;
        }
        for (mean, p) in mean.iter_mut().zip(probabilities(routing, x)) {
            *mean += p / n;
            out.stats.entropy -= p * p.ln() / n;
        }
        out.stats.z_loss += log_sum(x) * log_sum(x) / n;
    }
    let own: Vec<f64> = out.counts.iter().map(|c| f64::from(*c) / n).collect();
    let fractions = fractions.unwrap_or(&own);
    out.stats.aux_loss = e as f64 * fractions.iter().zip(&mean).map(|(f, p)| f * p).sum::<f64>();
    out
}

/// Gradient of logits, by the chain rule: the Jacobian of each function times what comes after it.
pub(super) fn backward(
    routing: &Routing,
    logits: &[f64],
    bias: &[f64],
    fractions: Option<&[f64]>,
    scale_aux: f64,
    d_weights: &[f64],
) -> Vec<f64> {
    let (e, k) = (routing.experts, routing.top_k);
    let n = (logits.len() / e) as f64;
    let counts = forward(routing, logits, bias, fractions).counts;
    let f = |i: usize| fractions.map_or_else(|| f64::from(counts[i]) / n, |f| f[i]);
    let (aux, z) = (f64::from(routing.aux_loss_coef), f64::from(routing.z_loss_coef));
    let d_p: Vec<f64> = (0..e).map(|i| scale_aux * aux * e as f64 * f(i) / n).collect();
    let mut grads = Vec::new();
    for (x, d_weights) in logits.chunks_exact(e).zip(d_weights.chunks_exact(k)) {
        let chosen = choose(routing, x, bias);
        let (s, q, p) = (affinities(routing, x), probabilities(routing, x), softmax(x));
        let jacobian_of_shares = |shares: &[f64], sum: f64, d: &[f64]| -> Vec<f64> {
            let along: f64 = shares.iter().zip(d).map(|(s, d)| s * d).sum();
            d.iter().map(|d| (d - along) / sum).collect()
        };
        // Of affinities: by the weights.
        let scaled: Vec<f64> =
            d_weights.iter().map(|d| d * f64::from(routing.routed_scaling_factor)).collect();
        let of: Vec<f64> = chosen.iter().map(|i| s[*i]).collect();
        let sum = of.iter().sum::<f64>() + 1e-20;
        let shares: Vec<f64> = of.iter().map(|s| s / sum).collect();
        let soft = softmax(&of);
        let d_chosen = match routing.gate {
            Gate::SoftmaxTopK => {
                let d = jacobian_of_shares(&soft, 1.0, &scaled);
                d.iter().zip(&soft).map(|(d, w)| d * w).collect()
            }
            _ if routing.norm_topk_prob => jacobian_of_shares(&shares, sum, &scaled),
            _ => scaled,
        };
        let mut d_s = vec![0.0; e];
        chosen.iter().zip(&d_chosen).for_each(|(i, d)| d_s[*i] += d);
        // Of logits: by the affinities, the balance and log Z.
        let total: f64 = s.iter().sum();
        let along: f64 = p.iter().zip(&d_s).map(|(p, d)| p * d).sum();
        let d_q = jacobian_of_shares(&q, 1.0, &d_p);
        for i in 0..e {
            let of_z = scale_aux * z / n * 2.0 * log_sum(x) * p[i];
            grads.push(
                of_z + match routing.gate {
                    Gate::Softmax => p[i] * (d_s[i] - along) + p[i] * d_q[i],
                    Gate::SoftmaxTopK => d_s[i] + p[i] * d_q[i],
                    Gate::Sigmoid => (d_s[i] + d_q[i] / total) * s[i] * (1.0 - s[i]),
                },
            );
        }
    }
    grads
}
