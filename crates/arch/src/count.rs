//! Exact parameters, FLOPs and cache bytes of a configuration (spec ABL-07).

use crate::config::ModelConfig;
use crate::parameters::{Group, Part, Slot, groups};
use serde::Serialize;

/// Above this share of all parameters, an untied embedding deserves a warning (spec EMB-01).
const EMBEDDING_SHARE_LIMIT: f64 = 0.2;

/// What granularity counts a width against: α of [`Sparsity::granularity`] (spec MOE-04).
pub const GRANULARITY_ALPHA: f64 = 2.0;

/// Parameters by part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Parameters {
    /// Token embedding, V·d, and learned positions.
    pub embedding: u64,
    /// Projections of attention in all layers, with their biases, norms of queries and keys, sinks.
    pub attention: u64,
    /// MLPs of all layers, shared experts among them.
    pub mlp: u64,
    /// Routed experts of all layers.
    pub experts: u64,
    /// What chooses among them.
    pub routers: u64,
    /// Norms of the stream and of branches.
    pub norms: u64,
    /// Output head: V·d, or 0 when tied to the embedding.
    pub head: u64,
    /// All, but of routed experts only as many as serve a token (spec MOE-03).
    pub active: u64,
}

impl Parameters {
    /// Name and number of each part, in order.
    pub fn parts(&self) -> [(&'static str, u64); 7] {
        [
            ("embedding", self.embedding),
            ("attention", self.attention),
            ("mlp", self.mlp),
            ("experts", self.experts),
            ("routers", self.routers),
            ("norms", self.norms),
            ("head", self.head),
        ]
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.parts().iter().map(|(_, n)| n).sum()
    }

    /// Share of the embedding and an untied head in the total, 0 to 1.
    pub fn embedding_share(&self) -> f64 {
        (self.embedding + self.head) as f64 / self.total() as f64
    }
}

/// Floating-point operations per token of a training step; a multiply-add counts as two.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Flops {
    /// 2·N: each active weight once; and 2·H·(d_qk + d_v) for each token seen, on average over the sequence.
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

/// Counts the parameters. `config` must have passed the checks of sizes in [`ModelConfig::validate`], whose caps keep
/// every sum below 2^64.
pub fn parameters(config: &ModelConfig) -> Parameters {
    let mut p = Parameters::default();
    // Layers are alike but for their MLP: one of each kind is listed, and counted as often as it is found.
    let mut one = ModelConfig { num_hidden_layers: 1, ..config.clone() };
    if let Some(moe) = &mut one.moe {
        moe.dense_layers.clear();
    }
    let sparse = (0..config.num_hidden_layers).filter(|&layer| config.is_sparse(layer)).count() as u64;
    let dense = config.num_hidden_layers as u64 - sparse;
    for group in groups(&one) {
        let times = match (group.slot, &one.moe) {
            (Slot::Layer(..), Some(_)) => sparse,
            (Slot::Layer(..), None) => dense,
            _ => 1,
        };
        p.add(&group, times);
    }
    if one.moe.take().is_some() {
        groups(&one)
            .iter()
            .filter(|group| matches!(group.slot, Slot::Layer(..)))
            .for_each(|group| p.add(group, dense));
    }
    let idle = config.moe.as_ref().map_or(0, |moe| {
        p.experts / moe.num_experts as u64 * (moe.num_experts - moe.num_experts_per_tok) as u64
    });
    p.active = p.total() - idle;
    p
}

impl Parameters {
    fn add(&mut self, group: &Group, times: u64) {
        let part = match group.slot {
            Slot::Embedding | Slot::Positions => &mut self.embedding,
            Slot::Norm | Slot::NormBias => &mut self.norms,
            Slot::Head => &mut self.head,
            Slot::Layer(_, part) => match part {
                Part::Router | Part::RouterBias | Part::SelectionBias => &mut self.routers,
                Part::ExpertsUp | Part::ExpertsUpBias | Part::ExpertsDown | Part::ExpertsDownBias => {
                    &mut self.experts
                }
                Part::Up | Part::UpBias | Part::Down | Part::DownBias | Part::SharedUp | Part::SharedDown => {
                    &mut self.mlp
                }
                Part::AttentionNorm
                | Part::AttentionNormBias
                | Part::PostAttentionNorm
                | Part::PostAttentionNormBias
                | Part::MlpNorm
                | Part::MlpNormBias
                | Part::PostMlpNorm
                | Part::PostMlpNormBias => &mut self.norms,
                _ => &mut self.attention,
            },
        };
        *part += group.len() as u64 * times;
    }
}

/// Tokens that a token of `layer` sees, on average over a sequence of `length`: half of it without a window, by the
/// usual convention (spec SCP-01: what a pattern costs).
pub fn mean_visible(config: &ModelConfig, layer: usize, length: usize) -> f64 {
    let (t, w) = (length as f64, config.visible(layer, length) as f64);
    match config.layer_type(layer) {
        crate::config::LayerType::Chunked => w / 2.0,
        _ => w - w * w / (2.0 * t.max(1.0)),
    }
}

/// FLOPs per token of sequences of `sequence_length`, by the 6N + causal attention convention. N counts the
/// embedding once more than the products do when untied, as the convention has it.
pub fn flops_per_token(config: &ModelConfig, sequence_length: usize) -> Flops {
    let per_seen = 2.0 * (config.num_attention_heads * (config.head_dim + config.value_dim())) as f64;
    let seen: f64 =
        (0..config.num_hidden_layers).map(|layer| mean_visible(config, layer, sequence_length)).sum();
    let forward = 2.0 * parameters(config).active as f64 + per_seen * seen;
    Flops { forward, backward: 2.0 * forward }
}

/// Numbers that one token leaves in the cache of one layer: keys and values of its heads (spec ATT-02), or the latent and
/// the rotary key that all heads share (spec ATT-04).
pub fn cached_per_token(config: &ModelConfig) -> u64 {
    let numbers = match &config.latent {
        Some(latent) => latent.kv_lora_rank + latent.qk_rope_head_dim,
        None => 2 * config.num_key_value_heads * config.head_dim,
    };
    numbers as u64
}

/// Bytes of the cache of one sequence of `context` tokens; layers with a window keep no more than that (spec ATT-02).
pub fn kv_cache_bytes(config: &ModelConfig, context: usize, bytes_per_number: usize) -> u64 {
    let tokens = (0..config.num_hidden_layers).map(|layer| config.visible(layer, context) as u64);
    let tokens = tokens.fold(0_u64, u64::saturating_add);
    tokens.saturating_mul(cached_per_token(config)).saturating_mul(bytes_per_number as u64)
}

/// How finely a model is cut into experts and how few of them serve a token.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Sparsity {
    /// Experts of a layer, shared ones among them.
    pub experts: usize,
    /// How many of them serve a token, shared ones among them.
    pub active_experts: usize,
    /// The first divided by the second (spec MOE-03).
    pub sparsity: f64,
    /// G = α·hidden_size / moe_intermediate_size with α = [`GRANULARITY_ALPHA`] (spec MOE-04). It does not compare models
    /// of different hidden_size.
    pub granularity: f64,
}

/// Sparsity of a model with experts.
pub fn sparsity(config: &ModelConfig) -> Option<Sparsity> {
    let moe = config.moe.as_ref()?;
    let experts = moe.num_experts + moe.n_shared_experts;
    let active_experts = moe.num_experts_per_tok + moe.n_shared_experts;
    Some(Sparsity {
        experts,
        active_experts,
        sparsity: experts as f64 / active_experts as f64,
        granularity: GRANULARITY_ALPHA * config.hidden_size as f64 / moe.moe_intermediate_size as f64,
    })
}

/// How many key–value heads of the model's head size a token's cache would fill (spec ATT-02, ATT-06): a latent is the
/// keys' and the values', so it has no factor of two.
pub fn cached_heads(config: &ModelConfig) -> f64 {
    match &config.latent {
        Some(latent) => cached_per_token(config) as f64 / (2 * latent.v_head_dim) as f64,
        None => config.num_key_value_heads as f64,
    }
}

/// Bytes that one more token of one sequence has to read at `context` (spec ATT-03): every active weight and the whole
/// cache. Beside long contexts the weights are the smaller part.
pub fn decode_bytes(config: &ModelConfig, context: usize, bytes_per_number: usize) -> u64 {
    let weights = parameters(config).active.saturating_mul(bytes_per_number as u64);
    weights.saturating_add(kv_cache_bytes(config, context, bytes_per_number))
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
    use crate::ModelType;

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
        let smollm2_135m = shape(576, 1536, 30, (9, 3), 49_152);
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

    /// The worked examples of the specification (ATT-02).
    #[test]
    fn caches_are_the_worked_examples() {
        assert_eq!(kv_cache_bytes(&shape(2048, 11008, 36, (16, 4), 128_256), 1, 2), 73_728);
        assert_eq!(kv_cache_bytes(&shape(2048, 11008, 36, (16, 4), 128_256), 131_072, 2), 9 << 30);
        assert_eq!(kv_cache_bytes(&shape(4096, 11008, 32, (32, 32), 32_000), 8192, 2), 4 << 30);
        let mha = kv_cache_bytes(&shape(8192, 28672, 80, (64, 64), 32_000), 8192, 2);
        assert_eq!(mha, 20 << 30);
        assert_eq!(kv_cache_bytes(&shape(8192, 28672, 80, (64, 1), 32_000), 8192, 2) * 64, mha);
    }

    #[test]
    fn windows_bound_the_cache_and_latents_shrink_it() {
        use crate::config::LayerType::{Full, Sliding};
        let mut windowed = shape(256, 704, 6, (4, 2), 4096);
        windowed.layer_types = vec![Sliding, Sliding, Sliding, Sliding, Sliding, Full];
        (windowed.sliding_window, windowed.sink_tokens) = (Some(64), 4);
        assert_eq!(kv_cache_bytes(&windowed, 32, 2), 6 * 32 * 2 * 2 * 64 * 2);
        assert_eq!(kv_cache_bytes(&windowed, 1000, 2), (5 * 68 + 1000) * 2 * 2 * 64 * 2);
        // DeepSeek's latent of 512 and rotary key of 64 are 2.25 heads of 128 (spec ATT-02).
        let deepseek = ModelConfig { num_hidden_layers: 61, ..ModelConfig::of(ModelType::DeepseekV3) };
        assert_eq!((cached_per_token(&deepseek), cached_heads(&deepseek)), (576, 2.25));
        assert_eq!(kv_cache_bytes(&deepseek, 10, 2), 61 * 10 * 576 * 2);
        assert_eq!(decode_bytes(&windowed, 32, 2) - kv_cache_bytes(&windowed, 32, 2), {
            2 * parameters(&windowed).total()
        });
        assert_eq!(kv_cache_bytes(&windowed, usize::MAX, usize::MAX), u64::MAX);
    }

    /// The specification's tables (MOE-03, MOE-04), but for gpt-oss's granularity, which it prints as 0.5.
    #[test]
    fn sparsity_and_granularity_are_the_published_tables() {
        for (d, width, (experts, used, shared), sparsity_is, granularity) in [
            (4096, 14_336, (8, 2, 0), 4.0, 0.571),
            (2880, 2880, (32, 4, 0), 8.0, 2.0),
            (2048, 1024, (64, 8, 0), 8.0, 4.0),
            (7168, 5120, (48, 3, 1), 12.25, 2.8),
            (4096, 1408, (128, 8, 1), 14.33, 5.818),
            (2048, 768, (128, 8, 0), 16.0, 5.333),
            (5120, 1536, (160, 6, 2), 20.25, 6.667),
            (7168, 2048, (256, 8, 1), 28.56, 7.0),
            (7168, 2048, (384, 8, 1), 42.78, 7.0),
            (2048, 512, (512, 10, 1), 46.64, 8.0),
        ] {
            let mut config = ModelConfig { hidden_size: d, ..ModelConfig::of(ModelType::Qwen3Moe) };
            let moe = config.moe.as_mut().unwrap();
            (moe.num_experts, moe.num_experts_per_tok, moe.n_shared_experts) = (experts, used, shared);
            moe.moe_intermediate_size = width;
            let found = sparsity(&config).unwrap();
            assert_eq!((found.experts, found.active_experts), (experts + shared, used + shared));
            assert!((found.sparsity - sparsity_is).abs() < 5e-3, "{found:?}");
            assert!((found.granularity - granularity).abs() < 5e-4, "{found:?}");
        }
        assert_eq!(sparsity(&ModelConfig::default()), None);
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
