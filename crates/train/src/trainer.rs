//! One optimiser step: leaves forward and backward, the tree sum, the clipped AdamW step.

use crate::leaf::LeafTree;
use crate::optimizer::AdamW;
use crate::routing::{Balance, LayerRouting, RoutingReport};
use crate::schedule::Wsd;
use smolt_arch::memory::Recompute;
use smolt_arch::parameters::Slot;
use smolt_data::batch::Batch;
use smolt_data::prefetch::GlobalBatch;
use smolt_model::Transformer;
use smolt_model::transformer::LossPass;
use smolt_tensor::Cpu;
use smolt_tensor::gemm::Precision;
use smolt_tensor::ops::global_norm::sum_squares;
use smolt_tensor::scratch;
use smolt_tensor::tape::Run;
use std::time::Instant;

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// Counted from 1.
    pub step: u64,
    /// Mean cross-entropy over the global batch's labels, nats.
    pub loss: f64,
    /// Mean log Z over the labels (spec STB-01).
    pub log_z: f64,
    /// Mean log²Z over them.
    pub z: f64,
    /// Share of labels that were the likeliest token.
    pub accuracy: f64,
    /// Global gradient norm before clipping.
    pub grad_norm: f64,
    /// Learning rate of the step.
    pub learning_rate: f64,
    /// Labels in the global batch.
    pub label_tokens: u64,
    /// Tokens in the global batch.
    pub tokens: u64,
    /// Wall time, the wait for data included.
    pub seconds: f64,
    /// Of it, the wait for data that were not read ahead in time (spec MYS-01).
    pub data_wait_seconds: f64,
    /// How experts were used, where there are any.
    pub routing: Option<RoutingReport>,
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The model left the numbers.
    #[error(
        "step {step}: loss {loss} and gradient norm {grad_norm} are not finite; lower optimizer.learning_rate or \
         raise schedule.warmup_steps and start another run, with model.from = the last checkpoint to go on from it"
    )]
    NotFinite {
        /// The step.
        step: u64,
        /// Its loss.
        loss: f64,
        /// Its gradient norm.
        grad_norm: f64,
    },
}

/// Sizes of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchShape {
    /// Sequences per step.
    pub global_batch_size: usize,
    /// Sequences per leaf.
    pub micro_batch_size: usize,
    /// Tokens per sequence.
    pub sequence_length: usize,
}

impl BatchShape {
    /// Leaves per step.
    pub fn leaves(&self) -> usize {
        self.global_batch_size / self.micro_batch_size
    }

    /// Tokens per leaf.
    pub fn leaf_tokens(&self) -> usize {
        self.micro_batch_size * self.sequence_length
    }
}

/// A model being trained: weights, moments and position, and the compiled pass that moves them.
pub struct Trainer {
    /// Threads and instruction set.
    pub cpu: Cpu,
    /// The architecture.
    pub model: Transformer,
    /// Flat weights.
    pub weights: Vec<f32>,
    /// Moments and policy.
    pub optimizer: AdamW,
    /// Steps done.
    pub step: u64,
    shape: BatchShape,
    schedule: Wsd,
    peak_lr: f64,
    pass: LossPass,
    tree: LeafTree,
    balance: Option<Balance>,
    /// Whether every thread has room for every task of a step.
    level: bool,
}

/// How to train (see [`Trainer::new`]).
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Sizes of a step.
    pub shape: BatchShape,
    /// Learning-rate schedule.
    pub schedule: Wsd,
    /// Learning rate at the factor 1.
    pub learning_rate: f64,
    /// Operands of products and storage of activations.
    pub precision: Precision,
    /// What backward computes again.
    pub recompute: Recompute,
    /// Weight of log²Z in the loss.
    pub z_loss: f32,
}

impl Trainer {
    /// Compiles the pass of one leaf.
    pub fn new(cpu: Cpu, model: Transformer, weights: Vec<f32>, optimizer: AdamW, policy: Policy) -> Trainer {
        let n = policy.shape.leaf_tokens();
        Trainer {
            balance: Balance::of(&model, n, policy.shape.leaves(), policy.precision),
            level: false,
            pass: model.training_pass(n, policy.precision, policy.z_loss, policy.recompute),
            tree: LeafTree::new(weights.len()),
            shape: policy.shape,
            schedule: policy.schedule,
            peak_lr: policy.learning_rate,
            step: 0,
            cpu,
            model,
            weights,
            optimizer,
        }
    }

    /// Index of the next sample of the mixture.
    pub fn next_sample(&self) -> u64 {
        self.step * self.shape.global_batch_size as u64
    }

    /// Root mean square of the elements of a parameter, if the model has it: of embeddings for spec STB-02 and STB-04.
    pub fn rms(&self, slot: Slot) -> Option<f64> {
        let weights = &self.weights[self.model.range(slot)?];
        Some((sum_squares(&self.cpu, weights) / weights.len().max(1) as f64).sqrt())
    }

    /// How experts were used in the last step, layer by layer (spec MOE-09); nothing without experts.
    pub fn routing(&self) -> impl Iterator<Item = LayerRouting> {
        self.balance.iter().flat_map(Balance::layers)
    }

    /// Seconds and FLOPs per op since [`Trainer::profile`].
    pub fn times(&self) -> &[smolt_tensor::tape::OpTime] {
        self.pass.program.times()
    }

    /// Starts to time every op.
    pub fn profile(&mut self) {
        self.pass.program.profile();
    }

    /// Room for a global batch, to be filled with the samples from [`Trainer::next_sample`] on.
    pub fn global_batch(&self) -> GlobalBatch {
        let shape = &self.shape;
        GlobalBatch::new(shape.leaves(), shape.micro_batch_size, shape.sequence_length)
    }

    /// Trains on a global batch, which begins at [`Trainer::next_sample`].
    pub fn train_step(&mut self, batch: &GlobalBatch) -> Result<StepReport, StepError> {
        let start = Instant::now();
        debug_assert_eq!((batch.first_sample, batch.leaves.len()), (self.next_sample(), self.shape.leaves()));
        let label_tokens = batch.label_tokens;
        // The whole batch's label count scales each leaf's sum, so masks and packing never change
        // the normalisation.
        let scale = 1.0 / label_tokens.max(1) as f32;
        let (mut nll, mut log_z, mut z, mut correct) = (0.0, 0.0, 0.0, 0);
        self.count_routes(batch);
        for leaf in &batch.leaves {
            self.run_leaf(leaf, scale);
            let totals = self.pass.loss.totals(&self.pass.program);
            nll += totals.nll_sum;
            log_z += totals.log_z_sum;
            z += totals.z_sum;
            correct += totals.correct;
        }
        let step = self.step + 1;
        let learning_rate = self.peak_lr * self.schedule.factor(step);
        let grads = self.tree.finish(&self.cpu);
        let grad_norm = self.optimizer.step(&self.cpu, &mut self.weights, grads, learning_rate, step);
        if !std::mem::replace(&mut self.level, true) {
            scratch::level(&self.cpu.pool);
        }
        let labels = label_tokens.max(1) as f64;
        if !nll.is_finite() || !grad_norm.is_finite() {
            return Err(StepError::NotFinite { step, loss: nll / labels, grad_norm });
        }
        self.step = step;
        if let Some(balance) = &self.balance {
            balance.settle(&self.model, &mut self.weights);
        }
        Ok(StepReport {
            step,
            loss: nll / labels,
            log_z: log_z / labels,
            z: z / labels,
            accuracy: correct as f64 / labels,
            grad_norm,
            learning_rate,
            label_tokens,
            tokens: (self.shape.global_batch_size * self.shape.sequence_length) as u64,
            seconds: start.elapsed().as_secs_f64(),
            data_wait_seconds: 0.0,
            routing: self.balance.as_ref().map(Balance::report),
        })
    }

    /// Where routers' losses look at the whole global batch, runs it forward once to count (spec MOE-08).
    fn count_routes(&mut self, batch: &GlobalBatch) {
        let Some(balance) = &mut self.balance else { return };
        balance.begin();
        if !balance.counts_ahead() {
            return;
        }
        for leaf in &batch.leaves {
            balance.count_ahead(&self.cpu, &self.model, &self.weights, leaf);
        }
        balance.tell(&mut self.pass);
    }

    fn run_leaf(&mut self, leaf: &Batch, scale: f32) {
        fill_inputs(&mut self.pass, leaf, scale, 1.0 / self.shape.leaves() as f32);
        self.pass.program.run(Run {
            cpu: &self.cpu,
            layout: self.model.layout(),
            weights: &self.weights,
            grads: Some(self.tree.buffer()),
            cache: None,
        });
        self.tree.push(&self.cpu);
        if let Some(balance) = &mut self.balance {
            balance.take_in(&self.pass);
        }
    }
}

/// Copies a batch into the inputs of a pass; `share` is its part of the global batch.
pub(crate) fn fill_inputs(pass: &mut LossPass, batch: &Batch, scale: f32, share: f32) {
    let p = &mut pass.program;
    p.input_mut::<u32>(pass.tokens).copy_from_slice(&batch.tokens);
    p.input_mut::<u32>(pass.labels).copy_from_slice(&batch.labels);
    p.input_mut::<u32>(pass.segments).copy_from_slice(&batch.segments);
    p.input_mut::<u32>(pass.positions).copy_from_slice(&batch.positions);
    p.input_mut::<f32>(pass.scale)[0] = scale;
    p.input_mut::<f32>(pass.share)[0] = share;
}
