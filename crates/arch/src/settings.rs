//! The `[model]` table of a recipe: a model type and what is to differ from it.

use crate::config::{
    Activation, AttentionBias, FieldError, Initializer, Latent, LayerType, MAX_LAYERS, ModelConfig,
    ModelType, Moe, Norm, NormPlacement, PositionEmbedding, QkNorm, RopeScaling,
};

smolt_run::recipe! {
    /// A model: fresh from a shape, or continued from a folder. Names as Hugging Face spells them; what is left out is
    /// as `model_type` has it.
    pub struct Model {
        /// Hugging Face folder to continue from; its config.json then decides the shape.
        pub from: Option<String>,
        /// Architecture. All but smolt are as transformers knows them; smolt is any combination, which only smolt loads.
        pub model_type: ModelType = ModelType::SmolLm3,
        /// Width of the residual stream.
        pub hidden_size: usize = 256,
        /// Width of the MLP.
        pub intermediate_size: usize = 704,
        /// Number of blocks.
        pub num_hidden_layers: usize = 6,
        /// Query heads.
        pub num_attention_heads: usize = 4,
        /// Key and value heads, shared by groups of query heads (GQA); num_attention_heads for latent attention.
        pub num_key_value_heads: Option<usize>,
        /// Features per head; hidden_size / num_attention_heads when left out.
        pub head_dim: Option<usize>,
        /// Rows of the embedding; the tokenizer's when left out.
        pub vocab_size: Option<usize>,
        /// Longest sequence; train.sequence_length when left out.
        pub max_position_embeddings: Option<usize>,
        /// Biases of attention's projections.
        pub attention_bias: Option<AttentionBias>,
        /// Norms of queries and keys.
        pub qk_norm: Option<QkNorm>,
        /// Scores are divided by the root of this instead of head_dim's.
        pub query_pre_attn_scalar: Option<f64>,
        /// Scores s become c·tanh(s/c); 0 for none.
        pub attn_logit_softcapping: Option<f64>,
        /// One learned logit per head joins the softmax.
        pub attention_sinks: Option<bool>,
        /// First tokens of each document that sliding windows do not hide.
        pub sink_tokens: Option<usize>,
        /// What each layer attends to; a shorter list is repeated.
        pub layer_types: Option<Vec<LayerType>>,
        /// Tokens that a sliding layer sees.
        pub sliding_window: Option<usize>,
        /// Tokens of a chunk of a chunked layer.
        pub attention_chunk_size: Option<usize>,
        /// Latent attention (MLA).
        pub latent: Option<Latent>,
        /// How order is known.
        pub position_embedding: Option<PositionEmbedding>,
        /// Base of the rotary frequencies; 10,000 unless the type has another.
        pub rope_theta: Option<f64>,
        /// Base in sliding layers, where it is another.
        pub rope_local_base_freq: Option<f64>,
        /// Rotary pairs are neighbours instead of halves.
        pub rope_interleaved: Option<bool>,
        /// Share of each head's features that turn.
        pub partial_rotary_factor: Option<f64>,
        /// Stretching of the rotary frequencies.
        pub rope_scaling: Option<RopeScaling>,
        /// Every n-th layer has no RoPE; 0 = all layers have it. SmolLM3 has 4, other types 0.
        pub no_rope_layer_interval: Option<usize>,
        /// Which layers have RoPE, as SmolLM3 spells it: 1 has it, 0 has none; a shorter list is repeated. Instead of
        /// no_rope_layer_interval.
        pub no_rope_layers: Option<Vec<u8>>,
        /// Kind of the norms.
        pub norm: Option<Norm>,
        /// Where they stand.
        pub norm_placement: Option<NormPlacement>,
        /// Norms multiply by 1 + weight.
        pub norm_offset: Option<bool>,
        /// Added to the mean square before the root.
        pub rms_norm_eps: Option<f64>,
        /// Activation of the MLP.
        pub hidden_act: Option<Activation>,
        /// Whether the activation gates a second projection.
        pub gated_mlp: Option<bool>,
        /// Gates are clamped to this, as gpt-oss does it.
        pub swiglu_limit: Option<f64>,
        /// Biases of the MLP's projections.
        pub mlp_bias: Option<bool>,
        /// Embeddings count √hidden_size times.
        pub scale_embeddings: Option<bool>,
        /// Logits l become c·tanh(l/c); 0 for none.
        pub final_logit_softcapping: Option<f64>,
        /// One matrix for embedding and output head.
        pub tie_word_embeddings: bool = true,
        /// How weights are drawn.
        pub initializer: Option<Initializer>,
        /// Standard deviation of the initial weights.
        pub initializer_range: f64 = 0.02,
        /// Experts in place of MLPs.
        pub moe: Option<Moe>,
    }
}

impl Model {
    /// The configuration of a fresh model of this shape, checked.
    pub fn config(&self) -> Result<ModelConfig, FieldError> {
        if self.no_rope_layers.is_some() && self.no_rope_layer_interval.is_some() {
            let reason =
                "and `no_rope_layer_interval` both say which layers have no RoPE: remove one of them";
            return Err(FieldError::new("no_rope_layers", reason));
        }
        let config = self.unchecked();
        config.validate()?;
        Ok(config)
    }

    /// Fills in the sizes that follow from others.
    pub fn resolve(&mut self, tokenizer_vocab: usize, sequence_length: usize) {
        if self.from.is_some() {
            return;
        }
        let config = self.unchecked();
        self.head_dim = Some(config.head_dim);
        self.num_key_value_heads = Some(config.num_key_value_heads);
        self.vocab_size.get_or_insert(tokenizer_vocab);
        self.max_position_embeddings.get_or_insert(sequence_length);
    }

    fn unchecked(&self) -> ModelConfig {
        let mut c = ModelConfig::of(self.model_type);
        (c.hidden_size, c.intermediate_size) = (self.hidden_size, self.intermediate_size);
        (c.num_hidden_layers, c.num_attention_heads) = (self.num_hidden_layers, self.num_attention_heads);
        c.vocab_size = self.vocab_size.unwrap_or(0);
        c.max_position_embeddings = self.max_position_embeddings.unwrap_or(0);
        (c.tie_word_embeddings, c.initializer_range) = (self.tie_word_embeddings, self.initializer_range);
        // The types' own bases are those of published models, trained for longer sequences.
        c.rope_theta = self.rope_theta.unwrap_or(1e4);
        self.set_attention(&mut c);
        self.set_positions(&mut c);
        self.set_blocks(&mut c);
        c
    }

    fn set_attention(&self, c: &mut ModelConfig) {
        set(&mut c.attention_bias, self.attention_bias);
        set(&mut c.qk_norm, self.qk_norm);
        set_cap(&mut c.attn_logit_softcapping, self.attn_logit_softcapping);
        set(&mut c.attention_sinks, self.attention_sinks);
        set(&mut c.sink_tokens, self.sink_tokens);
        c.sliding_window = self.sliding_window.or(c.sliding_window);
        c.attention_chunk_size = self.attention_chunk_size;
        c.latent = self.latent.clone().or(c.latent.take());
        let heads = self.num_attention_heads;
        let kv_heads = if c.latent.is_some() { heads } else { 2.min(heads) };
        c.num_key_value_heads = self.num_key_value_heads.unwrap_or(kv_heads);
        let of_latent = c.latent.as_ref().map(|l| l.qk_nope_head_dim.saturating_add(l.qk_rope_head_dim));
        c.head_dim = self.head_dim.or(of_latent).unwrap_or(self.hidden_size / heads.max(1));
        if self.query_pre_attn_scalar.is_some() || c.query_pre_attn_scalar.is_some() {
            c.query_pre_attn_scalar = Some(self.query_pre_attn_scalar.unwrap_or(c.head_dim as f64));
        }
        let layers = self.num_hidden_layers.min(MAX_LAYERS);
        let types = self.layer_types.clone().unwrap_or_else(|| own_layer_types(self.model_type));
        c.layer_types = types.iter().copied().cycle().take(layers).collect();
    }

    fn set_positions(&self, c: &mut ModelConfig) {
        set(&mut c.position_embedding, self.position_embedding);
        c.rope_local_base_freq = self.rope_local_base_freq.or(c.rope_local_base_freq);
        set(&mut c.rope_interleaved, self.rope_interleaved);
        set(&mut c.partial_rotary_factor, self.partial_rotary_factor);
        c.rope_scaling = self.rope_scaling.clone();
        let interval = self.no_rope_layer_interval.unwrap_or(c.no_rope_layer_interval);
        c.set_no_rope_layer_interval(interval);
        if let Some(flags) = &self.no_rope_layers {
            c.no_rope_layers = flags.iter().copied().cycle().take(c.no_rope_layers.len()).collect();
        }
    }

    fn set_blocks(&self, c: &mut ModelConfig) {
        set(&mut c.norm, self.norm);
        set(&mut c.norm_placement, self.norm_placement);
        set(&mut c.norm_offset, self.norm_offset);
        set(&mut c.rms_norm_eps, self.rms_norm_eps);
        set(&mut c.hidden_act, self.hidden_act);
        set(&mut c.gated_mlp, self.gated_mlp);
        c.swiglu_limit = self.swiglu_limit.or(c.swiglu_limit);
        set(&mut c.mlp_bias, self.mlp_bias);
        set(&mut c.scale_embeddings, self.scale_embeddings);
        set_cap(&mut c.final_logit_softcapping, self.final_logit_softcapping);
        set(&mut c.initializer, self.initializer);
        c.moe = self.moe.clone().or(c.moe.take());
    }
}

fn set<T>(to: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *to = value;
    }
}

/// A cap, 0 for none.
fn set_cap(to: &mut Option<f64>, value: Option<f64>) {
    match value {
        Some(0.0) => *to = None,
        Some(cap) => *to = Some(cap),
        None => {}
    }
}

/// The windows that a type has by itself.
fn own_layer_types(model_type: ModelType) -> Vec<LayerType> {
    use LayerType::{Full, Sliding};
    match model_type {
        ModelType::Mistral => vec![Sliding],
        ModelType::Gemma2 | ModelType::GptOss => vec![Sliding, Full],
        ModelType::Gemma3 => vec![Sliding, Sliding, Sliding, Sliding, Sliding, Full],
        _ => vec![Full],
    }
}
