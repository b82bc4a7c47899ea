//! A run stopped and resumed ends as one that was not; what cannot be continued is refused.

use crate::world::World;
use serde_json::Value;
use smolt_run::error::Exit;
use smolt_tensor::Cpu;
use smolt_tensor::isa::Isa;
use std::fs;
use std::path::Path;

fn cpu(threads: usize) -> Cpu {
    Cpu::new(threads).unwrap()
}

/// A world with the finished run `whole`.
fn world() -> World {
    let world = World::new();
    let (summary, notes) = world.run(world.recipe(&[]), "whole", false, cpu(1));
    assert_eq!(summary.unwrap().step, 12);
    assert!(notes.is_empty(), "{notes:?}");
    world
}

/// Every metric but the speed; asserts that each step is there once, in order.
pub(crate) fn metrics(run: &Path) -> Vec<Value> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let steps: Vec<u64> = lines.iter().map(|line| line["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, (1..=12).collect::<Vec<_>>());
    for line in &mut lines {
        for timing in ["tokens_per_second", "data_wait_ms"] {
            assert!(line.as_object_mut().unwrap().remove(timing).is_some());
        }
    }
    lines
}

pub(crate) fn assert_same_end(world: &World, run: &str, what: &str) {
    for file in ["model.safetensors", "optimizer.safetensors", "state.json", "checksums.json", "config.json"]
    {
        let of = |run: &str| fs::read(world.path(run).join("checkpoints/step-12").join(file)).unwrap();
        assert!(of("whole") == of(run), "{what}: {file} differs");
    }
    assert_eq!(metrics(&world.path("whole")), metrics(&world.path(run)), "{what}");
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_resumed_run_ends_with_the_same_bytes() {
    let world = world();
    let losses: Vec<f64> =
        metrics(&world.path("whole")).iter().map(|m| m["loss"].as_f64().unwrap()).collect();
    assert!(losses[11] < losses[0], "{losses:?}");
    for (step, threads) in [(3, 1), (6, 2), (9, 1)] {
        world.killed("whole", step, "again");
        let (summary, notes) = world.run(world.recipe(&[]), "again", true, cpu(threads));
        assert_eq!(summary.unwrap().step, 12);
        assert!(notes.len() == 1 && notes[0].contains(&format!("step-{step}")), "{notes:?}");
        assert_same_end(&world, "again", &format!("resumed from {step} on {threads} threads"));
    }
    // Killed before the first checkpoint; killed while one was written; nothing left to do.
    let early = world.killed("whole", 0, "again");
    fs::create_dir(early.join("checkpoints/.step-3.partial")).unwrap();
    fs::write(early.join("checkpoints/.step-3.partial/model.safetensors"), b"half").unwrap();
    for _ in 0..2 {
        world.run(world.recipe(&[]), "again", true, cpu(1)).0.unwrap();
        assert_same_end(&world, "again", "resumed from nothing");
    }
    assert!(!early.join("checkpoints/.step-3.partial").exists());
}

#[test]
fn two_threads_change_no_byte() {
    let world = world();
    world.run(world.recipe(&[]), "two", true, cpu(2)).0.unwrap();
    assert_same_end(&world, "two", "two threads");
}

#[test]
fn recomputation_changes_no_byte_of_a_resumed_run() {
    let world = world();
    for setting in ["attention", "block"] {
        let set = format!("train.recompute={setting}");
        let recipe = || world.recipe(&[&set]);
        world.run(recipe(), setting, false, cpu(2)).0.unwrap();
        assert_same_end(&world, setting, setting);
        world.killed(setting, 6, "again");
        world.run(recipe(), "again", true, cpu(1)).0.unwrap();
        assert_same_end(&world, "again", setting);
        // The lock holds the whole recipe, what changes no result included.
        let failure = world.run(world.recipe(&[]), "again", true, cpu(1)).0.unwrap_err();
        assert!(failure.message.contains("train.recompute was"), "{failure}");
    }
}

#[test]
fn a_damaged_checkpoint_is_passed_over_and_said_so() {
    let world = world();
    let cut = |path: &Path| fs::write(path, &fs::read(path).unwrap()[..100]).unwrap();
    let remove = |path: &Path| fs::remove_file(path).unwrap();
    let empty = |path: &Path| fs::write(path, b"").unwrap();
    type Damage<'a> = &'a dyn Fn(&Path);
    let damages: [(&str, Damage<'_>); 8] = [
        ("model.safetensors", &flip),
        ("optimizer.safetensors", &flip),
        ("optimizer.safetensors", &cut),
        ("model.safetensors", &remove),
        ("state.json", &flip),
        ("checksums.json", &empty),
        ("checksums.json", &remove),
        ("config.json", &flip),
    ];
    for (i, (file, damage)) in damages.into_iter().enumerate() {
        let run = world.killed("whole", 9, "damaged");
        damage(&run.join("checkpoints/step-9").join(file));
        // The last steps of the others are the same; three of them are enough.
        let (summary, notes) = world.run(world.recipe(&[]), "damaged", true, cpu(1));
        summary.unwrap();
        assert!(notes[0].contains("damaged checkpoint") && notes[0].contains(file), "{notes:?}");
        assert!(notes[1].contains("resumed from") && notes[1].contains("step-6"), "{notes:?}");
        assert_same_end(&world, "damaged", &format!("damage {i} to {file}"));
        let events = fs::read_to_string(run.join("events.jsonl")).unwrap();
        assert!(events.contains(r#""event":"damaged""#), "{events}");
    }
    let run = world.killed("whole", 3, "damaged");
    flip(&run.join("checkpoints/step-3/model.safetensors"));
    let failure = world.run(world.recipe(&[]), "damaged", true, cpu(1)).0.unwrap_err();
    assert!(failure.exit == Exit::BadInput && failure.message.contains("no whole checkpoint"), "{failure}");
    assert!(run.join("checkpoints/step-3").exists(), "nothing is deleted");
}

#[test]
fn what_cannot_be_continued_is_refused() {
    let world = world();
    let run = world.killed("whole", 6, "changed");
    let refused = |sets: &[&str], resume, words: &[&str]| {
        let failure = world.run(world.recipe(sets), "changed", resume, cpu(1)).0.unwrap_err();
        assert!(failure.exit == Exit::BadInput && !failure.message.contains('\n'), "{failure}");
        assert!(words.iter().all(|word| failure.message.contains(word)), "{failure}");
    };
    refused(&[], false, &["changed", "--resume"]);
    refused(
        &["optimizer.learning_rate=0.002"],
        true,
        &["recipe.lock.toml", "optimizer.learning_rate was 0.001, now 0.002"],
    );
    refused(&["train.precision=bf16"], true, &["train.precision", "fp32", "bf16"]);
    refused(
        &["model.num_hidden_layers=3", "seed=8"],
        true,
        &["model.num_hidden_layers was 2, now 3", "seed was 7"],
    );

    // Without the lock the checkpoint itself still knows.
    fs::remove_file(run.join("recipe.lock.toml")).unwrap();
    refused(
        &["train.precision=bf16"],
        true,
        &["step-6", "precision fp32", "bf16", "set train.precision back"],
    );
    fs::remove_file(run.join("recipe.lock.toml")).unwrap();
    refused(&["data.intra_document_masking=false"], true, &["the data changed since this run started"]);
    fs::remove_file(run.join("recipe.lock.toml")).unwrap();
    world.write_shard("train", 3, 200);
    refused(&[], true, &["the data changed since this run started", "restore the shards"]);
    world.write_shard("train", 1, 200);
    world.run(world.recipe(&[]), "changed", true, cpu(1)).0.unwrap();
    assert_same_end(&world, "changed", "after all refusals");
}

/// A run that began with another's newest checkpoint does not need it any more, wherever the other has come to.
#[test]
fn a_run_goes_on_without_the_checkpoint_it_came_from() {
    let world = world();
    let from = |step: u64| format!("model.from=\"whole/checkpoints/step-{step}\"");
    world.run(world.recipe(&[&from(3)]), "branch", false, cpu(1)).0.unwrap();
    let whole = fs::read(world.path("branch/checkpoints/step-12/model.safetensors")).unwrap();
    world.killed("branch", 6, "later");
    fs::remove_dir_all(world.path("whole/checkpoints/step-3")).unwrap();
    world.run(world.recipe(&[&from(9)]), "later", true, cpu(1)).0.unwrap();
    assert!(fs::read(world.path("later/checkpoints/step-12/model.safetensors")).unwrap() == whole);
}

#[test]
fn another_instruction_set_is_told_but_goes_on() {
    let world = world();
    world.killed("whole", 9, "portable");
    let (summary, notes) = world.run(world.recipe(&[]), "portable", true, Cpu::with_isa(Isa::portable(), 1));
    assert_eq!(summary.unwrap().step, 12);
    if Isa::available().len() > 1 {
        assert!(notes[0].contains("this machine runs portable"), "{notes:?}");
    }
}

#[test]
fn old_checkpoints_go() {
    let world = World::new();
    let recipe = world.recipe(&["train.checkpoints_kept=2"]);
    world.run(recipe, "short", false, cpu(1)).0.unwrap();
    let mut left: Vec<String> = fs::read_dir(world.path("short/checkpoints"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["step-12", "step-9"]);
}

#[test]
fn a_recipe_that_was_refused_can_be_mended() {
    let world = World::new();
    for sets in [
        "data.tokenizer=\"none\"",
        "data.sources=[{name=\"a\",path=\"none.ds\"}]",
        "data.validation=[{name=\"a\",path=\"none.ds\"}]",
        "model.max_position_embeddings=16",
        "train.micro_batch_size=3",
        "schedule.decay_steps=12",
    ] {
        let failure = world.run(world.recipe(&[sets]), "mended", false, cpu(1)).0.unwrap_err();
        assert!(failure.exit == Exit::BadInput, "{sets}: {failure}");
    }
    world.run(world.recipe(&["train.train_steps=6"]), "mended", false, cpu(1)).0.unwrap();
}
