//! Hostile model folders: each a clear error, before anything large is allocated.

#![allow(clippy::unwrap_used)]

mod common;

use common::golden;
use smolt_model::folder::Loaded;
use smolt_model::safetensors::{File, Store, write};
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

/// The golden model `family` with `changes` to its configuration, and one more tensor beside its own.
fn changed(
    family: &str,
    changes: serde_json::Value,
    more: Option<(&str, &[usize], &[f32])>,
) -> tempfile::TempDir {
    let (from, dir) = (golden("models").join(family), tempfile::tempdir().unwrap());
    let mut config: serde_json::Value =
        serde_json::from_slice(&fs::read(from.join("config.json")).unwrap()).unwrap();
    config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    let name = "model.safetensors";
    match more {
        None => drop(fs::copy(from.join(name), dir.path().join(name)).unwrap()),
        Some((name, shape, data)) => {
            let one = |name: &str| format!("model-{name}-of-2.safetensors");
            fs::copy(from.join("model.safetensors"), dir.path().join(one("1"))).unwrap();
            write(&dir.path().join(one("2")), &[(name, shape, data, Store::F32)]).unwrap();
            let map = serde_json::json!({"weight_map": {"model.norm.weight": one("1"), name: one("2")}});
            fs::write(dir.path().join(INDEX), map.to_string()).unwrap();
        }
    }
    dir
}

#[test]
fn tensors_that_the_configuration_does_not_explain_are_refused() {
    let none = serde_json::json!({});
    let text = error(changed("llama_bias", serde_json::json!({"attention_bias": false}), None).path());
    assert!(text.contains("without 8 of the tensors (`model.layers.0.self_attn.k_proj.bias`, "), "{text}");
    assert!(text.contains(", …)"), "{text}");
    let text = error(changed("llama", serde_json::json!({"num_hidden_layers": 1}), None).path());
    assert!(text.contains("`model.layers.1.input_layernorm.weight`"), "{text}");
    let text = error(changed("deepseek_v3", serde_json::json!({"num_hidden_layers": 2}), None).path());
    assert!(
        text.contains("`model.layers.2.input_layernorm.weight`"),
        "not one that predicts a further token: {text}"
    );
    let text = error(changed("llama", none.clone(), Some(("model.norm.bias", &[1], &[0.0]))).path());
    assert!(text.contains("without 1 of the tensors (`model.norm.bias`)"), "{text}");
    let strange = format!("a\n{}", "b".repeat(1 << 16));
    let text = error(changed("llama", none, Some((&strange, &[1], &[0.0]))).path());
    assert!(text.contains("(`a\\nb") && text.len() < 500, "{text}");
}

#[test]
fn tensors_that_change_nothing_are_left_alone() {
    let none = serde_json::json!({});
    let same = |family: &str, more: (&str, &[usize], &[f32])| {
        let loaded = Loaded::load(changed(family, none.clone(), Some(more)).path()).unwrap();
        assert_eq!(
            loaded.weights,
            Loaded::load(&golden("models").join(family)).unwrap().weights,
            "{}",
            more.0
        );
    };
    same("llama", ("model.layers.0.self_attn.rotary_emb.inv_freq", &[1], &[1.0]));
    same("deepseek_v3", ("model.layers.3.eh_proj.weight", &[1], &[1.0]));
    let file = File::open(&golden("models/smollm3/model.safetensors")).unwrap();
    let shape = file.shapes().remove("model.embed_tokens.weight").unwrap();
    let mut copy = vec![0.0; shape.iter().product()];
    file.read_f32("model.embed_tokens.weight", &shape, &mut copy).unwrap();
    same("smollm3", ("lm_head.weight", &shape, &copy));
    copy[7] += 1.0;
    let text = error(changed("smollm3", none.clone(), Some(("lm_head.weight", &shape, &copy))).path());
    assert!(text.contains("`lm_head.weight`") && text.contains("`tie_word_embeddings`"), "{text}");
}
