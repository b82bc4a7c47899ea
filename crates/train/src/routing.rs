//! What keeps experts evenly used, step by step, and what is reported of it (spec MOE-06 to MOE-09).

use crate::trainer::fill_inputs;
use smolt_arch::config::{Balancing, BalancingScope, ModelConfig, Moe};
use smolt_arch::parameters::Part;
use smolt_data::batch::Batch;
use smolt_model::Transformer;
use smolt_model::transformer::LossPass;
use smolt_tensor::Cpu;
use smolt_tensor::gemm::Precision;
use smolt_tensor::tape::Run;

/// How evenly the tokens of a step were spread over experts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RoutingReport {
    /// Load of the busiest expert relative to the mean of its layer, in the worst layer; 1 when balanced.
    pub max_load: f64,
    /// Experts of all layers that no token went to.
    pub dead_experts: u64,
    /// Mean entropy of the routers' probabilities, nats.
    pub entropy: f64,
    /// Load-balancing loss, mean over layers and tokens; experts per token when balanced.
    pub aux_loss: f64,
    /// Router z-loss, mean over layers and tokens.
    pub z_loss: f64,
}

/// The same of one layer with experts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerRouting {
    /// The layer, counted from 0.
    pub layer: usize,
    /// Load of the busiest expert relative to the mean; 1 when balanced.
    pub max_load: f64,
    /// Experts that no token went to.
    pub dead_experts: u64,
    /// Mean entropy of the router's probabilities, nats.
    pub entropy: f64,
}

/// Counts of a step and what follows from them.
pub(crate) struct Balance {
    moe: Moe,
    layers: Vec<usize>,
    /// Rows per expert in this global batch, `[layers with experts, E]`.
    counts: Vec<u64>,
    /// Entropy of each layer with experts, summed over leaves.
    entropies: Vec<f64>,
    /// Auxiliary loss, z-loss: sums over leaves and layers.
    sums: [f64; 2],
    leaves: usize,
    /// Tokens of a global batch.
    tokens: usize,
    /// A forward pass of a leaf that counts before anything is trained, where the loss looks at the whole batch.
    probe: Option<LossPass>,
}

impl Balance {
    /// What `model` needs, if it has experts; a global batch has `leaves` leaves of `n` tokens.
    pub(crate) fn of(model: &Transformer, n: usize, leaves: usize, precision: Precision) -> Option<Balance> {
        let config: &ModelConfig = model.config();
        let moe = config.moe.clone()?;
        let layers: Vec<usize> = (0..config.num_hidden_layers).filter(|&l| config.is_sparse(l)).collect();
        let whole = moe.balancing == Balancing::AuxLoss && moe.balancing_scope == BalancingScope::GlobalBatch;
        let probe = whole.then(|| model.loss_pass(n, precision, 0.0, false));
        let counts = vec![0; layers.len() * moe.num_experts];
        let entropies = vec![0.0; layers.len()];
        Some(Balance { counts, entropies, sums: [0.0; 2], leaves, tokens: n * leaves, probe, layers, moe })
    }

    /// Whether a batch is to be counted before it is trained on.
    pub(crate) fn counts_ahead(&self) -> bool {
        self.probe.is_some()
    }

    /// Forgets the step before.
    pub(crate) fn begin(&mut self) {
        self.counts.fill(0);
        self.entropies.fill(0.0);
        self.sums = [0.0; 2];
    }

    /// Runs a leaf forward and adds its counts.
    pub(crate) fn count_ahead(&mut self, cpu: &Cpu, model: &Transformer, weights: &[f32], batch: &Batch) {
        if let Some(probe) = &mut self.probe {
            fill_inputs(probe, batch, 0.0, 0.0);
            probe.program.run(Run { cpu, layout: model.layout(), weights, grads: None, cache: None });
            add(&mut self.counts, probe, self.moe.num_experts);
        }
    }

    /// Hands the shares of the whole batch to the pass that trains, and starts to count anew.
    pub(crate) fn tell(&mut self, pass: &mut LossPass) {
        for (router, counts) in pass.routers.iter().zip(self.counts.chunks_exact(self.moe.num_experts)) {
            let Some(fractions) = router.fractions else { continue };
            let shares = pass.program.input_mut::<f32>(fractions);
            for (share, &count) in shares.iter_mut().zip(counts) {
                *share = (count as f64 / self.tokens as f64) as f32;
            }
        }
        self.counts.fill(0);
    }

    /// Adds what the leaf that has just been trained on says.
    pub(crate) fn take_in(&mut self, pass: &LossPass) {
        add(&mut self.counts, pass, self.moe.num_experts);
        for (router, entropy) in pass.routers.iter().zip(&mut self.entropies) {
            let stats = router.routed.stats(&pass.program);
            *entropy += stats.entropy;
            self.sums[0] += stats.aux_loss;
            self.sums[1] += stats.z_loss;
        }
    }

    /// After the step: moves the selection biases (spec MOE-07), up where an expert had less than its share, down where
    /// more.
    pub(crate) fn settle(&self, model: &Transformer, weights: &mut [f32]) {
        if self.moe.balancing != Balancing::LossFree {
            return;
        }
        let rate = self.moe.bias_update_rate as f32;
        let experts = self.moe.num_experts;
        for (&layer, counts) in self.layers.iter().zip(self.counts.chunks_exact(experts)) {
            let Some(range) = model.range_of(layer, Part::SelectionBias) else { continue };
            let total: u64 = counts.iter().sum();
            for (bias, &count) in weights[range].iter_mut().zip(counts) {
                *bias += match (count * experts as u64).cmp(&total) {
                    std::cmp::Ordering::Less => rate,
                    std::cmp::Ordering::Equal => 0.0,
                    std::cmp::Ordering::Greater => -rate,
                };
            }
        }
    }

    /// What the step's counts say of each layer with experts (spec MOE-09).
    pub(crate) fn layers(&self) -> impl Iterator<Item = LayerRouting> {
        let experts = self.moe.num_experts;
        let each = self.layers.iter().zip(self.counts.chunks_exact(experts)).zip(&self.entropies);
        each.map(move |((&layer, counts), entropy)| {
            let total: u64 = counts.iter().sum();
            let max = counts.iter().max().copied().unwrap_or(0);
            LayerRouting {
                layer,
                max_load: max as f64 * experts as f64 / total.max(1) as f64,
                dead_experts: counts.iter().filter(|&&count| count == 0).count() as u64,
                entropy: entropy / self.leaves.max(1) as f64,
            }
        })
    }

    /// What they say of all.
    pub(crate) fn report(&self) -> RoutingReport {
        let layers = self.layers.len().max(1) as f64;
        let [aux_loss, z_loss] = self.sums.map(|sum| sum / (self.leaves as f64 * layers).max(1.0));
        RoutingReport {
            max_load: self.layers().map(|layer| layer.max_load).fold(0.0, f64::max),
            dead_experts: self.layers().map(|layer| layer.dead_experts).sum(),
            entropy: self.layers().map(|layer| layer.entropy).sum::<f64>() / layers,
            aux_loss,
            z_loss,
        }
    }
}

fn add(counts: &mut [u64], pass: &LossPass, experts: usize) {
    for (router, counts) in pass.routers.iter().zip(counts.chunks_exact_mut(experts)) {
        let leaf = pass.program.output::<u32>(router.routed.counts);
        counts.iter_mut().zip(leaf).for_each(|(sum, &count)| *sum += u64::from(count));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smolt_arch::settings::Model;
    use smolt_run::recipe::Document;

    #[test]
    fn layers_are_told_apart_and_the_totals_are_theirs() {
        let text = "[model]\nmodel_type = \"smolt\"\nnum_hidden_layers = 3\nhidden_size = 32\nvocab_size = 64\n\
                    max_position_embeddings = 16\n[model.moe]\nnum_experts = 4\nnum_experts_per_tok = 2\n\
                    moe_intermediate_size = 16\ndense_layers = [1]";
        let model: Model = Document::parse("r.toml", text.as_bytes()).unwrap().take("model").unwrap();
        let model = Transformer::new(model.config().unwrap());
        let mut balance = Balance::of(&model, 8, 2, Precision::Fp32).unwrap();
        balance.begin();
        balance.counts = vec![8, 8, 8, 8, 16, 16, 0, 0];
        (balance.entropies, balance.sums) = (vec![2.0, 1.0], [8.0, 4.0]);
        let layers: Vec<LayerRouting> = balance.layers().collect();
        let first = LayerRouting { layer: 0, max_load: 1.0, dead_experts: 0, entropy: 1.0 };
        let last = LayerRouting { layer: 2, max_load: 2.0, dead_experts: 2, entropy: 0.5 };
        assert_eq!(layers, [first, last]);
        let all = RoutingReport { max_load: 2.0, dead_experts: 2, entropy: 0.75, aux_loss: 2.0, z_loss: 1.0 };
        assert_eq!(balance.report(), all);
    }
}
