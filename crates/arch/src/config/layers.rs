//! What a configuration says of one layer.

use super::{LayerType, MAX_LAYERS, ModelConfig, PositionEmbedding};

/// Which rotation a layer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rope {
    /// By `rope_theta`, stretched by `rope_scaling`.
    Global,
    /// By `rope_local_base_freq`, not stretched.
    Local,
}

impl ModelConfig {
    /// Gives every n-th layer no RoPE, as `interval` says (spec POS-09); 0: all layers have it.
    pub fn set_no_rope_layer_interval(&mut self, interval: usize) {
        self.no_rope_layer_interval = interval;
        // More layers than the cap are refused by `validate`; until then they must not exhaust memory.
        self.no_rope_layers = (0..self.num_hidden_layers.min(MAX_LAYERS))
            .map(|layer| u8::from(interval == 0 || (layer + 1) % interval != 0))
            .collect();
        self.layer_types.resize(self.no_rope_layers.len(), LayerType::Full);
    }

    /// Whether RoPE turns queries and keys in `layer` (counted from 0).
    pub fn uses_rope(&self, layer: usize) -> bool {
        self.position_embedding == PositionEmbedding::Rope
            && self.no_rope_layers.get(layer).is_none_or(|&flag| flag == 1)
    }

    /// The rotation of `layer`, if it has one.
    pub fn rope(&self, layer: usize) -> Option<Rope> {
        let local = self.layer_type(layer) == LayerType::Sliding && self.rope_local_base_freq.is_some();
        self.uses_rope(layer).then_some(if local { Rope::Local } else { Rope::Global })
    }

    /// What `layer` attends to.
    pub fn layer_type(&self, layer: usize) -> LayerType {
        self.layer_types.get(layer).copied().unwrap_or(LayerType::Full)
    }

    /// The most tokens that a token of `layer` sees, of `length`.
    pub fn visible(&self, layer: usize, length: usize) -> usize {
        let window = match self.layer_type(layer) {
            LayerType::Full => None,
            LayerType::Sliding => self.sliding_window.map(|window| window.saturating_add(self.sink_tokens)),
            LayerType::Chunked => self.attention_chunk_size,
        };
        window.unwrap_or(length).min(length)
    }

    /// Whether the MLP of `layer` is made of experts.
    pub fn is_sparse(&self, layer: usize) -> bool {
        self.moe.as_ref().is_some_and(|moe| !moe.dense_layers.contains(&layer))
    }

    /// The longest sequence that there are positions for: what the model was trained on need not be all where it has no table
    /// of them.
    pub fn longest_sequence(&self) -> usize {
        match self.position_embedding {
            PositionEmbedding::Rope | PositionEmbedding::Learned => self.max_position_embeddings,
            PositionEmbedding::Alibi | PositionEmbedding::None => usize::MAX,
        }
    }

    /// Features that turn in each head.
    pub fn rotary_dim(&self) -> usize {
        match &self.latent {
            Some(latent) => latent.qk_rope_head_dim,
            None => (self.head_dim as f64 * self.partial_rotary_factor) as usize,
        }
    }

    /// Features per head of values.
    pub fn value_dim(&self) -> usize {
        self.latent.as_ref().map_or(self.head_dim, |latent| latent.v_head_dim)
    }

    /// Factor of attention's scores.
    pub fn score_scale(&self) -> f64 {
        let scale = self.query_pre_attn_scalar.unwrap_or(self.head_dim as f64).powf(-0.5);
        // DeepSeek's YaRN scales scores, not only queries and keys.
        let scaling = self.rope_scaling.as_ref().filter(|_| self.latent.is_some());
        match scaling.and_then(|s| s.mscale_all_dim.map(|all| (all, s.factor))) {
            Some((all, factor)) if all != 0.0 && factor > 1.0 => {
                let mscale = 0.1 * all * factor.ln() + 1.0;
                scale * mscale * mscale
            }
            _ => scale,
        }
    }
}
