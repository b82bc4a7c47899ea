//! `smolt checkpoint probe` on models that were just trained, and what their runs logged.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Place, Ran, repository, sets, smolt};
use serde_json::Value;
use std::path::Path;

const SMALL: [&str; 9] = [
    "train.train_steps=4",
    "train.sequence_length=64",
    "model.max_position_embeddings=128",
    "train.validation_interval=2",
    "schedule.warmup_steps=1",
    "schedule.decay_steps=1",
    "model.hidden_size=32",
    "model.intermediate_size=48",
    "model.num_hidden_layers=2",
];

/// `smolt ARGS` on a path that every machine has, so that tables are as wide everywhere.
fn portable(args: &[String]) -> Ran {
    let mut command = smolt();
    command.env("SMOLT_CPU", "portable").args(args);
    Ran::of(command)
}

fn train(out: &Path, settings: &[&str]) -> Ran {
    let path = |path: &Path| path.display().to_string();
    let recipe = path(&repository("recipes/tests/kill-resume.toml"));
    let args = ["train".into(), recipe, "--out".into(), path(out)];
    portable(&[&args[..], &sets(&SMALL), &sets(settings)].concat())
}

/// A run without and one with experts, and two texts.
static MADE: Place = Place::new(|dir| {
    train(&dir.join("dense"), &["model.tie_word_embeddings=false"]).success();
    let experts = "model.moe={num_experts=4,num_experts_per_tok=2,moe_intermediate_size=48,dense_layers=[0]}";
    train(&dir.join("experts"), &["model.model_type=smolt", experts]).success();
    let stories = "Tom has a red ball. He gave it to Mia in the garden, and they played until it was late.\n";
    std::fs::write(dir.join("stories.txt"), stories.repeat(20)).unwrap();
    let sums: String =
        (0..40).map(|i| format!("{{\"text\": \"{i} + {i} = {}, so says the book.\"}}\n", 2 * i)).collect();
    std::fs::write(dir.join("sums.jsonl"), sums).unwrap();
    std::fs::write(dir.join("empty.txt"), "").unwrap();
    std::fs::write(dir.join("short.txt"), "Tom.").unwrap();
    std::fs::write(dir.join("latin1.txt"), [0xff, 0xfe, 0x00, 0xe9]).unwrap();
});

fn probe(model: &str, texts: &[&str], more: &[&str]) -> Ran {
    let dir = MADE.path();
    let mut args: Vec<String> =
        vec!["checkpoint".into(), "probe".into(), dir.join(model).display().to_string()];
    for text in texts {
        let (name, file) = text.split_once('=').unwrap();
        args.extend(["--text".into(), format!("{name}={}", dir.join(file).display())]);
    }
    args.extend(more.iter().map(|&arg| arg.to_owned()));
    portable(&args)
}

fn json(ran: Ran) -> Value {
    serde_json::from_str(&ran.success()).unwrap()
}

/// Tables with every digit a 0: what they say depends on the machine, how they say it does not.
fn tables(ran: Ran) -> String {
    let text = ran.success().replace(MADE.path().to_str().unwrap(), "DIR");
    text.replace(|c: char| c.is_ascii_digit(), "0")
}

const TEXTS: [&str; 2] = ["stories=stories.txt", "sums=sums.jsonl"];

#[test]
fn tables_line_up() {
    let short = ["--tokens", "120"];
    insta::assert_snapshot!("dense", tables(probe("dense", &TEXTS, &["--tokens", "120", "--needle"])));
    insta::assert_snapshot!("experts", tables(probe("experts", &TEXTS, &short)));
}

#[test]
fn json_has_everything_and_its_parts_agree() {
    let json = json(probe("experts", &TEXTS, &["--json", "--tokens", "200", "--threads", "1"]));
    assert_eq!(json["texts"][0]["tokens"], 200);
    assert!(json["texts"][1]["documents"].as_u64().unwrap() > 5, "{}", json["texts"]);
    let number = |value: &Value| value.as_f64().unwrap();
    // A model that has learned little: its loss is about log Z, and no token stands out.
    assert!((number(&json["texts"][0]["loss"]) - number(&json["log_z"]["mean"])).abs() < 1.0);
    assert!(json["head"].is_null() && json["layers"][0]["experts"].is_null() && json["needle"].is_null());
    let experts = &json["layers"][1]["experts"];
    let load: Vec<u64> = experts["load"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect();
    assert_eq!(load.iter().sum::<u64>(), 2 * 400, "two of four experts for each token");
    let shares = experts["share_by_text"].as_array().unwrap();
    for text in shares {
        let sum: f64 = text.as_array().unwrap().iter().map(number).sum();
        assert!((sum - 2.0).abs() < 1e-9, "{text}");
    }
    let max = *load.iter().max().unwrap() as f64 * 4.0 / 800.0;
    assert!((number(&experts["max_load"]) - max).abs() < 1e-12);
    assert!(number(&experts["entropy"]) > 0.0 && number(&experts["entropy"]) <= 4f64.ln() + 1e-9);
}

#[test]
fn results_do_not_depend_on_threads() {
    let of = |threads: &str| {
        probe("dense", &TEXTS, &["--json", "--needle", "--tokens", "110", "--threads", threads]).success()
    };
    assert_eq!(of("1"), of("3"));
}

#[test]
fn a_needle_is_looked_for_at_every_depth() {
    // Left out, --tokens fits the context.
    let whole = json(probe("dense", &["stories=stories.txt"], &["--json", "--needle"]));
    assert_eq!(whole["texts"][0]["tokens"], 128);
    let json = self::json(probe("dense", &TEXTS, &["--json", "--needle", "--tokens", "120"]));
    let planted = json["needle"].as_array().unwrap();
    let depths: Vec<f64> = planted.iter().map(|at| at["depth"].as_f64().unwrap()).collect();
    assert_eq!(depths, [0.0, 0.25, 0.5, 0.75, 1.0]);
    assert_eq!(planted[0]["first_token"], 4);
    for at in planted {
        let layers = at["layers"].as_array().unwrap();
        assert_eq!(layers.len(), 2);
        let uniform = at["tokens"].as_f64().unwrap() / 120.0;
        assert!(layers.iter().all(|layer| (layer["uniform"].as_f64().unwrap() - uniform).abs() < 1e-12));
    }
    assert!(json["warnings"].as_array().unwrap().is_empty(), "{}", json["warnings"]);
}

#[test]
fn runs_log_layers_of_experts_at_each_step_and_embeddings_at_validations() {
    for (name, with_experts) in [("dense", false), ("experts", true)] {
        let text = std::fs::read_to_string(MADE.path().join(name).join("metrics.jsonl")).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let validated: Vec<bool> = lines.iter().map(|line| line["embedding_rms"].is_f64()).collect();
        assert_eq!(validated, [false, true, false, true]);
        let number = |line: &Value, key: &str| line[key].as_f64().unwrap();
        for line in &lines {
            assert_eq!(line["head_rms"].is_f64(), !with_experts && line["embedding_rms"].is_f64());
            // The mean of squares is no less than the square of the mean.
            assert!(number(line, "log_z_squared") >= number(line, "log_z").powi(2) - 1e-9, "{line}");
            let layers = &line["routing"]["layers"];
            assert_eq!(layers.is_object(), with_experts);
            if with_experts {
                assert_eq!(layers["layer"], serde_json::json!([1]));
                for total in ["max_load", "dead_experts", "entropy"] {
                    assert_eq!(layers[total][0].as_f64(), line["routing"][total].as_f64(), "{total}");
                }
            }
        }
        // What a probe finds in the last checkpoint is what the last step logged.
        let probed = json(probe(name, &TEXTS, &["--json", "--tokens", "40"]));
        let (logged, found) =
            (number(&lines[3], "embedding_rms"), probed["embedding"]["rms"].as_f64().unwrap());
        assert!((logged - found).abs() < 1e-6 * found, "{logged}, {found}");
    }
}

#[test]
fn what_cannot_be_probed_is_one_error() {
    let cases: [(&str, &[&str], &[&str], &str); 10] = [
        ("dense", &["a=empty.txt"], &[], "empty.txt: 0 tokens, too few"),
        ("dense", &["a=short.txt"], &[], "short.txt: 3 tokens, too few"),
        ("dense", &["a=none.txt"], &[], "none.txt"),
        ("dense", &["a=latin1.txt"], &[], "latin1.txt"),
        ("dense", &["a=stories.txt", "a=sums.jsonl"], &[], "two texts are called \"a\""),
        ("dense", &["a=stories.txt"], &["--tokens", "3"], "too few to say anything"),
        ("dense", &["a=stories.txt"], &["--tokens", "18446744073709551615"], "ask for fewer"),
        ("dense", &["a=stories.txt"], &["--needle", "--tokens", "129"], "positions for 128"),
        ("dense", &["a=stories.txt"], &["--needle", "--tokens", "40"], "--needle: needle and question take"),
        ("stories.txt", &["a=stories.txt"], &[], "config.json"),
    ];
    for (model, texts, more, says) in cases {
        let ran = probe(model, texts, more);
        assert!(ran.code == Some(2) && ran.out.is_empty(), "{texts:?} {more:?}: {ran:?}");
        assert!(ran.err.starts_with("error: ") && ran.err.lines().count() == 1, "{}", ran.err);
        assert!(ran.err.contains(says), "{}", ran.err);
    }
    // What the command line itself refuses.
    for (texts, more) in [(&[][..], &[][..]), (&["a=stories.txt"], &["--tokens", "0"])] {
        assert_eq!(probe("dense", texts, more).code, Some(2));
    }
}
