//! What the model types have in common and where they differ: the settings that a `model_type` stands for.

use crate::config::{
    Activation, AttentionBias, Balancing, BalancingScope, Gate, Initializer, Latent, ModelConfig, ModelType,
    Moe, Norm, NormPlacement, PositionEmbedding, QkNorm,
};

impl ModelConfig {
    /// A model of this type as far as the type decides it, with the defaults that transformers has. Sizes
    /// are zero, also where transformers computes them from others.
    pub fn of(model_type: ModelType) -> ModelConfig {
        let mut config = plain(model_type);
        let c = &mut config;
        match model_type {
            ModelType::Llama | ModelType::Smolt => {}
            ModelType::SmolLm3 => {
                (c.rope_theta, c.tie_word_embeddings, c.no_rope_layer_interval) = (2e6, true, 4);
                c.num_key_value_heads = 4;
            }
            ModelType::Qwen2 => (c.attention_bias, c.num_key_value_heads) = (AttentionBias::Qkv, 32),
            ModelType::Qwen3 => (c.qk_norm, c.head_dim, c.num_key_value_heads) = (QkNorm::Head, 128, 32),
            ModelType::Mistral => (c.sliding_window, c.num_key_value_heads) = (Some(4096), 8),
            ModelType::Olmo2 => {
                (c.qk_norm, c.norm_placement, c.rms_norm_eps) = (QkNorm::Width, NormPlacement::Post, 1e-5);
            }
            ModelType::Gemma2 => {
                gemma(c);
                (c.attn_logit_softcapping, c.final_logit_softcapping) = (Some(50.0), Some(30.0));
                c.query_pre_attn_scalar = Some(256.0);
            }
            ModelType::Gemma3 => {
                gemma(c);
                (c.qk_norm, c.rope_theta, c.rope_local_base_freq) = (QkNorm::Head, 1e6, Some(1e4));
                c.query_pre_attn_scalar = Some(256.0);
            }
            ModelType::Mixtral => {
                (c.rope_theta, c.rms_norm_eps, c.num_key_value_heads) = (1e6, 1e-5, 8);
                c.moe = Some(Moe { num_experts: 8, num_experts_per_tok: 2, ..experts() });
            }
            ModelType::Qwen3Moe => {
                (c.qk_norm, c.num_key_value_heads) = (QkNorm::Head, 4);
                c.moe = Some(Moe {
                    num_experts: 128,
                    num_experts_per_tok: 8,
                    norm_topk_prob: false,
                    ..experts()
                });
            }
            ModelType::DeepseekV3 => deepseek(c),
            ModelType::GptOss => gpt_oss(c),
        }
        config
    }
}

/// Llama without its sizes.
fn plain(model_type: ModelType) -> ModelConfig {
    ModelConfig {
        model_type,
        hidden_size: 0,
        intermediate_size: 0,
        num_hidden_layers: 0,
        num_attention_heads: 0,
        num_key_value_heads: 0,
        head_dim: 0,
        vocab_size: 0,
        max_position_embeddings: 0,
        attention_bias: AttentionBias::None,
        qk_norm: QkNorm::None,
        query_pre_attn_scalar: None,
        attn_logit_softcapping: None,
        attention_sinks: false,
        sink_tokens: 0,
        layer_types: Vec::new(),
        sliding_window: None,
        attention_chunk_size: None,
        latent: None,
        position_embedding: PositionEmbedding::Rope,
        rope_theta: 1e4,
        rope_local_base_freq: None,
        rope_interleaved: false,
        partial_rotary_factor: 1.0,
        rope_scaling: None,
        no_rope_layers: Vec::new(),
        no_rope_layer_interval: 0,
        norm: Norm::Rms,
        norm_placement: NormPlacement::Pre,
        norm_offset: false,
        rms_norm_eps: 1e-6,
        hidden_act: Activation::Silu,
        gated_mlp: true,
        swiglu_limit: None,
        mlp_bias: false,
        scale_embeddings: false,
        final_logit_softcapping: None,
        tie_word_embeddings: false,
        initializer: Initializer::TruncatedNormal,
        initializer_range: 0.02,
        moe: None,
        bos_token_id: None,
        eos_token_id: Vec::new(),
        pad_token_id: None,
    }
}

fn gemma(c: &mut ModelConfig) {
    (c.norm_placement, c.norm_offset) = (NormPlacement::Sandwich, true);
    (c.hidden_act, c.head_dim, c.sliding_window) = (Activation::GeluTanh, 256, Some(4096));
    (c.scale_embeddings, c.tie_word_embeddings, c.num_key_value_heads) = (true, true, 4);
}

fn deepseek(c: &mut ModelConfig) {
    c.rope_interleaved = true;
    c.latent = Some(Latent {
        q_lora_rank: Some(1536),
        kv_lora_rank: 512,
        qk_nope_head_dim: 128,
        qk_rope_head_dim: 64,
        v_head_dim: 128,
    });
    c.moe = Some(Moe {
        num_experts: 256,
        num_experts_per_tok: 8,
        moe_intermediate_size: 2048,
        n_shared_experts: 1,
        dense_layers: vec![0, 1, 2],
        gate: Gate::Sigmoid,
        routed_scaling_factor: 2.5,
        n_group: 8,
        topk_group: 4,
        selection_bias: true,
        balancing: Balancing::LossFree,
        ..experts()
    });
}

fn gpt_oss(c: &mut ModelConfig) {
    (c.attention_bias, c.attention_sinks, c.head_dim) = (AttentionBias::All, true, 64);
    c.num_key_value_heads = 8;
    (c.rms_norm_eps, c.rope_theta, c.swiglu_limit) = (1e-5, 150_000.0, Some(7.0));
    c.sliding_window = Some(128);
    c.moe = Some(Moe {
        num_experts: 128,
        num_experts_per_tok: 4,
        gate: Gate::SoftmaxTopK,
        norm_topk_prob: false,
        expert_bias: true,
        ..experts()
    });
}

/// Experts as most models have them.
fn experts() -> Moe {
    Moe {
        num_experts: 0,
        num_experts_per_tok: 0,
        moe_intermediate_size: 0,
        n_shared_experts: 0,
        dense_layers: Vec::new(),
        gate: Gate::Softmax,
        norm_topk_prob: true,
        routed_scaling_factor: 1.0,
        n_group: 1,
        topk_group: 1,
        selection_bias: false,
        expert_bias: false,
        balancing: Balancing::AuxLoss,
        balancing_scope: BalancingScope::Leaf,
        router_aux_loss_coef: 0.001,
        router_z_loss_coef: 0.0,
        bias_update_rate: 0.001,
    }
}
