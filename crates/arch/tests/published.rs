//! Published models come out at their published sizes (spec ABL-07): configurations as on the Hub, as far as they decide
//! the tensors.

#![allow(clippy::unwrap_used)]
use serde_json::{Value, json};
use smolt_arch::{ModelConfig, count};
use std::path::Path;

/// The shape of a `config.json` from `[hidden_size, intermediate_size, num_hidden_layers, num_attention_heads,
/// num_key_value_heads, vocab_size, max_position_embeddings]` and what the type has beside them.
fn config(model_type: &str, sizes: [usize; 7], more: Value) -> ModelConfig {
    let [d, i, l, h, k, v, longest] = sizes;
    let mut fields = json!({
        "model_type": model_type,
        "hidden_size": d,
        "intermediate_size": i,
        "num_hidden_layers": l,
        "num_attention_heads": h,
        "num_key_value_heads": k,
        "vocab_size": v,
        "max_position_embeddings": longest,
    });
    let fields_of = fields.as_object_mut().unwrap();
    fields_of.extend(more.as_object().unwrap().clone());
    ModelConfig::shape_from_json(Path::new(model_type), fields.to_string().as_bytes()).unwrap()
}

fn dense() -> Vec<(&'static str, ModelConfig, u64)> {
    let tied = || json!({"tie_word_embeddings": true});
    let llama3 = json!({"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192});
    let llama3 =
        json!({"tie_word_embeddings": true, "head_dim": 64, "rope_theta": 5e5, "rope_scaling": llama3});
    let qwen3 = json!({"head_dim": 128, "tie_word_embeddings": true, "rope_theta": 1e6});
    let gemma3 = json!({"head_dim": 256, "sliding_window": 512, "sliding_window_pattern": 6});
    let gemma2 = json!({"head_dim": 256, "sliding_window": 4096});
    let mistral = json!({"sliding_window": 4096, "tie_word_embeddings": false});
    let qwen25 = json!({"tie_word_embeddings": true, "use_mrope": false, "use_sliding_window": false,
        "sliding_window": 32_768, "max_window_layers": 24, "rope_theta": 1e6});
    let olmo2 = json!({"tie_word_embeddings": false, "rope_theta": 5e5});
    vec![
        ("Llama-3.2-1B", config("llama", [2048, 8192, 16, 32, 8, 128_256, 131_072], llama3), 1_235_814_400),
        ("SmolLM2-360M", config("llama", [960, 2560, 32, 15, 5, 49_152, 8192], tied()), 361_821_120),
        ("SmolLM2-1.7B", config("llama", [2048, 8192, 24, 32, 32, 49_152, 8192], tied()), 1_711_376_384),
        ("SmolLM3-3B", config("smollm3", [2048, 11_008, 36, 16, 4, 128_256, 65_536], tied()), 3_075_098_624),
        ("Qwen3-0.6B", config("qwen3", [1024, 3072, 28, 16, 8, 151_936, 40_960], qwen3), 596_049_920),
        ("Qwen2.5-0.5B", config("qwen2", [896, 4864, 24, 14, 2, 151_936, 32_768], qwen25), 494_032_768),
        (
            "Mistral-7B-v0.1",
            config("mistral", [4096, 14_336, 32, 32, 8, 32_000, 32_768], mistral),
            7_241_732_096,
        ),
        ("OLMo-2-0425-1B", config("olmo2", [2048, 8192, 16, 16, 16, 100_352, 4096], olmo2), 1_484_916_736),
        ("gemma-2-2b", config("gemma2", [2304, 9216, 26, 8, 4, 256_000, 8192], gemma2), 2_614_341_888),
        (
            "gemma-3-1b-it",
            config("gemma3_text", [1152, 6912, 26, 4, 1, 262_144, 32_768], gemma3),
            999_885_952,
        ),
    ]
}

/// Total, then active by our count: everything but the routed experts that a token does not use.
fn experts() -> Vec<(&'static str, ModelConfig, u64, u64)> {
    let mixtral = json!({"num_local_experts": 8, "num_experts_per_tok": 2, "sliding_window": null});
    let qwen3 = json!({"head_dim": 128, "num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 768,
        "decoder_sparse_step": 1, "mlp_only_layers": [], "norm_topk_prob": true});
    let yarn = json!({"type": "yarn", "factor": 40, "original_max_position_embeddings": 4096, "beta_fast": 32,
        "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 1.0});
    let deepseek = json!({"n_routed_experts": 256, "num_experts_per_tok": 8, "moe_intermediate_size": 2048,
        "n_shared_experts": 1, "first_k_dense_replace": 3, "n_group": 8, "topk_group": 4, "q_lora_rank": 1536,
        "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
        "num_nextn_predict_layers": 1, "rope_scaling": yarn,
        "auto_map": {"AutoConfig": "configuration_deepseek.DeepseekV3Config"},
        "quantization_config": {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8",
            "weight_block_size": [128, 128]}});
    let oss = json!({"head_dim": 64, "num_local_experts": 32, "num_experts_per_tok": 4, "sliding_window": 128,
        "quantization_config": {"modules_to_not_convert": ["lm_head"], "quant_method": "mxfp4"}});
    vec![
        (
            "Mixtral-8x7B-v0.1",
            config("mixtral", [4096, 14_336, 32, 32, 8, 32_000, 32_768], mixtral),
            46_702_792_704,
            12_879_925_248,
        ),
        (
            "Qwen3-30B-A3B",
            config("qwen3_moe", [2048, 6144, 48, 32, 4, 151_936, 40_960], qwen3),
            30_532_122_624,
            3_353_032_704,
        ),
        (
            // Without the layer that predicts a second token; 14,848 of them are the selection biases.
            "DeepSeek-V3",
            config("deepseek_v3", [7168, 18_432, 61, 128, 128, 129_280, 163_840], deepseek),
            671_026_419_200,
            37_552_297_472,
        ),
        (
            "gpt-oss-20b",
            config("gpt_oss", [2880, 2880, 24, 64, 8, 201_088, 131_072], oss),
            20_914_757_184,
            4_187_440_704,
        ),
    ]
}

#[test]
fn dense_models_are_counted_exactly() {
    for (name, config, published) in dense() {
        let counted = count::parameters(&config);
        assert_eq!(counted.total(), published, "{name}: {counted:?}");
        assert_eq!(counted.active, published, "{name}");
    }
}

#[test]
fn experts_are_counted_exactly_and_as_active() {
    for (name, config, published, active) in experts() {
        let counted = count::parameters(&config);
        assert_eq!(counted.total(), published, "{name}: {counted:?}");
        assert_eq!(counted.active, active, "{name}: {counted:?}");
    }
}
