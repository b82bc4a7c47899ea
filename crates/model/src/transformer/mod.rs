//! A decoder of any configuration as a composition of ops, read like its equations: `x + attention(norm(x))`, then
//! `x + mlp(norm(x))`, block after block, with norms before the branches, behind them, or both.
//!
//! Shape suffixes: n rows (tokens, flat over the batch), d hidden_size, h heads, k kv heads, e head_dim, v value_dim,
//! i intermediate_size, r rank of a latent.

mod attention;
mod mlp;
mod passes;
mod probe;

pub use passes::{DecodePass, LossPass, Router};
pub use probe::{Block, ProbePass};

use attention::{Attended, Rows};
use smolt_arch::ModelConfig;
use smolt_arch::config::{PositionEmbedding, RopeScaling, RopeType};
use smolt_arch::memory::Recompute;
use smolt_arch::parameters::{Group, Part, Slot, groups};
use smolt_tensor::ops::rms_norm::Gain;
use smolt_tensor::ops::rope::{Frequencies, Llama3, Tables, Yarn};
use smolt_tensor::tape::{DType, KvCache, Layout, LayoutBuilder, ParamId, Tape, Var};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// A decoder: where its parameters lie and how its forward pass is recorded.
pub struct Transformer {
    config: ModelConfig,
    groups: Vec<Group>,
    layout: Layout,
    params: BTreeMap<Slot, ParamId>,
    /// Rotations of layers with the global base, and of those with a base of their own.
    global_rope: Arc<Tables>,
    local_rope: Arc<Tables>,
}

impl Transformer {
    /// Lays out the parameters of `config`; allocates nothing but the RoPE tables.
    pub fn new(config: ModelConfig) -> Transformer {
        let groups = groups(&config);
        let mut layout = LayoutBuilder::default();
        let params = groups
            .iter()
            .map(|group| {
                let tensors: Vec<_> =
                    group.tensors.iter().map(|p| (p.name.clone(), p.shape.clone())).collect();
                (group.slot, layout.add(&tensors))
            })
            .collect();
        let positions = match config.position_embedding {
            PositionEmbedding::Rope => config.max_position_embeddings,
            _ => 0,
        };
        let tables = |frequencies: &Frequencies| Arc::new(Tables::new(positions, frequencies));
        let global_rope = tables(&frequencies(&config));
        let local_rope = match config.rope_local_base_freq {
            Some(base) => tables(&Frequencies::plain(config.rotary_dim(), base)),
            None => Arc::clone(&global_rope),
        };
        Transformer { layout: layout.build(), groups, params, global_rope, local_rope, config }
    }

    /// The configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Changes what the configuration says about tokens; the shape must stay.
    pub fn set_config(&mut self, change: impl FnOnce(&mut ModelConfig)) {
        change(&mut self.config);
    }

    /// Where the parameters lie in a flat buffer.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The tensors, grouped as they lie.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Where a part of a block lies in the flat buffers, if this configuration has it.
    pub fn range_of(&self, layer: usize, part: Part) -> Option<Range<usize>> {
        self.range(Slot::Layer(layer, part))
    }

    /// Where a parameter lies in the flat buffers, if this configuration has it.
    pub fn range(&self, slot: Slot) -> Option<Range<usize>> {
        self.params.get(&slot).map(|&id| self.layout.range(id))
    }

    /// A cache for `slots` sequences of up to `capacity` tokens.
    pub fn cache(&self, slots: usize, capacity: usize) -> KvCache {
        let c = &self.config;
        let (keys, values) = match &c.latent {
            // The latent is key and value at once (ATT-04).
            Some(latent) => (latent.kv_lora_rank + latent.qk_rope_head_dim, 0),
            None => (c.num_key_value_heads * c.head_dim, c.num_key_value_heads * c.head_dim),
        };
        KvCache::new(c.num_hidden_layers, slots, capacity, keys, values)
    }

    /// The parameter in a slot that every configuration has.
    fn param(&self, slot: Slot) -> ParamId {
        self.params[&slot]
    }

    /// A part of a block that this configuration has.
    fn part(&self, layer: usize, part: Part) -> ParamId {
        self.params[&Slot::Layer(layer, part)]
    }

    /// A part of a block, if this configuration has it.
    fn maybe(&self, layer: usize, part: Part) -> Option<ParamId> {
        self.params.get(&Slot::Layer(layer, part)).copied()
    }

    /// Records the decoder up to the final norm: tokens `[n]` → `[n, d]`.
    fn decoder(&self, t: &mut Tape, rows: Rows, recompute: Recompute, marks: &mut Marks) -> Var {
        let mut x_nd = self.embed(t, rows);
        let mut branch_nd = None;
        for l in 0..self.config.num_hidden_layers {
            // Backward begins with the last block: nothing is gained by not keeping its values.
            let last = l + 1 == self.config.num_hidden_layers;
            let recompute = if last { Recompute::None } else { recompute };
            if recompute != Recompute::None
                && let Some(branch_nd) = branch_nd.take()
            {
                // The stream alone is kept, not the two terms of it that the norm would add.
                x_nd = t.add(x_nd, branch_nd);
            }
            let mut block = |t: &mut Tape| self.block(t, l, (x_nd, branch_nd), rows, recompute, marks);
            let (stream_nd, mlp_nd) = match recompute {
                Recompute::Block => t.recompute(block),
                _ => block(t),
            };
            (x_nd, branch_nd) = (stream_nd, Some(mlp_nd));
        }
        let norm = (self.param(Slot::Norm), self.params.get(&Slot::NormBias).copied());
        let (x_nd, h_nd) = self.join(t, x_nd, branch_nd, Some(norm), false);
        marks.streams.push(x_nd);
        h_nd
    }

    fn embed(&self, t: &mut Tape, rows: Rows) -> Var {
        let c = &self.config;
        let scale = if c.scale_embeddings { (c.hidden_size as f32).sqrt() } else { 1.0 };
        let x_nd = t.embedding(rows.tokens, self.param(Slot::Embedding), c.hidden_size, scale);
        match self.params.get(&Slot::Positions) {
            Some(&table) => t.add_embedding(x_nd, rows.positions, table),
            None => x_nd,
        }
    }

    /// One block, on the stream and the branch that is still to join it; returns the same of what follows.
    fn block(
        &self,
        t: &mut Tape,
        l: usize,
        (x_nd, branch_nd): (Var, Option<Var>),
        rows: Rows,
        recompute: Recompute,
        marks: &mut Marks,
    ) -> (Var, Var) {
        // With `attention`, what is kept of a block is the stream and what its MLP's activation reads.
        let cheap_again = recompute == Recompute::Attention;
        let attend = |t: &mut Tape| {
            let norm = self.norm_of(l, Part::AttentionNorm, Part::AttentionNormBias);
            let (x_nd, h_nd) = self.join(t, x_nd, branch_nd, norm, false);
            (x_nd, self.attention(t, l, h_nd, rows))
        };
        let (before_nd, attended) = if cheap_again { t.recompute(attend) } else { attend(t) };
        let (output, bias) = (self.part(l, Part::Output), self.maybe(l, Part::OutputBias));
        let attn_nd = project(t, attended.out, (output, bias), self.config.hidden_size, DType::F32);
        let attn_nd =
            self.behind(t, attn_nd, self.norm_of(l, Part::PostAttentionNorm, Part::PostAttentionNormBias));
        let norm = self.norm_of(l, Part::MlpNorm, Part::MlpNormBias);
        let (x_nd, h_nd) = self.join(t, before_nd, Some(attn_nd), norm, cheap_again);
        let mlp_nd = self.mlp(t, l, h_nd, rows, cheap_again, &mut marks.routers);
        let mlp_nd = self.behind(t, mlp_nd, self.norm_of(l, Part::PostMlpNorm, Part::PostMlpNormBias));
        marks.streams.push(before_nd);
        marks.branches.push(Branches { attended, attn_nd, mlp_nd });
        (x_nd, mlp_nd)
    }

    /// Weight and bias of a norm, if this configuration has it there.
    fn norm_of(&self, l: usize, weight: Part, bias: Part) -> Option<(ParamId, Option<ParamId>)> {
        self.maybe(l, weight).map(|weight| (weight, self.maybe(l, bias)))
    }

    /// Joins a branch to the residual stream, where there is one yet, and normalises; returns the stream and its norm.
    /// With `again`, the norm is computed again for backward.
    fn join(
        &self,
        t: &mut Tape,
        x_nd: Var,
        branch_nd: Option<Var>,
        norm: Option<(ParamId, Option<ParamId>)>,
        again: bool,
    ) -> (Var, Var) {
        let eps = self.config.rms_norm_eps as f32;
        match (norm, branch_nd) {
            // One pass over the stream for both.
            (Some((w, None)), Some(branch_nd)) if !again => {
                t.add_rms_norm(x_nd, branch_nd, self.gain(w), eps)
            }
            (Some((w, Some(b))), Some(branch_nd)) if !again => t.add_layer_norm(x_nd, branch_nd, w, b, eps),
            (norm, branch_nd) => {
                let x_nd = branch_nd.map_or(x_nd, |branch_nd| t.add(x_nd, branch_nd));
                let Some(norm) = norm else { return (x_nd, x_nd) };
                let dtype = t.activation;
                let h_nd = match again {
                    true => t.recompute(|t| self.normalise(t, x_nd, norm, dtype)),
                    false => self.normalise(t, x_nd, norm, dtype),
                };
                (x_nd, h_nd)
            }
        }
    }

    fn normalise(&self, t: &mut Tape, x_nd: Var, (w, bias): (ParamId, Option<ParamId>), dtype: DType) -> Var {
        let eps = self.config.rms_norm_eps as f32;
        match bias {
            Some(bias) => t.layer_norm_to(x_nd, w, bias, eps, dtype),
            None => t.rms_norm_to(x_nd, self.gain(w), eps, dtype),
        }
    }

    /// What an RMSNorm multiplies by.
    fn gain(&self, w: ParamId) -> Gain {
        Gain { w, offset: self.config.norm_offset }
    }

    /// A branch as it joins the stream: normed, where a norm stands behind it.
    fn behind(&self, t: &mut Tape, branch_nd: Var, norm: Option<(ParamId, Option<ParamId>)>) -> Var {
        match norm {
            Some(norm) => self.normalise(t, branch_nd, norm, DType::F32),
            None => branch_nd,
        }
    }
}

/// What recording leaves of a decoder for those who read values of it after a run.
#[derive(Default)]
struct Marks {
    /// One per layer with experts, in order.
    routers: Vec<Router>,
    /// `[n, d]` the residual stream before each block, and behind the last.
    streams: Vec<Var>,
    /// One per block.
    branches: Vec<Branches>,
}

/// What a block adds to the residual stream.
struct Branches {
    attended: Attended,
    /// `[n, d]`
    attn_nd: Var,
    /// `[n, d]`
    mlp_nd: Var,
}

/// x·wᵀ, and a bias where there is one.
fn project(t: &mut Tape, x: Var, (w, bias): (ParamId, Option<ParamId>), out: usize, dtype: DType) -> Var {
    match bias {
        Some(bias) => t.linear_bias(x, w, bias, out, dtype),
        None => t.linear(x, w, out, dtype),
    }
}

/// Turning speeds of the layers with the global base.
fn frequencies(c: &ModelConfig) -> Frequencies {
    let (dim, base) = (c.rotary_dim(), c.rope_theta);
    let Some(scaling) = &c.rope_scaling else { return Frequencies::plain(dim, base) };
    let RopeScaling { factor, .. } = *scaling;
    let original = scaling.original_max_position_embeddings.unwrap_or(c.max_position_embeddings);
    match scaling.rope_type {
        RopeType::Linear => Frequencies::linear(dim, base, factor),
        RopeType::Ntk => Frequencies::ntk(dim, base, factor),
        // One set of speeds for the longest sequence, whatever the length of a pass.
        RopeType::Dynamic => Frequencies::dynamic(dim, base, factor, original, c.max_position_embeddings),
        RopeType::Yarn => {
            let of_paper = Yarn::new(factor, original);
            let yarn = Yarn {
                beta_fast: scaling.beta_fast.unwrap_or(of_paper.beta_fast),
                beta_slow: scaling.beta_slow.unwrap_or(of_paper.beta_slow),
                attention_factor: scaling.attention_factor,
                mscale: scaling.mscale,
                mscale_all_dim: scaling.mscale_all_dim,
                truncate: scaling.truncate.unwrap_or(of_paper.truncate),
                ..of_paper
            };
            Frequencies::yarn(dim, base, &yarn)
        }
        RopeType::Llama3 => Frequencies::llama3(
            dim,
            base,
            &Llama3 {
                factor,
                low_freq_factor: scaling.low_freq_factor.unwrap_or(1.0),
                high_freq_factor: scaling.high_freq_factor.unwrap_or(4.0),
                original_max_position_embeddings: original,
            },
        ),
    }
}
