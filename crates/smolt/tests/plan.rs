//! `smolt plan`: counts of shipped recipes and of folders.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Ran, repository, smolt};
use serde_json::Value;

/// On a path that every machine has, so that the prediction is the same everywhere.
fn plan(model: &str, more: &[&str]) -> Ran {
    let mut command = smolt();
    command.env("SMOLT_CPU", "portable").args(["plan", "model"]).arg(repository(model));
    if !more.contains(&"--threads") {
        command.args(["--threads", "2"]);
    }
    command.args(more);
    Ran::of(command)
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
