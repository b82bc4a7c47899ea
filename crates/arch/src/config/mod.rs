//! The shape of a decoder: every setting resolved, named as Hugging Face names it where it does.

mod choices;
mod layers;
#[cfg(test)]
mod tests;
mod validate;

pub use choices::{
    Activation, AttentionBias, Balancing, BalancingScope, Gate, Initializer, LayerType, ModelType, Norm,
    NormPlacement, PositionEmbedding, QkNorm, RopeType,
};
pub use layers::Rope;
pub(crate) use validate::MAX_LAYERS;

use serde::{Deserialize, Serialize};

/// What is wrong with one field of a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {reason}")]
pub struct FieldError {
    /// The field, in Hugging Face spelling.
    pub field: String,
    /// What is wrong and what would be right, to be read after the field's name.
    pub reason: String,
}

impl FieldError {
    pub(crate) fn new(field: &str, reason: impl Into<String>) -> Self {
        FieldError { field: field.to_owned(), reason: reason.into() }
    }
}

/// A decoder: blocks of attention and an MLP around a residual stream. What may be combined freely is one field each;
/// [`ModelType`] says which of the combinations transformers knows by name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Architecture whose `config.json` and tensor names the model is stored in.
    pub model_type: ModelType,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads, each shared by a group of query heads (spec ATT-01).
    pub num_key_value_heads: usize,
    /// Features per head; with `latent`, those of its queries and keys.
    pub head_dim: usize,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Longest sequence.
    pub max_position_embeddings: usize,

    /// Biases of attention's projections.
    pub attention_bias: AttentionBias,
    /// Norms of queries and keys.
    pub qk_norm: QkNorm,
    /// Scores are divided by the root of this instead of head_dim's.
    pub query_pre_attn_scalar: Option<f64>,
    /// Scores s become c·tanh(s/c).
    pub attn_logit_softcapping: Option<f64>,
    /// One learned logit per head joins the softmax and takes its share away (spec SCP-05).
    pub attention_sinks: bool,
    /// First tokens of each document that windows do not hide (spec SCP-05).
    pub sink_tokens: usize,
    /// One entry per layer.
    pub layer_types: Vec<LayerType>,
    /// Tokens that a sliding layer sees.
    pub sliding_window: Option<usize>,
    /// Tokens of a chunk of a chunked layer.
    pub attention_chunk_size: Option<usize>,
    /// Keys and values made from one small vector per token (spec ATT-04).
    pub latent: Option<Latent>,

    /// How order is known.
    pub position_embedding: PositionEmbedding,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Base in the sliding layers, where it is another.
    pub rope_local_base_freq: Option<f64>,
    /// Pairs are neighbours (2k, 2k+1) instead of halves (k, k + d/2) (spec POS-03).
    pub rope_interleaved: bool,
    /// Share of each head's features that turn (spec POS-11).
    pub partial_rotary_factor: f64,
    /// Stretching of the frequencies, in all but sliding layers with a base of their own.
    pub rope_scaling: Option<RopeScaling>,
    /// One entry per layer; **1 means RoPE is used in that layer, 0 means none** (spec POS-09: the name misleads).
    pub no_rope_layers: Vec<u8>,
    /// Every n-th layer has no RoPE unless `no_rope_layers` says otherwise; 0: all have it.
    pub no_rope_layer_interval: usize,

    /// Kind of the norms.
    pub norm: Norm,
    /// Where they stand.
    pub norm_placement: NormPlacement,
    /// Norms multiply by 1 + weight instead of weight.
    pub norm_offset: bool,
    /// Added to the mean square before the root.
    pub rms_norm_eps: f64,
    /// Activation of the MLP.
    pub hidden_act: Activation,
    /// Whether the activation gates a second projection.
    pub gated_mlp: bool,
    /// gpt-oss: gates are clamped to this, and the activation is g·σ(1.702·g)·(u + 1).
    pub swiglu_limit: Option<f64>,
    /// Biases of the MLP's projections.
    pub mlp_bias: bool,
    /// Embeddings count √hidden_size times.
    pub scale_embeddings: bool,
    /// Logits l become c·tanh(l/c).
    pub final_logit_softcapping: Option<f64>,
    /// One matrix for embedding and output head (spec EMB-01).
    pub tie_word_embeddings: bool,
    /// How weights are drawn.
    pub initializer: Initializer,
    /// Standard deviation of the initial weights.
    pub initializer_range: f64,
    /// Experts in place of some MLPs.
    pub moe: Option<Moe>,

    /// Token that opens a document, if any.
    pub bos_token_id: Option<u32>,
    /// Tokens that end a text.
    pub eos_token_id: Vec<u32>,
    /// Token that fills up batches, if any.
    pub pad_token_id: Option<u32>,
}

smolt_run::recipe! {
    /// Multi-head latent attention (DeepSeek-V2, 2024; spec ATT-04): heads of `qk_nope_head_dim` features from the latent
    /// and `qk_rope_head_dim` that turn, which all heads share in the key.
    #[derive(Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct Latent {
        /// Width of what queries are made from; without it they are made from the stream.
        pub q_lora_rank: Option<usize>,
        /// Width of what keys and values are made from: what a cache holds, with the rotary key.
        pub kv_lora_rank: usize,
        /// Features per head of queries and keys without position.
        pub qk_nope_head_dim: usize,
        /// Rotary features per head.
        pub qk_rope_head_dim: usize,
        /// Features per head of values.
        pub v_head_dim: usize,
    }

    /// Stretching of RoPE. What a type does not use is not set.
    #[derive(Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct RopeScaling {
        /// By which method.
        pub rope_type: RopeType,
        /// How many times the original length.
        pub factor: f64,
        /// Length that the unscaled frequencies were trained for.
        pub original_max_position_embeddings: Option<usize>,
        /// YaRN: pairs that turn more often than this within the original length are left alone.
        pub beta_fast: Option<f64>,
        /// YaRN: pairs that turn less often than this are stretched in full.
        pub beta_slow: Option<f64>,
        /// YaRN: factor of queries and keys, if given.
        pub attention_factor: Option<f64>,
        /// YaRN as DeepSeek has it: queries and keys count 0.1·mscale·ln(factor) + 1 times …
        pub mscale: Option<f64>,
        /// … divided by the same with this; and scores the square of the latter.
        pub mscale_all_dim: Option<f64>,
        /// YaRN: whether the bounds of the ramp are rounded to whole pairs.
        pub truncate: Option<bool>,
        /// Llama 3: pairs with wavelengths above original/low are stretched in full.
        pub low_freq_factor: Option<f64>,
        /// Llama 3: pairs with wavelengths below original/high are left alone.
        pub high_freq_factor: Option<f64>,
    }

    /// Experts (spec MOE-01).
    #[derive(Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct Moe {
        /// Routed experts.
        pub num_experts: usize,
        /// How many of them serve a token.
        pub num_experts_per_tok: usize,
        /// Width of an expert.
        pub moe_intermediate_size: usize,
        /// Experts that serve every token, as one MLP of so many times the width (spec MOE-05).
        pub n_shared_experts: usize = 0,
        /// Layers whose MLP is a plain one.
        pub dense_layers: Vec<usize> = Vec::new(),
        /// How logits become gates.
        pub gate: Gate = Gate::Softmax,
        /// Chosen gates are divided by their sum.
        pub norm_topk_prob: bool = true,
        /// … and multiplied by this.
        pub routed_scaling_factor: f64 = 1.0,
        /// Groups of experts, of which …
        pub n_group: usize = 1,
        /// … the best so many take part.
        pub topk_group: usize = 1,
        /// A bias per expert that only selection sees.
        pub selection_bias: bool = false,
        /// Biases of the router and of experts.
        pub expert_bias: bool = false,
        /// What keeps them evenly used in training.
        pub balancing: Balancing = Balancing::AuxLoss,
        /// Whose shares the auxiliary loss looks at.
        pub balancing_scope: BalancingScope = BalancingScope::Leaf,
        /// Weight of the auxiliary loss E·Σ f·P. Evenly used experts give num_experts_per_tok, because f counts rows per
        /// token, as in transformers; DeepSeek divides f by num_experts_per_tok, so its α is this times that.
        pub router_aux_loss_coef: f64 = 0.001,
        /// Weight of the mean of log²Σe^logit of routers.
        pub router_z_loss_coef: f64 = 0.0,
        /// Step of the selection bias.
        pub bias_update_rate: f64 = 0.001,
    }
}

impl Default for ModelConfig {
    /// A SmolLM3 of about 7M parameters.
    fn default() -> Self {
        let mut config = ModelConfig {
            hidden_size: 256,
            intermediate_size: 704,
            num_hidden_layers: 6,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            head_dim: 64,
            vocab_size: 4096,
            max_position_embeddings: 512,
            rope_theta: 10_000.0,
            ..ModelConfig::of(ModelType::SmolLm3)
        };
        config.set_no_rope_layer_interval(4);
        config
    }
}
