//! `smolt eval` as users run it: tasks, data sets, results that go on, comparison, texts, long contexts, bad input.

#![allow(clippy::unwrap_used)]

mod common;
#[path = "../../store/tests/common/mod.rs"]
mod servers;

use common::{Place, Ran, repository, run, smolt};
use serde_json::{Value, json};
use servers::{Object, Reply, Request, Server};
use std::path::{Path, PathBuf};

/// A folder with two runs of four steps, two data sets and a task.
fn place() -> &'static Path {
    static PLACE: Place = Place::new(make);
    PLACE.path()
}

fn make(dir: &Path) {
    let row = |i: usize| {
        let (key, topic) = (["A", "B", "C"][i % 3], ["odd", "even"][i % 2]);
        json!({"id": format!("Q{i}"), "question": format!("What is {i} and {}?", i + 1),
               "choices": {"text": [format!("it is {}", i * 2), "nothing at all", "red"], "label": ["A", "B", "C"]},
               "answerKey": key, "topic": topic})
    };
    let lines = |range: std::ops::Range<usize>| range.map(|i| format!("{}\n", row(i))).collect::<String>();
    let data = dir.join("data/quiz/main");
    std::fs::create_dir_all(&data).unwrap();
    std::fs::write(data.join("test-00000-of-00001.jsonl"), lines(0..30)).unwrap();
    std::fs::write(data.join("train-00000-of-00001.jsonl"), lines(100..108)).unwrap();
    let task = r#"
name = "quiz"
[dataset]
path = "hf://datasets/somebody/quiz"
config = "main"
split = "test"
few_shot_split = "train"
[item]
prompt = "Question: {{ question }}\nAnswer:"
choices = "choices.text"
answer = "choices.label | index(answerKey)"
id = "id"
subset = "topic"
[cloze]
unconditional = "Answer:"
[multiple_choice]
[generation]
target = "choices.text[0]"
max_tokens = 6
stop = ["\n"]
"#;
    std::fs::write(dir.join("quiz.toml"), task).unwrap();
    let text: String = (0..200)
        .map(|i| format!("{}\n", json!({"text": format!("What is {i}? It is {}.", i * 2)})))
        .collect();
    std::fs::write(dir.join("text.jsonl"), text).unwrap();
    let tokenizer = repository("recipes/tests/kill-resume/tokenizer").display().to_string();
    let shard = dir.join("text.ds").display().to_string();
    run([
        "data",
        "tokenize",
        &dir.join("text.jsonl").display().to_string(),
        "--tokenizer",
        &tokenizer,
        "--out",
        &shard,
    ])
    .success();
    let recipe = format!(
        "[model]\nmodel_type = \"llama\"\nhidden_size = 32\nintermediate_size = 64\nnum_hidden_layers = 2\n\
         num_attention_heads = 2\nnum_key_value_heads = 1\n[data]\ntokenizer = {tokenizer:?}\n\
         sources = [{{ name = \"text\", path = \"text.ds\" }}]\n[train]\ntrain_steps = 4\nsequence_length = 512\n\
         global_batch_size = 2\nmicro_batch_size = 2\ncheckpoint_interval = 4\n"
    );
    std::fs::write(dir.join("recipe.toml"), recipe).unwrap();
    for (name, seed) in [("one", "1"), ("two", "2")] {
        let out = dir.join(name).display().to_string();
        run([
            "train",
            &dir.join("recipe.toml").display().to_string(),
            "--set",
            &format!("seed={seed}"),
            "--out",
            &out,
        ])
        .success();
    }
}

fn eval(args: &[&str]) -> Ran {
    let mut command = smolt();
    command.current_dir(place()).arg("eval").args(args);
    Ran::of(command)
}

fn quiz<'a>(model: &'a str, more: &[&'a str]) -> Ran {
    eval(&[&[model, "--task", "quiz.toml", "--datasets", "data", "--offline"], more].concat())
}

fn results(folder: &str) -> Value {
    serde_json::from_slice(&std::fs::read(place().join(folder).join("results.json")).unwrap()).unwrap()
}

fn samples(folder: &str, name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(place().join(folder).join("samples").join(name)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_formulation_leaves_scores_and_records() {
    let table = quiz("one", &["--out", "all", "--few-shot", "2"]).success();
    assert!(
        table.contains("quiz") && table.contains("multiple_choice") && table.contains("random"),
        "{table}"
    );
    let found = results("all");
    let tasks = found["tasks"].as_array().unwrap();
    assert_eq!(tasks.len(), 3);
    for task in tasks {
        let scores = &task["scores"];
        assert_eq!((&scores["items"], &task["few_shot"]), (&json!(30), &json!(2)));
        assert_eq!(scores["subsets"].as_object().unwrap().len(), 2);
        let primary = &scores["metrics"][scores["primary"].as_str().unwrap()];
        assert!((0.0..=1.0).contains(&primary["value"].as_f64().unwrap()) && primary["n"] == 30);
    }
    assert!((tasks[0]["scores"]["random_baseline"].as_f64().unwrap() - 1.0 / 3.0).abs() < 1e-12);
    assert!(tasks[0]["scores"]["metrics"]["accuracy_pmi"].is_object());
    let cloze = samples("all", "quiz.cloze.jsonl");
    assert_eq!(cloze.len(), 30);
    let prompt = cloze[0]["prompt"].as_str().unwrap();
    assert_eq!(prompt.matches("Question:").count(), 3, "two examples and the question: {prompt}");
    assert!(
        cloze[0]["candidates"]
            .as_array()
            .unwrap()
            .iter()
            .all(|c| c["log_likelihood"].as_f64().unwrap() < 0.0)
    );
    let written = samples("all", "quiz.generation.jsonl");
    assert!(written.iter().all(|sample| sample["written"][0]["tokens"].as_u64().unwrap() <= 6));
    let likely = |sample: &Value| sample["written"][0]["log_likelihood"].as_f64().unwrap();
    assert!(written.iter().all(|sample| likely(sample) <= 0.0) && written.iter().any(|s| likely(s) < 0.0));
    let page = std::fs::read_to_string(place().join("all/report.html")).unwrap();
    assert!(page.contains("quiz.cloze") && page.contains("not measured") && !page.contains("<script"));
    let theirs = std::fs::read_dir(place().join("all/lm_eval")).unwrap().count();
    assert_eq!(theirs, 4, "results and three files of samples");
}

#[test]
fn what_is_known_is_not_asked_again_and_other_models_are_refused() {
    quiz("one", &["--formulation", "cloze", "--out", "again"]).success();
    let first = results("again");
    quiz("one", &["--formulation", "cloze", "--out", "again"]).success();
    let (a, b) = (&first["tasks"][0], &results("again")["tasks"][0]);
    assert_eq!(a, b, "the very same, its seconds too");
    let refused = quiz("two", &["--out", "again"]);
    assert_eq!(refused.code, Some(2));
    assert!(refused.err.contains("results of another model"), "{}", refused.err);
}

#[test]
fn a_changed_template_asks_chats_again_and_a_changed_configuration_is_another_model() {
    let model = place().join("changed");
    std::fs::create_dir(&model).unwrap();
    for entry in std::fs::read_dir(place().join("one/checkpoints/step-4")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, model.join(path.file_name().unwrap())).unwrap();
    }
    let template = |text: &str| std::fs::write(model.join("chat_template.jinja"), text).unwrap();
    template("{% for m in messages %}{{ m.content }}\n{% endfor %}");
    let ask =
        |more: &[&str]| quiz("changed", &[&["--formulation", "cloze", "--out", "templates"], more].concat());
    let hash = || results("templates")["model"]["template_hash"].clone();
    ask(&["--chat"]).success();
    let first = (hash(), results("templates")["tasks"][0]["seconds"].clone());
    ask(&["--chat"]).success();
    assert_eq!((hash(), results("templates")["tasks"][0]["seconds"].clone()), first, "kept");
    template("{% for m in messages %}> {{ m.content }}\n{% endfor %}");
    ask(&["--chat"]).success();
    assert!(hash() != first.0 && results("templates")["tasks"][0]["seconds"] != first.1, "asked again");
    let config = std::fs::read_to_string(model.join("config.json")).unwrap();
    std::fs::write(model.join("config.json"), config + "\n").unwrap();
    let refused = ask(&["--chat"]);
    assert!(refused.err.contains("results of another model"), "{}", refused.err);
}

#[test]
fn what_a_folder_holds_of_other_tasks_stays() {
    quiz("one", &["--formulation", "cloze", "--out", "grown"]).success();
    quiz("one", &["--formulation", "multiple-choice", "--out", "grown", "--text", "text.jsonl"]).success();
    let grown = results("grown");
    assert_eq!((grown["tasks"].as_array().unwrap().len(), grown["texts"].as_array().unwrap().len()), (2, 1));
    // Asked in another way it is asked anew, in its old place.
    quiz("one", &["--formulation", "cloze", "--few-shot", "1", "--out", "grown"]).success();
    let again = results("grown");
    assert_eq!((&again["tasks"][0]["few_shot"], &again["tasks"][1]), (&json!(1), &grown["tasks"][1]));
    assert_eq!(again["texts"], grown["texts"]);
}

#[test]
fn sampled_answers_say_how_many_are_needed() {
    let sampled = ["--formulation", "generation", "--samples", "3", "--temperature", "1", "--out", "pilot"];
    quiz("one", &sampled).success();
    assert!(
        samples("pilot", "quiz.generation.jsonl").iter().all(|s| s["written"].as_array().unwrap().len() == 3)
    );
    let plan: Value = serde_json::from_str(&eval(&["samples", "pilot", "--json"]).success()).unwrap();
    assert!(plan[0]["avg_at_k"]["k"] == 3 && plan[0]["plan"]["k"].as_u64().unwrap() >= 2, "{plan}");
    quiz("one", &["--formulation", "generation", "--out", "greedy"]).success();
    let small = eval(&["samples", "pilot"]).success();
    assert!(small.contains("more than once in any case"), "{small}");
    let refused = eval(&["samples", "greedy"]);
    assert_eq!(refused.code, Some(2));
}

#[test]
fn settings_that_sample_nothing_are_refused() {
    for wrong in [["--temperature", "nan"], ["--temperature", "inf"], ["--top-p", "0"], ["--samples", "0"]] {
        let refused = quiz("one", &wrong);
        assert!(refused.code == Some(2) && refused.err.contains(wrong[0]), "{}", refused.err);
        if wrong[0] != "--samples" {
            let generate = run(["generate", "--model", "one", "--prompt", "a", wrong[0], wrong[1]]);
            assert!(generate.code == Some(2) && generate.err.contains(wrong[0]), "{}", generate.err);
        }
    }
    let refused = quiz("one", &["--samples", "4"]);
    assert!(
        refused.err.contains("--samples 4") && refused.err.contains("--temperature 0"),
        "{}",
        refused.err
    );
}

#[test]
fn a_task_that_does_not_fit_the_model_does_not_keep_others_from_it() {
    let ran = quiz("one", &["--max-tokens", "600", "--out", "narrow"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.err.contains("task `quiz`: 599 tokens after the prompt"), "{}", ran.err);
    assert!(
        ran.out.contains("multiple_choice") && place().join("narrow/report.html").exists(),
        "{}",
        ran.out
    );
    let found = results("narrow");
    let asked: Vec<_> = found["tasks"].as_array().unwrap().iter().map(|t| &t["how"]["formulation"]).collect();
    assert_eq!(asked, ["cloze", "multiple_choice"]);
    let alone = quiz("one", &["--max-tokens", "600", "--formulation", "generation", "--out", "none"]);
    assert!(alone.code == Some(2) && !place().join("none/results.json").exists(), "{}", alone.err);
}

#[test]
fn prompts_show_what_is_asked_in_a_chat() {
    let ask = |more: &[&str]| {
        let task =
            ["prompts", "--task", "quiz.toml", "--datasets", "data", "--offline", "--formulation", "cloze"];
        eval(&[&task[..], more].concat())
    };
    let refused = ask(&["--chat"]);
    assert!(refused.code == Some(2) && refused.err.contains("--model"), "{}", refused.err);
    let from = std::fs::read_dir(place().join("one/checkpoints")).unwrap().next().unwrap().unwrap().path();
    common::copy(&from, &place().join("chatty"));
    let template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>";
    std::fs::write(place().join("chatty/chat_template.jinja"), template).unwrap();
    let shown: Value =
        serde_json::from_str(&ask(&["--chat", "--model", "chatty", "--json"]).success()).unwrap();
    assert!(shown[0]["prompt"].as_str().unwrap().starts_with("<user>Question: What is 0"), "{shown}");
    assert_eq!(shown[0]["candidates_or_answers"][0], "it is 0", "without the delimiter of plain text");
    let plain: Value = serde_json::from_str(&ask(&["--json"]).success()).unwrap();
    assert_eq!(plain[0]["candidates_or_answers"][0], " it is 0");
}

#[test]
fn one_document_does_not_say_how_sure_its_score_is() {
    std::fs::write(place().join("book.txt"), "The sea is calm. The boat is red.").unwrap();
    let table = eval(&["one", "--text", "book.txt", "--out", "book"]).success();
    assert!(table.lines().any(|line| line.starts_with("book.txt") && line.ends_with('-')), "{table}");
    assert!(results("book")["texts"][0]["stderr"].is_null());
}

#[test]
fn a_model_that_diverged_is_told_not_scored() {
    let weights = copied("diverged").join("model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    let at = bytes.len() - 64;
    bytes[at..].chunks_exact_mut(4).for_each(|value| value.copy_from_slice(&f32::NAN.to_le_bytes()));
    std::fs::write(&weights, bytes).unwrap();
    let refused = quiz("diverged", &["--formulation", "cloze"]);
    assert_eq!(refused.code, Some(2));
    assert!(refused.err.contains("not a number") && refused.err.contains("quiz"), "{}", refused.err);
    let refused = eval(&["diverged", "--text", "text.jsonl", "--out", "diverged-text"]);
    assert!(refused.code == Some(2) && refused.err.contains("not a number"), "{}", refused.err);
    assert!(!place().join("diverged-text/results.json").exists(), "nothing that cannot be read again");
    for args in [
        &[
            "eval",
            "diverged",
            "--task",
            "quiz.toml",
            "--datasets",
            "data",
            "--offline",
            "--formulation",
            "generation",
        ][..],
        &["eval", "ruler", "diverged", "--lengths", "256", "--kinds", "niah_single_1", "--count", "1"],
        &["eval", "thinkfollow", "diverged", "--max-tokens", "8", "--limit", "2"],
        &["generate", "--model", "diverged", "--prompt", "The sea"],
        &["generate", "--model", "diverged", "--prompt", "The sea", "--temperature", "1"],
    ] {
        let mut command = smolt();
        command.current_dir(place()).args(args);
        let ran = Ran::of(command);
        assert!(ran.code == Some(2) && ran.err.contains("not a number"), "{args:?}: {}", ran.err);
    }
}

/// `datasets/somebody/quiz` with a card, as the Hub has it.
fn hub(request: &Request) -> Reply {
    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
    let card =
        b"---\nconfigs:\n- config_name: main\n  data_files:\n  - split: test\n    path: deep/t.jsonl\n---\n";
    let data = std::fs::read(place().join("data/quiz/main/test-00000-of-00001.jsonl")).unwrap();
    let path = request.path.as_str();
    let tag = |digit: &str| digit.repeat(40);
    if path == "/api/datasets/somebody/quiz/revision/main" {
        return Reply::new(200, format!("{{\"sha\": \"{COMMIT}\"}}"));
    }
    if path.starts_with(&format!("/api/datasets/somebody/quiz/tree/{COMMIT}")) {
        let file = |path: &str, size: usize| json!({"type": "file", "path": path, "size": size, "oid": "x"});
        return Reply::new(
            200,
            json!([file("README.md", card.len()), file("deep/t.jsonl", data.len())]).to_string(),
        );
    }
    let (content, tag) = match path {
        path if path.ends_with("/README.md") => (card.to_vec(), tag("1")),
        path if path.ends_with("/deep/t.jsonl") => (data, tag("2")),
        _ => return Reply::new(404, ""),
    };
    Object::new(content, &tag).answer(request).with("X-Repo-Commit", COMMIT)
}

#[test]
fn rows_come_from_the_hub_by_its_card_and_offline_from_its_cache() {
    let server = Server::start(hub);
    let home = tempfile::tempdir().unwrap();
    let ask = |endpoint: &str, more: &[&str]| {
        let mut command = smolt();
        command.current_dir(place()).args(["eval", "one", "--task", "quiz.toml", "--formulation", "cloze"]);
        command.arg("--json").args(more);
        command.env("HF_ENDPOINT", endpoint).env("HF_HOME", home.path()).env("HF_HUB_OFFLINE", "0");
        for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
            command.env_remove(name);
        }
        Ran::of(command)
    };
    let nothing = ask(&server.url, &["--offline"]);
    assert!(nothing.code == Some(2) && nothing.err.contains("cache of the Hub"), "{nothing:?}");
    let found: Value = serde_json::from_str(&ask(&server.url, &[]).success()).unwrap();
    let data = &found["tasks"][0]["dataset"];
    assert_eq!(
        (&data["rows"], &data["revision"]),
        (&json!(30), &json!("0123456789abcdef0123456789abcdef01234567"))
    );
    quiz("one", &["--formulation", "cloze", "--out", "local"]).success();
    assert_eq!(results("local")["tasks"][0]["dataset"]["hash"], data["hash"], "the same rows");
    drop(server);
    let cached: Value = serde_json::from_str(&ask("http://127.0.0.1:1", &["--offline"]).success()).unwrap();
    assert_eq!(
        (&cached["tasks"][0]["scores"], &cached["tasks"][0]["dataset"]),
        (&found["tasks"][0]["scores"], data)
    );
}

#[test]
fn a_score_is_measured_again_when_the_examples_are_others() {
    let data = place().join("shots/quiz/main");
    std::fs::create_dir_all(&data).unwrap();
    for split in ["test", "train"] {
        let name = format!("{split}-00000-of-00001.jsonl");
        std::fs::copy(place().join("data/quiz/main").join(&name), data.join(&name)).unwrap();
    }
    let ask = || {
        let given = ["one", "--task", "quiz.toml", "--datasets", "shots", "--formulation", "cloze"];
        let out = ["--few-shot", "2", "--limit", "5", "--out", "shots-out"];
        eval(&[&given[..], &out[..]].concat()).success();
        (results("shots-out")["tasks"][0].clone(), samples("shots-out", "quiz.cloze.jsonl"))
    };
    let before = ask();
    assert_eq!(ask().0["seconds"], before.0["seconds"], "known already");
    let examples = data.join("train-00000-of-00001.jsonl");
    let changed = std::fs::read_to_string(&examples).unwrap().replace("What is", "How much is");
    std::fs::write(&examples, changed).unwrap();
    let after = ask();
    assert_eq!(after.0["dataset"]["hash"], before.0["dataset"]["hash"]);
    assert_ne!(after.0["dataset"]["few_shot_hash"], before.0["dataset"]["few_shot_hash"]);
    assert!(after.1[0]["prompt"].as_str().unwrap().contains("How much is"), "{:?}", after.1[0]);
}

#[test]
fn threads_and_company_change_no_bit() {
    quiz("one", &["--formulation", "cloze", "--out", "t1", "--threads", "1"]).success();
    quiz("one", &["--formulation", "cloze", "--out", "t2", "--threads", "2"]).success();
    let (one, two) = (samples("t1", "quiz.cloze.jsonl"), samples("t2", "quiz.cloze.jsonl"));
    assert_eq!(one, two);
    quiz("one", &["--formulation", "cloze", "--out", "part", "--limit", "10"]).success();
    let part = samples("part", "quiz.cloze.jsonl");
    assert_eq!(part.len(), 10);
    for sample in part {
        let whole = one.iter().find(|other| other["id"] == sample["id"]).unwrap();
        assert_eq!(whole["candidates"], sample["candidates"]);
    }
}

#[test]
fn models_are_compared_item_by_item() {
    quiz("one", &["--formulation", "cloze", "--out", "c1"]).success();
    quiz("two", &["--formulation", "cloze", "--out", "c2"]).success();
    let same: Value = serde_json::from_str(&eval(&["compare", "c1", "c1", "--json"]).success()).unwrap();
    assert_eq!(same["tasks"][0]["comparison"]["verdict"], "no_difference");
    assert_eq!(same["tasks"][0]["comparison"]["difference"]["value"], 0.0);
    assert!(eval(&["compare", "c1", "c2"]).success().contains("verdict"));
    quiz("two", &["--formulation", "cloze", "--few-shot", "1", "--out", "c3"]).success();
    let refused = eval(&["compare", "c1", "c3"]);
    assert_eq!(refused.code, Some(2));
    assert!(refused.err.contains("number of examples"), "{}", refused.err);
}

#[test]
fn what_a_suite_takes_is_said_before_it_is_asked() {
    let planned = |more: &[&str]| quiz("one", &[&["--plan-only", "--few-shot", "2"], more].concat());
    let found: Value = serde_json::from_str(&planned(&["--json", "--out", "planned"]).success()).unwrap();
    let parts = found["parts"].as_array().unwrap();
    assert_eq!(parts.len(), 3);
    for part in parts {
        assert_eq!(part["questions"], 30);
        let written = if part["formulation"] == "generation" { 30 * 6 } else { 0 };
        assert!(part["tokens_read"].as_u64().unwrap() > 0 && part["tokens_written"] == written, "{part}");
    }
    assert!(found["seconds"].as_f64().unwrap() > 0.0, "{found}");
    assert!(!place().join("planned").exists(), "nothing is kept of it");
    let table = planned(&[]).success();
    assert!(table.contains("to write at most") && table.contains("in all"), "{table}");
    // Before the first question, on standard error; and what is known is not counted again.
    let ran = quiz("one", &["--formulation", "cloze", "--out", "planned"]);
    assert!(ran.err.contains("tokens to read") && ran.err.contains("in all"), "{}", ran.err);
    let again = quiz("one", &["--formulation", "cloze", "--out", "planned", "--plan-only"]).success();
    assert!(again.contains("1 more are known already") && again.contains("no question is left"), "{again}");
}

#[test]
fn a_drop_from_the_baseline_is_an_alarm() {
    quiz("one", &["--formulation", "cloze", "--out", "base"]).success();
    let guard = |after: &str, most: &str| eval(&["compare", "base", after, "--max-drop", most]);
    let same = guard("base", "0.2");
    assert!(same.code == Some(0) && same.out.contains("no task is known to have dropped"), "{same:?}");
    // What a toy scores is another number on other processors.
    let blurred = |line: &str| {
        let words = line.split_whitespace();
        let blur = |word: &str| {
            if word.contains(|c: char| c.is_ascii_digit()) { "#".into() } else { word.to_owned() }
        };
        words.map(blur).collect::<Vec<_>>().join(" ")
    };
    insta::assert_snapshot!(
        "a_guard_that_holds",
        same.out.lines().map(blurred).collect::<Vec<_>>().join("\n")
    );
    // The same answers, of which those that were right are wrong.
    common::copy(&place().join("base"), &place().join("worse"));
    let path = place().join("worse/samples/quiz.cloze.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    let zero = |sample: &str| {
        let mut sample: Value = serde_json::from_str(sample).unwrap();
        sample["values"]["accuracy_char"] = json!(0.0);
        format!("{sample}\n")
    };
    std::fs::write(&path, text.lines().map(zero).collect::<String>()).unwrap();
    let fell = guard("worse", "0.02");
    assert!(
        fell.code == Some(1) && fell.out.contains("dropped by more than 2.0 points: quiz.cloze"),
        "{fell:?}"
    );
    let found = eval(&["compare", "base", "worse", "--max-drop", "0.02", "--json"]);
    let found: Value = serde_json::from_str(&found.out).unwrap();
    assert_eq!(found["guard"]["verdicts"]["quiz.cloze"], "alarm");
    assert_eq!(eval(&["compare", "base", "worse"]).code, Some(0), "nothing was to be guarded");
    // What the candidate was not asked is not guarded.
    quiz("one", &["--formulation", "multiple-choice", "--out", "base"]).success();
    let missing = guard("worse", "1");
    assert!(missing.code == Some(1) && missing.out.contains("not guarded"), "{missing:?}");
}

#[test]
fn long_contexts_are_compared_by_length() {
    for (model, out) in [("one", "long1"), ("two", "long2")] {
        let kinds = ["--kinds", "niah_single_1,vt", "--count", "3", "--out", out];
        eval(&[&["ruler", model, "--lengths", "256,384"], &kinds[..]].concat()).success();
    }
    let found = eval(&["compare", "long1", "long2", "--json"]).success();
    let found: Value = serde_json::from_str(&found).unwrap();
    let names: Vec<&Value> = found["tasks"].as_array().unwrap().iter().map(|task| &task["name"]).collect();
    assert_eq!(names, ["ruler@256", "ruler@384"]);
    let text = std::fs::read_to_string(place().join("long1/samples.jsonl")).unwrap();
    let items: u64 =
        found["tasks"].as_array().unwrap().iter().map(|task| task["baseline"]["n"].as_u64().unwrap()).sum();
    assert_eq!(items, text.lines().count() as u64, "every item of either length");
    std::fs::write(place().join("long1/samples.jsonl"), format!("{text}{{\"id\": 3}}\n")).unwrap();
    let damaged = eval(&["compare", "long1", "long2"]);
    assert!(
        damaged.code == Some(2) && damaged.err.contains(&format!("samples.jsonl: line {}", items + 1)),
        "{damaged:?}"
    );
}

#[test]
fn models_and_subsets_are_plotted() {
    for (model, out, seed) in [("one", "p1", "1"), ("two", "p2", "1"), ("one", "p3", "2")] {
        let shots = ["--few-shot", "1", "--set"];
        let seed = format!("few_shot.seed={seed}");
        quiz(model, &[&["--formulation", "cloze", "--out", out], &shots[..], &[&seed]].concat()).success();
    }
    eval(&["rank", "p1", "p2", "--svg", "rank.svg"]).success();
    let subset = ["--task", "quiz", "--count", "10", "--held-out", "1", "--svg", "subset.svg"];
    eval(&[&["subset", "p1", "p2", "p3"], &subset[..]].concat()).success();
    let svg = |name: &str| std::fs::read_to_string(place().join(name)).unwrap();
    let (rank, subset) = (svg("rank.svg"), svg("subset.svg"));
    assert!(rank.starts_with("<svg xmlns") && rank.contains("models beaten") && rank.contains("parameters"));
    assert!(subset.contains("10 of 30 items") && subset.contains("held-out models"), "{subset}");
}

#[test]
fn text_is_read_in_bits_per_byte() {
    let found: Value =
        serde_json::from_str(&eval(&["one", "--text", "text.jsonl", "--json"]).success()).unwrap();
    let text = &found["texts"][0];
    let bits = text["bits_per_byte"].as_f64().unwrap();
    assert!(text["documents"] == 200 && bits > 0.5 && bits < 12.0, "{text}");
}

#[test]
fn a_long_context_is_measured_by_length() {
    let args = [
        "ruler",
        "one",
        "--lengths",
        "256,384",
        "--kinds",
        "niah_single_1,vt,qa_1",
        "--count",
        "2",
        "--out",
        "ruler",
    ];
    let table = eval(&args).success();
    assert!(table.contains("niah_single_1") && table.contains("effective length"), "{table}");
    assert!(table.contains("not run: qa_1"), "{table}");
    let report: Value =
        serde_json::from_slice(&std::fs::read(place().join("ruler/ruler.json")).unwrap()).unwrap();
    assert_eq!(report["means"].as_array().unwrap().len(), 2);
    let refused = eval(&["ruler", "one", "--lengths", "4096"]);
    assert_eq!(refused.code, Some(2));
    assert!(refused.err.contains("context of 512"), "{}", refused.err);
}

/// A run's model in a folder of its own.
fn copied(name: &str) -> PathBuf {
    let from = std::fs::read_dir(place().join("one/checkpoints")).unwrap().next().unwrap().unwrap().path();
    let to = place().join(name);
    common::copy(&from, &to);
    to
}

#[test]
fn the_whole_context_is_used_and_no_prompt_is_cut() {
    let template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
        {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    std::fs::write(copied("templated").join("chat_template.jinja"), template).unwrap();
    let kinds = "niah_single_1,niah_single_2,niah_multikey_1,vt,fwe";
    let asked = ["ruler", "templated", "--lengths", "512", "--count", "3", "--kinds", kinds, "--json"];
    for (out, more) in [("full", &[][..]), ("full-chat", &["--chat"])] {
        let ran = eval(&[&asked[..], &["--out", out], more].concat()).success();
        let report: Value = serde_json::from_str(&ran).unwrap();
        assert_eq!(report["model"]["context_length"], 512);
        let text = std::fs::read_to_string(place().join(out).join("samples.jsonl")).unwrap();
        let samples: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(samples.len(), 15);
        for sample in &samples {
            assert_eq!(sample["dropped_tokens"], 0, "{}", sample["id"]);
            assert!(sample["tokens"].as_u64() <= sample["max_tokens"].as_u64());
        }
        let most: std::collections::BTreeSet<u64> =
            samples.iter().map(|sample| sample["max_tokens"].as_u64().unwrap()).collect();
        assert!(most.len() > 2, "{most:?}");
    }
}

#[test]
fn rope_is_stretched_to_ask_beyond_the_trained_length() {
    let yarn = ["--rope-scaling", r#"{"rope_type": "yarn", "factor": 2.0}"#];
    let cloze = ["--formulation", "cloze", "--limit", "4", "--out", "stretched"];
    quiz("one", &[&cloze[..], &yarn].concat()).success();
    let model = &results("stretched")["model"];
    assert_eq!(model["context_length"], 1024);
    let refused = quiz("one", &cloze);
    assert!(refused.code == Some(2) && refused.err.contains("another model"), "{}", refused.err);
    let ruler = ["ruler", "one", "--lengths", "640", "--kinds", "niah_single_1", "--count", "1", "--json"];
    assert_eq!(eval(&ruler).code, Some(2));
    let report: Value = serde_json::from_str(&eval(&[&ruler[..], &yarn].concat()).success()).unwrap();
    assert_eq!(report["rope_scaling"], yarn[1]);
    let long = "so on ".repeat(300);
    let generate = |more: &[&str]| {
        let mut command = smolt();
        command.current_dir(place()).args([
            "generate",
            "--model",
            "one",
            "--max-tokens",
            "4",
            "--prompt",
            &long,
        ]);
        Ran::of({
            command.args(more);
            command
        })
    };
    assert!(generate(&[]).err.contains("the context of 512"));
    generate(&yarn).success();
    let wrong = generate(&["--rope-scaling", r#"{"rope_type": "yarn"}"#]);
    assert!(
        wrong.code == Some(2) && wrong.err.contains("--rope-scaling: `rope_scaling.factor`"),
        "{}",
        wrong.err
    );
}

#[test]
fn a_prompt_that_was_cut_is_shown_as_it_was_read() {
    let prompt =
        format!("item.prompt=Once upon a time {}{{{{ question }}}}\nAnswer:", "and so on ".repeat(300));
    for (out, formulation) in [("cut-cloze", "cloze"), ("cut-generation", "generation")] {
        let more = ["--formulation", formulation, "--out", out, "--limit", "2", "--set", &prompt];
        quiz("one", &more).success();
        for sample in samples(out, &format!("quiz.{formulation}.jsonl")) {
            let shown = sample["prompt"].as_str().unwrap();
            assert!(sample["dropped_tokens"].as_u64().unwrap() > 0);
            assert!(!shown.contains("Once upon") && shown.ends_with("\nAnswer:"), "{shown}");
        }
    }
}

fn thinkfollow(more: &[&str]) -> Ran {
    eval(&[&["thinkfollow", "one", "--max-tokens", "8"], more].concat())
}

#[test]
fn flags_are_followed_turn_by_turn() {
    let table = thinkfollow(&["--out", "think", "--threads", "1"]).success();
    for part in ["turn 3", "flag of an earlier turn", "never thinks", "first turn", "cut at the token limit"]
    {
        assert!(table.contains(part), "{part}: {table}");
    }
    let found = results("think");
    assert_eq!(
        (&found["evaluation"], &found["report"]["conversations"]),
        (&json!("thinkfollow"), &json!(20))
    );
    let turns = samples("think", "thinkfollow.jsonl");
    assert_eq!(turns.len(), 60);
    for turn in &turns {
        let (prompt, flag) = (turn["prompt"].as_str().unwrap(), turn["flag"].as_str());
        assert!(prompt.ends_with("<|im_start|>assistant\n"), "{prompt}");
        assert!(flag.is_none_or(|flag| prompt.contains(&format!(" {flag}<|im_end|>"))), "{prompt}");
        assert_eq!(prompt.matches("<|im_start|>assistant").count() as u64, turn["turn"].as_u64().unwrap());
    }
    // Threads change nothing, a limit only leaves out.
    thinkfollow(&["--out", "think2", "--threads", "2"]).success();
    let refused = thinkfollow(&["--out", "think2", "--seed", "7"]);
    assert!(refused.code == Some(2) && refused.err.contains("asked otherwise"), "{}", refused.err);
    assert_eq!(turns, samples("think2", "thinkfollow.jsonl"));
    let part = thinkfollow(&["--limit", "4", "--turns", "2", "--json", "--out", "think3"]).success();
    assert_eq!(serde_json::from_str::<Value>(&part).unwrap()["report"]["overall"]["all"]["n"], 8);
    for turn in samples("think3", "thinkfollow.jsonl") {
        let same = |other: &&Value| other["id"] == turn["id"] && other["turn"] == turn["turn"];
        assert_eq!(turns.iter().find(same), Some(&turn));
    }
    quiz("one", &["--formulation", "cloze", "--out", "other"]).success();
    let refused = thinkfollow(&["--out", "other"]);
    assert!(refused.code == Some(2) && refused.err.contains("give another --out"), "{}", refused.err);
}

#[test]
fn conversations_of_ones_own_are_followed() {
    let rows = [
        json!({"key": "a", "language": "fr", "turn_1_prompt": "{\"role\": \"user\", \"content\": \"Oui ?\"}", "turn_2_prompt": ""}),
        json!({"key": "b", "language": "en", "messages": [{"role": "user", "content": "Yes?"}, {"role": "user", "content": "No?"}]}),
    ];
    let folder = place().join("data/Multi-IF");
    std::fs::create_dir_all(&folder).unwrap();
    let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
    std::fs::write(folder.join("multiIF_20241018.jsonl"), &text).unwrap();
    let hub = "hf://datasets/facebook/Multi-IF";
    let ran = thinkfollow(&["--conversations", hub, "--datasets", "data", "--offline", "--json"]).success();
    let found: Value = serde_json::from_str(&ran).unwrap();
    assert_eq!(found["dataset"]["path"], hub);
    assert_eq!(
        (&found["report"]["overall"]["all"]["n"], &found["report"]["languages"]["fr"]["all"]["n"]),
        (&json!(3), &json!(1))
    );
    std::fs::write(place().join("bad.jsonl"), text + "{\"turn_1_prompt\": 3}\n").unwrap();
    for (args, said) in [
        (["--conversations", "bad.jsonl"], "bad.jsonl, row 2: `turn_1_prompt` must be text"),
        (["--conversations", "none.jsonl"], "there is no none.jsonl; correct --conversations"),
        (["--max-tokens", "0"], "--max-tokens"),
        (["--max-tokens", "512"], "no room for a prompt in a context of 512"),
    ] {
        let ran = eval(&[&["thinkfollow", "one", "--offline"], &args[..]].concat());
        assert!(ran.code == Some(2) && ran.err.contains(said), "{}", ran.err);
    }
    let offline = thinkfollow(&["--conversations", hub, "--offline"]);
    assert!(offline.code == Some(2) && offline.err.contains("--datasets"), "{}", offline.err);
}

/// Says `ok`, after thinking where the last flag says so.
fn thinker(request: &Request) -> Reply {
    if request.path == "/v1/models" {
        return Reply::new(200, json!({"data": [{"id": "toy", "max_model_len": 64}]}).to_string());
    }
    let asked: Value = serde_json::from_slice(&request.body).unwrap();
    let said: Vec<&str> =
        asked["messages"].as_array().unwrap().iter().map(|m| m["content"].as_str().unwrap()).collect();
    let said = said.join(" ");
    let thinks = said.rfind("/think") > said.rfind("/no_think");
    let message = json!({"content": "ok", "reasoning_content": if thinks { "hm" } else { "" }});
    let choices = json!([{"message": message, "finish_reason": "stop"}]);
    assert_eq!(asked["max_tokens"], 16, "a quarter of the context");
    Reply::new(200, json!({"choices": choices, "usage": {"completion_tokens": 2}}).to_string())
}

#[test]
fn a_server_is_asked_in_conversations() {
    let server = Server::start(thinker);
    let mut command = smolt();
    command.args(["eval", "thinkfollow", "--json", "--server", &format!("{}/v1", server.url)]);
    for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env_remove(name);
    }
    let found: Value = serde_json::from_str(&Ran::of(command).success()).unwrap();
    assert_eq!(
        (&found["report"]["verdict"], &found["report"]["overall"]["all"]["value"]),
        (&json!("holds"), &json!(1.0))
    );
}

#[test]
fn bad_input_is_named_with_its_fix() {
    let said = |ran: Ran, parts: &[&str]| {
        assert_eq!(ran.code, Some(2), "{}", ran.err);
        for part in parts {
            assert!(ran.err.contains(part), "{part}: {}", ran.err);
        }
    };
    said(eval(&["one"]), &["nothing to ask", "smolt eval tasks"]);
    let renamed = place().join("quiz-again.toml");
    let quiz_toml = std::fs::read_to_string(place().join("quiz.toml")).unwrap();
    std::fs::write(&renamed, quiz_toml.replace("{{ question }}", "Say: {{ question }}")).unwrap();
    said(
        eval(&["one", "--task", "quiz.toml", "--task", "quiz-again.toml"]),
        &["two tasks are called `quiz`", "rename one"],
    );
    said(eval(&["one", "--task", "arc_eazy"]), &["arc_eazy", "smolt eval tasks"]);
    said(eval(&["one", "--task", "quiz.toml", "--offline"]), &["offline", "quiz", "--datasets"]);
    said(quiz("one", &["--set", "dataset.split=validation"]), &["quiz", "validation"]);
    said(quiz("one", &["--set", "item.prompt={{ questions }}"]), &["test row 0", "questions"]);
    said(quiz("one", &["--set", "item.answer=5"]), &["test row 0", "outside"]);
    said(quiz("one", &["--formulation", "cloze", "--few-shot", "9"]), &["9 examples", "few_shot.count"]);
    let broken: PathBuf = place().join("broken.toml");
    std::fs::write(&broken, "name = \"x\"\n[dataset]\npath = \"data\"\n[item]\npromt = \"\"\n[cloze]\n")
        .unwrap();
    said(eval(&["one", "--task", "broken.toml"]), &["broken.toml:5", "promt", "prompt"]);
}
