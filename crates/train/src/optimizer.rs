//! Optimiser policy: which parameters decay, and the step over flat groups.

use crate::recipe::Optimizer;
use smolt_tensor::Cpu;
use smolt_tensor::memory::zeros;
use smolt_tensor::ops::adamw::{self, Hyper};
use smolt_tensor::ops::global_norm::{clip_scale, sum_squares};
use smolt_tensor::tape::Layout;
use std::ops::Range;

/// AdamW over flat parameters (spec OPT-02), with groups by weight decay (OPT-03) and global-norm
/// clipping (OPT-04).
pub struct AdamW {
    settings: Optimizer,
    /// Runs of neighbouring tensors that share a weight decay.
    groups: Vec<(Range<usize>, bool)>,
    /// First moments, flat.
    pub m: Vec<f32>,
    /// Second moments, flat.
    pub v: Vec<f32>,
}

/// A line of the group table printed before training (OPT-03).
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// What the group holds.
    pub name: &'static str,
    /// Parameters in it.
    pub parameters: usize,
    /// Tensors in it.
    pub tensors: usize,
    /// Its weight decay.
    pub weight_decay: f64,
}

impl AdamW {
    /// Zero moments for the parameters of `layout`.
    pub fn new(settings: Optimizer, layout: &Layout) -> AdamW {
        let mut groups: Vec<(Range<usize>, bool)> = Vec::new();
        for view in layout.views() {
            match groups.last_mut() {
                // Padding between neighbours is zero in weights and gradients and stays so.
                Some((range, decay)) if *decay == view.decay => range.end = view.range.end,
                _ => groups.push((view.range.clone(), view.decay)),
            }
        }
        AdamW { settings, groups, m: zeros(layout.len()), v: zeros(layout.len()) }
    }

    /// What decays and what does not.
    pub fn table(&self, layout: &Layout) -> [Group; 2] {
        [("linear weights", true), ("embeddings and norms", false)].map(|(name, decay)| {
            let views = layout.views().iter().filter(|v| v.decay == decay);
            Group {
                name,
                parameters: views.clone().map(|v| v.range.len()).sum(),
                tensors: views.count(),
                weight_decay: if decay { self.settings.weight_decay } else { 0.0 },
            }
        })
    }

    /// One step (counted from 1) at learning rate `lr`; returns the gradient's norm before clipping.
    ///
    /// A norm that is not finite leaves everything as it was.
    pub fn step(&mut self, cpu: &Cpu, weights: &mut [f32], grads: &[f32], lr: f64, step: u64) -> f64 {
        let norm = sum_squares(cpu, grads).sqrt();
        if !norm.is_finite() {
            return norm;
        }
        let grad_scale = clip_scale(norm, self.settings.max_grad_norm);
        let o = &self.settings;
        for (range, decay) in &self.groups {
            let r = range.clone();
            let hyper = Hyper {
                lr,
                beta1: o.adam_beta1,
                beta2: o.adam_beta2,
                eps: o.adam_epsilon,
                weight_decay: if *decay { o.weight_decay } else { 0.0 },
                step,
                grad_scale,
            };
            let (m, v) = (&mut self.m[r.clone()], &mut self.v[r.clone()]);
            adamw::step(cpu, &mut weights[r.clone()], &grads[r], m, v, &hyper);
        }
        norm
    }
}
