//! `smolt ablate`: every recipe of a folder, every seed, once.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Ran, repository, smolt};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// Two recipes over a base, and a pipeline that makes their data.
fn folder(dir: &Path) {
    let data = dir.join("runs/data-of-it");
    let pipeline = fs::read_to_string(repository("recipes/toy/data.toml")).unwrap();
    let pipeline = pipeline.replace("vocab_size = 2048", "vocab_size = 300");
    let pipeline = pipeline.replace("name = \"toy-data\"", "name = \"data-of-it\"");
    fs::write(dir.join("toys/data.toml"), pipeline).unwrap();
    let base = format!(
        r#"
        [model]
        model_type = "llama"
        hidden_size = 16
        intermediate_size = 32
        num_hidden_layers = 1
        num_attention_heads = 2
        num_key_value_heads = 1
        [data]
        tokenizer = "{data}/tokenizer/base"
        sources = [{{ name = "prose", path = "{data}/tokens/prose.ds" }}]
        validation = [{{ name = "code", path = "{data}/tokens/code-held-out.ds" }}]
        [optimizer]
        [schedule]
        [train]
        train_steps = 2
        sequence_length = 64
        global_batch_size = 2
        micro_batch_size = 2
        "#,
        data = data.display()
    );
    fs::write(dir.join("toys/base.toml"), base).unwrap();
    fs::write(dir.join("toys/mha.toml"), "extends = \"base.toml\"\n[model]\nnum_key_value_heads = 2\n")
        .unwrap();
    fs::write(dir.join("toys/mqa.toml"), "extends = \"base.toml\"\n").unwrap();
}

fn ablate(dir: &Path, more: &[&str]) -> Ran {
    let mut command = smolt();
    command.current_dir(dir).arg("ablate").arg(dir.join("toys")).arg("--out").arg(dir.join("out")).args(more);
    Ran::of(command)
}

#[test]
fn recipes_are_trained_once_per_seed_and_tabulated() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::create_dir(dir.join("toys")).unwrap();
    folder(dir);
    let out = ablate(dir, &["--seeds", "2", "--json"]).success();
    let rows: Vec<Value> = serde_json::from_str(&out).unwrap();
    let names: Vec<&str> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["mha", "mqa"]);
    assert!(rows[0]["parameters"].as_u64() > rows[1]["parameters"].as_u64());
    let of = |name: &str, seed: u64| {
        let file = dir.join(format!("out/{name}/seed-{seed}/result.json"));
        serde_json::from_slice::<Value>(&fs::read(file).unwrap()).unwrap()["bits_per_byte"]["code"]
            .as_f64()
            .unwrap()
    };
    let bits = [of("mha", 1), of("mha", 2)];
    assert_ne!(bits[0], bits[1]);
    let found = &rows[0]["bits_per_byte"]["code"];
    let close = |found: &Value, want: f64| (found.as_f64().unwrap() - want).abs() < 1e-9;
    assert!(close(&found["mean"], (bits[0] + bits[1]) / 2.0), "{found} of {bits:?}");
    assert!(close(&found["deviation"], (bits[0] - bits[1]).abs() / 2f64.sqrt()), "{found} of {bits:?}");
    assert!(rows.iter().all(|row| row["tokens_per_second"]["mean"].as_f64() > Some(0.0)));
    let table = fs::read_to_string(dir.join("out/results.md")).unwrap();
    assert_eq!(table.lines().count(), 4, "{table}");

    // The same again trains nothing; a damaged result is made again from the run beside it.
    let stamp = |name: &str| fs::metadata(dir.join(name)).unwrap().modified().unwrap();
    let (run, other) = ("out/mha/seed-1/result.json", "out/mqa/seed-2/result.json");
    let before = (stamp(run), stamp(other));
    fs::write(dir.join(other), "{").unwrap();
    let again: Vec<Value> =
        serde_json::from_str(&ablate(dir, &["--seeds", "2", "--json"]).success()).unwrap();
    assert_eq!((stamp(run), &again[0]["bits_per_byte"]), (before.0, &rows[0]["bits_per_byte"]));
    assert_eq!(again[1]["bits_per_byte"], rows[1]["bits_per_byte"]);

    let one: Vec<Value> =
        serde_json::from_str(&ablate(dir, &["--seeds", "1", "--only", "mqa", "--json"]).success()).unwrap();
    assert_eq!(one.len(), 1);
}

#[test]
fn what_cannot_be_compared_is_said_before_anything_is_trained() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::create_dir(dir.join("toys")).unwrap();
    let fails = |more: &[&str], says: &str| {
        let ran = ablate(dir, more);
        assert!(ran.code == Some(2) && ran.err.contains(says), "{:?}: {}", ran.code, ran.err);
        assert!(!dir.join("out").exists());
    };
    fails(&[], "holds no recipe");
    folder(dir);
    fails(&["--seeds", "0"], "--seeds must be positive");
    fails(&["--only", "gqa"], "there are mha, mqa");
    fs::write(dir.join("toys/wrong.toml"), "extends = \"base.toml\"\n[model]\nqk_norm = \"head\"\n").unwrap();
    fails(&[], "wrong.toml: [model]: `qk_norm`");
    fs::remove_dir_all(dir.join("toys")).unwrap();
    fails(&[], "toys");
}
