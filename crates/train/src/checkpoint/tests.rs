//! Checkpoints written, listed, pruned, and damaged in every way.

use super::*;
use smolt_arch::ModelConfig;
use smolt_model::folder::Loaded;
use std::fs;

fn tiny() -> Loaded {
    let config = ModelConfig {
        hidden_size: 8,
        intermediate_size: 8,
        num_hidden_layers: 1,
        num_attention_heads: 2,
        num_key_value_heads: 1,
        head_dim: 4,
        vocab_size: 11,
        max_position_embeddings: 4,
        no_rope_layers: vec![1],
        layer_types: vec![smolt_arch::config::LayerType::Full],
        ..ModelConfig::default()
    };
    Loaded::fresh(config, 1)
}

fn state(step: u64) -> State {
    State {
        format_version: FORMAT_VERSION,
        step,
        next_sample: 4 * step,
        seed: 7,
        data_manifest: "abc".into(),
        data_begun: None,
        precision: "fp32".into(),
        isa: "portable".into(),
    }
}

/// Weights and moments that tell their step.
fn numbers(loaded: &Loaded, step: u64) -> [Vec<f32>; 3] {
    let fill = |k: f32| (0..loaded.weights.len()).map(|i| i as f32 * k + step as f32).collect();
    [fill(1.0), fill(0.5), fill(0.25)]
}

fn saved(run: &Path, step: u64) -> PathBuf {
    let loaded = tiny();
    let [weights, m, v] = numbers(&loaded, step);
    let extra = run.join("tokenizer.json");
    fs::write(&extra, "{}").unwrap();
    let state = state(step);
    let contents =
        Contents { model: &loaded.model, weights: &weights, m: &m, v: &v, state: &state, extras: &[extra] };
    save(run, &contents).unwrap()
}

fn steps(run: &Path) -> Vec<u64> {
    list(run).unwrap().into_iter().map(|(step, _)| step).collect()
}

#[test]
fn what_is_saved_is_restored() {
    let run = tempfile::tempdir().unwrap();
    let dir = saved(run.path(), 3);
    assert_eq!(verify(&dir).unwrap(), state(3));
    assert!(dir.join("tokenizer.json").exists() && Loaded::load(&dir).is_ok());
    let loaded = tiny();
    let zero = vec![0.0; loaded.weights.len()];
    let (mut w, mut m, mut v) = (zero.clone(), zero.clone(), zero);
    restore(&dir, &loaded.model, &mut w, &mut m, &mut v).unwrap();
    let want = numbers(&loaded, 3);
    for view in loaded.model.layout().views() {
        for (got, want) in [&w, &m, &v].into_iter().zip(&want) {
            assert_eq!(got[view.range.clone()], want[view.range.clone()], "{}", view.name);
        }
    }
    let other = Loaded::fresh(ModelConfig { intermediate_size: 10, ..loaded.model.config().clone() }, 1);
    let mut big = vec![0.0; other.weights.len()];
    let error = restore(&dir, &other.model, &mut big, &mut m, &mut v).unwrap_err().to_string();
    assert!(
        error.contains("gate_proj.weight`: has shape [8, 8], the configuration needs [10, 8]"),
        "{error}"
    );
}

#[test]
fn the_newest_are_kept_in_order_of_number() {
    let run = tempfile::tempdir().unwrap();
    assert!(list(run.path()).unwrap().is_empty());
    assert!(newest(run.path()).unwrap().0.is_none());
    for step in [9, 10, 100] {
        saved(run.path(), step);
    }
    assert_eq!(steps(run.path()), [9, 10, 100]);
    prune(run.path(), 0, 100).unwrap();
    assert_eq!(steps(run.path()).len(), 3);
    let partial = run.path().join("checkpoints/.step-11.partial");
    fs::create_dir(&partial).unwrap();
    prune(run.path(), 2, 100).unwrap();
    assert_eq!(steps(run.path()), [10, 100]);
    assert!(!partial.exists());
    // Damaged ones that a resumed run passed over do not count.
    prune(run.path(), 1, 10).unwrap();
    assert_eq!(steps(run.path()), [10, 100]);
}

#[test]
fn a_damaged_folder_of_the_same_step_is_written_anew() {
    let run = tempfile::tempdir().unwrap();
    let dir = saved(run.path(), 5);
    fs::write(dir.join("model.safetensors"), "damage").unwrap();
    assert!(newest(run.path()).unwrap().0.is_none());
    saved(run.path(), 5);
    assert_eq!(newest(run.path()).unwrap().0.unwrap().1.step, 5);
}

#[test]
fn every_damage_is_found_and_named() {
    let run = tempfile::tempdir().unwrap();
    let dir = saved(run.path(), 2);
    let names: Vec<String> = fs::read_dir(&dir).unwrap().map(|e| name_of(&e.unwrap().path())).collect();
    assert_eq!(names.len(), 6, "{names:?}");
    for name in names {
        let path = dir.join(&name);
        let whole = fs::read(&path).unwrap();
        let damages = [Vec::new(), whole[..whole.len() / 2].to_vec(), [&whole[..], b"x"].concat()];
        for damaged in damages {
            fs::write(&path, damaged).unwrap();
            let error = verify(&dir).unwrap_err().to_string();
            assert!(error.contains(&name) && !error.contains('\n'), "{name}: {error}");
        }
        fs::remove_file(&path).unwrap();
        assert!(verify(&dir).unwrap_err().to_string().contains(&name));
        fs::write(&path, whole).unwrap();
        verify(&dir).unwrap();
    }
}

/// Rewrites `state.json` as `text`, checksum included.
fn with_state(dir: &Path, text: &str) -> Result<State, Error> {
    fs::write(dir.join("state.json"), text).unwrap();
    let mut sums: Checksums = read_json(&dir.join("checksums.json")).unwrap();
    sums.files.insert("state.json".into(), smolt_run::hash::bytes(text.as_bytes()));
    write_json(&dir.join("checksums.json"), &sums).unwrap();
    verify(dir)
}

#[test]
fn files_of_another_version_or_place_are_refused() {
    let run = tempfile::tempdir().unwrap();
    let dir = saved(run.path(), 2);
    let json = |state: &State| serde_json::to_string(state).unwrap();
    assert!(with_state(&dir, &json(&state(2))).is_ok());
    let newer = json(&State { format_version: 2, ..state(2) });
    assert!(with_state(&dir, &newer).unwrap_err().to_string().contains("format_version 2"));
    let unknown = json(&state(2)).replace("\"seed\"", "\"sead\"");
    assert!(with_state(&dir, &unknown).unwrap_err().to_string().contains("sead"));
    with_state(&dir, &json(&state(2))).unwrap();

    let sums: Checksums = read_json(&dir.join("checksums.json")).unwrap();
    for name in ["../tokenizer.json", "/etc/passwd", "..\\x"] {
        let mut files = sums.files.clone();
        files.insert(name.into(), String::new());
        write_json(&dir.join("checksums.json"), &Checksums { format_version: 1, files }).unwrap();
        assert!(verify(&dir).unwrap_err().to_string().contains("outside the folder"), "{name}");
    }
    let mut files = sums.files;
    write_json(&dir.join("checksums.json"), &Checksums { format_version: 2, files: files.clone() }).unwrap();
    assert!(verify(&dir).unwrap_err().to_string().contains("checksums.json: format_version 2"));
    files.remove("optimizer.safetensors");
    write_json(&dir.join("checksums.json"), &Checksums { format_version: 1, files }).unwrap();
    assert!(
        verify(&dir).unwrap_err().to_string().contains("optimizer.safetensors: missing from checksums.json")
    );
}
