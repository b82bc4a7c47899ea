//! Configurations written by transformers, in both spellings, and the tensors that belong to them.

#![allow(clippy::unwrap_used)]
use smolt_arch::config::{LayerType, RopeType};
use smolt_arch::parameters::parameters;
use smolt_arch::{ModelConfig, ModelType};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn folder(family: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(family)
}

/// Names and shapes in the header of `model.safetensors`.
fn tensors(folder: &Path) -> BTreeMap<String, Vec<usize>> {
    let bytes = std::fs::read(folder.join("model.safetensors")).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let shape = |value: &serde_json::Value| serde_json::from_value(value["shape"].clone()).unwrap();
    header
        .iter()
        .filter(|(name, _)| *name != "__metadata__")
        .map(|(name, v)| (name.clone(), shape(v)))
        .collect()
}

/// Every model in tests/golden.
fn models() -> Vec<PathBuf> {
    let folders = std::fs::read_dir(folder("models")).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<PathBuf> = folders.chain([folder("curve")]).collect();
    folders.sort();
    assert!(folders.len() > 16, "{folders:?}");
    folders
}

#[test]
fn both_spellings_are_the_same_model() {
    for folder in models() {
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let load =
            |file: &str| ModelConfig::load(&folder.join(file)).unwrap_or_else(|e| panic!("{name}: {e}"));
        let new = load("config.json");
        if name != "curve" {
            assert_eq!(new, load("config.v4.json"), "{name}");
            assert!(
                name.starts_with(new.model_type.as_str()) || new.model_type == ModelType::Gemma3,
                "{name}"
            );
        }
        let again = ModelConfig::from_json(Path::new("again"), new.to_json("float32").as_bytes()).unwrap();
        assert_eq!(again, new);
    }
}

#[test]
fn what_the_fixtures_vary_is_read() {
    let load = |name: &str| ModelConfig::load(&folder("models").join(name).join("config.json")).unwrap();
    let smollm3 = load("smollm3");
    assert_eq!((smollm3.rope_theta, &smollm3.no_rope_layers[..]), (5000.0, &[1, 0, 1, 1][..]));
    assert_eq!((smollm3.head_dim, &smollm3.eos_token_id[..]), (16, &[2][..]));
    assert!(smollm3.tie_word_embeddings && !load("llama").tie_word_embeddings);
    let slides =
        |name: &str| load(name).layer_types.iter().filter(|&&kind| kind == LayerType::Sliding).count();
    assert_eq!(["mistral", "llama", "qwen2"].map(slides), [load("mistral").num_hidden_layers, 0, 1]);
    assert!(load("gemma3").rope_local_base_freq.is_some() && load("gemma2").attn_logit_softcapping.is_some());
    assert_eq!(load("qwen3_moe").moe.unwrap().dense_layers, [1]);
    assert_eq!(load("llama_yarn").rope_scaling.unwrap().rope_type, RopeType::Yarn);
}

#[test]
fn tensors_are_the_ones_transformers_has() {
    for folder in models() {
        let config = ModelConfig::load(&folder.join("config.json")).unwrap();
        let ours: BTreeMap<_, _> = parameters(&config).into_iter().map(|p| (p.name, p.shape)).collect();
        assert_eq!(ours, tensors(&folder), "{}", folder.display());
        let elements: usize = ours.values().map(|shape| shape.iter().product::<usize>()).sum();
        assert_eq!(elements as u64, smolt_arch::count::parameters(&config).total());
    }
}
