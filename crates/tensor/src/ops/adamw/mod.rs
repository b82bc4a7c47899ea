//! AdamW (OPT-02; Loshchilov & Hutter, 2019), one fused pass over flat fp32 buffers, in the order of
//! operations of `torch.optim.AdamW`.
//!
//! Decay is decoupled: it shrinks the parameter by `lr·weight_decay` whatever the gradient's size,
//! where an L2 term in the gradient would be divided by `√v`. Reads 4 and writes 3 values per parameter:
//! memory bounds it.

mod cpu;
#[cfg(test)]
mod oracle;

use crate::Cpu;
use crate::pool::Disjoint;

/// Parameters per task.
const TASK: usize = 1 << 14;

/// One step's settings. They are f64 because PyTorch derives `1 − beta` and the bias corrections in
/// double precision and rounds once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hyper {
    /// Learning rate of this step.
    pub lr: f64,
    /// Decay of the first moment, 0.9 by habit.
    pub beta1: f64,
    /// Decay of the second moment, 0.95 by habit.
    pub beta2: f64,
    /// Added to the denominator, after the square root.
    pub eps: f64,
    /// Decoupled weight decay; 0 for groups without.
    pub weight_decay: f64,
    /// Number of this step, from 1, for the bias corrections.
    pub step: u64,
    /// What each gradient is multiplied by first (the clip factor).
    pub grad_scale: f32,
}

/// Updates parameters p and moments m and v from gradients g, all `[len]`:
///
/// p ← p·(1 − lr·weight_decay); m ← m + (g − m)·(1 − β₁); v ← v·β₂ + g²·(1 − β₂);
/// p ← p − lr/(1 − β₁ᵗ) · m / (√v/√(1 − β₂ᵗ) + eps).
///
/// Moments far below `eps` are rounded so that none becomes a denormal: m to multiples of 2⁻¹⁰⁷, v of 2⁻¹¹⁷.
///
/// # Panics
/// When lengths differ or `step` is 0 (caller bugs).
pub fn step(cpu: &Cpu, p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], hyper: &Hyper) {
    let len = p.len();
    assert!(g.len() == len && m.len() == len && v.len() == len, "adamw: buffers of equal length");
    assert!(hyper.step > 0, "adamw: steps count from 1");
    let factors = cpu::Factors::new(hyper);
    let (p, m, v) = (Disjoint::new(p), Disjoint::new(m), Disjoint::new(v));
    cpu.pool.run(len.div_ceil(TASK), |i| {
        let (start, end) = (i * TASK, ((i + 1) * TASK).min(len));
        // SAFETY: this part belongs to task `i` alone.
        let (p, m, v) = unsafe { (p.slice(start, end), m.slice(start, end), v.slice(start, end)) };
        cpu::step(cpu.isa, p, &g[start..end], m, v, &factors);
    });
}

#[cfg(test)]
mod tests {
    use super::{Hyper, oracle};
    use crate::Cpu;
    use crate::isa::Isa;
    use crate::ops::testing::{on_every_cpu, random, wide};

    const HYPER: Hyper =
        Hyper { lr: 3e-3, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, step: 1, grad_scale: 0.7 };

    fn compare(len: usize) {
        let p = random(1, len, 1.0);
        let gradients: Vec<Vec<f32>> = (0..10).map(|t| random(10 + t, len, 0.1)).collect();
        let mut want = (wide(&p), vec![0.0; len], vec![0.0; len]);
        for (t, g) in gradients.iter().enumerate() {
            let hyper = Hyper { step: t as u64 + 1, ..HYPER };
            oracle::step(&mut want.0, &wide(g), &mut want.1, &mut want.2, &hyper);
        }
        on_every_cpu(
            |cpu| {
                let (mut p, mut m, mut v) = (p.clone(), vec![0.0; len], vec![0.0; len]);
                for (t, g) in gradients.iter().enumerate() {
                    super::step(cpu, &mut p, g, &mut m, &mut v, &Hyper { step: t as u64 + 1, ..HYPER });
                }
                vec![wide(&p), wide(&m), wide(&v)]
            },
            &[("p", want.0, 1e-6), ("m", want.1, 1e-6), ("v", want.2, 1e-6)],
        );
    }

    #[test]
    fn ten_steps_match_the_oracle() {
        for len in [1, 37, 2 * super::TASK + 13] {
            compare(len);
        }
    }

    /// Three steps of Adam with `coupled` decay in the gradient, or of AdamW: how far decay alone moved p.
    fn pull_of_decay(size: f32, coupled: bool) -> f64 {
        let cpu = Cpu::with_isa(Isa::portable(), 1);
        let run = |decay: f64| {
            let (mut p, mut m, mut v) = ([1.0f32], [0.0], [0.0]);
            for step in 1..=3 {
                // A gradient that changes sign, so that its square and not its mean fills the moments.
                let mut g = if step == 2 { -size } else { size };
                let mut hyper = Hyper { step, weight_decay: decay, grad_scale: 1.0, ..HYPER };
                if coupled {
                    g += decay as f32 * p[0];
                    hyper.weight_decay = 0.0;
                }
                super::step(&cpu, &mut p, &[g], &mut m, &mut v, &hyper);
            }
            f64::from(p[0])
        };
        run(0.0) - run(0.1)
    }

    #[test]
    fn decoupled_decay_ignores_the_gradients_size_and_coupled_decay_does_not() {
        let decoupled = [0.1, 1.0, 10.0].map(|size| pull_of_decay(size, false));
        let coupled = [0.1, 1.0, 10.0].map(|size| pull_of_decay(size, true));
        assert!(decoupled.iter().all(|d| (d - decoupled[0]).abs() < 1e-5 && *d > 8e-4), "{decoupled:?}");
        assert!(coupled[0] > 3.0 * coupled[1] && coupled[1] > 3.0 * coupled[2], "{coupled:?}");
        assert!(
            decoupled.iter().zip(&coupled).all(|(a, b)| (a - b).abs() > 1e-4),
            "{decoupled:?} {coupled:?}"
        );
    }

    /// A token that was seen once and never again: its moments come to rest at normal numbers.
    #[test]
    fn moments_that_fade_do_not_become_denormal() {
        let g = [0.3, -2e-7, 1e-12, 0.0];
        on_every_cpu(
            |cpu| {
                let (mut p, mut m, mut v) = ([1.0f32; 4], [0.0f32; 4], [0.0f32; 4]);
                super::step(cpu, &mut p, &g, &mut m, &mut v, &HYPER);
                for step in 2..4000 {
                    super::step(cpu, &mut p, &[0.0; 4], &mut m, &mut v, &Hyper { step, ..HYPER });
                    assert!(m.iter().chain(&v).all(|x| !x.is_subnormal()), "step {step}: {m:?} {v:?}");
                }
                vec![wide(&m), wide(&v)]
            },
            &[("m", vec![0.0; 4], 1e-29), ("v", vec![0.0; 4], 1e-32)],
        );
    }

    #[test]
    fn no_gradient_is_pure_decay() {
        let cpu = Cpu::with_isa(Isa::portable(), 1);
        let (mut p, mut m, mut v) = ([2.0f32], [0.0], [0.0]);
        super::step(&cpu, &mut p, &[0.0], &mut m, &mut v, &HYPER);
        assert_eq!((p, m, v), ([2.0 * (1.0 - 3e-4)], [0.0], [0.0]));
    }

    proptest::proptest! {
        #![proptest_config(crate::ops::testing::random_shapes())]

        #[test]
        fn random_lengths_match_the_oracle(len in 1usize..3000) {
            compare(len);
        }
    }
}
