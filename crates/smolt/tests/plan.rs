//! `smolt plan`: counts of shipped recipes and of folders.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Ran, repository, smolt};
use serde_json::Value;

/// On a path that every machine has, so that the prediction is the same everywhere.
fn plan_what(what: &str, model: &str, more: &[&str]) -> Ran {
    let mut command = smolt();
    command.env("SMOLT_CPU", "portable").args(["plan", what]).arg(repository(model)).args(more);
    Ran::of(command)
}

fn plan(model: &str, more: &[&str]) -> Ran {
    let threads: &[&str] = if more.contains(&"--threads") { &[] } else { &["--threads", "2"] };
    plan_what("model", model, &[threads, more].concat())
}

fn json_of(ran: Ran) -> Value {
    serde_json::from_str(&ran.success()).unwrap()
}

#[test]
fn a_recipe_is_counted_before_anything_is_allocated() {
    insta::assert_snapshot!(plan("recipes/smollm3-3b/pretrain.toml", &[]).success());
}

#[test]
fn json_has_the_published_count() {
    let out = plan("recipes/smollm3-3b/pretrain.toml", &["--json", "--sequence-length", "8192"]).success();
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json["parameters"]["total"], 3_075_098_624_u64);
    assert_eq!(json["parameters"]["active"], json["parameters"]["total"]);
    assert_eq!(json["flops_per_token"]["sequence_length"], 8192);
    let error = json["errors"][0].as_str().unwrap();
    assert!(error.contains("positions from 4096 on are out of the trained range"), "{error}");
    let parts = json["training_memory"]["bytes"].as_object().unwrap();
    let sum: u64 = parts.values().map(|bytes| bytes.as_u64().unwrap()).sum();
    assert_eq!(json["training_memory"]["total"], sum);
}

#[test]
fn a_size_that_fits_no_tile_is_warned_of() {
    let out = plan("recipes/tests/kill-resume.toml", &["--set", "model.vocab_size=96"]).success();
    assert!(out.ends_with("warning: vocab_size = 96 is not a multiple of 128; 128 is\n"), "{out}");
}

#[test]
fn a_folder_is_counted_and_has_no_settings_to_change() {
    let folder = "tests/golden/models/llama";
    let json: Value = serde_json::from_str(&plan(folder, &["--json"]).success()).unwrap();
    let config = std::fs::read(repository(folder).join("config.json")).unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    let (vocab, d) = (config["vocab_size"].as_u64().unwrap(), config["hidden_size"].as_u64().unwrap());
    assert_eq!(json["parameters"]["embedding"], vocab * d);
    assert_eq!(json["training_memory"]["micro_batch_size"], 1);
    for (more, says) in
        [(["--set", "seed=1"], "give a recipe"), (["--sequence-length", "0"], "must be positive")]
    {
        let ran = plan(folder, &more);
        assert!(ran.code == Some(2) && ran.err.contains(says), "{}", ran.err);
    }
}

#[test]
fn what_cannot_be_planned_is_one_error_and_any_size_is_only_arithmetic() {
    let folder = "tests/golden/models/llama";
    let most = usize::MAX.to_string();
    for flag in ["--sequence-length", "--micro-batch-size", "--threads"] {
        let json: Value = serde_json::from_str(&plan(folder, &["--json", flag, &most]).success()).unwrap();
        assert!(json["training_memory"]["total"].as_u64().unwrap() > 1 << 40, "{flag}: {json}");
    }
    for (path, names) in [
        ("recipes/none.toml", "recipes/none.toml"),
        ("recipes/first-light/pipeline.toml", "pipeline.toml:"),
        ("docs", "docs/config.json"),
        ("tests/golden/models/llama/config.json", "config.json"),
    ] {
        let ran = plan(path, &[]);
        assert!(ran.code == Some(2) && ran.out.is_empty() && ran.err.contains(names), "{path}: {}", ran.err);
    }
}

#[test]
fn experts_and_latents_are_told() {
    let json = json_of(plan("tests/golden/models/deepseek_v3", &["--json"]));
    let parameters = json["parameters"].as_object().unwrap();
    let number = |name: &str| parameters[name].as_u64().unwrap();
    assert!(number("experts") > 0 && number("routers") > 0 && number("active") < number("total"));
    let parts = ["embedding", "attention", "mlp", "experts", "routers", "norms", "head"];
    assert_eq!(parts.map(number).iter().sum::<u64>(), number("total"));
    let experts = &json["experts"];
    let (all, active) = (experts["experts"].as_f64().unwrap(), experts["active_experts"].as_f64().unwrap());
    assert_eq!((&experts["sparsity"], &experts["granularity_alpha"]), (&(all / active).into(), &2.0.into()));
    let config = std::fs::read(repository("tests/golden/models/deepseek_v3/config.json")).unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    let latent = config["kv_lora_rank"].as_u64().unwrap() + config["qk_rope_head_dim"].as_u64().unwrap();
    assert_eq!(json["attention"]["cached_numbers_per_token_and_layer"], latent);
    let text = plan("tests/golden/models/deepseek_v3", &[]).success();
    assert!(
        text.contains("\nactive ") && text.contains("shared, sparsity") && text.contains("from a latent of")
    );
}

#[test]
fn masks_are_drawn_by_kind_of_layer() {
    let folder = "tests/golden/models/gemma3";
    insta::assert_snapshot!(plan_what("masks", folder, &["--documents", "3,5"]).success());
    let out = tempfile::tempdir().unwrap();
    let svg = out.path().join("masks.svg");
    let drawn = plan_what("masks", folder, &["--dual-chunk", "4,8,3"]).success();
    assert!(drawn.contains("  7 6 5 4 │ 7 6 5 4 │ 7 6 5 4 │ 3 2 1 0"), "{drawn}");
    let refused = plan_what("masks", folder, &["--dual-chunk", "8,8,3"]);
    assert!(
        refused.code == Some(2) && refused.err.contains("--dual-chunk: chunks of 8 tokens"),
        "{}",
        refused.err
    );
    let parallel = plan("tests/golden/models/llama", &["--tensor-parallel", "3"]).success();
    assert!(parallel.contains("does not divide among 3 devices"), "{parallel}");
    let json = json_of(plan_what("masks", folder, &["--json", "--svg", svg.to_str().unwrap()]));
    assert_eq!((&json["tokens"], &json["kinds"].as_array().unwrap().len()), (&16.into(), &2));
    // Token 15 of a window of 8 sees 8 to 15 (spec SCP-03).
    let sliding = &json["kinds"][1];
    assert_eq!((&sliding["sizes"]["sliding_window"], &sliding["layers"][0]), (&8.into(), &0.into()));
    assert_eq!(sliding["causal"]["rows"][15], "0000000011111111");
    assert_eq!(sliding["intra_document"]["rows"][7], "0000001100000000");
    let drawn = std::fs::read_to_string(&svg).unwrap();
    assert!(
        drawn.starts_with("<svg") && drawn.ends_with("</svg>") && drawn.contains("intra-document: 73 pairs")
    );
}

#[test]
fn a_recipe_says_which_mask_it_trains_with_and_long_windows_are_drawn_smaller() {
    let recipe = "recipes/smollm3-3b/pretrain.toml";
    let sets = [
        "model.model_type=\"smolt\"",
        "model.layer_types=[\"chunked_attention\",\"sliding_attention\"]",
        "model.attention_chunk_size=8192",
        "model.sliding_window=1024",
        "model.sink_tokens=1",
    ];
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    let out = plan_what("masks", recipe, &sets).success();
    assert!(out.contains("intra-document, as this recipe trains: "), "{out}");
    assert!(
        out.contains("chunks of 8192 tokens: the earlier ones of its own, drawn smaller; layers 0, 2, 4")
    );
    assert!(out.contains("the last 1024 tokens and the first 1 of the document, drawn smaller;"), "{out}");
}

#[test]
fn a_changed_model_is_matched_in_three_ways() {
    let recipe = "recipes/smollm3-3b/pretrain.toml";
    insta::assert_snapshot!(
        plan_what("match", recipe, &["--set", "model.tie_word_embeddings=false"]).success()
    );
    let json = json_of(plan_what("match", recipe, &["--json", "--set", "model.num_key_value_heads=16"]));
    let variants = json["variants"].as_array().unwrap();
    assert_eq!(variants[0]["verdict"], "too large: not ablated");
    assert_eq!(variants[1]["settings"], serde_json::json!({"model.num_hidden_layers": 33}));
    // The settings are a recipe's: with them the model is the one that was promised.
    for variant in variants {
        let settings = variant["settings"].as_object().unwrap();
        let settings = settings.iter().map(|(field, size)| format!("{field}={size}"));
        let settings: Vec<String> =
            settings.chain(["model.num_key_value_heads=16".to_owned()]).rev().collect();
        let sets: Vec<&str> = settings.iter().flat_map(|set| ["--set", set]).collect();
        let json = json_of(plan(recipe, &[&["--json"], &sets[..]].concat()));
        assert_eq!(json["parameters"]["total"], variant["parameters"], "{settings:?}");
    }
    let target = ["--json", "--baseline-parameters", "1000000000", "--set", "seed=1"];
    let json = json_of(plan_what("match", recipe, &target));
    assert_eq!(json["baseline"]["parameters"], 1_000_000_000);
    assert_eq!(json["variants"][1]["verdict"], "matched");
}

#[test]
fn masks_and_matches_refuse_what_they_cannot_do() {
    let most = usize::MAX.to_string();
    let folder = "tests/golden/models/llama";
    for (what, model, more, says) in [
        ("masks", folder, &["--tokens", "1"][..], "2 to 128 tokens"),
        ("masks", folder, &["--tokens", &most], "2 to 128 tokens"),
        ("masks", folder, &["--documents", &format!("{most},{most}")], "2 to 128 tokens"),
        ("masks", folder, &["--tokens", "16", "--documents", "6,9"], "add up to 15"),
        ("masks", folder, &["--documents", "0,9"], "must be positive"),
        ("masks", folder, &["--set", "seed=1"], "give a recipe"),
        ("match", folder, &["--set", "seed=1"], "is no recipe"),
        ("match", "recipes/none.toml", &["--set", "seed=1"], "recipes/none.toml"),
        ("match", "recipes/smollm3-3b/pretrain.toml", &[], "--set"),
    ] {
        let ran = plan_what(what, model, more);
        assert!(ran.code == Some(2) && ran.out.is_empty() && ran.err.contains(says), "{more:?}: {}", ran.err);
    }
}
