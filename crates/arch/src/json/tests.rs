use super::*;
use proptest::prelude::*;
use serde_json::json;

fn read(value: &Value) -> Result<ModelConfig, Error> {
    ModelConfig::from_json(Path::new("m/config.json"), value.to_string().as_bytes())
}

/// As published for SmolLM3-3B (transformers 4 spelling).
fn smollm3() -> Value {
    json!({
        "architectures": ["SmolLM3ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
        "bos_token_id": null, "eos_token_id": 128012, "hidden_act": "silu", "hidden_size": 2048,
        "initializer_range": 0.02, "intermediate_size": 11008, "layer_types": vec!["full_attention"; 36],
        "max_position_embeddings": 65536, "max_window_layers": 28, "mlp_bias": false, "model_type": "smollm3",
        "no_rope_layer_interval": 4, "num_attention_heads": 16, "num_hidden_layers": 36,
        "num_key_value_heads": 4, "pad_token_id": 128004, "pretraining_tp": 2, "rms_norm_eps": 1e-06,
        "rope_scaling": null, "rope_theta": 5000000.0, "sliding_window": null, "torch_dtype": "bfloat16",
        "transformers_version": "4.53.0", "use_cache": false, "use_sliding_window": false, "vocab_size": 128256
    })
}

#[test]
fn published_smollm3_is_read() {
    let config = read(&smollm3()).unwrap();
    assert!(config.tie_word_embeddings, "transformers leaves its default out");
    assert_eq!((config.head_dim, config.rope_theta), (128, 5e6));
    assert!(config.uses_rope(0) && !config.uses_rope(3) && !config.uses_rope(35));
    assert_eq!((config.bos_token_id, config.eos_token_id), (None, vec![128012]));
}

#[test]
fn rope_is_stretched_as_the_file_could_have_said() {
    let config = read(&smollm3()).unwrap();
    let mut file = smollm3();
    file["rope_scaling"] =
        json!({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 65536});
    file["max_position_embeddings"] = json!(4 * 65536);
    let yarn = config.clone().stretched(r#"{"rope_type": "yarn", "factor": 4.0}"#).unwrap();
    assert_eq!(yarn, read(&file).unwrap());
    let again = yarn.stretched(r#"{"type": "linear", "factor": 2}"#).unwrap();
    assert_eq!(again.max_position_embeddings, 2 * 65536, "of the original length, not of the stretched one");
    for (scaling, says) in [
        ("4", "`rope_scaling` is not a JSON object"),
        ("{}", "`rope_scaling` stretches nothing"),
        (r#"{"rope_type": "yarn"}"#, "`rope_scaling.factor` is missing"),
        (r#"{"rope_type": "yarn", "factor": 0.5}"#, "`rope_scaling.factor` must be between"),
        (r#"{"rope_type": "yarn", "factor": 1e5}"#, "`max_position_embeddings`"),
        (r#"{"rope_type": "dynamic", "factor": 2}"#, "`rope_scaling.rope_type`"),
        (r#"{"rope_type": "yarn", "factor": 2, "colour": 1}"#, "colour"),
    ] {
        let error = config.clone().stretched(scaling).unwrap_err().to_string();
        assert!(error.contains(says), "{scaling}: {error}");
    }
}

#[test]
fn both_rope_spellings_mean_the_same_and_are_written() {
    let old = read(&smollm3()).unwrap();
    let mut new = smollm3();
    let map = new.as_object_mut().unwrap();
    map.remove("rope_theta");
    map.insert("rope_parameters".into(), json!({"rope_theta": 5000000, "rope_type": "default"}));
    assert_eq!(read(&new).unwrap(), old);
    let written: Value = serde_json::from_str(&old.to_json("bfloat16")).unwrap();
    assert_eq!(written["rope_theta"], written["rope_parameters"]["rope_theta"]);
    assert_eq!((&written["dtype"], &written["torch_dtype"]), (&json!("bfloat16"), &json!("bfloat16")));
    assert_eq!(read(&written).unwrap(), old);
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    for (field, value) in [
        ("model_type", json!("mamba")),
        ("hidden_act", json!("gelu")),
        ("attention_dropout", json!(0.1)),
        ("layer_types", json!(["full_attention"])),
        ("layer_types", json!(vec!["chunked_attention"; 36])),
        ("layer_types", json!(vec!["linear_attention"; 36])),
        ("layer_types", json!(3)),
        ("rope_scaling.factor", json!({"type": "default", "factor": 2.0})),
        ("rope_scaling.rope_type", json!({"rope_type": "longrope"})),
        ("rope_scaling.factor", json!({"type": "yarn"})),
        ("rope_scaling.factor", json!({"type": "linear", "factor": 0.0})),
        ("rope_scaling.original_max_position_embeddings", json!({"type": "yarn", "factor": 4.0})),
        ("rope_scaling.short_factor", json!({"type": "linear", "factor": 4.0, "short_factor": [1]})),
        ("rope_scaling", json!("yarn")),
        ("rope_parameters.full_attention", json!({"full_attention": {"rope_theta": 1e4}})),
        ("rope_parameters.rope_theta", json!({"rope_theta": 1e4})),
        ("quantization_config", json!({"bits": 4})),
        ("quantization", json!({"bits": 4, "group_size": 64})),
        ("hidden_size", json!("2048")),
        ("hidden_size", json!(-1)),
        ("vocab_size", json!(1_u64 << 60)),
        ("num_hidden_layers", json!(1_u64 << 60)),
        ("no_rope_layers", json!([1, 0])),
        ("eos_token_id", json!([1, 200_000])),
        ("eos_token_id", json!("</s>")),
    ] {
        let mut config = smollm3();
        config[field.split('.').next().unwrap()] = value;
        let error = read(&config).expect_err(field);
        assert!(matches!(&error, Error::Field { source, .. } if source.field == field), "{field}: {error}");
        let text = error.to_string();
        assert!(text.starts_with("m/config.json: `") && !text.contains('\n') && text.len() < 300, "{text}");
    }
    for field in
        ["hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size"]
    {
        let mut config = smollm3();
        config.as_object_mut().unwrap().remove(field);
        assert!(read(&config).unwrap_err().to_string().contains(field));
    }
}

#[test]
fn what_tools_leave_behind_changes_nothing() {
    let mut config = smollm3();
    let left = json!({"auto_map": {"AutoConfig": "configuration_smollm3.SmolLM3Config"},
        "_attn_implementation_autoset": true, "attn_implementation": "sdpa", "_attn_implementation": "eager",
        "tokenizer_class": "PreTrainedTokenizerFast", "id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0},
        "unsloth_version": "2025.8.1", "unsloth_fixed": true, "_commit_hash": "abc"});
    config.as_object_mut().unwrap().extend(left.as_object().unwrap().clone());
    assert_eq!(read(&config).unwrap(), read(&smollm3()).unwrap());
}

#[test]
fn quantised_weights_are_refused_and_their_shape_is_not() {
    let mut config = smollm3();
    config["quantization_config"] = json!({"quant_method": "fp8", "weight_block_size": [128, 128]});
    let error = read(&config).unwrap_err().to_string();
    assert!(error.contains("stored as fp8: convert them to bf16 first"), "{error}");
    let shape = ModelConfig::shape_from_json(Path::new("m/config.json"), config.to_string().as_bytes());
    assert_eq!(shape.unwrap(), read(&smollm3()).unwrap());
    config["quantization_config"] = Value::Null;
    assert_eq!(read(&config).unwrap(), read(&smollm3()).unwrap());
}

#[test]
fn tokens_may_be_absent_one_or_many() {
    let mut config = smollm3();
    config["eos_token_id"] = json!([1, 2]);
    config["pad_token_id"] = json!(-1);
    let config = read(&config).unwrap();
    assert_eq!((&config.eos_token_id[..], config.pad_token_id), (&[1, 2][..], None));
    assert_eq!(read(&serde_json::from_str(&config.to_json("float32")).unwrap()).unwrap(), config);
}

#[test]
fn broken_files_are_one_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.json");
    assert!(matches!(ModelConfig::load(&path), Err(Error::File(_))));
    for bytes in [&b""[..], b"[]", b"{\"a\":", b"\xff\xfe", &vec![b'['; 1000], &vec![b' '; (1 << 20) + 1]] {
        std::fs::write(&path, bytes).unwrap();
        let error = ModelConfig::load(&path).unwrap_err();
        assert!(matches!(error, Error::Json { .. }), "{error}");
        assert_eq!(error.exit(), Exit::BadInput);
    }
}

#[test]
fn corpus_replays() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/config");
    let mut replayed = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        crate::fuzz_config(&std::fs::read(entry.unwrap().path()).unwrap());
        replayed += 1;
    }
    assert!(replayed > 10, "{replayed} inputs");
}

proptest! {
    #[test]
    fn any_bytes_and_any_change_never_panic(noise in proptest::collection::vec(any::<u8>(), 0..64), at in 0_usize..900) {
        crate::fuzz_config(&noise);
        let mut text = smollm3().to_string().into_bytes();
        let at = at.min(text.len());
        text.splice(at..at, noise.iter().copied().take(4));
        crate::fuzz_config(&text);
        text.truncate(at);
        crate::fuzz_config(&text);
    }

    #[test]
    fn any_number_in_any_place_of_any_type_reads_back_or_is_refused(
        model in any::<proptest::sample::Index>(),
        place in any::<proptest::sample::Index>(),
        number in prop_oneof![any::<u64>().prop_map(|n| json!(n)), (0_u64..300).prop_map(|n| json!(n)),
            any::<f64>().prop_map(|n| json!(n)), any::<i64>().prop_map(|n| json!(n))],
    ) {
        let mut config = model.get(&models()).clone();
        let places = leaves(&config, String::new());
        if let Some(leaf) = config.pointer_mut(place.get::<String>(&places)) {
            *leaf = number;
        }
        crate::fuzz_config(config.to_string().as_bytes());
    }
}

/// A configuration of each type: those of the golden models, and one that only smolt has.
fn models() -> Vec<Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/models");
    let read = |entry: std::io::Result<std::fs::DirEntry>| {
        serde_json::from_slice(&std::fs::read(entry.unwrap().path().join("config.json")).unwrap()).unwrap()
    };
    let mut all: Vec<Value> = std::fs::read_dir(folder).unwrap().map(read).collect();
    let mut ours =
        self::read(all.iter().find(|config| config["model_type"] == "deepseek_v3").unwrap()).unwrap();
    ours.model_type = ModelType::Smolt;
    all.push(serde_json::from_str(&ours.to_json("float32")).unwrap());
    all
}

/// Where a value has no further parts.
fn leaves(value: &Value, at: String) -> Vec<String> {
    match value {
        Value::Object(map) => {
            map.iter().flat_map(|(key, value)| leaves(value, format!("{at}/{key}"))).collect()
        }
        Value::Array(items) => {
            items.iter().enumerate().flat_map(|(i, value)| leaves(value, format!("{at}/{i}"))).collect()
        }
        _ => vec![at],
    }
}

#[test]
fn a_model_of_our_own_ignores_nothing_either() {
    for (file, says) in
        [("smolt-without-settings", "`smolt` is missing"), ("smolt-unknown-setting", "colour")]
    {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("corpus/config/{file}.json"));
        let error = ModelConfig::load(&file).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn what_transformers_ignores_or_changes_with_length_is_refused() {
    let mut gemma = models().into_iter().find(|config| config["model_type"] == "gemma3_text").unwrap();
    gemma["attn_logit_softcapping"] = json!(50.0);
    assert!(read(&gemma).unwrap_err().to_string().contains("`attn_logit_softcapping`"));
    let mut dynamic = smollm3();
    dynamic["rope_scaling"] =
        json!({"type": "dynamic", "factor": 2.0, "original_max_position_embeddings": 4096});
    assert!(read(&dynamic).unwrap_err().to_string().contains("`rope_scaling.type`"));
    // Windows of a SmolLM3 go to its layers without RoPE; here there are none.
    let mut plain = smollm3();
    plain["use_sliding_window"] = json!(true);
    plain["sliding_window"] = json!(4096);
    plain["no_rope_layers"] = json!(vec![1; 36]);
    plain.as_object_mut().unwrap().remove("layer_types");
    assert_eq!(read(&plain).unwrap().sliding_window, None);
}

/// What a file does not say is what transformers has then.
#[test]
fn what_is_left_out_is_the_default_of_transformers() {
    let with = |model_type: &str, more: Value| {
        let mut file = json!({"model_type": model_type, "hidden_size": 64, "intermediate_size": 64,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 128,
            "max_position_embeddings": 131_072, "moe_intermediate_size": 32});
        if !model_type.contains("moe") {
            file.as_object_mut().unwrap().remove("moe_intermediate_size");
        }
        file.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        read(&file)
    };
    assert!(!with("qwen3_moe", json!({})).unwrap().moe.unwrap().norm_topk_prob);
    for model_type in ["qwen2", "qwen3", "qwen3_moe"] {
        let used = json!({"use_sliding_window": true, "max_window_layers": 0});
        let window = |more: Value| with(model_type, more).unwrap().sliding_window;
        assert_eq!(window(used.clone()), Some(4096), "{model_type}");
        let null = json!({"use_sliding_window": true, "max_window_layers": 0, "sliding_window": null});
        assert_eq!(window(null), None, "{model_type}");
        assert_eq!(window(json!({})), None, "{model_type}");
    }
    let scaling = with("gpt_oss", json!({})).unwrap().rope_scaling.unwrap();
    assert_eq!((scaling.factor, scaling.truncate), (32.0, Some(false)));
    let plain = json!({"rope_parameters": {"rope_type": "default", "rope_theta": 150_000.0}});
    assert_eq!(with("gpt_oss", plain).unwrap().rope_scaling, None);
    let error = with("gpt_oss", json!({"rope_scaling": null})).unwrap_err().to_string();
    assert!(error.contains("rope_parameters"), "{error}");
}

#[test]
fn heads_that_are_left_out_are_those_of_transformers() {
    let heads = |model_type: &str, more: Value| {
        let mut file = json!({"model_type": model_type, "hidden_size": 1024, "intermediate_size": 64,
            "num_hidden_layers": 2, "num_attention_heads": 32, "vocab_size": 128, "max_position_embeddings": 64});
        if ["qwen3_moe", "deepseek_v3"].contains(&model_type) {
            file["moe_intermediate_size"] = json!(32);
        }
        file.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let config = read(&file).unwrap_or_else(|e| panic!("{model_type}: {e}"));
        (config.num_key_value_heads, config.head_dim)
    };
    for (model_type, key_value, head_dim) in [
        ("llama", 32, 32),
        ("smollm3", 4, 32),
        ("qwen2", 32, 32),
        ("qwen3", 32, 128),
        ("mistral", 8, 32),
        ("olmo2", 32, 32),
        ("gemma2", 4, 256),
        ("gemma3_text", 4, 256),
        ("mixtral", 8, 32),
        ("qwen3_moe", 4, 32),
        ("gpt_oss", 8, 64),
    ] {
        assert_eq!(heads(model_type, json!({})), (key_value, head_dim), "{model_type}");
        let null = json!({"num_key_value_heads": null});
        assert_eq!(heads(model_type, null), (32, head_dim), "{model_type}");
    }
    assert_eq!(heads("qwen2", json!({"num_attention_heads": 64})).0, 32, "whatever the query heads are");
}

#[test]
fn what_engines_cannot_compute_is_refused() {
    let file = |more: Value| {
        let mut file = smollm3();
        file["model_type"] = json!("gemma2");
        for field in ["no_rope_layer_interval", "no_rope_layers", "attention_bias", "mlp_bias", "hidden_act"]
        {
            file.as_object_mut().unwrap().remove(field);
        }
        file.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        file
    };
    let error = read(&file(json!({"attn_logit_softcapping": 1e-60}))).unwrap_err().to_string();
    assert!(error.contains("attn_logit_softcapping"), "{error}");
    let mut deepseek = models().into_iter().find(|m| m["model_type"] == "deepseek_v3").unwrap();
    for (field, value) in [("n_routed_experts", 256), ("n_group", 128), ("topk_group", 128)] {
        deepseek[field] = json!(value);
    }
    let error = read(&deepseek).unwrap_err().to_string();
    assert!(error.contains("moe.n_group") && error.contains("64"), "{error}");
}
