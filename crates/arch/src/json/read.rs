//! From the fields of a `config.json` to a configuration.

use super::fields::Fields;
use super::{OURS, rope, shorten, unsupported};
use crate::config::{
    Activation, AttentionBias, FieldError, LayerType, MAX_LAYERS, ModelConfig, ModelType, Moe,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

type Result<T = ()> = std::result::Result<T, FieldError>;

/// The window of a Qwen that uses one and does not say how wide: transformers' default.
const QWEN_WINDOW: usize = 4096;

/// One id or several, as `eos_token_id` is found.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(u32),
    Many(Vec<u32>),
}

/// Understands every field or names one that it does not; checks no sizes.
pub(super) fn read(map: Map<String, Value>) -> Result<ModelConfig> {
    let mut fields = Fields::new(map);
    let model_type = model_type(&mut fields)?;
    if model_type == ModelType::Smolt {
        return ours(fields);
    }
    let mut config = ModelConfig::of(model_type);
    let (f, c) = (&mut fields, &mut config);
    sizes(f, c)?;
    rope::read(f, c)?;
    tokens(f, c)?;
    blocks(f, c)?;
    attention(f, c)?;
    layers(f, c)?;
    if c.moe.is_some() {
        experts(f, c)?;
    }
    match f.raw(OURS) {
        Some(Value::Object(table)) => beside(Fields::new(table), c)?,
        Some(other) => return Err(unsupported(OURS, &other, "a table is expected")),
        None => {}
    }
    fields.finish()?;
    Ok(config)
}

fn model_type(f: &mut Fields) -> Result<ModelType> {
    let known = <ModelType as smolt_run::recipe::Setting>::kind().describe();
    let value = f.raw("model_type");
    let value =
        value.ok_or_else(|| FieldError::new("model_type", format!("is missing: it must be {known}")))?;
    match value.as_str().map(str::parse) {
        Some(Ok(model_type)) => Ok(model_type),
        _ => Err(unsupported("model_type", &value, &format!("it must be {known}"))),
    }
}

/// A model that no Hugging Face type describes: every setting under smolt's own name.
fn ours(mut f: Fields) -> Result<ModelConfig> {
    let Some(Value::Object(mut table)) = f.raw(OURS) else {
        return Err(FieldError::new(OURS, "is missing: a `model_type` smolt keeps its settings there"));
    };
    f.finish()?;
    table.insert("model_type".into(), json!("smolt"));
    serde_json::from_value(Value::Object(table))
        .map_err(|e| FieldError::new(OURS, format!("is wrong: {}", shorten(&e.to_string()))))
}

fn sizes(f: &mut Fields, c: &mut ModelConfig) -> Result {
    f.need("hidden_size", &mut c.hidden_size)?;
    f.need("intermediate_size", &mut c.intermediate_size)?;
    f.need("num_hidden_layers", &mut c.num_hidden_layers)?;
    f.need("num_attention_heads", &mut c.num_attention_heads)?;
    // Null is a head each, which is not what some types have where nothing is said.
    if c.num_key_value_heads == 0 || f.is_null("num_key_value_heads") {
        c.num_key_value_heads = c.num_attention_heads;
    }
    f.take("num_key_value_heads", &mut c.num_key_value_heads)?;
    if c.head_dim == 0 {
        c.head_dim = c.hidden_size / c.num_attention_heads.max(1);
    }
    if let Some(latent) = &mut c.latent {
        f.take_or_none("q_lora_rank", &mut latent.q_lora_rank)?;
        f.take("kv_lora_rank", &mut latent.kv_lora_rank)?;
        f.take("qk_nope_head_dim", &mut latent.qk_nope_head_dim)?;
        f.take("qk_rope_head_dim", &mut latent.qk_rope_head_dim)?;
        f.take("v_head_dim", &mut latent.v_head_dim)?;
        c.head_dim = latent.qk_nope_head_dim.saturating_add(latent.qk_rope_head_dim);
        // transformers writes what it derives from these.
        f.fixed("qk_head_dim", &json!(c.head_dim))?;
        f.fixed("head_dim", &json!(latent.qk_rope_head_dim))?;
    }
    f.take("head_dim", &mut c.head_dim)?;
    f.need("vocab_size", &mut c.vocab_size)?;
    f.need("max_position_embeddings", &mut c.max_position_embeddings)
}

fn tokens(f: &mut Fields, c: &mut ModelConfig) -> Result {
    let absent = json!(-1);
    for (field, to) in [("bos_token_id", &mut c.bos_token_id), ("pad_token_id", &mut c.pad_token_id)] {
        match f.raw(field) {
            Some(value) if value != absent => *to = Some(super::fields::parse(field, value)?),
            _ => {}
        }
    }
    c.eos_token_id = match f.raw("eos_token_id") {
        Some(value) if value != absent => match super::fields::parse("eos_token_id", value)? {
            OneOrMany::Many(ids) => ids,
            OneOrMany::One(id) => vec![id],
        },
        _ => Vec::new(),
    };
    Ok(())
}

fn blocks(f: &mut Fields, c: &mut ModelConfig) -> Result {
    f.take("rms_norm_eps", &mut c.rms_norm_eps)?;
    f.take("initializer_range", &mut c.initializer_range)?;
    f.take("tie_word_embeddings", &mut c.tie_word_embeddings)?;
    if matches!(c.model_type, ModelType::Llama | ModelType::SmolLm3) {
        f.take("mlp_bias", &mut c.mlp_bias)?;
    }
    f.fixed("mlp_bias", &json!(false))?;
    f.fixed("is_encoder_decoder", &json!(false))?;
    // Positions in images, which files of Qwen's text models rule out.
    f.fixed("use_mrope", &json!(false))?;
    f.fixed("attention_dropout", &json!(0.0))?;
    f.fixed("hidden_dropout", &json!(0.0))?;
    let gemma = matches!(c.model_type, ModelType::Gemma2 | ModelType::Gemma3);
    // Gemma files have both; the one that counts is not always the same.
    let acts = [f.raw("hidden_activation"), f.raw("hidden_act")];
    let expected = c.hidden_act.as_str();
    for (field, value) in ["hidden_activation", "hidden_act"].into_iter().zip(acts) {
        let Some(value) = value else { continue };
        let fits = value == expected || gemma && field == "hidden_act" && value == Activation::Gelu.as_str();
        if !fits {
            return Err(unsupported(field, &value, &format!("only {expected:?} is")));
        }
    }
    if gemma {
        f.take("query_pre_attn_scalar", c.query_pre_attn_scalar.get_or_insert(256.0))?;
        for (field, to) in [
            ("attn_logit_softcapping", &mut c.attn_logit_softcapping),
            ("final_logit_softcapping", &mut c.final_logit_softcapping),
        ] {
            f.take_or_none(field, to)?;
        }
        if c.model_type == ModelType::Gemma3
            && let Some(cap) = c.attn_logit_softcapping
        {
            return Err(unsupported(
                "attn_logit_softcapping",
                &json!(cap),
                "transformers ignores it in a gemma3_text",
            ));
        }
        f.fixed("use_bidirectional_attention", &json!(false))?;
    }
    if let Some(limit) = &mut c.swiglu_limit {
        f.take("swiglu_limit", limit)?;
        f.fixed("swiglu_alpha", &json!(1.702))?;
    }
    Ok(())
}

/// Which projections have biases is fixed by most types and a setting of some.
fn attention(f: &mut Fields, c: &mut ModelConfig) -> Result {
    let own = c.attention_bias;
    let said: Option<bool> = f.get("attention_bias")?;
    let settable = matches!(
        c.model_type,
        ModelType::Llama
            | ModelType::SmolLm3
            | ModelType::Qwen3
            | ModelType::Qwen3Moe
            | ModelType::Olmo2
            | ModelType::Gemma2
            | ModelType::Gemma3
    );
    match said {
        Some(true) if settable => c.attention_bias = AttentionBias::All,
        Some(said) if said != (own == AttentionBias::All) => {
            return Err(unsupported("attention_bias", &json!(said), &format!("a {} has not", c.model_type)));
        }
        _ => {}
    }
    Ok(())
}

/// Windows and RoPE, layer by layer.
fn layers(f: &mut Fields, c: &mut ModelConfig) -> Result {
    let count = c.num_hidden_layers.min(MAX_LAYERS);
    rope_layers(f, c)?;
    let null = f.is_null("sliding_window");
    let has_window = c.sliding_window.is_some() && !null;
    let mut window = f.raw("sliding_window");
    let window_type = |layer: usize| match c.model_type {
        ModelType::Mistral | ModelType::Mixtral if has_window || window.is_some() => LayerType::Sliding,
        // Even layers (counted from 0) slide.
        ModelType::Gemma2 | ModelType::GptOss if layer.is_multiple_of(2) => LayerType::Sliding,
        _ => LayerType::Full,
    };
    let mut types: Vec<LayerType> = (0..count).map(window_type).collect();
    match c.model_type {
        ModelType::Gemma3 => {
            let pattern: usize = f.get("sliding_window_pattern")?.unwrap_or(6);
            let full = |layer: usize| pattern != 0 && (layer + 1).is_multiple_of(pattern);
            types = (0..count).map(|l| if full(l) { LayerType::Full } else { LayerType::Sliding }).collect();
        }
        ModelType::Qwen2 | ModelType::Qwen3 | ModelType::Qwen3Moe | ModelType::SmolLm3 => {
            let used: bool = f.get("use_sliding_window")?.unwrap_or(false);
            if used && !null && c.model_type != ModelType::SmolLm3 {
                window.get_or_insert(json!(QWEN_WINDOW));
            }
            let from: usize = f.get("max_window_layers")?.unwrap_or(28);
            let slides = |layer: usize| match c.model_type {
                ModelType::Qwen3Moe => true,
                // Refused with the configuration: windows without positions.
                ModelType::SmolLm3 => !c.uses_rope(layer),
                _ => layer >= from,
            };
            let kind = |layer: usize| match used && window.is_some() && slides(layer) {
                true => LayerType::Sliding,
                false => LayerType::Full,
            };
            types = (0..count).map(kind).collect();
        }
        _ => f.fixed("use_sliding_window", &json!(false))?,
    }
    match c.model_type {
        // transformers gives these one kind in all layers, whatever the list says.
        ModelType::Mistral | ModelType::Mixtral | ModelType::Qwen3Moe => drop(f.raw("layer_types")),
        _ => f.take("layer_types", &mut types)?,
    }
    // Too many layers are refused with the configuration.
    if types.len() != c.num_hidden_layers && c.num_hidden_layers <= MAX_LAYERS {
        let reason = format!("has {} entries for num_hidden_layers {}", types.len(), c.num_hidden_layers);
        return Err(FieldError::new("layer_types", reason));
    }
    if types.contains(&LayerType::Chunked) {
        return Err(unsupported("layer_types", &json!("chunked_attention"), "a model_type smolt has it"));
    }
    let slides = types.contains(&LayerType::Sliding);
    if !slides && !matches!(c.model_type, ModelType::Gemma2 | ModelType::Gemma3 | ModelType::GptOss) {
        c.sliding_window = None;
    }
    if let Some(window) = window
        && (slides || c.sliding_window.is_some())
    {
        c.sliding_window = Some(super::fields::parse("sliding_window", window)?);
    }
    c.layer_types = types;
    Ok(())
}

/// Which layers have RoPE.
fn rope_layers(f: &mut Fields, c: &mut ModelConfig) -> Result {
    let interval = c.no_rope_layer_interval;
    c.set_no_rope_layer_interval(interval);
    if c.model_type == ModelType::SmolLm3 {
        let interval = f.get("no_rope_layer_interval")?.unwrap_or(interval);
        c.set_no_rope_layer_interval(interval);
        f.take("no_rope_layers", &mut c.no_rope_layers)?;
        // transformers reads the first num_hidden_layers entries and allows more.
        c.no_rope_layers.truncate(c.num_hidden_layers);
    }
    Ok(())
}

fn experts(f: &mut Fields, c: &mut ModelConfig) -> Result {
    let layers = c.num_hidden_layers.min(MAX_LAYERS);
    let (model_type, intermediate) = (c.model_type, c.intermediate_size);
    let Some(moe) = &mut c.moe else { return Ok(()) };
    let count = match model_type {
        ModelType::DeepseekV3 => "n_routed_experts",
        ModelType::Qwen3Moe => "num_experts",
        _ => "num_local_experts",
    };
    f.take(count, &mut moe.num_experts)?;
    if model_type == ModelType::Qwen3Moe {
        // As transformers 5 names it.
        f.take("num_local_experts", &mut moe.num_experts)?;
    }
    // As transformers repeats it for some types.
    f.fixed("num_local_experts", &json!(moe.num_experts))?;
    f.take("num_experts_per_tok", &mut moe.num_experts_per_tok)?;
    f.fixed("experts_per_token", &json!(moe.num_experts_per_tok))?;
    f.take("router_aux_loss_coef", &mut moe.router_aux_loss_coef)?;
    f.fixed("router_jitter_noise", &json!(0.0))?;
    moe.moe_intermediate_size = intermediate;
    match model_type {
        ModelType::Qwen3Moe => {
            f.need("moe_intermediate_size", &mut moe.moe_intermediate_size)?;
            f.take("norm_topk_prob", &mut moe.norm_topk_prob)?;
            let step: usize = f.get("decoder_sparse_step")?.unwrap_or(1);
            let dense: Vec<usize> = f.get("mlp_only_layers")?.unwrap_or_default();
            let is_dense = |l: &usize| dense.contains(l) || step == 0 || !(l + 1).is_multiple_of(step);
            moe.dense_layers = (0..layers).filter(is_dense).collect();
        }
        ModelType::DeepseekV3 => deepseek(f, moe, layers)?,
        _ => {}
    }
    Ok(())
}

fn deepseek(f: &mut Fields, moe: &mut Moe, layers: usize) -> Result {
    f.need("moe_intermediate_size", &mut moe.moe_intermediate_size)?;
    f.take("n_shared_experts", &mut moe.n_shared_experts)?;
    f.take("n_group", &mut moe.n_group)?;
    f.take("topk_group", &mut moe.topk_group)?;
    f.take("norm_topk_prob", &mut moe.norm_topk_prob)?;
    f.take("routed_scaling_factor", &mut moe.routed_scaling_factor)?;
    let dense: usize = f.get("first_k_dense_replace")?.unwrap_or(3);
    moe.dense_layers = (0..layers.min(dense)).collect();
    f.fixed("scoring_func", &json!("sigmoid"))?;
    f.fixed("topk_method", &json!("noaux_tc"))?;
    f.fixed("moe_layer_freq", &json!(1))?;
    f.fixed("ep_size", &json!(1))?;
    // Extra layers that predict further tokens; their weights are not read.
    f.raw("num_nextn_predict_layers");
    f.raw("aux_loss_alpha");
    f.raw("seq_aux");
    Ok(())
}

/// What decides how training goes on, not what the model computes.
fn beside(mut f: Fields, c: &mut ModelConfig) -> Result {
    f.take("initializer", &mut c.initializer)?;
    if let Some(moe) = &mut c.moe {
        f.take("balancing", &mut moe.balancing)?;
        f.take("balancing_scope", &mut moe.balancing_scope)?;
        f.take("router_aux_loss_coef", &mut moe.router_aux_loss_coef)?;
        f.take("router_z_loss_coef", &mut moe.router_z_loss_coef)?;
        f.take("bias_update_rate", &mut moe.bias_update_rate)?;
    }
    f.finish()
}
