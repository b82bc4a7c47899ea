//! Blocks of rows in parallel; the dispatch is a counting sort on one thread, a few operations per row.

use super::{Args, Gate, Groups, Routes, Routing, Saved};
use crate::Cpu;
use crate::isa::Isa;
use crate::ops::add::{add_rows, add_scaled_rows};
use crate::order::REDUCE_ROWS;
use crate::pool::Disjoint;
use crate::scratch;
use crate::simd::{Elem, for_lanes};
use crate::simd_kernel;

/// What DeepSeek-V3 adds to the sum that weights are divided by.
const TINY: f32 = 1e-20;

pub(super) fn forward(cpu: &Cpu, routing: &Routing, args: Args<'_>, routes: Routes<'_>) {
    let (e, k) = (routing.experts, routing.top_k);
    let n = args.logits.len() / e;
    // Of each block: Σ probability per expert, Σ log² Z, Σ entropy.
    let width = e + 2;
    scratch::with(n.div_ceil(REDUCE_ROWS) * width, |sums: &mut [f64]| {
        let (weights, experts) = (Disjoint::new(routes.weights), Disjoint::new(routes.experts));
        cpu.pool.for_each_chunk(sums, width, |block, sums| {
            sums.fill(0.0);
            scratch::with(e, |scores: &mut [f32]| {
                for row in block * REDUCE_ROWS..((block + 1) * REDUCE_ROWS).min(n) {
                    let logits = &args.logits[row * e..(row + 1) * e];
                    measure(cpu.isa, routing.gate, logits, scores, sums);
                    // SAFETY: these slots belong to this row alone.
                    let (weights, experts) = unsafe {
                        (weights.slice(row * k, (row + 1) * k), experts.slice(row * k, (row + 1) * k))
                    };
                    let affinities = if routing.gate == Gate::SoftmaxTopK { logits } else { &*scores };
                    choose(routing, affinities, args.bias, experts);
                    for (weight, &expert) in weights.iter_mut().zip(&*experts) {
                        *weight = affinities[expert as usize];
                    }
                    weigh(routing, weights);
                }
            });
        });
        dispatch(routes.experts, routes.counts, routes.offsets, routes.order, routes.places);
        *routes.stats = report(sums, n, routes.counts, args.fractions);
    });
}

/// One row's affinities (of [`Gate::SoftmaxTopK`] the probabilities, which its losses take), and its part of the sums.
fn measure(isa: Isa, gate: Gate, logits: &[f32], scores: &mut [f32], sums: &mut [f64]) {
    let e = logits.len();
    let log_z = softmax(isa, logits, scores);
    let mut entropy = 0.0;
    if gate == Gate::Sigmoid {
        let sum = f64::from(sigmoids(isa, logits, scores));
        for (to, &s) in sums.iter_mut().zip(&*scores).filter(|(_, s)| **s > 0.0) {
            let q = f64::from(s) / sum;
            *to += q;
            entropy -= q * q.ln();
        }
    } else {
        for (to, (&p, &x)) in sums.iter_mut().zip(scores.iter().zip(logits)).filter(|(_, (p, _))| **p > 0.0) {
            let p = f64::from(p);
            *to += p;
            entropy += p * (log_z - f64::from(x));
        }
    }
    sums[e] += log_z * log_z;
    sums[e + 1] += entropy;
}

/// The experts of a row in order of rank.
fn choose(routing: &Routing, affinities: &[f32], bias: Option<&[f32]>, experts: &mut [u32]) {
    let score = |i: usize| affinities[i] + bias.map_or(0.0, |bias| bias[i]);
    let Some(Groups { count, chosen }) = routing.groups else {
        return best(0..routing.experts, score, experts);
    };
    let size = routing.experts / count;
    let (mut scores, mut groups) = ([0.0f32; 64], [0u32; 64]);
    for (group, total) in scores[..count].iter_mut().enumerate() {
        let mut two = [0u32; 2];
        let two = &mut two[..size.min(2)];
        best(group * size..(group + 1) * size, score, two);
        *total = two.iter().map(|&i| score(i as usize)).sum();
    }
    let groups = &mut groups[..chosen];
    best(0..count, |group| scores[group], groups);
    let mask = groups.iter().fold(0u64, |mask, group| mask | 1 << group);
    best((0..routing.experts).filter(|i| mask >> (i / size) & 1 == 1), score, experts);
}

/// The candidates of highest score, highest first and of equals the one that comes first; there are enough of them. They
/// are different ones even where scores are NaN.
fn best(candidates: impl Iterator<Item = usize>, score: impl Fn(usize) -> f32, chosen: &mut [u32]) {
    let (most, mut held) = (chosen.len(), 0);
    for i in candidates {
        let x = score(i);
        let beats = |other: u32| x > score(other as usize);
        if held == most && !beats(chosen[most - 1]) {
            continue;
        }
        let mut at = held.min(most - 1);
        while at > 0 && beats(chosen[at - 1]) {
            chosen[at] = chosen[at - 1];
            at -= 1;
        }
        chosen[at] = i as u32;
        held = (held + 1).min(most);
    }
}

/// Affinities of the chosen → their weights.
fn weigh(routing: &Routing, weights: &mut [f32]) {
    let mut divisor = 1.0;
    if routing.gate == Gate::SoftmaxTopK {
        divisor = exponentials(weights);
    } else if routing.norm_topk_prob {
        divisor = weights.iter().sum::<f32>() + TINY;
    }
    weights.iter_mut().for_each(|w| *w = *w / divisor * routing.routed_scaling_factor);
}

/// Each x becomes exp(x − max); returns their sum.
fn exponentials(x: &mut [f32]) -> f32 {
    let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    x.iter_mut().for_each(|x| *x = (*x - max).exp());
    x.iter().sum()
}

/// Rows by expert and then token.
fn dispatch(experts: &[u32], counts: &mut [u32], offsets: &mut [u32], order: &mut [u32], places: &mut [u32]) {
    counts.fill(0);
    experts.iter().for_each(|&expert| counts[expert as usize] += 1);
    offsets[0] = 0;
    for (i, &count) in counts.iter().enumerate() {
        offsets[i + 1] = offsets[i] + count;
    }
    scratch::with(counts.len(), |next: &mut [u32]| {
        next.copy_from_slice(&offsets[..counts.len()]);
        for (slot, (place, &expert)) in places.iter_mut().zip(experts).enumerate() {
            let next = &mut next[expert as usize];
            *place = *next;
            order[*next as usize] = slot as u32;
            *next += 1;
        }
    });
}

/// Sums of blocks `[blocks, E + 2]`, added in order → losses and entropy.
fn report(sums: &mut [f64], n: usize, counts: &[u32], fractions: Option<&[f32]>) -> [f64; 3] {
    let e = counts.len();
    if n == 0 {
        return [0.0; 3];
    }
    let (first, rest) = sums.split_at_mut(e + 2);
    for block in rest.chunks_exact(e + 2) {
        first.iter_mut().zip(block).for_each(|(sum, x)| *sum += x);
    }
    let tokens = n as f64;
    let aux: f64 = (0..e).map(|i| fraction(i, n, counts, fractions) * first[i] / tokens).sum();
    [e as f64 * aux, first[e] / tokens, first[e + 1] / tokens]
}

/// Rows sent to expert i per token.
fn fraction(i: usize, n: usize, counts: &[u32], fractions: Option<&[f32]>) -> f64 {
    fractions.map_or_else(|| f64::from(counts[i]) / n as f64, |fractions| f64::from(fractions[i]))
}

/// What is the same for all rows of a backward pass.
struct Slopes<'a> {
    /// Of the load-balancing loss by each probability, `[E]`, where it has a weight.
    balance: Option<&'a [f32]>,
    /// Of the z-loss by log Z, over log Z; 0 for none.
    z: f32,
}

pub(super) fn backward(
    cpu: &Cpu,
    routing: &Routing,
    saved: Saved<'_>,
    d_weights: &[f32],
    d_logits: &mut [f32],
    accumulate: bool,
) {
    let (e, k) = (routing.experts, routing.top_k);
    let n = saved.logits.len() / e;
    let share = f64::from(saved.scale_aux) / n.max(1) as f64;
    let weight = f64::from(routing.aux_loss_coef) * share * e as f64;
    scratch::with(e, |balance: &mut [f32]| {
        for (i, slope) in balance.iter_mut().enumerate() {
            *slope = (weight * fraction(i, n, saved.counts, saved.fractions)) as f32;
        }
        let balance = (weight != 0.0).then_some(&*balance);
        let slopes = Slopes { balance, z: (2.0 * f64::from(routing.z_loss_coef) * share) as f32 };
        cpu.pool.for_each_chunk(d_logits, REDUCE_ROWS * e, |block, d_logits| {
            scratch::with(2 * e + k, |memory: &mut [f32]| {
                let (scores, memory) = memory.split_at_mut(e);
                let (d, d_chosen) = memory.split_at_mut(e);
                for (r, to) in d_logits.chunks_exact_mut(e).enumerate() {
                    let row = block * REDUCE_ROWS + r;
                    let logits = &saved.logits[row * e..(row + 1) * e];
                    let chosen = &saved.experts[row * k..(row + 1) * k];
                    d_chosen.copy_from_slice(&d_weights[row * k..(row + 1) * k]);
                    backward_row(cpu.isa, routing, &slopes, (logits, chosen), scores, d_chosen, d);
                    if accumulate {
                        add_rows(cpu.isa, d, to);
                    } else {
                        to.copy_from_slice(d);
                    }
                }
            });
        });
    });
}

/// One row: `d_chosen` holds the gradients of its weights, `d` becomes that of its logits.
fn backward_row(
    isa: Isa,
    routing: &Routing,
    slopes: &Slopes<'_>,
    (logits, chosen): (&[f32], &[u32]),
    scores: &mut [f32],
    d_chosen: &mut [f32],
    d: &mut [f32],
) {
    d.fill(0.0);
    let log_z =
        if routing.gate != Gate::Sigmoid || slopes.z != 0.0 { softmax(isa, logits, scores) } else { 0.0 };
    let z = slopes.z * log_z as f32;
    if z != 0.0 {
        add_scaled_rows(isa, z, scores, d);
    }
    let sum = if routing.gate == Gate::Sigmoid { sigmoids(isa, logits, scores) } else { 1.0 };
    if routing.gate == Gate::SoftmaxTopK {
        d_softmax_of_chosen(routing, logits, chosen, d_chosen);
    } else {
        d_affinities(routing, scores, chosen, d_chosen);
    }
    let parts = chosen.iter().map(|&i| i as usize).zip(&*d_chosen);
    match routing.gate {
        Gate::SoftmaxTopK => parts.for_each(|(i, dx)| d[i] += dx),
        Gate::Sigmoid => parts.for_each(|(i, ds)| d[i] += ds * scores[i] * (1.0 - scores[i])),
        Gate::Softmax => {
            let along: f32 = parts.clone().map(|(i, dp)| dp * scores[i]).sum();
            add_scaled_rows(isa, -along, scores, d);
            parts.for_each(|(i, dp)| d[i] += dp * scores[i]);
        }
    }
    if let Some(slope) = slopes.balance {
        balance(isa, scores, sum, slope, d, routing.gate == Gate::Sigmoid);
    }
}

/// Gradients of weights that are affinities, or shares in their sum → of the affinities.
fn d_affinities(routing: &Routing, scores: &[f32], chosen: &[u32], d: &mut [f32]) {
    d.iter_mut().for_each(|d| *d *= routing.routed_scaling_factor);
    if routing.norm_topk_prob {
        let affinities = || chosen.iter().map(|&i| scores[i as usize]);
        let sum = affinities().sum::<f32>() + TINY;
        let mean = d.iter().zip(affinities()).map(|(d, s)| d * s).sum::<f32>() / sum;
        d.iter_mut().for_each(|d| *d = (*d - mean) / sum);
    }
}

/// Gradients of weights that are the softmax over the chosen → of their logits.
fn d_softmax_of_chosen(routing: &Routing, logits: &[f32], chosen: &[u32], d: &mut [f32]) {
    // The chosen are in order of rank only where no bias is, so that the first need not be the largest.
    let of = || chosen.iter().map(|&i| logits[i as usize]);
    let max = of().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = of().map(|x| (x - max).exp()).sum();
    let weights = || of().map(|x| (x - max).exp() / sum);
    let mean: f32 = d.iter().zip(weights()).map(|(d, w)| d * w).sum();
    d.iter_mut().zip(weights()).for_each(|(d, w)| *d = routing.routed_scaling_factor * w * (*d - mean));
}

simd_kernel! {
    /// `out = softmax(x)`; returns log Σ exp x.
    fn softmax<S>(x: &[f32], out: &mut [f32]) -> f64 {
        let len = x.len();
        assert_eq!(out.len(), len);
        let max = x.iter().fold(f32::NEG_INFINITY, |max, &v| if v > max { v } else { max });
        let (x, out) = (x.as_ptr(), out.as_mut_ptr());
        // SAFETY: `i + n <= len`, the length of both.
        unsafe {
            let mut sum = S::splat(0.0);
            for_lanes!(S, len, |i, n| {
                let e = S::exp(S::sub(f32::load_n::<S>(x.add(i), n), S::splat(max)));
                f32::store_n::<S>(out.add(i), e, n);
                // Read back where lanes beyond the end hold something else than zero.
                sum = S::add(sum, if n < S::LANES { S::load_partial(out.add(i), n) } else { e });
            });
            let sum = S::reduce_add(sum);
            for_lanes!(S, len, |i, n| {
                let p = S::div(f32::load_n::<S>(out.add(i), n), S::splat(sum));
                f32::store_n::<S>(out.add(i), p, n);
            });
            f64::from(max) + f64::from(sum).ln()
        }
    }
}

simd_kernel! {
    /// `out = σ(x)`; returns their sum.
    fn sigmoids<S>(x: &[f32], out: &mut [f32]) -> f32 {
        let len = x.len();
        assert_eq!(out.len(), len);
        let (x, out) = (x.as_ptr(), out.as_mut_ptr());
        // SAFETY: `i + n <= len`, the length of both.
        unsafe {
            let mut sum = S::splat(0.0);
            for_lanes!(S, len, |i, n| {
                let s = S::sigmoid(f32::load_n::<S>(x.add(i), n));
                f32::store_n::<S>(out.add(i), s, n);
                sum = S::add(sum, if n < S::LANES { S::load_partial(out.add(i), n) } else { s });
            });
            S::reduce_add(sum)
        }
    }
}

simd_kernel! {
    /// Adds the load-balancing loss's gradient, whose slope by the probabilities `q = scores / sum` is given:
    /// `d_i += q_i·(slope_i − Σ_j q_j·slope_j)`, times `1 − scores_i` where scores are sigmoids.
    fn balance<S>(scores: &[f32], sum: f32, slope: &[f32], d: &mut [f32], sigmoid: bool) {
        let len = scores.len();
        assert!(slope.len() == len && d.len() == len);
        let (scores, slope, d) = (scores.as_ptr(), slope.as_ptr(), d.as_mut_ptr());
        // SAFETY: `i + n <= len`, the length of all three.
        unsafe {
            let mut along = S::splat(0.0);
            for_lanes!(S, len, |i, n| {
                along = S::fma(f32::load_n::<S>(scores.add(i), n), f32::load_n::<S>(slope.add(i), n), along);
            });
            let (along, one) = (S::splat(S::reduce_add(along) / sum), S::splat(1.0));
            for_lanes!(S, len, |i, n| {
                let s = f32::load_n::<S>(scores.add(i), n);
                let mut q = S::div(s, S::splat(sum));
                if sigmoid {
                    q = S::mul(q, S::sub(one, s));
                }
                let pull = S::sub(f32::load_n::<S>(slope.add(i), n), along);
                f32::store_n::<S>(d.add(i), S::fma(q, pull, f32::load_n::<S>(d.add(i), n)), n);
            });
        }
    }
}
