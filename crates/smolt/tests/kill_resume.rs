//! A run that is killed, stopped or finds its newest checkpoint damaged ends as one that was left alone.

#![cfg(unix)]
#![allow(clippy::unwrap_used)]

mod common;

use common::{Ran, checkpoints, copy, files, flip, repository, sets, smolt};
use serde_json::Value;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

const STEPS: u64 = 160;

/// `recipes/tests/kill-resume.toml`, cut: 20 checkpoints, for a few kills to fit between.
fn train(out: &Path, threads: usize) -> Command {
    let mut command = smolt();
    command.arg("train").arg(repository("recipes/tests/kill-resume.toml")).arg("--out").arg(out);
    command.args(["--resume", "--threads", &threads.to_string()]);
    command.args(sets(&[
        "train.train_steps=160",
        "train.sequence_length=32",
        "train.checkpoint_interval=8",
        "train.validation_interval=40",
        "schedule.decay_steps=40",
    ]));
    command
}

fn spawn(out: &Path, threads: usize) -> Child {
    train(out, threads).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// The run that nothing disturbed. Made once, by two threads; other tests compare with it.
fn undisturbed() -> &'static Path {
    static RUN: OnceLock<tempfile::TempDir> = OnceLock::new();
    RUN.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        Ran::of(train(dir.path(), 2)).success();
        dir
    })
    .path()
}

/// Waits for a checkpoint newer than `known`; false when the run ended first.
fn await_checkpoint(child: &mut Child, out: &Path, known: u64) -> bool {
    loop {
        if checkpoints(out).last().is_some_and(|&step| step > known && step < STEPS) {
            return true;
        }
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Each line of metrics.jsonl without its speed.
fn metrics(run: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let line = |line| {
        let mut value: Value = serde_json::from_str(line).unwrap();
        for timing in ["tokens_per_second", "data_wait_ms"] {
            assert!(value.as_object_mut().unwrap().remove(timing).is_some());
        }
        value
    };
    text.lines().map(line).collect()
}

#[track_caller]
fn assert_as_undisturbed(run: &Path) {
    let steps: Vec<u64> = metrics(run).iter().map(|line| line["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, (1..=STEPS).collect::<Vec<_>>(), "each step once");
    assert_eq!(metrics(run), metrics(undisturbed()));
    let last = format!("checkpoints/step-{STEPS}");
    let (got, want) = (files(&run.join(&last)), files(&undisturbed().join(&last)));
    assert_eq!(got.keys().collect::<Vec<_>>(), want.keys().collect::<Vec<_>>());
    for (name, bytes) in &got {
        assert!(*bytes == want[name], "{name} differs");
    }
    for name in
        ["model.safetensors", "optimizer.safetensors", "state.json", "checksums.json", "tokenizer.json"]
    {
        assert!(got.contains_key(name), "{name}");
    }
}

fn killed(threads: usize) {
    let dir = tempfile::tempdir().unwrap();
    let mut kills = 0;
    while kills < 4 {
        let known = checkpoints(dir.path()).last().copied().unwrap_or(0);
        let mut child = spawn(dir.path(), threads);
        if !await_checkpoint(&mut child, dir.path(), known) {
            break;
        }
        // At another moment between two checkpoints each time.
        std::thread::sleep(Duration::from_millis(13 * kills));
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
    }
    assert!(kills >= 2, "a machine too busy to be killed in time: {kills} kills");
    let ran = Ran::of(train(dir.path(), threads));
    assert!(ran.err.contains("resumed from"), "{}", ran.err);
    ran.success();
    assert_as_undisturbed(dir.path());
}

#[test]
fn killed_on_one_thread() {
    killed(1);
}

#[test]
fn killed_on_two_threads() {
    killed(2);
}

fn stop(out: &Path, signal: &str) -> Option<i32> {
    let known = checkpoints(out).last().copied().unwrap_or(0);
    let mut child = spawn(out, 2);
    assert!(await_checkpoint(&mut child, out, known), "it ended before it could be stopped");
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
    child.wait().unwrap().code()
}

#[test]
fn signals_stop_after_a_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    for (signal, name, code) in [("-TERM", "SIGTERM", 143), ("-INT", "SIGINT", 130)] {
        assert_eq!(stop(dir.path(), signal), Some(code));
        let last = *checkpoints(dir.path()).last().unwrap();
        assert_eq!(metrics(dir.path()).len() as u64, last, "{name} loses no step");
        let events = std::fs::read_to_string(dir.path().join("events.jsonl")).unwrap();
        assert!(events.lines().last().unwrap().contains(name), "{events}");
    }
    Ran::of(train(dir.path(), 1)).success();
    assert_as_undisturbed(dir.path());
}

fn checkpoint(action: &str, run: &Path) -> Ran {
    let mut command = smolt();
    command.args(["checkpoint", action]).arg(run);
    Ran::of(command)
}

#[test]
fn damaged_checkpoints_are_named_and_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path();
    copy(undisturbed(), run);
    assert_eq!(checkpoints(run), [144, 152, 160]);
    let listed = checkpoint("list", run).success();
    assert_eq!(listed.matches("whole").count(), 3, "{listed}");
    checkpoint("verify", run).success();

    flip(&run.join("checkpoints/step-160/model.safetensors"));
    let optimizer = run.join("checkpoints/step-152/optimizer.safetensors");
    let bytes = std::fs::read(&optimizer).unwrap();
    std::fs::write(&optimizer, &bytes[..bytes.len() / 3]).unwrap();
    let ran = checkpoint("verify", run);
    assert_eq!(ran.code, Some(1));
    for name in ["step-160/model.safetensors", "step-152/optimizer.safetensors"] {
        assert!(ran.out.contains(name), "{}", ran.out);
    }
    checkpoint("list", run).success();

    let ran = Ran::of(train(run, 2));
    assert_eq!(ran.err.matches("passed over a damaged checkpoint").count(), 2, "{}", ran.err);
    assert!(ran.err.contains("step-160/model.safetensors") && ran.err.contains("step-144"), "{}", ran.err);
    ran.success();
    assert_as_undisturbed(run);
    checkpoint("verify", run).success();

    for step in checkpoints(run) {
        flip(&run.join(format!("checkpoints/step-{step}/state.json")));
    }
    let ran = Ran::of(train(run, 2));
    assert_eq!(ran.code, Some(2));
    assert!(ran.err.contains("no whole checkpoint is left"), "{}", ran.err);
}

#[test]
fn a_finished_run_has_nothing_to_do() {
    let dir = tempfile::tempdir().unwrap();
    copy(undisturbed(), dir.path());
    let ran = Ran::of(train(dir.path(), 1));
    assert!(ran.err.contains("step-160 holds the model after step 160"), "{}", ran.err);
    assert_as_undisturbed(dir.path());
}
