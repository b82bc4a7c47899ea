//! The recipes that are shipped.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Ran, repository, run, sets, smolt};
use smolt_arch::{ModelConfig, count};
use smolt_train::recipe::Train;

fn smollm3() -> Train {
    smolt_run::recipe::load(&repository("recipes/smollm3-3b/pretrain.toml"), &[]).unwrap()
}

#[test]
fn smollm3_3b_has_its_published_size() {
    let config: ModelConfig = smollm3().model.config().unwrap();
    assert_eq!(count::parameters(&config).total(), 3_075_098_624);
    assert_eq!((config.num_hidden_layers, config.num_key_value_heads, config.head_dim), (36, 4, 128));
    assert_eq!(
        config.no_rope_layers.iter().filter(|&&rope| rope == 0).count(),
        9,
        "every fourth has no RoPE"
    );
    assert_eq!(config.no_rope_layers[..4], [1, 1, 1, 0]);
}

#[test]
fn published_shapes_have_their_published_sizes() {
    for (name, size) in [
        ("llama-3.2-1b", 1_235_814_400),
        ("smollm2-135m", 134_515_008),
        ("smollm2-360m", 361_821_120),
        ("smollm2-1.7b", 1_711_376_384),
        ("qwen3-0.6b", 596_049_920),
    ] {
        let path = repository(&format!("recipes/published/{name}.toml"));
        let mut recipe: Train = smolt_run::recipe::load(&path, &[]).unwrap();
        recipe.check().unwrap();
        recipe.model.max_position_embeddings = Some(recipe.train.sequence_length);
        assert_eq!(count::parameters(&recipe.model.config().unwrap()).total(), size, "{name}");
    }
}

#[test]
fn smollm3_3b_trains_on_its_published_tokens() {
    let recipe = smollm3();
    let t = &recipe.train;
    assert_eq!(t.global_batch_size * t.sequence_length, 2_359_296);
    assert_eq!(t.train_steps - recipe.schedule.decay_steps + 1, 4_198_001, "the first step of the decay");
    recipe.wsd().unwrap();
    recipe.batch_shape().unwrap();
}

/// 12 GB of weights alone: were they allocated first, this would take minutes or the machine.
#[test]
fn a_model_that_cannot_fit_is_refused_before_anything_is_allocated() {
    let dir = tempfile::tempdir().unwrap();
    let recipe = repository("recipes/smollm3-3b/pretrain.toml");
    // A larger batch than any machine holds, so that the test is the same everywhere.
    let args = ["train", recipe.to_str().unwrap(), "--out", dir.path().to_str().unwrap()];
    let batch = ["--set", "train.micro_batch_size=9216", "--set", "train.global_batch_size=9216"];
    let ran = run(args.iter().chain(&batch));
    assert_eq!(ran.code, Some(2), "{}", ran.err);
    assert!(
        ran.err.starts_with("error: this run needs about ") && ran.err.contains(" GiB are available; lower"),
        "{}",
        ran.err
    );
    assert_eq!(ran.err.lines().count(), 1);

    // The same for a shape that the tokenizer completes.
    let recipe = repository("recipes/tests/kill-resume.toml");
    let mut command = smolt();
    command.arg("train").arg(recipe).arg("--out").arg(dir.path()).args(sets(&[
        "model.hidden_size=65536",
        "model.intermediate_size=1048576",
        "model.num_attention_heads=64",
        "model.num_key_value_heads=64",
    ]));
    let ran = Ran::of(command);
    assert!(ran.code == Some(2) && ran.err.contains(" GiB are available; lower"), "{}", ran.err);
}
