//! Peak memory of training, predicted from the configuration before anything is allocated.
//!
//! With n = micro_batch_size · sequence_length tokens in a leaf, N parameters, and a = 2 bytes (bf16) or 4 (fp32)
//! per stored activation:
//!
//! | part | bytes |
//! |---|---|
//! | parameters | 4·N |
//! | gradients | 4·N · gradient_buffers |
//! | optimizer | 8·N (AdamW's two moments) |
//! | activations | n·(kept + (L−1)·kept_again), see below |
//! | activation gradients | n·max(4·d + 2·a·I, 8·d + a·d): the stream's and the MLP's, or those of the last norm |
//! | workspaces | 4·R·V logits, R = max(512, 2²²/V) rows but at most n; a packed operand, min(32 MiB, a·V·d); sums beside bf16 results, 4·n·min(d, 1024); shares of the queries' gradients, 4·S·n·H·d_h, S = min(8, 24/(K·micro_batch_size)); threads · 2 MiB, RoPE tables 4·P·d_h, program 24 MiB |
//!
//! A block keeps 8·d + 4·H + a·(2·d + 2·(H+K)·d_h + 3·I) per token. Where backward computes things again, every block
//! but the last keeps less: 8·d + 2·a·I with `attention` (the stream before attention and MLP, gate|up), 4·d with
//! `block` (its input).

use crate::config::{ModelConfig, NormPlacement, QkNorm};
use crate::count;
use serde::Serialize;

/// Every coefficient that is not counted but measured.
mod coefficients {
    /// Logits that exist at one time in the fused loss, where that is at least [`LOSS_ROWS`] rows.
    pub(super) const LOGITS: u64 = 4 << 20;
    /// The fewest rows of logits that exist at one time, but for smaller batches.
    pub(super) const LOSS_ROWS: u64 = 512;
    /// Packed bytes of one operand that exist at one time.
    pub(super) const PACKED: u64 = 32 << 20;
    /// Columns of fp32 sums beside a bf16 result.
    pub(super) const SUMMED: u64 = 1024;
    /// Tasks of attention's backward pass, at least: strips of sequences where key–value heads are too few.
    pub(super) const ATTENTION_TASKS: u64 = 24;
    /// The most strips of a sequence, each with its share of the queries' gradients.
    pub(super) const STRIPS: u64 = 8;
    /// Packed rows and tiles per thread.
    pub(super) const SCRATCH_PER_THREAD: u64 = 2 << 20;
    /// The program itself, its libraries, token pages.
    pub(super) const PROGRAM: u64 = 24 << 20;
    /// Residual stream tensors saved per layer, fp32: block input and the one between attention and MLP.
    pub(super) const RESIDUALS: u64 = 2;
}

smolt_run::recipe! {
    /// What the backward pass computes again instead of keeping it; results keep their bits.
    pub enum Recompute {
        /// Nothing.
        None = "none",
        /// Attention, from the norm before it to what its output projection reads, and in the MLP what costs next to
        /// nothing: its norm and its activation.
        Attention = "attention",
        /// Whole blocks, of which only the input is kept.
        Block = "block",
    }
}

/// How the model is trained, as far as memory goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Training {
    /// Sequences in a leaf.
    pub micro_batch_size: usize,
    /// Tokens per sequence.
    pub sequence_length: usize,
    /// Activations and operands in bf16 instead of fp32.
    pub bf16: bool,
    /// What is not kept for the backward pass.
    pub recompute: Recompute,
    /// Gradient buffers of the leaf tree: log2(leaves per worker) + 1.
    pub gradient_buffers: usize,
    /// Threads with scratch of their own.
    pub threads: usize,
}

/// Predicted peak of resident memory by part, in bytes. Sizes beyond 2^64 saturate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// fp32 weights.
    pub parameters: u64,
    /// fp32 gradients, one buffer per open level of the leaf tree.
    pub gradients: u64,
    /// AdamW's moments, fp32.
    pub optimizer: u64,
    /// Saved for the backward pass.
    pub activations: u64,
    /// Gradients of activations that live at one time.
    pub activation_gradients: u64,
    /// Logits chunk, scratch, RoPE tables, the program.
    pub workspaces: u64,
}

impl Memory {
    /// Name and bytes of each part, in order.
    pub fn parts(&self) -> [(&'static str, u64); 6] {
        [
            ("parameters", self.parameters),
            ("gradients", self.gradients),
            ("optimizer", self.optimizer),
            ("activations", self.activations),
            ("activation gradients", self.activation_gradients),
            ("workspaces", self.workspaces),
        ]
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.parts().iter().fold(0, |sum, (_, bytes)| sum.saturating_add(*bytes))
    }
}

/// Predicts the peak of training `config` (which has passed [`ModelConfig::validate`]) as `training` says.
pub fn training(config: &ModelConfig, training: &Training) -> Memory {
    let c = config;
    let n = rows(training);
    let stored = if training.bf16 { 2 } else { 4 };
    let all = 4 * count::parameters(c).total();
    let d = c.hidden_size as u64;
    let last = c.num_hidden_layers.saturating_sub(1);
    let layer = |layer: usize| 4 * coefficients::RESIDUALS * d + attention(c, stored) + mlp(c, layer, stored);
    let earlier: u64 = (0..last)
        .map(|l| match training.recompute {
            Recompute::None => layer(l),
            Recompute::Attention => 4 * coefficients::RESIDUALS * d + stored * mlp_width(c, l).1,
            Recompute::Block => 4 * d,
        })
        .sum();
    // Most lives when the last block turns the gradient of its MLP's activation, which is not needed any more, into that
    // of gate|up; in a block with a small MLP, when the last norm does.
    let gradients = (4 * d + stored * mlp_width(c, last).1).max(4 * 2 * d + stored * d);
    Memory {
        parameters: all,
        gradients: all.saturating_mul(training.gradient_buffers as u64),
        optimizer: 2 * all,
        activations: n.saturating_mul(layer(last) + earlier),
        activation_gradients: n.saturating_mul(gradients),
        workspaces: workspaces(c, training),
    }
}

/// Bytes per token that attention keeps: its norm's output, q|k|v, what its scores give, log-sum-exps.
fn attention(c: &ModelConfig, stored: u64) -> u64 {
    let [d, h, k, e, v] =
        [c.hidden_size, c.num_attention_heads, c.num_key_value_heads, c.head_dim, c.value_dim()]
            .map(|x| x as u64);
    let (rotated, qkv) = ((h + k) * e, (h + k) * e + k * v);
    let before = match (&c.latent, c.qk_norm) {
        // Latents as they come and normed, queries, keys and values before they are put together.
        (Some(latent), _) => {
            let r = latent.kv_lora_rank as u64;
            2 * latent.q_lora_rank.map_or(0, |rank| rank as u64)
                + 2 * r
                + latent.qk_rope_head_dim as u64
                + h * (2 * e + v)
        }
        (None, QkNorm::None) => 0,
        (None, _) => rotated,
    };
    let behind = if c.norm_placement == NormPlacement::Pre { 0 } else { 4 * d };
    4 * h + behind + stored * (d + before + qkv + h * v)
}

/// Rows per token that the MLP of `layer` has, and all of what they are wide before their activation.
fn mlp_width(c: &ModelConfig, layer: usize) -> (u64, u64) {
    let gates = if c.gated_mlp { 2 } else { 1 };
    match &c.moe {
        Some(moe) if c.is_sparse(layer) => {
            let each = (gates * moe.moe_intermediate_size) as u64;
            let rows = (moe.num_experts_per_tok + moe.n_shared_experts) as u64;
            (rows, rows * each)
        }
        _ => (1, (gates * c.intermediate_size) as u64),
    }
}

/// Bytes per token that the MLP of `layer` keeps: its norm's output, gate|up, the activation.
fn mlp(c: &ModelConfig, layer: usize, stored: u64) -> u64 {
    let d = c.hidden_size as u64;
    let (rows, width) = mlp_width(c, layer);
    let activation = if c.gated_mlp { width / 2 } else { width };
    let behind = if c.norm_placement == NormPlacement::Pre { 0 } else { 4 * d };
    let routed = match &c.moe {
        // Logits, gates; what an expert gives for each of its rows.
        Some(moe) if c.is_sparse(layer) => {
            4 * (moe.num_experts + 3 * moe.num_experts_per_tok) as u64 + rows * stored * d
        }
        _ => 0,
    };
    behind + stored * (d + width + activation) + routed
}

/// Tokens of a leaf.
fn rows(training: &Training) -> u64 {
    (training.micro_batch_size as u64).saturating_mul(training.sequence_length as u64)
}

fn workspaces(c: &ModelConfig, training: &Training) -> u64 {
    let (n, vocab) = (rows(training), c.vocab_size as u64);
    let logits = 4 * n.min((coefficients::LOGITS / vocab.max(1)).max(coefficients::LOSS_ROWS)) * vocab;
    let (d, stored) = (c.hidden_size as u64, if training.bf16 { 2 } else { 4 });
    let packed = coefficients::PACKED.min(stored * vocab * d);
    let sums = if training.bf16 { n.saturating_mul(4 * d.min(coefficients::SUMMED)) } else { 0 };
    let parts = (c.num_key_value_heads as u64).saturating_mul(training.micro_batch_size as u64).max(1);
    let strips = coefficients::ATTENTION_TASKS.div_ceil(parts).min(coefficients::STRIPS);
    let queries = n.saturating_mul(4 * strips * (c.num_attention_heads * c.head_dim) as u64);
    let rope = 4 * (c.max_position_embeddings * c.head_dim) as u64;
    let scratch = coefficients::SCRATCH_PER_THREAD.saturating_mul(training.threads as u64);
    let fixed = logits + packed + rope + coefficients::PROGRAM;
    [sums, queries, scratch].into_iter().fold(fixed, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BATCH: Training = Training {
        micro_batch_size: 16,
        sequence_length: 256,
        bf16: false,
        recompute: Recompute::None,
        gradient_buffers: 1,
        threads: 2,
    };

    #[test]
    fn parts_follow_the_formula() {
        let config = ModelConfig::default();
        let memory = training(&config, &BATCH);
        let (n, d, i, qkv, q) = (16 * 256, 256, 704, 512, 256);
        let layer = 4 * (2 * d + 4) + 4 * (2 * d + qkv + q + 3 * i);
        assert_eq!(memory.activations, n * 6 * layer);
        for (recompute, earlier) in [(Recompute::Attention, 4 * (2 * d + 2 * i)), (Recompute::Block, 4 * d)] {
            let memory = training(&config, &Training { recompute, ..BATCH });
            assert_eq!(memory.activations, n * (layer + 5 * earlier));
        }
        assert_eq!(memory.parameters, 4 * count::parameters(&config).total());
        assert_eq!(memory.optimizer, 2 * memory.parameters);
        assert_eq!(memory.total(), memory.parts().iter().map(|(_, bytes)| bytes).sum::<u64>());
    }

    /// Peaks that `smolt bench train` reported in MiB (bench/results, 2026-11-25): what is predicted is no less, and not
    /// much more.
    #[test]
    fn measured_peaks_are_foretold() {
        let small = ModelConfig { vocab_size: 4096, max_position_embeddings: 256, ..ModelConfig::default() };
        let large = ModelConfig {
            hidden_size: 576,
            intermediate_size: 1536,
            num_hidden_layers: 30,
            num_attention_heads: 9,
            num_key_value_heads: 3,
            head_dim: 64,
            vocab_size: 49152,
            max_position_embeddings: 2048,
            ..ModelConfig::default()
        };
        let cases = [
            (&small, BATCH, 506),
            (&small, Training { bf16: true, ..BATCH }, 335),
            (&large, Training { bf16: true, micro_batch_size: 4, sequence_length: 512, ..BATCH }, 3333),
            (&large, Training { bf16: true, micro_batch_size: 1, sequence_length: 2048, ..BATCH }, 3334),
        ];
        for (config, batch, measured) in cases {
            let predicted = training(config, &batch).total() >> 20;
            assert!((measured..measured * 23 / 20).contains(&predicted), "{predicted} for {measured} MiB");
        }
    }

    #[test]
    fn it_grows_with_batch_buffers_and_precision() {
        let config = ModelConfig::default();
        let total = |change: fn(&mut Training)| {
            let mut batch = BATCH;
            change(&mut batch);
            training(&config, &batch).total()
        };
        let base = total(|_| ());
        assert!(total(|b| b.bf16 = true) < base);
        assert!(total(|b| b.micro_batch_size *= 2) > base);
        let parameters = 4 * count::parameters(&config).total();
        assert_eq!(total(|b| b.gradient_buffers = 3), base + 2 * parameters);
        assert_eq!(total(|b| b.sequence_length = usize::MAX), u64::MAX);
    }
}
