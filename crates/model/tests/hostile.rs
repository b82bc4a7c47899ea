//! Hostile model folders: each a clear error, before anything large is allocated.

#![allow(clippy::unwrap_used)]

mod common;

use common::golden;
use smolt_model::folder::Loaded;
use std::fs;
use std::path::Path;

const INDEX: &str = "model.safetensors.index.json";

fn copied(files: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in files {
        fs::copy(golden("models/smollm3").join(file), dir.path().join(file)).unwrap();
    }
    dir
}

fn error(dir: &Path) -> String {
    let text = Loaded::load(dir).err().unwrap().to_string();
    assert!(text.contains(dir.to_str().unwrap()) && !text.contains('\n'), "{text}");
    text
}

fn with_index(text: &str) -> String {
    let dir = copied(&["config.json", "model.safetensors"]);
    fs::write(dir.path().join(INDEX), text).unwrap();
    error(dir.path())
}

#[test]
fn indices_that_lie_are_refused() {
    for file in ["../model.safetensors", "/etc/passwd", "a\\b", "..", "sub/model.safetensors"] {
        let text =
            with_index(&serde_json::json!({"weight_map": {"a": file, "b": "model.safetensors"}}).to_string());
        assert!(text.contains(INDEX) && text.contains("points outside the folder"), "{text}");
    }
    for text in [r#"{"weight_map": {}}"#, r#"{"weight_map": {"a": 1}}"#] {
        assert!(with_index(text).contains("names no file"));
    }
    assert!(with_index("{}").contains("it has no `weight_map`"));
    assert!(with_index(r#"{"weight_map": {"#).contains(INDEX));
    assert!(with_index(r#"{"weight_map": {"a": "none.safetensors"}}"#).contains("none.safetensors"));
    assert!(with_index(r#"{"weight_map": {"a": ""}}"#).contains("read"));
}

#[test]
fn an_index_of_one_shard_loads() {
    let dir = copied(&["config.json", "model.safetensors"]);
    fs::rename(dir.path().join("model.safetensors"), dir.path().join("model-00001-of-00001.safetensors"))
        .unwrap();
    let map = serde_json::json!({"weight_map": {"model.norm.weight": "model-00001-of-00001.safetensors"}});
    fs::write(dir.path().join(INDEX), map.to_string()).unwrap();
    let plain = Loaded::load(&golden("models/smollm3")).unwrap();
    assert_eq!(Loaded::load(dir.path()).unwrap().weights, plain.weights);
}

#[test]
fn a_configuration_that_claims_terabytes_allocates_nothing() {
    let dir = copied(&["config.json", "model.safetensors"]);
    let path = dir.path().join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["intermediate_size"] = (1 << 20).into();
    config["hidden_size"] = (1 << 18).into();
    fs::write(&path, config.to_string()).unwrap();
    assert!(error(dir.path()).contains("the configuration needs"));
}

#[test]
fn missing_files_are_named() {
    assert!(error(copied(&["model.safetensors"]).path()).contains("config.json"));
    assert!(error(copied(&["config.json"]).path()).contains("model.safetensors"));
    let llama = copied(&["model.safetensors"]);
    fs::copy(golden("models/llama/config.json"), llama.path().join("config.json")).unwrap();
    assert!(error(llama.path()).contains("tensor `lm_head.weight`: missing from the file"));
}
