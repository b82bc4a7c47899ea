//! The first-light pipeline with its steps cut by `--set`, end to end; one run for every test here.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Ran, copy, files, repository, run, sets, smolt};
use serde_json::Value;
use smolt_model::safetensors::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

const CUTS: [&str; 25] = [
    "corpus.prose_documents=20",
    "tinytown.recitals=200",
    "tinytown.stories=200",
    "tinytown.qa=300",
    "tinytown.chats=200",
    "tokenizer.vocab_size=512",
    "recite.model.hidden_size=32",
    "recite.model.intermediate_size=64",
    "recite.model.num_hidden_layers=4",
    "recite.model.no_rope_layer_interval=2",
    "recite.train.train_steps=4",
    "recite.train.checkpoint_interval=4",
    "recite.schedule.warmup_steps=2",
    "recite.schedule.decay_steps=2",
    "pretrain.train.train_steps=12",
    "pretrain.train.checkpoint_interval=6",
    "pretrain.schedule.warmup_steps=2",
    "pretrain.schedule.decay_steps=4",
    "sft.train.train_steps=8",
    "sft.schedule.warmup_steps=2",
    "sft.schedule.decay_steps=2",
    "eval-pretrain.items_per_skill=3",
    "eval.items_per_skill=3",
    "eval.max_tokens=4",
    "report.title=Cut",
];

const STEPS: [&str; 12] = [
    "corpus",
    "tinytown",
    "tokenizer",
    "tokens",
    "chat-tokens",
    "recite",
    "pretrain",
    "sft",
    "eval-pretrain",
    "eval",
    "export",
    "report",
];

fn pipeline(out: &Path, more: &[&str]) -> Command {
    let mut command = smolt();
    command.arg("run").arg(repository("recipes/first-light/pipeline.toml")).arg("--out").arg(out);
    command.args(sets(&CUTS)).args(sets(more)).args(["--threads", "2"]);
    command
}

/// The run's folder.
fn first_light() -> &'static Path {
    static RUN: OnceLock<tempfile::TempDir> = OnceLock::new();
    RUN.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let out = Ran::of(pipeline(dir.path(), &[])).success();
        assert!(out.contains("report: ") && out.contains("chat:   smolt chat "), "{out}");
        dir
    })
    .path()
}

fn model() -> PathBuf {
    first_light().join("export/model")
}

/// Names of the steps that ran.
fn ran(command: Command) -> Vec<String> {
    let mut command = command;
    command.arg("--json");
    let json: Value = serde_json::from_str(&Ran::of(command).success()).unwrap();
    let steps = json["steps"].as_array().unwrap();
    assert_eq!(steps.len(), STEPS.len());
    steps.iter().filter(|s| s["ran"] == true).map(|s| s["step"].as_str().unwrap().to_string()).collect()
}

#[test]
fn only_what_changed_runs_again() {
    let dir = tempfile::tempdir().unwrap();
    copy(first_light(), dir.path());
    assert_eq!(ran(pipeline(dir.path(), &[])), [""; 0], "a second run does nothing, a moved one too");
    assert_eq!(ran(pipeline(dir.path(), &["report.title=Other"])), ["report"]);
    let changed = ["report.title=Other", "export.dtype=bfloat16"];
    assert_eq!(ran(pipeline(dir.path(), &changed)), ["export", "report"]);
    let text = std::fs::read_to_string(dir.path().join("export/model/config.json")).unwrap();
    assert!(text.contains("bfloat16"), "{text}");
    let changed = ["report.title=Other", "export.dtype=bfloat16", "sft.seed=9", "eval.items_per_skill=1"];
    assert_eq!(ran(pipeline(dir.path(), &changed)), ["sft", "eval", "export", "report"]);
}

#[test]
fn every_step_leaves_its_results() {
    for step in STEPS {
        assert!(first_light().join(step).join(".step.json").exists(), "{step}");
    }
    for file in ["recipe.lock.toml", "environment.json", "metrics.jsonl", "events.jsonl", "tensorboard"] {
        assert!(first_light().join("pretrain").join(file).exists(), "{file}");
    }
    let metrics = std::fs::read_to_string(first_light().join("pretrain/metrics.jsonl")).unwrap();
    assert_eq!(metrics.lines().count(), 12);
    let last: Value = serde_json::from_str(metrics.lines().last().unwrap()).unwrap();
    for domain in ["prose", "code", "tinytown"] {
        assert!(last["validation_bits_per_byte"][domain].as_f64().unwrap() > 1.0, "{last}");
    }
    let lock = |step: &str| {
        let lock = std::fs::read_to_string(first_light().join(step).join("recipe.lock.toml")).unwrap();
        assert!(!lock.contains("\"auto\""), "all is resolved: {lock}");
        lock
    };
    assert!(lock("recite").contains("vocab_size = 512"));
    assert!(lock("pretrain").contains("from = "));
}

#[test]
fn the_report_needs_nothing_else() {
    let html = std::fs::read_to_string(first_light().join("report/report.html")).unwrap();
    for outside in ["<script", "src=\"", "href=\"http", "@import", "url(http", "<link"] {
        assert!(!html.contains(outside), "{outside}");
    }
    for part in [
        "<title>Cut</title>",
        "<svg",
        "Resolved recipe of Pretraining",
        "Resolved recipe of SFT",
        "arithmetic",
    ] {
        assert!(html.contains(part), "{part}");
    }
    // The page is well-formed as far as nesting goes.
    for tag in ["table", "svg", "details", "pre", "body"] {
        assert_eq!(
            html.matches(&format!("<{tag}")).count(),
            html.matches(&format!("</{tag}>")).count(),
            "{tag}"
        );
    }
}

#[test]
fn the_export_is_a_hugging_face_folder() {
    let names: Vec<String> = files(&model()).into_keys().collect();
    assert_eq!(
        names,
        [
            "chat_template.jinja",
            "config.json",
            "generation_config.json",
            "model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json"
        ]
    );
    let config: Value = serde_json::from_slice(&std::fs::read(model().join("config.json")).unwrap()).unwrap();
    assert_eq!((&config["model_type"], &config["vocab_size"]), (&"smollm3".into(), &512.into()));
    assert_eq!(config["no_rope_layers"], serde_json::json!([1, 0, 1, 0]));

    let dir = tempfile::tempdir().unwrap();
    let half = dir.path().join("half");
    let args = ["export", "--dtype", "bfloat16", "--out", half.to_str().unwrap()];
    let mut command = smolt();
    command.args(args).arg(first_light().join("sft"));
    Ran::of(command).success();
    let size = |dir: &Path| std::fs::metadata(dir.join("model.safetensors")).unwrap().len();
    assert!(size(&half) * 2 < size(&model()) + 4096);
    run(["generate", "--max-tokens", "2", "--prompt", "Tom", "--model", half.to_str().unwrap()]).success();
}

#[test]
fn generate_prints_json_and_dumps_logits() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("logits.safetensors");
    let ask = |tokens: &str| {
        let mut command = smolt();
        command.args(["generate", "--json", "--prompt", "Question: Who has the ball?\nAnswer:"]);
        command.args(["--max-tokens", tokens, "--dump-logits"]).arg(&file).arg("--model").arg(model());
        serde_json::from_str::<Value>(&Ran::of(command).success()).unwrap()
    };
    let answer = ask("3");
    let prompt = answer["prompt_tokens"].as_array().unwrap().len();
    let first = answer["tokens"][0].as_u64().unwrap() as usize;
    assert_eq!(ask("0")["tokens"], Value::Array(Vec::new()));

    let bytes = std::fs::read(&file).unwrap();
    let header: usize = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    assert_eq!(
        (&header["logits"]["dtype"], &header["logits"]["shape"]),
        (&"F32".into(), &serde_json::json!([prompt, 512]))
    );
    let mut logits = vec![0.0; prompt * 512];
    File::open(&file).unwrap().read_f32("logits", &[prompt, 512], &mut logits).unwrap();
    let last = &logits[(prompt - 1) * 512..];
    let best = (0..512).max_by(|&a, &b| last[a].total_cmp(&last[b])).unwrap();
    assert_eq!(best, first, "the first token is the likeliest after the prompt");
}

#[test]
fn tinytown_is_a_task_like_others() {
    let mut command = smolt();
    command.args(["eval", "--json", "--limit", "20", "--task", "tinytown"]).arg(model());
    command.arg("--set").arg(format!("dataset.path={}", first_light().join("tinytown/test").display()));
    let results: Value = serde_json::from_str(&Ran::of(command).success()).unwrap();
    let tasks = results["tasks"].as_array().unwrap();
    assert_eq!(tasks.len(), 3, "in three formulations");
    for scores in tasks.iter().map(|task| &task["scores"]) {
        assert_eq!((&scores["items"], scores["subsets"].as_object().unwrap().len()), (&20.into(), 10));
        let score = &scores["macro_average"][scores["primary"].as_str().unwrap()];
        assert!((0.0..=1.0).contains(&score["value"].as_f64().unwrap()), "{score}");
    }
}

/// The pipeline's `eval` step and `smolt eval` ask the same questions in the same way.
#[test]
fn the_pipelines_scores_are_those_of_the_command() {
    let mut command = smolt();
    command.args(["eval", "--json", "--task", "tinytown", "--formulation", "cloze", "--precision", "auto"]);
    command.arg(first_light().join("sft"));
    let rows = tempfile::tempdir().unwrap();
    let test = first_light().join("tinytown/test");
    for file in std::fs::read_dir(test).unwrap().map(|entry| entry.unwrap().path()) {
        let text = std::fs::read_to_string(&file).unwrap();
        let first: String = text.lines().take(3).map(|line| format!("{line}\n")).collect();
        std::fs::write(rows.path().join(file.file_name().unwrap()), first).unwrap();
    }
    command.arg("--set").arg(format!("dataset.path={}", rows.path().display()));
    let results: Value = serde_json::from_str(&Ran::of(command).success()).unwrap();
    let subsets = &results["tasks"][0]["scores"]["subsets"];
    let scores: Value =
        serde_json::from_slice(&std::fs::read(first_light().join("eval/scores.json")).unwrap()).unwrap();
    for skill in scores["skills"].as_array().unwrap() {
        assert_eq!(skill["cloze"], subsets[skill["skill"].as_str().unwrap()]["accuracy_char"], "{skill}");
        assert!(
            skill["ngram"].is_object() && skill["untrained"].is_object() && skill["exact_match"].is_object()
        );
    }
}

/// Features turned in pairs of neighbours and back: the same family, the same words.
#[test]
fn an_export_may_turn_the_rotary_features() {
    let dir = tempfile::tempdir().unwrap();
    let export = |from: &Path, rope: &str, to: &str| {
        let mut command = smolt();
        command.arg("export").arg(from).args(["--rope", rope, "--out"]).arg(dir.path().join(to));
        Ran::of(command).success();
        dir.path().join(to)
    };
    let pairs = export(&model(), "interleaved", "pairs");
    let back = export(&pairs, "half-split", "back");
    let config = |folder: &Path| -> Value {
        serde_json::from_slice(&std::fs::read(folder.join("config.json")).unwrap()).unwrap()
    };
    assert_eq!(config(&pairs)["model_type"], "smolt");
    assert_eq!(config(&back), config(&model()));
    let said = |folder: &Path| {
        let mut command = smolt();
        command
            .args(["generate", "--prompt", "Tom has a ball.", "--max-tokens", "12", "--model"])
            .arg(folder);
        Ran::of(command).success()
    };
    assert_eq!(said(&pairs), said(&model()));
    let weights = |folder: &Path| std::fs::read(folder.join("model.safetensors")).unwrap();
    assert!(weights(&back) == weights(&model()) && weights(&pairs) != weights(&model()));
}

#[test]
fn an_export_that_was_cut_short_is_made_again_and_may_be_here() {
    let dir = tempfile::tempdir().unwrap();
    // As a kill leaves it while the files take their places: a tokenizer, no configuration.
    std::fs::create_dir(dir.path().join(".partial")).unwrap();
    std::fs::write(dir.path().join(".partial/config.json"), "{").unwrap();
    std::fs::write(dir.path().join("tokenizer.json"), "{").unwrap();
    let export = || {
        let mut command = smolt();
        command.current_dir(dir.path()).arg("export").arg(model()).args(["--out", "."]);
        Ran::of(command)
    };
    export().success();
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        assert!(std::fs::read(dir.path().join(file)).unwrap() == std::fs::read(model().join(file)).unwrap());
    }
    assert!(!dir.path().join(".partial").exists());
    assert!(export().err.contains("is not empty"));
}

#[test]
fn chat_reads_a_pipe() {
    let mut command = smolt();
    command.args(["chat", "--max-tokens", "3"]).arg(model());
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"Hello!\n\n/new\nWho are you?\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && output.stderr.is_empty());
    assert_eq!(text.lines().count(), 2, "{text:?}: one answer per message, nothing else");

    let mut command = smolt();
    command.arg("chat").arg(first_light().join("pretrain"));
    let ran = Ran::of(command);
    assert_eq!(ran.code, Some(2));
    assert!(ran.err.contains("chat_template.jinja"), "{}", ran.err);
}
