//! `smolt tokenizer`: trained, measured, compared and advised on, on small texts.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Ran, files, smolt};
use serde_json::Value;
use std::path::Path;
use std::sync::LazyLock;

const ENGLISH: &str = "The quick brown fox jumps over the lazy dog. In 1998 there were 342792 people in town, 17 of them bakers.";
const CHINESE: &str = "今天天气很好，我们去公园散步。明天可能下雨。";
const CODE: &str =
    "fn main() {\n    let total: u64 = (0..1234).map(|x| x * 2).sum();\n    println!(\"{total}\");\n}";

/// A folder with texts, `single` and `merged` tokenizers, made once.
static PLACE: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in [("en", ENGLISH), ("zh", CHINESE), ("code", CODE)] {
        let line = format!("{}\n", serde_json::json!({ "text": text }));
        std::fs::write(dir.path().join(format!("{name}.jsonl")), line.repeat(40)).unwrap();
    }
    std::fs::write(dir.path().join("empty.jsonl"), "{\"text\": \" \"}\n").unwrap();
    tokenizer(dir.path(), "train en.jsonl code.jsonl --vocab-size 512 --out single").success();
    let sources = "--source web=3:en.jsonl --source code=1:code.jsonl,zh.jsonl --sample-bytes 4000";
    tokenizer(dir.path(), &format!("train {sources} --vocab-size 640 --digits none --out merged")).success();
    dir
});

fn tokenizer(dir: &Path, line: &str) -> Ran {
    let mut command = smolt();
    command.current_dir(dir).arg("tokenizer");
    // Words are split at spaces; `_` is a space within one.
    command.args(
        line.split(' ').map(|word| if word.starts_with("--") { word.into() } else { word.replace('_', " ") }),
    );
    Ran::of(command)
}

fn ran(line: &str) -> Ran {
    tokenizer(PLACE.path(), line)
}

fn json(line: &str) -> Value {
    serde_json::from_str(&ran(line).success()).unwrap()
}

#[test]
fn help() {
    insta::assert_snapshot!(ran("--help").success());
}

#[test]
fn tables_of_measures_line_up() {
    let tokenizers = "single/base merged/base";
    insta::assert_snapshot!(
        ran(&format!("measure {tokenizers} --text en=en.jsonl --text zh=zh.jsonl")).success()
    );
    let out = json(&format!("measure {tokenizers} --text zh=zh.jsonl --rank bytes --json"));
    assert_eq!(out["tokenizers"][0]["name"], "merged/base", "it saw Chinese");
    assert!(out["segmenter"].as_str().unwrap().starts_with("icu_segmenter"));
    let zh = &out["tokenizers"][1]["texts"]["zh"];
    // Nothing of it was learned: three tokens to a character, each a byte.
    assert_eq!((zh["tokens"].clone(), zh["bytes_per_token"].clone()), (zh["bytes"].clone(), 1.0.into()));
}

#[test]
fn bytes_of_two_languages_are_not_ranked() {
    let ran = ran("measure single/base --text en=en.jsonl --text zh=zh.jsonl --rank bytes");
    assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""));
    insta::assert_snapshot!(ran.err);
}

#[test]
fn comparisons_show_sentences_numbers_and_prices() {
    let line = "compare single/base merged/base --text en=en.jsonl --text zh=zh.jsonl --sentence the_lazy_fox_今天 --html page.html";
    insta::assert_snapshot!(ran(line).success());
    let page = std::fs::read_to_string(PLACE.path().join("page.html")).unwrap();
    assert!(page.contains("merged/base") && page.ends_with("</html>\n"));
    let out = json("compare single/base merged/base --hidden-size 64 --json");
    assert_eq!(out["tokenizers"][0]["digits"]["policy"], "single");
    assert_eq!(out["tokenizers"][1]["digits"]["policy"], "none");
    assert_eq!(out["tokenizers"][1]["embedding_parameters"]["untied"], 2 * 640 * 64);
}

#[test]
fn advice_needs_goals_and_names_what_it_finds() {
    insta::assert_snapshot!("open_questions", ran("advise single/base --language en").err);
    let goals = "--language en --domain math --mixture web=0.7 --mixture code=0.1 --mixture math=0.2";
    let line = format!("advise single/chat merged/chat {goals} --text en=en.jsonl --vocab-size 262144");
    insta::assert_snapshot!("advice", ran(&line).success());
    let out = json(&format!("{line} --json"));
    assert_eq!(out["advice"]["reuse"], Value::from("merged/chat"));
}

#[test]
fn the_sample_mirrors_its_sources() {
    let record = std::fs::read(PLACE.path().join("merged/base/tokenizer_training.json")).unwrap();
    let record: Value = serde_json::from_slice(&record).unwrap();
    let bytes = |name: &str| record["sources"][name]["bytes"].as_f64().unwrap();
    assert!((bytes("web") - 3000.0).abs() < 110.0 && (bytes("code") - 1000.0).abs() < 110.0, "{record}");
}

#[test]
fn threads_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    for threads in [1, 3] {
        let out = dir.path().join(threads.to_string());
        let line =
            format!("train en.jsonl zh.jsonl --vocab-size 512 --threads {threads} --out {}", out.display());
        ran(&line).success();
    }
    assert_eq!(files(&dir.path().join("1")), files(&dir.path().join("3")));
}

#[test]
fn bad_input_is_named() {
    let fails = |line: &str| {
        let ran = ran(line);
        assert_eq!(ran.code, Some(2), "{line}: {}", ran.err);
        ran.err
    };
    assert!(fails("measure nowhere --text en=en.jsonl").contains("nowhere"));
    assert!(fails("measure single/base --text en").contains("LANG=FILE"));
    assert!(fails("measure single/base --text en=empty.jsonl").contains("empty.jsonl"));
    assert!(fails("train --source a=0:en.jsonl --out t1").contains("positive"));
    assert!(fails("train --source a=1:en.jsonl --source a=1:zh.jsonl --out t2").contains("once"));
    assert!(fails("train --source a:en.jsonl --out t3").contains("NAME=WEIGHT:FILE"));
    assert!(fails("train en.jsonl --digits pairs --out t4").contains("three-left"));
    assert!(fails("train en.jsonl --model unigram --vocab-size 256 --out t5").contains("vocab_size"));
    let other = tempfile::tempdir().unwrap();
    common::copy(&PLACE.path().join("merged/base"), other.path());
    std::fs::copy(PLACE.path().join("single/base/tokenizer.json"), other.path().join("tokenizer.json"))
        .unwrap();
    let goals = "--language en --domain none --mixture web=1";
    let error = fails(&format!("advise {} {goals}", other.path().display()));
    assert!(error.contains("tokenizer_training.json"), "{error}");
}
