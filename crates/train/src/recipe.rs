//! The recipe of `smolt train`: every setting of a run, written out in full beside its results
//! (spec ABL-17).

use crate::leaf::LeafTree;
use crate::trainer::{BatchShape, Policy};
use smolt_arch::ModelConfig;
use smolt_run::error::Failure;
use smolt_run::recipe;
use smolt_run::recipe::FormatVersion;
use smolt_tensor::gemm::Precision;
use smolt_tensor::isa::Isa;
use std::path::{Path, PathBuf};

mod data;

pub use crate::schedule::{Decay, Wsd};
pub use data::{Data, HeldOut, Mix, Source, Stage, Stated};
pub use smolt_arch::memory::Recompute;
pub use smolt_arch::settings::Model;

recipe! {
    /// A training run: from tokens to a checkpoint that Hugging Face tools load.
    pub struct Train {
        /// Version of this file's format.
        pub format_version: FormatVersion = FormatVersion,
        /// Key of all randomness: initial weights, data order.
        pub seed: u64 = 0,
        /// What is trained.
        pub model: Model,
        /// On which tokens.
        pub data: Data,
        /// How weights move.
        pub optimizer: Optimizer,
        /// How the learning rate moves.
        pub schedule: Schedule,
        /// How the work is cut.
        pub train: Loop,
    }

    /// AdamW (spec OPT-02).
    pub struct Optimizer {
        /// Peak learning rate.
        pub learning_rate: f64 = 1e-3,
        /// Decay of the first moment.
        pub adam_beta1: f64 = 0.9,
        /// Decay of the second moment.
        pub adam_beta2: f64 = 0.95,
        /// Added to the root of the second moment.
        pub adam_epsilon: f64 = 1e-8,
        /// Decoupled weight decay of linear weights.
        pub weight_decay: f64 = 0.1,
        /// Whether embeddings decay too, and with them a head that is tied to them (STB-02).
        pub decay_embeddings: bool = false,
        /// Whether weights of norms decay too.
        pub decay_norms: bool = false,
        /// Whether biases and learned sinks decay too.
        pub decay_biases: bool = false,
        /// Gradients are scaled down to this global norm (OPT-04).
        pub max_grad_norm: f64 = 1.0,
    }

    /// Warmup, stable, decay (spec LRS-01, LRS-03).
    pub struct Schedule {
        /// Steps of linear rise.
        pub warmup_steps: u64 = 0,
        /// Steps of descent at the end.
        pub decay_steps: u64 = 0,
        /// Shape of the descent.
        pub decay: Decay = Decay::Linear,
    }

    /// Sizes, precision and rhythm of the loop.
    pub struct Loop {
        /// Optimiser steps in all.
        pub train_steps: u64,
        /// Tokens per sequence.
        pub sequence_length: usize = 256,
        /// Sequences per step.
        pub global_batch_size: usize = 16,
        /// Sequences per forward and backward; the leaf of the gradient tree.
        pub micro_batch_size: usize = 16,
        /// Arithmetic of matrix products.
        pub precision: PrecisionSetting = PrecisionSetting::Auto,
        /// What backward computes again instead of keeping it; less memory, more time, same results.
        pub recompute: Recompute = Recompute::None,
        /// Weight of log²Z in the loss (STB-01).
        pub z_loss: f64 = 0.0,
        /// Steps between checkpoints; the last step always has one.
        pub checkpoint_interval: u64 = 500,
        /// Checkpoints kept; 0 keeps all.
        pub checkpoints_kept: usize = 3,
        /// Steps between validations; the last step always has one.
        pub validation_interval: u64 = 200,
    }

    /// Arithmetic of matrix products (spec MT-07); everything that accumulates is fp32 in all of them.
    pub enum PrecisionSetting {
        /// 32-bit operands.
        Fp32 = "fp32",
        /// bf16 operands.
        Bf16 = "bf16",
        /// bf16 where the CPU's bf16 products outrun its fp32 ones, else fp32.
        Auto = "auto",
    }
}

impl Train {
    /// Refuses what cannot work, as far as the recipe alone tells.
    pub fn check(&self) -> Result<(), Failure> {
        self.batch_shape()?;
        let z_loss = self.train.z_loss;
        if !(0.0..=1e3).contains(&z_loss) {
            return Err(Failure::bad_input(format!(
                "train.z_loss must be between 0 and 1,000, found {z_loss}"
            )));
        }
        self.optimizer.check()?;
        self.wsd()?;
        self.stages()?;
        if self.model.from.is_none() {
            let mut shape = self.model.clone();
            // Left to the tokenizer and the sequence length: any size does for checking the rest.
            shape.vocab_size.get_or_insert(1);
            shape.max_position_embeddings.get_or_insert(self.train.sequence_length);
            fresh(&shape)?;
        }
        Ok(())
    }

    /// Sizes of a step, checked.
    pub fn batch_shape(&self) -> Result<BatchShape, Failure> {
        let t = &self.train;
        let shape = BatchShape {
            global_batch_size: t.global_batch_size,
            micro_batch_size: t.micro_batch_size,
            sequence_length: t.sequence_length,
        };
        let positive = t.global_batch_size > 0 && t.micro_batch_size > 0 && t.sequence_length > 0;
        if !positive || !t.global_batch_size.is_multiple_of(t.micro_batch_size) {
            return Err(Failure::bad_input(format!(
                "train.global_batch_size ({}) must be a positive multiple of train.micro_batch_size ({}), and \
                 train.sequence_length ({}) positive",
                t.global_batch_size, t.micro_batch_size, t.sequence_length
            )));
        }
        Ok(shape)
    }

    /// The schedule, checked against the number of steps.
    pub fn wsd(&self) -> Result<Wsd, Failure> {
        let s = &self.schedule;
        let (warmup_steps, decay_steps, decay) = (s.warmup_steps, s.decay_steps, s.decay);
        let wsd = Wsd { warmup_steps, decay_steps, decay, train_steps: self.train.train_steps };
        wsd.check().map_err(|e| Failure::bad_input(format!("schedule: {e}")))?;
        Ok(wsd)
    }

    /// How to train under a resolved precision.
    pub fn policy(&self, precision: Precision) -> Result<Policy, Failure> {
        Ok(Policy {
            shape: self.batch_shape()?,
            schedule: self.wsd()?,
            learning_rate: self.optimizer.learning_rate,
            precision,
            recompute: self.train.recompute,
            z_loss: self.train.z_loss as f32,
        })
    }

    /// The configuration of the model that training starts from, of a resolved recipe.
    pub fn model_config(&self) -> Result<ModelConfig, Failure> {
        match &self.model.from {
            Some(dir) => ModelConfig::load(&Path::new(dir).join("config.json"))
                .map_err(|e| Failure::bad_input(e.to_string())),
            None => fresh(&self.model),
        }
    }

    /// What training's memory follows from, under a resolved precision.
    pub fn memory(&self, threads: usize) -> Result<smolt_arch::memory::Training, Failure> {
        let t = &self.train;
        Ok(smolt_arch::memory::Training {
            micro_batch_size: t.micro_batch_size,
            global_batch_size: t.global_batch_size,
            sequence_length: t.sequence_length,
            bf16: t.precision == PrecisionSetting::Bf16,
            recompute: t.recompute,
            gradient_buffers: LeafTree::buffers(self.batch_shape()?.leaves()),
            threads,
        })
    }

    /// Replaces `auto` and the sizes left to the tokenizer by what they stand for on this machine, so that the locked
    /// recipe says everything.
    pub fn resolve(&mut self, isa: Isa, tokenizer_vocab: usize) {
        self.train.precision = match self.train.precision.resolve(isa) {
            Precision::Bf16 => PrecisionSetting::Bf16,
            Precision::Fp32 => PrecisionSetting::Fp32,
        };
        self.model.resolve(tokenizer_vocab, self.train.sequence_length);
    }

    /// Makes relative paths relative to `base`, the recipe's folder.
    pub fn anchor(&mut self, base: &Path) {
        let anchor = |path: &mut String| *path = base.join(PathBuf::from(&*path)).display().to_string();
        self.data.map_paths(anchor);
        self.model.from.iter_mut().for_each(anchor);
    }
}

impl Optimizer {
    pub(crate) fn check(&self) -> Result<(), Failure> {
        let fraction = |x: f64| (0.0..1.0).contains(&x);
        for (name, value, fits, range) in [
            ("learning_rate", self.learning_rate, self.learning_rate > 0.0, "above 0"),
            ("adam_beta1", self.adam_beta1, fraction(self.adam_beta1), "from 0 to below 1"),
            ("adam_beta2", self.adam_beta2, fraction(self.adam_beta2), "from 0 to below 1"),
            ("adam_epsilon", self.adam_epsilon, self.adam_epsilon > 0.0, "above 0"),
            ("weight_decay", self.weight_decay, self.weight_decay >= 0.0, "0 or more"),
            ("max_grad_norm", self.max_grad_norm, self.max_grad_norm > 0.0, "above 0"),
        ] {
            if !fits {
                return Err(Failure::bad_input(format!("optimizer.{name} is {value}; it must be {range}")));
            }
        }
        for (name, decays) in [
            ("decay_embeddings", self.decay_embeddings),
            ("decay_norms", self.decay_norms),
            ("decay_biases", self.decay_biases),
        ] {
            if decays && self.weight_decay == 0.0 {
                return Err(Failure::bad_input(format!(
                    "optimizer.{name} = true contradicts optimizer.weight_decay = 0: nothing decays; change one of them"
                )));
            }
        }
        Ok(())
    }
}

impl PrecisionSetting {
    /// The engine's precision on a CPU.
    pub fn resolve(self, isa: Isa) -> Precision {
        match self {
            PrecisionSetting::Bf16 => Precision::Bf16,
            PrecisionSetting::Fp32 => Precision::Fp32,
            PrecisionSetting::Auto => Precision::auto(isa),
        }
    }
}

/// The configuration of a fresh model.
fn fresh(model: &Model) -> Result<ModelConfig, Failure> {
    model.config().map_err(|e| Failure::bad_input(format!("[model]: {e}")))
}
