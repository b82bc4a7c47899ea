use super::*;

#[test]
fn one_means_rope_and_zero_means_none() {
    let config = ModelConfig::default();
    assert_eq!(config.no_rope_layers, [1, 1, 1, 0, 1, 1]);
    let rope: Vec<bool> = (0..6).map(|layer| config.uses_rope(layer)).collect();
    assert_eq!(rope, [true, true, true, false, true, true]);
    let mut all = ModelConfig::default();
    all.set_no_rope_layer_interval(0);
    assert!((0..6).all(|layer| all.uses_rope(layer)));
    let mut llama = ModelConfig { model_type: ModelType::Llama, ..all };
    assert_eq!(llama.validate(), Ok(()));
    llama.set_no_rope_layer_interval(4);
    assert_eq!(llama.validate().unwrap_err().field, "no_rope_layers");
}

#[test]
fn each_wrong_field_is_named() {
    type Change = fn(&mut ModelConfig);
    let wrong: [(&str, Change); 16] = [
        ("hidden_size", |c| c.hidden_size = 0),
        ("hidden_size", |c| (c.hidden_size, c.vocab_size, c.num_hidden_layers) = (1 << 20, 1 << 22, 1024)),
        ("intermediate_size", |c| c.intermediate_size = usize::MAX),
        ("num_hidden_layers", |c| c.num_hidden_layers = 1 << 60),
        ("num_attention_heads", |c| (c.num_attention_heads, c.head_dim) = (3, 85)),
        ("num_key_value_heads", |c| c.num_key_value_heads = 3),
        ("head_dim", |c| c.head_dim = 63),
        ("vocab_size", |c| c.vocab_size = 0),
        ("max_position_embeddings", |c| c.max_position_embeddings = 1 << 26),
        ("rope_theta", |c| c.rope_theta = f64::NAN),
        ("rms_norm_eps", |c| c.rms_norm_eps = 0.0),
        ("initializer_range", |c| c.initializer_range = f64::INFINITY),
        ("no_rope_layers", |c| c.no_rope_layers = vec![1; 5]),
        ("no_rope_layers", |c| c.no_rope_layers = vec![1, 1, 2, 1, 1, 1]),
        ("no_rope_layers", |c| c.model_type = ModelType::Llama),
        ("eos_token_id", |c| c.eos_token_id = vec![1, 4096]),
    ];
    for (i, (field, change)) in wrong.into_iter().enumerate() {
        let mut config = ModelConfig::default();
        change(&mut config);
        if field == "hidden_size" || field == "num_hidden_layers" {
            config.set_no_rope_layer_interval(4);
        }
        assert_eq!(config.validate().unwrap_err().field, field, "case {i}");
    }
}

/// A configuration of this type that is small and valid.
fn small(model_type: ModelType) -> ModelConfig {
    let mut model = crate::settings::Model {
        model_type,
        hidden_size: 64,
        intermediate_size: 128,
        num_hidden_layers: 6,
        vocab_size: Some(256),
        max_position_embeddings: Some(128),
        ..smolt_run::recipe::defaults::<crate::settings::Model>().unwrap()
    };
    let of = ModelConfig::of(model_type);
    model.moe = of.moe.map(|moe| Moe {
        num_experts: 8,
        num_experts_per_tok: 2,
        n_group: moe.n_group.min(2),
        topk_group: 1,
        moe_intermediate_size: if model_type == ModelType::Qwen3Moe || model_type == ModelType::DeepseekV3 {
            32
        } else {
            128
        },
        ..moe
    });
    model.latent = of.latent.map(|_| Latent {
        q_lora_rank: Some(24),
        kv_lora_rank: 16,
        qk_nope_head_dim: 12,
        qk_rope_head_dim: 4,
        v_head_dim: 10,
    });
    model.config().unwrap_or_else(|e| panic!("{model_type}: {e}"))
}

const TYPES: [ModelType; 13] = [
    ModelType::Llama,
    ModelType::SmolLm3,
    ModelType::Qwen2,
    ModelType::Qwen3,
    ModelType::Mistral,
    ModelType::Olmo2,
    ModelType::Gemma2,
    ModelType::Gemma3,
    ModelType::Mixtral,
    ModelType::Qwen3Moe,
    ModelType::DeepseekV3,
    ModelType::GptOss,
    ModelType::Smolt,
];

#[test]
fn every_type_is_written_and_read_back_and_counted() {
    for model_type in TYPES {
        let config = small(model_type);
        let text = config.to_json("float32");
        let again = ModelConfig::from_json(std::path::Path::new("again"), text.as_bytes());
        assert_eq!(again.unwrap_or_else(|e| panic!("{model_type}: {e}")), config, "{model_type}");
        let listed: usize = crate::parameters::parameters(&config).iter().map(|p| p.len()).sum();
        let counted = crate::count::parameters(&config);
        assert_eq!(listed as u64, counted.total(), "{model_type}");
        assert_eq!(counted.active < counted.total(), config.moe.is_some(), "{model_type}");
    }
}

#[test]
fn contradictions_name_both_fields() {
    type Change = fn(&mut ModelConfig);
    let cases: [(&str, &str, ModelType, Change); 13] = [
        ("layer_types", "no_rope_layers", ModelType::Smolt, |c| {
            c.sliding_window = Some(8);
            c.layer_types[3] = LayerType::Sliding;
            c.no_rope_layers[3] = 0;
        }),
        ("sliding_window", "layer_types", ModelType::Smolt, |c| c.layer_types[0] = LayerType::Sliding),
        ("num_key_value_heads", "num_attention_heads", ModelType::Llama, |c| c.num_key_value_heads = 3),
        ("rope_scaling.original_max_position_embeddings", "rope_type", ModelType::Llama, |c| {
            c.rope_scaling = Some(RopeScaling {
                rope_type: RopeType::Yarn,
                factor: 4.0,
                original_max_position_embeddings: None,
                beta_fast: None,
                beta_slow: None,
                attention_factor: None,
                mscale: None,
                mscale_all_dim: None,
                truncate: None,
                low_freq_factor: None,
                high_freq_factor: None,
            });
        }),
        ("moe.num_experts_per_tok", "moe.num_experts", ModelType::Mixtral, |c| {
            c.moe.as_mut().unwrap().num_experts_per_tok = 9;
        }),
        ("qk_norm", "model_type", ModelType::Llama, |c| c.qk_norm = QkNorm::Head),
        ("position_embedding", "model_type", ModelType::Llama, |c| {
            c.position_embedding = PositionEmbedding::Alibi
        }),
        ("no_rope_layers", "position_embedding", ModelType::Smolt, |c| {
            c.position_embedding = PositionEmbedding::Alibi;
            c.no_rope_layers[0] = 0;
        }),
        ("layer_types", "position_embedding", ModelType::Smolt, |c| {
            (c.position_embedding, c.sliding_window) = (PositionEmbedding::None, Some(8));
            c.layer_types[3] = LayerType::Sliding;
        }),
        ("num_attention_heads", "hidden_size", ModelType::Llama, |c| {
            (c.num_attention_heads, c.head_dim) = (6, 16);
        }),
        ("moe.balancing", "moe.selection_bias", ModelType::Mixtral, |c| {
            c.moe.as_mut().unwrap().balancing = Balancing::LossFree;
        }),
        ("mlp_bias", "moe", ModelType::Mixtral, |c| c.mlp_bias = true),
        ("sink_tokens", "layer_types", ModelType::Smolt, |c| c.sink_tokens = 4),
    ];
    for (field, other, model_type, change) in cases {
        let mut config = small(model_type);
        assert_eq!(config.validate(), Ok(()));
        change(&mut config);
        let error = config.validate().unwrap_err();
        assert_eq!(error.field, field, "{error}");
        assert!(error.reason.contains(other), "{error}");
    }
}

#[test]
fn heads_of_a_given_width_need_not_divide_the_stream() {
    for model_type in TYPES {
        let mut config = small(model_type);
        (config.hidden_size, config.num_attention_heads, config.num_key_value_heads) = (600, 9, 3);
        if config.latent.is_some() {
            config.num_key_value_heads = 9;
        } else {
            config.head_dim = 64;
        }
        let needed = matches!(model_type, ModelType::Llama | ModelType::Gemma2 | ModelType::Gemma3);
        let refused = config.validate().err().map(|error| error.field);
        assert_eq!(refused, needed.then(|| "num_attention_heads".to_owned()), "{model_type}");
        if config.latent.is_none() {
            config.head_dim = 600 / 9;
            let error = config.validate().unwrap_err();
            assert_eq!(error.field, "num_attention_heads", "{model_type}: {error}");
        }
    }
}

#[test]
fn recipes_name_the_layers_with_rope() {
    let recipe = crate::settings::Model {
        no_rope_layers: Some(vec![1, 1, 0]),
        vocab_size: Some(256),
        max_position_embeddings: Some(128),
        ..smolt_run::recipe::defaults::<crate::settings::Model>().unwrap()
    };
    assert_eq!(recipe.config().unwrap().no_rope_layers, [1, 1, 0, 1, 1, 0], "repeated");
    let field_of = |recipe: crate::settings::Model| {
        let error = recipe.config().unwrap_err();
        (error.field, error.reason)
    };
    let both = crate::settings::Model { no_rope_layer_interval: Some(3), ..recipe.clone() };
    let (field, reason) = field_of(both);
    assert!(field == "no_rope_layers" && reason.contains("`no_rope_layer_interval`"), "{reason}");
    for flags in [vec![], vec![2]] {
        assert_eq!(
            field_of(crate::settings::Model { no_rope_layers: Some(flags), ..recipe.clone() }).0,
            "no_rope_layers"
        );
    }
}
