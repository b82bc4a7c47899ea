//! Configurations written by transformers, in both spellings, and the tensors that belong to them.

#![allow(clippy::unwrap_used)]
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

#[test]
fn both_spellings_are_the_same_model() {
    for (family, theta, rope) in [("llama", 10_000.0, [1, 1, 1, 1]), ("smollm3", 5000.0, [1, 0, 1, 1])] {
        let folder = folder("models").join(family);
        let new = ModelConfig::load(&folder.join("config.json")).unwrap();
        assert_eq!(new, ModelConfig::load(&folder.join("config.v4.json")).unwrap());
        assert_eq!(new.model_type.as_str(), family);
        assert_eq!((new.rope_theta, &new.no_rope_layers[..]), (theta, &rope[..]));
        assert_eq!(new.tie_word_embeddings, new.model_type == ModelType::SmolLm3);
        assert_eq!((new.head_dim, &new.eos_token_id[..]), (16, &[2][..]));
        let again = ModelConfig::from_json(Path::new("again"), new.to_json("float32").as_bytes()).unwrap();
        assert_eq!(again, new);
    }
}

#[test]
fn tensors_are_the_ones_transformers_has() {
    for family in ["models/llama", "models/smollm3", "curve"] {
        let folder = folder(family);
        let config = ModelConfig::load(&folder.join("config.json")).unwrap();
        let ours: BTreeMap<_, _> = parameters(&config).into_iter().map(|p| (p.name, p.shape)).collect();
        assert_eq!(ours, tensors(&folder), "{family}");
    }
}
