//! Attention of one layer: from the normed stream to what the output projection reads.

use super::{Transformer, project};
use smolt_arch::config::{Latent, LayerType, PositionEmbedding, QkNorm, Rope};
use smolt_arch::parameters::Part;
use smolt_tensor::ops::attention::{Attention, Scores, Shape, Window};
use smolt_tensor::ops::latent::{RotateBy, Shape as Latents};
use smolt_tensor::ops::qk_norm::Widths;
use smolt_tensor::ops::rope::{Heads, Pairing, Tables};
use smolt_tensor::tape::{DType, Tape, Var};
use std::sync::Arc;

/// Added to the mean square in norms of latents: DeepSeek's code has it fixed.
const LATENT_EPS: f32 = 1e-6;

/// The rows of a pass, and where what came before them is found.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    /// `[n]` token ids.
    pub(super) tokens: Var,
    /// `[n]` positions.
    pub(super) positions: Var,
    /// What they attend to.
    pub(super) past: Past,
    /// `[1]` their share in the global batch, where they are trained on.
    pub(super) share: Option<Var>,
}

#[derive(Clone, Copy)]
pub(super) enum Past {
    /// Rows of the same pass: `[n]` first row of each row's document.
    Packed(Var),
    /// A cache: `[n]` slot of each row.
    Cached(Var),
}

/// Attention of one layer, as recorded.
#[derive(Clone, Copy)]
pub(super) struct Attended {
    /// `[n, h·v]`
    pub(super) out: Var,
    /// Queries, keys and values, as scores are made of them.
    pub(super) qkv: Var,
    /// How scores are made.
    pub(super) layer: Attention,
}

impl Transformer {
    /// h `[n, d]` → `[n, h·v]`.
    pub(super) fn attention(&self, t: &mut Tape, l: usize, h_nd: Var, rows: Rows) -> Attended {
        match &self.config.latent {
            None => self.grouped_attention(t, l, h_nd, rows),
            Some(latent) => self.latent_attention(t, l, h_nd, latent, rows),
        }
    }

    /// ATT-01: heads of queries in groups that share keys and values.
    fn grouped_attention(&self, t: &mut Tape, l: usize, h_nd: Var, rows: Rows) -> Attended {
        let (c, act) = (&self.config, t.activation);
        let shape = Shape::new(c.num_attention_heads, c.num_key_value_heads, c.head_dim);
        let w = (self.part(l, Part::Qkv), self.maybe(l, Part::QkvBias));
        let mut qkv = project(t, h_nd, w, shape.qkv_width(), act);
        if let (Some(q), Some(k)) = (self.maybe(l, Part::QNorm), self.maybe(l, Part::KNorm)) {
            let head = (c.qk_norm == QkNorm::Head).then_some(c.head_dim);
            let widths = Widths { q: shape.heads * shape.head_dim, k: shape.key_width(), head };
            qkv = t.qk_norm(qkv, widths, self.gain(q), self.gain(k), c.rms_norm_eps as f32);
        }
        if let Some(tables) = self.tables(l) {
            let heads =
                Heads { pairing: self.pairing(), ..Heads::whole(shape.heads + shape.kv_heads, c.head_dim) };
            t.rope_heads(qkv, rows.positions, heads, tables);
        }
        self.attend(t, l, qkv, shape, rows)
    }

    fn tables(&self, l: usize) -> Option<&Arc<Tables>> {
        self.config.rope(l).map(|rope| match rope {
            Rope::Global => &self.global_rope,
            Rope::Local => &self.local_rope,
        })
    }

    /// ATT-04: keys and values from one latent per token, and a rotary key that all heads share. Where a cache holds what
    /// came before, it holds latents, and what makes keys and values of them goes to the queries and the outputs instead.
    fn latent_attention(&self, t: &mut Tape, l: usize, h_nd: Var, latent: &Latent, rows: Rows) -> Attended {
        let (c, act, rank) = (&self.config, t.activation, latent.kv_lora_rank);
        let heads = Latents {
            heads: c.num_attention_heads,
            nope: latent.qk_nope_head_dim,
            rope: latent.qk_rope_head_dim,
            value: latent.v_head_dim,
        };
        let rotate = RotateBy {
            positions: rows.positions,
            pairing: self.pairing(),
            // `validate` has seen to it that every layer has RoPE.
            tables: Arc::clone(self.tables(l).unwrap_or(&self.global_rope)),
        };
        let q = self.latent_queries(t, l, h_nd, latent, heads.q_width());
        // fp32, as all that is normed.
        let down = t.linear(h_nd, self.part(l, Part::KeyValueDown), rank + heads.rope, DType::F32);
        let (kv_nr, k_rope) = t.split_columns(down, rank);
        let kv_nr = self.latent_norm(t, l, kv_nr, Part::KeyValueDownNorm);
        let up = self.part(l, Part::KeyValueUp);
        match rows.past {
            Past::Packed(_) => {
                let kv_up = t.linear(kv_nr, up, heads.kv_up_width(), act);
                let qkv = t.latent_qkv(q, kv_up, k_rope, heads, rotate);
                let shape = Shape {
                    value_dim: heads.value,
                    ..Shape::new(heads.heads, heads.heads, heads.head_dim())
                };
                self.attend(t, l, qkv, shape, rows)
            }
            Past::Cached(_) => {
                let queries = t.absorbed_queries(q, up, rank, heads, rotate.clone());
                let keys = t.absorbed_keys(kv_nr, k_rope, heads, rotate);
                let qk = t.join_columns(queries, keys);
                // Values are the first features of the one key.
                let qkv = t.join_columns(qk, kv_nr);
                let shape = Shape { value_dim: rank, ..Shape::new(heads.heads, 1, rank + heads.rope) };
                let averaged = self.attend(t, l, qkv, shape, rows);
                Attended { out: t.absorbed_values(averaged.out, up, heads), ..averaged }
            }
        }
    }

    /// Queries from the stream, or from a latent of their own.
    fn latent_queries(&self, t: &mut Tape, l: usize, h_nd: Var, latent: &Latent, width: usize) -> Var {
        let act = t.activation;
        let from = match latent.q_lora_rank {
            Some(rank) => {
                let q_nr = t.linear(h_nd, self.part(l, Part::QueryDown), rank, DType::F32);
                self.latent_norm(t, l, q_nr, Part::QueryDownNorm)
            }
            None => h_nd,
        };
        t.linear(from, self.part(l, Part::QueryUp), width, act)
    }

    fn latent_norm(&self, t: &mut Tape, l: usize, x_nr: Var, part: Part) -> Var {
        let dtype = t.activation;
        t.rms_norm_to(x_nr, self.part(l, part), LATENT_EPS, dtype)
    }

    fn pairing(&self) -> Pairing {
        if self.config.rope_interleaved { Pairing::Interleaved } else { Pairing::HalfSplit }
    }

    /// Scores, softmax, average of values.
    fn attend(&self, t: &mut Tape, l: usize, qkv: Var, shape: Shape, rows: Rows) -> Attended {
        let layer = self.scores_of(l, shape);
        let out = match rows.past {
            Past::Packed(segments) => t.attention(qkv, segments, &layer),
            Past::Cached(slots) => t.cached_attention(qkv, slots, rows.positions, l, &layer),
        };
        Attended { out, qkv, layer }
    }

    fn scores_of(&self, l: usize, shape: Shape) -> Attention {
        let c = &self.config;
        // `validate` has seen to it that a layer with a window has its size.
        let window = match c.layer_type(l) {
            LayerType::Full => Window::Full,
            LayerType::Sliding => c.sliding_window.map_or(Window::Full, Window::Sliding),
            LayerType::Chunked => c.attention_chunk_size.map_or(Window::Full, Window::Chunked),
        };
        let scores = Scores {
            scale: c.score_scale() as f32,
            softcap: c.attn_logit_softcapping.map(|cap| cap as f32),
            alibi: c.position_embedding == PositionEmbedding::Alibi,
        };
        let sink_tokens = if matches!(window, Window::Sliding(_)) { c.sink_tokens } else { 0 };
        Attention { shape, scores, window, sinks: self.maybe(l, Part::Sinks), sink_tokens }
    }
}
