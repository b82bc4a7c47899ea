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
//! | activation gradients | n·max(4·d + 2·a·I, 8·d + a·d): the stream's and the MLP's, or those of the last norm; or the last block's attention's, where that is more |
//! | workspaces | 4·R·V logits, R = max(512, 2²²/V) rows but at most n; a packed operand, min(32 MiB, a·V·d); sums beside bf16 results, 4·n·min(d, 1024); shares of the queries' gradients, 4·S·n·H·d_h, S = min(8, 24/(K·micro_batch_size)); threads · 2 MiB, RoPE tables 4·P·d_r (twice with a local base), program 24 MiB; three global batches, 48 a position |
//!
//! A block keeps 8·d + 4·H + a·(2·d + 2·(H+K)·d_h + 3·I) per token. Where backward computes things again, every block
//! but the last keeps less: 8·d + 2·a·I with `attention` (the stream before attention and MLP, gate|up), 4·d with
//! `block` (its input). Other architectures keep other things: norms behind branches what they were given (4·d each),
//! norms of queries and keys q|k|v once more, latents (4 + a) times their width, experts 2·a·I for each that serves a
//! token, and routes. Rows on their way to experts and back are workspace.

use crate::config::{ModelConfig, NormPlacement, PositionEmbedding, QkNorm};
use crate::count;
use serde::Serialize;

/// Every coefficient that is not counted but measured.
mod coefficients {
    /// Logits that exist at one time in the fused loss, where that is at least [`LOSS_ROWS`] rows.
    pub(super) const LOGITS: u64 = 4 << 20;
    /// The fewest rows of logits that exist at one time, but for smaller batches.
    pub(super) const LOSS_ROWS: u64 = 512;
    /// Bytes per position of global batches: tokens, labels, segments and positions of three, one trained on, one ready,
    /// one being read.
    pub(super) const BATCHES: u64 = 3 * 16;
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
    /// Sequences in a global batch.
    pub global_batch_size: usize,
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
    let stream = 4 * coefficients::RESIDUALS * d;
    let layer = |layer: usize| stream + attention(c, stored) + Mlp::of(c, layer).kept(c, stored);
    let earlier: u64 = (0..last)
        .map(|l| match training.recompute {
            Recompute::None => layer(l),
            Recompute::Attention => stream + 2 * behind(c) + Mlp::of(c, l).needed(stored),
            Recompute::Block => 4 * d,
        })
        .sum();
    // Most lives when the last block turns the gradient of its MLP's activation, which is not needed any more, into that
    // of gate|up; in a block with a small MLP, when the last norm does, or attention, for which the MLP's are gone.
    let mlp = Mlp::of(c, last);
    let gradients = (4 * d + stored * mlp.width)
        .max(4 * 2 * d + stored * d)
        .max((4 * d + attention_gradients(c, stored)).saturating_sub(mlp.kept(c, stored)));
    Memory {
        parameters: all,
        gradients: all.saturating_mul(training.gradient_buffers as u64),
        optimizer: 2 * all,
        activations: n.saturating_mul(layer(last) + earlier),
        activation_gradients: n.saturating_mul(gradients),
        workspaces: workspaces(c, training),
    }
}

/// Bytes per token of a branch's norms: what the one before gives, what the one behind was given.
fn norms(c: &ModelConfig, stored: u64) -> u64 {
    let d = c.hidden_size as u64;
    let before = if c.norm_placement == NormPlacement::Post { 0 } else { stored * d };
    before + behind(c)
}

/// Bytes per token that a norm behind a branch was given.
fn behind(c: &ModelConfig) -> u64 {
    if c.norm_placement == NormPlacement::Pre { 0 } else { 4 * c.hidden_size as u64 }
}

/// Bytes per token that attention keeps: its norms', q|k|v, what its scores give, log-sum-exps.
fn attention(c: &ModelConfig, stored: u64) -> u64 {
    let [h, k, e, v] =
        [c.num_attention_heads, c.num_key_value_heads, c.head_dim, c.value_dim()].map(|x| x as u64);
    let qkv = (h + k) * e + k * v;
    let before = match (&c.latent, c.qk_norm) {
        // Latents, as they are made and normed.
        (Some(latent), _) => (4 + stored) * (latent.q_lora_rank.unwrap_or(0) + latent.kv_lora_rank) as u64,
        (None, QkNorm::None) => 0,
        // As they are made, too.
        (None, _) => stored * qkv,
    };
    norms(c, stored) + before + 4 * h + stored * (qkv + h * v)
}

/// Bytes per token of gradients that attention has at one time: of q|k|v and of its output, or of what latents make of them.
fn attention_gradients(c: &ModelConfig, stored: u64) -> u64 {
    let [h, k, e, v] =
        [c.num_attention_heads, c.num_key_value_heads, c.head_dim, c.value_dim()].map(|x| x as u64);
    let qkv = (h + k) * e + k * v;
    let other = match &c.latent {
        Some(latent) => h * (e + latent.qk_nope_head_dim as u64 + v),
        None => h * v,
    };
    stored * (qkv + other)
}

/// What a token has in the MLP of a layer.
struct Mlp {
    /// Features before the activation of a plain MLP, or of shared experts.
    width: u64,
    /// Features behind it.
    activation: u64,
    /// Features before the activations of a token's experts, which compute these again.
    routed: u64,
    /// Bytes of its routes: logits; gates, experts, places and order.
    routes: u64,
}

impl Mlp {
    fn of(c: &ModelConfig, layer: usize) -> Mlp {
        let gates = if c.gated_mlp { 2 } else { 1 };
        let plain = |width: usize| Mlp {
            width: (gates * width) as u64,
            activation: width as u64,
            routed: 0,
            routes: 0,
        };
        match &c.moe {
            Some(moe) if c.is_sparse(layer) => Mlp {
                routed: (moe.num_experts_per_tok * 2 * moe.moe_intermediate_size) as u64,
                routes: 4 * (moe.num_experts + 4 * moe.num_experts_per_tok) as u64,
                ..plain(moe.n_shared_experts * moe.moe_intermediate_size)
            },
            _ => plain(c.intermediate_size),
        }
    }

    /// Bytes of what is kept of it even where what costs next to nothing is computed again.
    fn needed(&self, stored: u64) -> u64 {
        stored * (self.width + self.routed) + self.routes
    }

    /// Bytes of all that is kept of it.
    fn kept(&self, c: &ModelConfig, stored: u64) -> u64 {
        norms(c, stored) + self.needed(stored) + stored * self.activation
    }
}

/// Bytes of the rows of experts that exist at one time (`ops::moe_experts`), per token.
fn dispatched(c: &ModelConfig, stored: u64) -> u64 {
    c.moe.as_ref().map_or(0, |moe| {
        let (d, i) = (c.hidden_size as u64, moe.moe_intermediate_size as u64);
        let forward = stored * i + 4 * d;
        let backward = (stored * (3 * i + d) + 4 * i).max(stored * 2 * i + 4 * d);
        moe.num_experts_per_tok as u64 * forward.max(backward)
    })
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
    let tables = match c.position_embedding {
        PositionEmbedding::Rope => 1 + u64::from(c.rope_local_base_freq.is_some()),
        _ => 0,
    };
    let rope = 4 * tables * (c.max_position_embeddings * c.rotary_dim()) as u64;
    let scratch = coefficients::SCRATCH_PER_THREAD.saturating_mul(training.threads as u64);
    let experts = n.saturating_mul(dispatched(c, stored));
    let batches = (training.global_batch_size as u64)
        .saturating_mul(training.sequence_length as u64)
        .saturating_mul(coefficients::BATCHES);
    let fixed = logits + packed + rope + coefficients::PROGRAM;
    [sums, queries, scratch, experts, batches].into_iter().fold(fixed, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BATCH: Training = Training {
        micro_batch_size: 16,
        global_batch_size: 16,
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
