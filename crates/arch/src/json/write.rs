//! From a configuration to the fields of a `config.json`, as transformers writes them.

use super::{OURS, rope};
use crate::config::{AttentionBias, BalancingScope, Initializer, LayerType, ModelConfig, ModelType, Moe};
use serde_json::{Map, Value, json};

pub(super) fn write(c: &ModelConfig, dtype: &str) -> Map<String, Value> {
    let mut map = Map::new();
    let mut put = |key: &str, value: Value| drop(map.insert(key.to_owned(), value));
    if c.model_type == ModelType::Smolt {
        put("model_type", json!(c.model_type.as_str()));
        put("dtype", json!(dtype));
        let mut table = super::to_value(c);
        if let Value::Object(table) = &mut table {
            table.remove("model_type");
        }
        put(OURS, table);
        return map;
    }
    put("architectures", json!([architecture(c.model_type)]));
    put("attention_bias", json!(c.attention_bias == AttentionBias::All));
    put("attention_dropout", json!(0.0));
    // Null is said, not left out: transformers would fill in ids beyond a small vocabulary.
    put("bos_token_id", json!(c.bos_token_id));
    put("dtype", json!(dtype));
    put(
        "eos_token_id",
        match c.eos_token_id.as_slice() {
            [] => Value::Null,
            [id] => json!(id),
            ids => json!(ids),
        },
    );
    put("hidden_size", json!(c.hidden_size));
    put("initializer_range", json!(c.initializer_range));
    put("intermediate_size", json!(c.intermediate_size));
    put("max_position_embeddings", json!(c.max_position_embeddings));
    put("model_type", json!(c.model_type.as_str()));
    put("num_attention_heads", json!(c.num_attention_heads));
    put("num_hidden_layers", json!(c.num_hidden_layers));
    put("num_key_value_heads", json!(c.num_key_value_heads));
    put("pad_token_id", json!(c.pad_token_id));
    put("rms_norm_eps", json!(c.rms_norm_eps));
    rope::write(c, &mut put);
    put("tie_word_embeddings", json!(c.tie_word_embeddings));
    put("torch_dtype", json!(dtype));
    put("use_cache", json!(true));
    put("vocab_size", json!(c.vocab_size));
    family(c, &mut put);
    let ours = beside(c);
    if !ours.is_empty() {
        put(OURS, Value::Object(ours));
    }
    map
}

fn architecture(model_type: ModelType) -> &'static str {
    match model_type {
        ModelType::Llama | ModelType::Smolt => "LlamaForCausalLM",
        ModelType::SmolLm3 => "SmolLM3ForCausalLM",
        ModelType::Qwen2 => "Qwen2ForCausalLM",
        ModelType::Qwen3 => "Qwen3ForCausalLM",
        ModelType::Mistral => "MistralForCausalLM",
        ModelType::Olmo2 => "Olmo2ForCausalLM",
        ModelType::Gemma2 => "Gemma2ForCausalLM",
        ModelType::Gemma3 => "Gemma3ForCausalLM",
        ModelType::Mixtral => "MixtralForCausalLM",
        ModelType::Qwen3Moe => "Qwen3MoeForCausalLM",
        ModelType::DeepseekV3 => "DeepseekV3ForCausalLM",
        ModelType::GptOss => "GptOssForCausalLM",
    }
}

/// What only some types have.
fn family(c: &ModelConfig, put: &mut impl FnMut(&str, Value)) {
    let gemma = matches!(c.model_type, ModelType::Gemma2 | ModelType::Gemma3);
    let windows = c.layer_types.contains(&LayerType::Sliding);
    match &c.latent {
        Some(latent) => {
            put("q_lora_rank", json!(latent.q_lora_rank));
            put("kv_lora_rank", json!(latent.kv_lora_rank));
            put("qk_nope_head_dim", json!(latent.qk_nope_head_dim));
            put("qk_rope_head_dim", json!(latent.qk_rope_head_dim));
            put("v_head_dim", json!(latent.v_head_dim));
        }
        None => put("head_dim", json!(c.head_dim)),
    }
    put(if gemma { "hidden_activation" } else { "hidden_act" }, json!(c.hidden_act.as_str()));
    match c.model_type {
        ModelType::Mistral | ModelType::Mixtral => put("sliding_window", json!(c.sliding_window)),
        ModelType::Qwen2 | ModelType::Qwen3 | ModelType::Qwen3Moe | ModelType::SmolLm3 => {
            put("layer_types", json!(c.layer_types));
            put("sliding_window", json!(c.sliding_window));
            put("use_sliding_window", json!(windows));
        }
        ModelType::Gemma2 | ModelType::Gemma3 | ModelType::GptOss => {
            put("layer_types", json!(c.layer_types));
            put("sliding_window", json!(c.sliding_window));
        }
        _ => {}
    }
    if matches!(c.model_type, ModelType::Llama | ModelType::SmolLm3) {
        put("mlp_bias", json!(c.mlp_bias));
    }
    if c.model_type == ModelType::SmolLm3 {
        put("no_rope_layer_interval", json!(c.no_rope_layer_interval));
        put("no_rope_layers", json!(c.no_rope_layers));
    }
    if gemma {
        // transformers takes whole numbers only, and writes them so.
        put("query_pre_attn_scalar", json!(c.query_pre_attn_scalar.map(|scalar| scalar as u64)));
        put("attn_logit_softcapping", json!(c.attn_logit_softcapping));
        put("final_logit_softcapping", json!(c.final_logit_softcapping));
    }
    if let Some(limit) = c.swiglu_limit {
        put("swiglu_limit", json!(limit));
    }
    if let Some(moe) = &c.moe {
        experts(c, moe, put);
    }
}

fn experts(c: &ModelConfig, moe: &Moe, put: &mut impl FnMut(&str, Value)) {
    put("num_experts_per_tok", json!(moe.num_experts_per_tok));
    match c.model_type {
        ModelType::Qwen3Moe => {
            put("num_experts", json!(moe.num_experts));
            put("moe_intermediate_size", json!(moe.moe_intermediate_size));
            put("norm_topk_prob", json!(moe.norm_topk_prob));
            put("decoder_sparse_step", json!(1));
            put("mlp_only_layers", json!(moe.dense_layers));
        }
        ModelType::DeepseekV3 => {
            put("n_routed_experts", json!(moe.num_experts));
            put("n_shared_experts", json!(moe.n_shared_experts));
            put("moe_intermediate_size", json!(moe.moe_intermediate_size));
            put("norm_topk_prob", json!(moe.norm_topk_prob));
            put("routed_scaling_factor", json!(moe.routed_scaling_factor));
            put("n_group", json!(moe.n_group));
            put("topk_group", json!(moe.topk_group));
            put("first_k_dense_replace", json!(moe.dense_layers.len()));
        }
        _ => put("num_local_experts", json!(moe.num_experts)),
    }
    if c.model_type != ModelType::DeepseekV3 {
        put("output_router_logits", json!(false));
        put("router_aux_loss_coef", json!(moe.router_aux_loss_coef));
    }
}

/// Settings of training that Hugging Face has no name for, where they are not the type's own.
fn beside(c: &ModelConfig) -> Map<String, Value> {
    let mut map = Map::new();
    if c.initializer != Initializer::TruncatedNormal {
        map.insert("initializer".into(), json!(c.initializer));
    }
    let own = ModelConfig::of(c.model_type);
    if let (Some(moe), Some(own)) = (&c.moe, &own.moe) {
        let mut put = |key: &str, value: Value, own: Value| {
            if value != own {
                map.insert(key.to_owned(), value);
            }
        };
        put("balancing", json!(moe.balancing), json!(own.balancing));
        put("balancing_scope", json!(moe.balancing_scope), json!(BalancingScope::Leaf));
        put("router_z_loss_coef", json!(moe.router_z_loss_coef), json!(own.router_z_loss_coef));
        put("bias_update_rate", json!(moe.bias_update_rate), json!(own.bias_update_rate));
        if c.model_type == ModelType::DeepseekV3 {
            put("router_aux_loss_coef", json!(moe.router_aux_loss_coef), json!(own.router_aux_loss_coef));
        }
    }
    map
}
