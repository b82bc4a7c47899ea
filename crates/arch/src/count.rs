//! Exact parameters, FLOPs and cache bytes of a configuration (spec ABL-07).

use crate::config::ModelConfig;
use serde::Serialize;

/// Above this share of all parameters, an untied embedding deserves a warning (spec EMB-01).
const EMBEDDING_SHARE_LIMIT: f64 = 0.2;

/// Parameters by part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Parameters {
    /// Token embedding, V·d.
    pub embedding: u64,
    /// Query, key, value and output projections of all layers.
    pub attention: u64,
    /// Gate, up and down projections of all layers.
    pub mlp: u64,
    /// Two norms per layer and the last one.
    pub norms: u64,
    /// Output head: V·d, or 0 when tied to the embedding.
    pub head: u64,
}

impl Parameters {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.embedding + self.attention + self.mlp + self.norms + self.head
    }

    /// Share of the embedding and an untied head in the total, 0 to 1.
    pub fn embedding_share(&self) -> f64 {
        (self.embedding + self.head) as f64 / self.total() as f64
    }
}

/// Floating-point operations per token of a training step; a multiply-add counts as two.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Flops {
    /// 2·N + 2·L·H·d_h·T: each weight once, and half of the score matrix twice (q·k and p·v).
    pub forward: f64,
    /// Twice the forward pass.
    pub backward: f64,
}

impl Flops {
    /// Forward and backward.
    pub fn total(&self) -> f64 {
        self.forward + self.backward
    }
}

/// Counts the parameters: N = V·d·(1 if tied else 2) + L·(2·d·H·d_h + 2·d·K·d_h + 3·d·I + 2·d) + d.
///
/// `config` must have passed [`ModelConfig::validate`], whose caps keep every product below 2^64.
pub fn parameters(config: &ModelConfig) -> Parameters {
    let c = config;
    let [d, i, l, v] =
        [c.hidden_size, c.intermediate_size, c.num_hidden_layers, c.vocab_size].map(|size| size as u64);
    let [q, kv] = [c.num_attention_heads, c.num_key_value_heads].map(|heads| (heads * c.head_dim) as u64);
    Parameters {
        embedding: v * d,
        attention: l * 2 * d * (q + kv),
        mlp: l * 3 * d * i,
        norms: (2 * l + 1) * d,
        head: if c.tie_word_embeddings { 0 } else { v * d },
    }
}

/// FLOPs per token of sequences of `sequence_length`, by the 6N + causal attention convention. N counts the
/// embedding once more than the products do when untied, as the convention has it.
pub fn flops_per_token(config: &ModelConfig, sequence_length: usize) -> Flops {
    let attention = config.num_hidden_layers as f64
        * (config.num_attention_heads * config.head_dim) as f64
        * sequence_length as f64;
    let forward = 2.0 * parameters(config).total() as f64 + 2.0 * attention;
    Flops { forward, backward: 2.0 * forward }
}

/// Bytes of keys and values that one token leaves in the cache: 2·L·K·d_h numbers.
pub fn kv_cache_bytes_per_token(config: &ModelConfig, bytes_per_number: usize) -> u64 {
    let numbers = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim;
    (numbers as u64).saturating_mul(bytes_per_number as u64)
}

/// What to say of embeddings that are untied and above a fifth of the model (spec EMB-01).
pub fn embedding_warning(config: &ModelConfig) -> Option<String> {
    let counted = parameters(config);
    let share = counted.embedding_share();
    (!config.tie_word_embeddings && share > EMBEDDING_SHARE_LIMIT).then(|| {
        let saved = 100.0 * counted.head as f64 / counted.total() as f64;
        format!(
            "untied embeddings are {:.0} % of {} parameters: tie_word_embeddings = true saves {saved:.0} %",
            100.0 * share,
            counted.total()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ModelType;

    fn shape(d: usize, i: usize, l: usize, (h, k): (usize, usize), v: usize) -> ModelConfig {
        let mut config = ModelConfig {
            hidden_size: d,
            intermediate_size: i,
            num_hidden_layers: l,
            num_attention_heads: h,
            num_key_value_heads: k,
            head_dim: d / h,
            vocab_size: v,
            ..ModelConfig::default()
        };
        config.set_no_rope_layer_interval(4);
        config.validate().unwrap();
        config
    }

    #[test]
    fn published_models_are_counted_exactly() {
        let smollm3_3b = shape(2048, 11008, 36, (16, 4), 128_256);
        assert_eq!(parameters(&smollm3_3b).total(), 3_075_098_624);
        let smollm2_135m =
            ModelConfig { model_type: ModelType::Llama, ..shape(576, 1536, 30, (9, 3), 49_152) };
        assert_eq!(parameters(&smollm2_135m).total(), 134_515_008);
        // Llama-3.2-1B with its head tied, TinyLlama-1.1B untied.
        assert_eq!(parameters(&shape(2048, 8192, 16, (32, 8), 128_256)).total(), 1_235_814_400);
        let tiny = ModelConfig { tie_word_embeddings: false, ..shape(2048, 5632, 22, (32, 4), 32_000) };
        assert_eq!(parameters(&tiny).total(), 1_100_048_384);
    }

    #[test]
    fn flops_are_the_peers_convention() {
        // 6·params + 6·L·D·T, as bench/peers/torch_train_step.py prints.
        let config = shape(256, 704, 6, (4, 2), 4096);
        let params = parameters(&config).total() as f64;
        assert_eq!(flops_per_token(&config, 256).total(), 6.0 * params + (6 * 6 * 256 * 256) as f64);
    }

    #[test]
    fn cache_of_smollm3() {
        assert_eq!(kv_cache_bytes_per_token(&shape(2048, 11008, 36, (16, 4), 128_256), 2), 73_728);
    }

    #[test]
    fn only_large_untied_embeddings_are_warned_of() {
        let tied = shape(256, 704, 6, (4, 2), 4096);
        assert_eq!(embedding_warning(&tied), None);
        let untied = ModelConfig { tie_word_embeddings: false, ..tied };
        assert!(embedding_warning(&untied).unwrap().contains("tie_word_embeddings"));
        let big = ModelConfig { tie_word_embeddings: false, ..shape(4096, 14336, 32, (32, 8), 32_000) };
        assert_eq!(embedding_warning(&big), None);
    }
}
