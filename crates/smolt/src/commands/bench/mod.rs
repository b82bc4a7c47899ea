//! `smolt bench`: what a training step of a shape costs on this machine, and what bounds it.

mod gemm;
mod ops;
mod profile;
pub(crate) mod step;
mod train;

use crate::Outcome;
use clap::{Subcommand, ValueEnum};
use smolt_arch::{ModelConfig, ModelType};
use smolt_run::error::Failure;
use smolt_tensor::gemm::Precision;
use std::path::{Path, PathBuf};

#[derive(Subcommand)]
pub(crate) enum Action {
    /// Time a training step of a Llama-shaped model, or of a config.json
    Train(train::Args),
    /// Time every matrix product of the step alone, against multiply–adds between registers
    Gemm(gemm::Args),
    /// Time every op within the step, against what registers and memory allow
    Ops(ops::Args),
}

pub(crate) fn run(action: Action) -> Outcome {
    match action {
        Action::Train(args) => train::run(args),
        Action::Gemm(args) => gemm::run(args),
        Action::Ops(args) => ops::run(args),
    }
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Dtype {
    Fp32,
    Bf16,
}

impl Dtype {
    fn precision(self) -> Precision {
        match self {
            Dtype::Fp32 => Precision::Fp32,
            Dtype::Bf16 => Precision::Bf16,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Dtype::Fp32 => "fp32",
            Dtype::Bf16 => "bf16",
        }
    }
}

/// The shape of the model and its batch, with the flags and defaults of the peers' script.
#[derive(clap::Args)]
struct Shape {
    /// Width of the residual stream
    #[arg(long, default_value_t = 256)]
    dim: usize,
    #[arg(long, default_value_t = 6)]
    layers: usize,
    #[arg(long, default_value_t = 4096)]
    vocab: usize,
    /// Tokens per sequence
    #[arg(long, default_value_t = 256)]
    seq: usize,
    /// Sequences per step
    #[arg(long, default_value_t = 16)]
    batch: usize,
    /// Query heads; 0 = dim / 64, at least 4
    #[arg(long, default_value_t = 0)]
    heads: usize,
    /// Key and value heads; 0 = a third of the heads where that divides, else half
    #[arg(long, default_value_t = 0)]
    kv_heads: usize,
    /// Width of the MLP; 0 = 8/3 dim rounded up to 32
    #[arg(long, default_value_t = 0)]
    ffn: usize,
    /// The model of this config.json instead; dim, layers, vocab, heads and ffn are then not asked
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Shape {
    /// Tokens per step.
    fn tokens(&self) -> usize {
        self.batch().tokens()
    }

    fn batch(&self) -> step::Batch {
        step::Batch { sequences: self.batch, length: self.seq }
    }

    /// The model that the peers' script makes of the same flags.
    fn config(&self) -> Result<ModelConfig, Failure> {
        if self.tokens() == 0 {
            return Err(Failure::bad_input("--seq and --batch must be at least 1"));
        }
        if let Some(file) = &self.config {
            return self.config_of(file);
        }
        let heads = if self.heads > 0 { self.heads } else { (self.dim / 64).max(4) };
        let third = if heads.is_multiple_of(3) { heads / 3 } else { (heads / 2).max(1) };
        let mut config = ModelConfig {
            model_type: ModelType::Llama,
            hidden_size: self.dim,
            intermediate_size: match self.ffn {
                0 => (self.dim * 8).div_ceil(3).next_multiple_of(32),
                ffn => ffn,
            },
            num_hidden_layers: self.layers,
            num_attention_heads: heads,
            num_key_value_heads: if self.kv_heads > 0 { self.kv_heads } else { third },
            head_dim: self.dim / heads,
            vocab_size: self.vocab,
            max_position_embeddings: self.seq,
            rope_theta: 1e4,
            tie_word_embeddings: true,
            ..ModelConfig::of(ModelType::Llama)
        };
        config.set_no_rope_layer_interval(0);
        config.validate().map_err(|e| Failure::bad_input(e.to_string()))?;
        Ok(config)
    }

    fn config_of(&self, file: &Path) -> Result<ModelConfig, Failure> {
        let config = ModelConfig::load_shape(file)?;
        if self.seq > config.max_position_embeddings {
            return Err(Failure::bad_input(format!(
                "{}: `max_position_embeddings` {} is less than --seq {}",
                file.display(),
                config.max_position_embeddings,
                self.seq
            )));
        }
        Ok(config)
    }
}

/// `x` with `digits` decimals, for JSON.
fn rounded(x: f64, digits: i32) -> f64 {
    let unit = 10f64.powi(digits);
    (x * unit).round() / unit
}
