//! Checkpoints evaluated as they appear: beside the training, and between its steps.

#![cfg(unix)]
#![allow(clippy::unwrap_used)]

mod common;

use common::{Ran, checkpoints, copy, files, repository, sets, smolt};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

const STEPS: [u64; 3] = [4, 8, 12];

/// `recipes/tests/kill-resume.toml`, cut to three checkpoints.
fn train(out: &Path) -> Command {
    let mut command = smolt();
    command.arg("train").arg(repository("recipes/tests/kill-resume.toml")).arg("--out").arg(out);
    command.args(["--threads", "1"]).args(sets(&[
        "train.train_steps=12",
        "train.sequence_length=32",
        "train.checkpoint_interval=4",
        "train.checkpoints_kept=0",
        "train.validation_interval=12",
        "schedule.warmup_steps=2",
        "schedule.decay_steps=4",
    ]));
    command
}

/// A run that nobody watched.
fn trained() -> &'static Path {
    static RUN: OnceLock<tempfile::TempDir> = OnceLock::new();
    RUN.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        Ran::of(train(dir.path())).success();
        dir
    })
    .path()
}

/// A task of twelve items in both formulations of likelihood.
fn task(dir: &Path) -> PathBuf {
    task_of(dir, "toy", 12)
}

fn task_of(dir: &Path, name: &str, items: usize) -> PathBuf {
    let item = |i: usize| {
        let choices: Vec<String> = (0..3).map(|c| format!("word{} {}", (i + c) % 5, "x".repeat(c))).collect();
        serde_json::json!({"question": format!("What is {i}?"), "choices": choices, "answer": i % 3})
            .to_string()
            + "\n"
    };
    let rows = dir.join(format!("{name}.jsonl"));
    std::fs::write(&rows, (0..items).map(item).collect::<String>()).unwrap();
    let text = format!(
        "name = {name:?}\n[dataset]\npath = {rows:?}\n[item]\nprompt = \"Question: {{{{ question }}}}\\nAnswer:\"\n\
         choices = \"choices\"\nanswer = \"answer\"\n[cloze]\n[multiple_choice]\n"
    );
    let path = dir.join(format!("{name}.toml"));
    std::fs::write(&path, text).unwrap();
    path
}

fn watch(run: &Path, task: &Path, more: &[&str]) -> Command {
    let mut command = smolt();
    command.args(["eval", "watch"]).arg(run).arg("--task").arg(task);
    command.args(["--limit", "6", "--threads", "1", "--interval", "0.05"]).args(more);
    command
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn steps(path: &Path) -> Vec<u64> {
    lines(path).iter().map(|line| line["step"].as_u64().unwrap()).collect()
}

fn results(evals: &Path, step: u64) -> Value {
    let text = std::fs::read(evals.join(format!("step-{step}/results.json"))).unwrap();
    serde_json::from_slice(&text).unwrap()
}

#[test]
fn each_checkpoint_is_evaluated_once() {
    let dir = tempfile::tempdir().unwrap();
    let (run, task) = (dir.path().join("run"), task(dir.path()));
    copy(trained(), &run);
    let evals = run.join("evals");
    let said = Ran::of(watch(&run, &task, &["--once"])).success();
    assert_eq!(steps(&evals.join("watch.jsonl")), [12, 8, 4], "newest first");
    assert_eq!(said.lines().count(), 3, "{said}");
    for step in STEPS {
        let results = results(&evals, step);
        let tasks = results["tasks"].as_array().unwrap();
        assert_eq!((tasks.len(), &results["model"]["step"]), (2, &step.into()));
        assert_eq!(results["model"]["tokens_seen"], step * 16 * 32);
        assert_eq!(tasks[0]["scores"]["items"], 6);
    }
    let log = lines(&evals.join("watch.jsonl"));
    assert_eq!(log.iter().map(|line| line["backlog"].as_u64().unwrap()).collect::<Vec<_>>(), [2, 1, 0]);
    assert!(log.iter().all(|line| line["seconds"].as_f64().unwrap() > 0.0));
    Ran::of(watch(&run, &task, &["--once"])).success();
    assert_eq!(lines(&evals.join("watch.jsonl")).len(), 3, "what is there is not asked again");
    let other = dir.path().join("other");
    let more = ["--out", other.to_str().unwrap(), "--every", "8", "--order", "oldest"];
    Ran::of(watch(&run, &task, &more)).success();
    assert_eq!(steps(&other.join("watch.jsonl")), [8, 12], "the last of a run that has ended counts");
    assert_eq!(results(&other, 8)["tasks"][0]["scores"], results(&evals, 8)["tasks"][0]["scores"]);
}

#[test]
fn results_of_another_run_or_of_other_rows_settle_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (run, other, task) = (dir.path().join("run"), dir.path().join("other"), task(dir.path()));
    copy(trained(), &run);
    let mut train = train(&other);
    Ran::of({
        train.args(sets(&[
            "seed=12",
            "schedule.warmup_steps=1",
            "schedule.decay_steps=1",
            "train.train_steps=4",
        ]));
        train
    })
    .success();
    let out = dir.path().join("out");
    let given = ["--out", out.to_str().unwrap(), "--once", "--every", "4"];
    Ran::of(watch(&run, &task, &given)).success();
    let refused = Ran::of(watch(&other, &task, &given));
    assert!(refused.code == Some(2) && refused.err.contains("results of another model"), "{refused:?}");
    let before = results(&out, 4);
    task_of(dir.path(), "toy", 9);
    Ran::of(watch(&run, &task, &given)).success();
    let after = results(&out, 4);
    assert_ne!(after["tasks"][0]["dataset"]["hash"], before["tasks"][0]["dataset"]["hash"]);
    std::fs::remove_file(out.join("step-4/report.html")).unwrap();
    Ran::of(watch(&run, &task, &given)).success();
    assert!(out.join("step-4/report.html").exists(), "a step is done when its report stands");
}

#[test]
fn a_plan_schedules_a_watcher_as_it_does_a_training() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    copy(trained(), &run);
    let schedule = format!("contamination = true\n[schedule]\nmultiple_choice_at_tokens = {}\n", 8 * 16 * 32);
    let plan = plan(dir.path(), &schedule);
    let watch = || {
        let mut command = smolt();
        command.args(["eval", "watch"]).arg(&run).arg("--plan").arg(&plan);
        Ran::of({
            command.args(["--once", "--order", "oldest", "--threads", "1"]);
            command
        })
        .success()
    };
    watch();
    let evals = run.join("evals");
    let asked = |step| results(&evals, step)["tasks"].as_array().unwrap().len();
    assert_eq!(STEPS.map(asked), [1, 2, 2], "lettered options from 8 steps' tokens on");
    for task in STEPS.iter().flat_map(|&step| results(&evals, step)["tasks"].as_array().unwrap().clone()) {
        assert!(
            task["contamination"]["searched"]["shards"].as_array().is_some_and(|s| s.len() == 2),
            "{task}"
        );
    }
    watch();
    assert_eq!(lines(&evals.join("watch.jsonl")).len(), 3, "all of it is done");
}

#[test]
fn a_watcher_ends_with_its_run() {
    let dir = tempfile::tempdir().unwrap();
    let (run, task) = (dir.path().join("run"), task(dir.path()));
    let mut training = train(&run);
    training.args(sets(&["train.train_steps=60"]));
    let mut training = training.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while checkpoints(&run).is_empty() && training.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(5));
    }
    Ran::of(watch(&run, &task, &["--order", "oldest"])).success();
    assert!(training.wait().unwrap().success());
    assert_eq!(steps(&run.join("evals/watch.jsonl")), checkpoints(&run));
    assert_eq!(checkpoints(&run).len(), 15);
}

#[test]
fn checkpoints_that_vanish_or_are_damaged_are_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let (run, task) = (dir.path().join("run"), task(dir.path()));
    copy(trained(), &run);
    let (damaged, vanishing) = (run.join("checkpoints/step-8"), run.join("checkpoints/step-12"));
    common::flip(&damaged.join("model.safetensors"));
    // A pipe instead of the weights: who reads them waits for the other end.
    let weights = vanishing.join("model.safetensors");
    std::fs::remove_file(&weights).unwrap();
    assert!(Command::new("mkfifo").arg(&weights).status().unwrap().success());
    let mut watching = watch(&run, &task, &[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Opens as soon as the watcher, whose log tells of nothing yet, is in the midst of reading the newest checkpoint.
    let other_end = std::thread::spawn(move || std::fs::File::options().write(true).open(weights).unwrap());
    while !other_end.is_finished() {
        assert!(watching.try_wait().unwrap().is_none(), "it ended without reading the newest checkpoint");
        std::thread::sleep(Duration::from_millis(5));
    }
    std::fs::remove_dir_all(&vanishing).unwrap();
    drop(other_end.join().unwrap());
    let ended = watching.wait_with_output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(ended.status.success(), "{said}");
    assert!(said.contains("step 12 is passed over: it was pruned while it was read"), "{said}");
    assert!(said.contains("step 8 is passed over: ") && said.contains("checksum"), "{said}");
    assert_eq!(steps(&run.join("evals/watch.jsonl")), [4]);
}

#[test]
fn a_signal_ends_it_between_tasks() {
    let dir = tempfile::tempdir().unwrap();
    let (run, task) = (dir.path().join("run"), task(dir.path()));
    copy(trained(), &run);
    let mut watching =
        watch(&run, &task, &["--stay"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while lines_so_far(&run) == 0 && watching.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let second = Ran::of(watch(&run, &task, &["--once"]));
    assert!(second.code == Some(2) && second.err.contains("in use"), "{second:?}");
    let process = watching.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &process]).status().unwrap().success());
    assert_eq!(watching.wait().unwrap().code(), Some(143));
    Ran::of(watch(&run, &task, &["--once"])).success();
    let mut all = steps(&run.join("evals/watch.jsonl"));
    all.sort_unstable();
    assert_eq!(all, STEPS, "what was left is asked by the next, nothing twice");
}

fn lines_so_far(run: &Path) -> usize {
    std::fs::read_to_string(run.join("evals/watch.jsonl")).unwrap_or_default().matches('\n').count()
}

#[test]
fn wrong_arguments_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let task = task(dir.path());
    let nowhere = Ran::of(watch(&dir.path().join("nowhere"), &task, &[]));
    assert!(nowhere.code == Some(2) && nowhere.err.contains("no such run"), "{nowhere:?}");
    let never = Ran::of(watch(dir.path(), &task, &["--every", "0"]));
    assert!(never.code == Some(2) && never.err.contains("--every"), "{never:?}");
    let mut nothing = smolt();
    nothing.args(["eval", "watch"]).arg(dir.path());
    let nothing = Ran::of(nothing);
    assert!(nothing.code == Some(2) && nothing.err.contains("--task"), "{nothing:?}");
}

fn plan(dir: &Path, more: &str) -> PathBuf {
    task(dir);
    let path = dir.join("plan.toml");
    std::fs::write(&path, format!("tasks = [\"toy.toml\"]\nlimit = 6\n{more}")).unwrap();
    path
}

fn events(run: &Path, name: &str) -> Vec<Value> {
    lines(&run.join("events.jsonl")).into_iter().filter(|line| line["event"] == name).collect()
}

#[test]
fn evaluation_between_steps_changes_no_bit_and_tells_its_cost() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let schedule = format!("[schedule]\nmultiple_choice_at_tokens = {}\n", 8 * 16 * 32);
    let mut command = train(&run);
    command.arg("--evaluate").arg(plan(dir.path(), &schedule));
    let ended = Ran::of(command);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(
        ended.err.contains("evaluation took ") && ended.err.contains("of the wall time"),
        "{}",
        ended.err
    );
    let last = "checkpoints/step-12";
    assert!(files(&run.join(last)) == files(&trained().join(last)), "the same bytes as without");
    let told = events(&run, "evaluation");
    assert_eq!(told.iter().map(|e| e["detail"]["step"].as_u64().unwrap()).collect::<Vec<_>>(), STEPS);
    assert!(told.iter().all(|e| (0.0..1.0).contains(&e["detail"]["share_of_wall_time"].as_f64().unwrap())));
    let asked = |step| results(&run.join("evals"), step)["tasks"].as_array().unwrap().len();
    assert_eq!(STEPS.map(asked), [1, 2, 2], "lettered options from 8 steps' tokens on");
    let warned = told[1]["detail"]["warnings"].to_string();
    assert!(warned.contains("toy.multiple_choice"), "nobody measured letters before: {warned}");
}

#[test]
fn a_failed_evaluation_does_not_end_the_training() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let mut command = train(&run);
    command.arg("--evaluate").arg(plan(dir.path(), "few_shot = 1000\nevery = 8\n"));
    let ended = Ran::of(command);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(ended.err.contains("training goes on") && ended.err.contains("2 failed"), "{}", ended.err);
    let told = events(&run, "evaluation_failed");
    assert_eq!(told.iter().map(|e| e["detail"]["step"].as_u64().unwrap()).collect::<Vec<_>>(), [8, 12]);
    assert!(told[0]["detail"]["reason"].as_str().unwrap().contains("few_shot"), "{told:?}");
    let last = "checkpoints/step-12";
    assert!(files(&run.join(last)) == files(&trained().join(last)));
}

#[test]
fn a_wrong_plan_is_refused_before_the_first_step() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    for (text, said) in [
        ("tasks = []", "at least one task"),
        ("tasks = [\"no_such_task\"]", "no_such_task"),
        ("tasks = [\"toy.toml\"]\nlimitt = 5", "limitt"),
    ] {
        let path = plan(dir.path(), "");
        std::fs::write(&path, text).unwrap();
        let mut command = train(&run);
        command.arg("--evaluate").arg(&path);
        let ended = Ran::of(command);
        assert!(ended.code == Some(2) && ended.err.contains(said), "{ended:?}");
        assert!(!run.exists());
    }
}

/// Sends a signal to a training while the checkpoint of step 8 is evaluated; false where it came too late for that.
fn stopped_within_an_evaluation(mut command: Command, run: &Path, signal: &str) -> bool {
    let mut training = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // Written for the first time when the first of three tasks is done.
    while !run.join("evals/step-8/results.json").exists() {
        assert!(training.try_wait().unwrap().is_none(), "it ended without an evaluation");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(Command::new("kill").args([signal, &training.id().to_string()]).status().unwrap().success());
    training.wait().unwrap();
    results(&run.join("evals"), 8)["tasks"].as_array().unwrap().len() < 3
        && events(run, "evaluation").len() == 1
}

#[test]
fn an_evaluation_that_was_cut_short_is_taken_up_on_resume() {
    let dir = tempfile::tempdir().unwrap();
    task(dir.path());
    task_of(dir.path(), "long", 2000);
    task_of(dir.path(), "last", 12);
    let plan = dir.path().join("plan.toml");
    std::fs::write(&plan, "tasks = [\"toy.toml\", \"long.toml\", \"last.toml\"]\n").unwrap();
    let evaluated = |run: &Path, resume: &[&str]| {
        let mut command = train(run);
        command.arg("--evaluate").arg(&plan).args(resume);
        command
    };
    let whole = dir.path().join("whole");
    Ran::of(evaluated(&whole, &[])).success();
    for signal in ["-KILL", "-TERM"] {
        // The second task takes long enough for a signal to come within it; SIGTERM lets it finish, and the third is left.
        let run = (0..50).map(|i| dir.path().join(format!("run{signal}-{i}")));
        let run = run.into_iter().find(|run| stopped_within_an_evaluation(evaluated(run, &[]), run, signal));
        let run = run.expect("one signal in 50 comes in time");
        let first = results(&run.join("evals"), 8)["tasks"][0].clone();
        Ran::of(evaluated(&run, &["--resume"])).success();
        let told = |run| {
            let step_and_scores =
                |event: &Value| (event["detail"]["step"].clone(), event["detail"]["scores"].clone());
            events(run, "evaluation").iter().map(step_and_scores).collect::<Vec<_>>()
        };
        assert_eq!(told(&run), told(&whole), "{signal}");
        assert_eq!(told(&run).iter().map(|(step, _)| step.as_u64().unwrap()).collect::<Vec<_>>(), STEPS);
        assert_eq!(
            results(&run.join("evals"), 8)["tasks"][0],
            first,
            "not asked again, its seconds are the same"
        );
        for step in STEPS {
            let samples = |run: &Path| files(&run.join(format!("evals/step-{step}/samples")));
            assert!(samples(&run) == samples(&whole), "{signal} {step}");
        }
        let last = "checkpoints/step-12";
        assert!(files(&run.join(last)) == files(&trained().join(last)), "{signal}");
        // Of a run that has ended nothing is evaluated twice.
        Ran::of(evaluated(&run, &["--resume"])).success();
        assert_eq!(told(&run), told(&whole));
    }
}
