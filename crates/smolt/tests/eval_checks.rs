//! What catches faults of an evaluation: contamination, held-out access, checks, the replication gate.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Place, Ran, repository, run, smolt};
use serde_json::Value;
use std::path::{Path, PathBuf};

const WORDS: [&str; 16] = [
    "river", "stone", "candle", "garden", "window", "copper", "winter", "bridge", "apple", "hammer",
    "silver", "forest", "letter", "market", "ladder", "basket",
];

/// Words that do not repeat within a sentence, another choice for each number.
fn words(number: usize, count: usize) -> String {
    let word = |i: usize| format!("{}{}", WORDS[(number * 7 + i * 5) % 16], (number * 31 + i * i * 3) % 97);
    (0..count).map(word).collect::<Vec<_>>().join(" ")
}

fn question(i: usize) -> String {
    format!("Which of them came first, {}?", words(i, 12))
}

fn answer(i: usize) -> String {
    words(1000 + i, 14)
}

/// A folder with a benchmark of 40 items, and a run trained on its items 0 to 11 among other pages.
fn place() -> &'static Path {
    static PLACE: Place = Place::new(make);
    PLACE.path()
}

fn make(dir: &Path) {
    let row = |i: usize| {
        let mut choices = vec![answer(i), words(2000 + i, 14)];
        choices.rotate_left(i % 2);
        serde_json::json!({"question": question(i), "choices": choices, "answer": i % 2, "number": format!("{}", i * 3)})
    };
    let rows: String = (0..40).map(|i| format!("{}\n", row(i))).collect();
    std::fs::write(dir.join("items.jsonl"), rows).unwrap();
    let task = format!(
        "name = \"planted\"\n[dataset]\npath = {:?}\n[item]\nprompt = \"Question: {{{{ question }}}}\\nAnswer:\"\n\
         choices = \"choices\"\nanswer = \"answer\"\n[cloze]\n[generation]\ntarget = \"'so it is #### ' ~ number\"\n\
         max_tokens = 4\nextract = [{{ name = \"number\", regex = '#### ([0-9]+)' }}]\n\
         normalise = {{ remove = ['(?s).*#### '] }}\n",
        dir.join("items.jsonl").display().to_string()
    );
    std::fs::write(dir.join("planted.toml"), &task).unwrap();
    std::fs::write(
        dir.join("held.toml"),
        task.replace("name = \"planted\"", "name = \"held\"\nheld_out = true"),
    )
    .unwrap();
    let pages = |with: usize| -> String {
        let page = |i: usize| {
            let mut text = format!("A page about other things. {}.", words(5000 + i, 30));
            if i.is_multiple_of(5) && i / 5 < with {
                // Question alone, or with its answer.
                let item = i / 5;
                text += &format!(" {} ", question(item).to_uppercase());
                text += &if item.is_multiple_of(2) { answer(item) } else { String::new() };
            }
            format!("{}\n", serde_json::json!({"id": format!("page-{i}"), "text": text}))
        };
        (0..80).map(page).collect()
    };
    let tokenizer = tokenizer();
    for (name, with) in [("dirty", 12), ("clean", 0)] {
        let input = dir.join(format!("{name}.jsonl"));
        std::fs::write(&input, pages(with)).unwrap();
        let shard = dir.join(format!("{name}.ds"));
        run(["data", "tokenize", text(&input), "--tokenizer", &tokenizer, "--out", text(&shard)]).success();
    }
    let recipe = format!(
        "[model]\nmodel_type = \"smollm3\"\nhidden_size = 32\nintermediate_size = 64\nnum_hidden_layers = 2\n\
         num_attention_heads = 2\nnum_key_value_heads = 2\n[data]\ntokenizer = {tokenizer:?}\n\
         sources = [{{ name = \"web\", path = \"dirty.ds\" }}]\n[train]\ntrain_steps = 4\nsequence_length = 256\n\
         global_batch_size = 4\nmicro_batch_size = 4\ncheckpoint_interval = 4\n"
    );
    std::fs::write(dir.join("recipe.toml"), recipe).unwrap();
    run(["train", text(&dir.join("recipe.toml")), "--out", text(&dir.join("run"))]).success();
}

fn tokenizer() -> String {
    repository("recipes/tests/kill-resume/tokenizer").display().to_string()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn at(name: &str) -> String {
    place().join(name).display().to_string()
}

/// `smolt eval …` within `dir`.
fn eval(dir: &Path, args: &[&str]) -> Ran {
    let mut command = smolt();
    command.current_dir(dir).arg("eval").args(args);
    Ran::of(command)
}

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&eval(place(), args).success()).unwrap()
}

fn results(dir: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(dir.join("results.json")).unwrap()).unwrap()
}

#[test]
fn a_planted_contamination_is_found_and_a_clean_corpus_is_clean() {
    let look = |shard: &str, threads: &str| {
        let (shard, tokenizer) = (at(shard), tokenizer());
        let args =
            ["contamination", "--task", &at("planted.toml"), "--shards", &shard, "--tokenizer", &tokenizer];
        json(&[&args[..], &["--json", "--threads", threads]].concat())
    };
    let dirty = look("dirty.ds", "2");
    for (at, n) in [(0, 13), (1, 8)] {
        let found = &dirty["planted"]["by_n"][at];
        assert_eq!(
            (&found["n"], &found["items"], &found["contaminated"]),
            (&n.into(), &40.into(), &12.into())
        );
        assert_eq!((&found["in_question"], &found["in_answer"]), (&12.into(), &6.into()), "{found}");
        assert_eq!((&found["in_candidate"], &found["unchecked"]), (&6.into(), &0.into()), "{found}");
        let ids: Vec<usize> =
            found["found"].as_array().unwrap().iter().map(|f| f["row"].as_u64().unwrap() as usize).collect();
        assert_eq!(ids, (0..12).collect::<Vec<_>>());
        let worst = &found["worst"].as_array().unwrap()[0];
        // Shards are shuffled; pages 0, 10, 20 … hold a question with its answer.
        let page = worst["source"].as_str().unwrap().strip_prefix("page-").unwrap().parse::<u64>().unwrap();
        assert!(worst["items"] == 1 && page.is_multiple_of(10) && page < 60, "{worst}");
        assert!(worst["excerpt"].as_str().unwrap().starts_with("WHICH OF THEM CAME FIRST"), "{worst}");
    }
    assert_eq!(dirty, look("dirty.ds", "1"), "the same on any number of threads");
    let clean = look("clean.ds", "2");
    assert_eq!(clean["planted"]["by_n"][0]["contaminated"], 0);
    assert_eq!(clean["planted"]["by_n"][1]["documents"], 0);
    let (run_folder, task) = (at("run"), at("planted.toml"));
    let shown = eval(place(), &["contamination", "--task", &task, "--run", &run_folder]).success();
    assert!(shown.contains("page-") && shown.contains("30.00") | shown.contains("30.0"), "{shown}");
    let wrong = ["contamination", "--task", &task, "--shards", &at("dirty.ds")];
    assert_eq!(eval(place(), &wrong).code, Some(2));
}

#[test]
fn contamination_stands_beside_the_score_with_clean_and_contaminated_items_apart() {
    let dir = tempfile::tempdir().unwrap();
    let (model, task, out) = (at("run"), at("planted.toml"), dir.path().join("out"));
    let args = [&model, "--task", &task, "--formulation", "cloze", "--out", text(&out)];
    let shown = eval(dir.path(), &args).success();
    assert!(shown.contains("not measured"), "{shown}");
    assert_eq!(results(&out)["tasks"][0]["contamination"], Value::Null);
    // The same results, not asked again, now with what was found.
    let shown = eval(dir.path(), &[&args[..], &["--contamination", &model]].concat()).success();
    assert!(shown.contains("30.0 % (13 words)") && shown.contains("difference"), "{shown}");
    let result = &results(&out)["tasks"][0];
    let found = &result["contamination"]["by_n"][0];
    let effect = &found["effect"];
    assert_eq!((&effect["clean"]["n"], &effect["contaminated"]["n"]), (&28.into(), &12.into()), "{found}");
    let number = |value: &Value| value.as_f64().unwrap();
    let (clean, dirty) = (number(&effect["clean"]["value"]), number(&effect["contaminated"]["value"]));
    assert!((number(&effect["difference"]) - (dirty - clean)).abs() < 1e-12);
    let all = number(&result["scores"]["metrics"][effect["metric"].as_str().unwrap()]["value"]);
    assert!((number(&effect["inflation"]) - (all - clean)).abs() < 1e-12);
    assert!(number(&effect["difference_stderr"]) > 0.0);
    assert!(found["worst"][0]["source"].as_str().unwrap().starts_with("page-"));
    assert_eq!(result["contamination"]["searched"]["shards"][0]["source"], "web");
}

#[test]
fn a_held_out_benchmark_is_logged_and_downgraded() {
    let dir = tempfile::tempdir().unwrap();
    let (model, task) = (at("run"), at("held.toml"));
    let ask = |more: &[&str]| {
        let args =
            [&model, "--task", &task, "--formulation", "cloze", "--limit", "8", "--access-log", "log.jsonl"];
        eval(dir.path(), &[&args[..], more].concat())
    };
    let refused = ask(&[]);
    assert!(refused.code == Some(2) && refused.err.contains("--final-report"), "{refused:?}");
    assert!(!dir.path().join("log.jsonl").exists());
    let shown = ask(&["--final-report", "table 3"]).success();
    assert!(shown.contains("held out, final report: table 3"), "{shown}");
    assert_eq!(ask(&[]).code, Some(2), "a final report does not open it for others");
    let prompts = ["prompts", "--task", &task, "--access-log", "log.jsonl"];
    assert_eq!(eval(dir.path(), &prompts).code, Some(2), "looking at prompts is opening");
    eval(dir.path(), &[&prompts[..], &["--open-held-out=curious"]].concat()).success();
    let log = std::fs::read_to_string(dir.path().join("log.jsonl")).unwrap();
    let opening: Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    let opened =
        format!("validation (opened on {})", opening["date"].as_str().unwrap().split_once('T').unwrap().0);
    for more in [&[][..], &["--final-report", "table 4"]] {
        let shown = ask(more).success();
        assert!(shown.contains(&opened), "{shown}");
    }
    let log: Value =
        serde_json::from_str(&eval(dir.path(), &["access", "log.jsonl", "--json"]).success()).unwrap();
    let told: Vec<(&str, &str)> = log
        .as_array()
        .unwrap()
        .iter()
        .map(|o| (o["purpose"].as_str().unwrap(), o["reason"].as_str().unwrap()))
        .collect();
    assert_eq!(told, [("final_report", "table 3"), ("development", "curious"), ("final_report", "table 4")]);
    assert!(log[0]["model_hash"].as_str().unwrap().len() > 16 && log[1]["model_hash"] == "");
    assert!(eval(dir.path(), &["access", "log.jsonl"]).success().contains("table 3"));
    let log = dir.path().join("log.jsonl");
    let changed = std::fs::read_to_string(&log).unwrap().replace("curious", "serious");
    std::fs::write(&log, changed).unwrap();
    let refused = ask(&[]);
    assert!(refused.code == Some(2) && refused.err.contains("line 3"), "{refused:?}");
}

#[test]
fn what_was_opened_for_another_run_is_open_for_this_one() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("runs/one"), dir.path().join("runs/two"));
    for run in [&one, &two] {
        common::copy(Path::new(&at("run")), run);
    }
    let task = at("held.toml");
    let ask = |run: &Path, more: &[&str]| {
        let args = [text(run), "--task", &task, "--formulation", "cloze", "--limit", "8"];
        eval(dir.path(), &[&args[..], more].concat())
    };
    assert!(ask(&two, &["--final-report=paper"]).success().contains("held out, final report: paper"));
    ask(&one, &["--open-held-out=ablation"]).success();
    let shown = ask(&two, &["--final-report=paper"]).success();
    assert!(shown.contains("validation (opened on "), "{shown}");
    let around = ask(&two, &["--set", "held_out=false"]);
    assert!(around.code == Some(2) && around.err.contains("held_out"), "{around:?}");
}

#[test]
fn a_clean_task_passes_its_checks_and_planted_faults_do_not() {
    let (model, task) = (at("run"), at("planted.toml"));
    let check =
        |more: &[&str]| eval(place(), &[&["check", "--task", &task, "--model", &model], more].concat());
    let clean = check(&[]);
    assert_eq!(clean.code, Some(0), "{}", clean.out);
    assert!(clean.out.contains("planted.cloze, planted.generation checked: 0 errors"), "{}", clean.out);
    for (set, found) in [
        ("cloze.delimiter=\"\"", "missing_space"),
        ("generation.target=\"'so it is ' ~ number\"", "target_judged_wrong"),
        ("generation.stop=[\"####\"]", "stop_within_target"),
    ] {
        let ran = check(&["--set", set, "--json"]);
        assert_eq!(ran.code, Some(1), "{set}: {}", ran.out);
        let report: Value = serde_json::from_str(&ran.out).unwrap();
        let finding = &report["findings"][0];
        assert_eq!((&finding["check"], &finding["severity"]), (&found.into(), &"error".into()), "{report}");
        assert!(
            !finding["example"].as_str().unwrap().is_empty() && !finding["fix"].as_str().unwrap().is_empty()
        );
    }
}

#[test]
fn results_are_checked_too() {
    let dir = tempfile::tempdir().unwrap();
    let (model, task, out) = (at("run"), at("planted.toml"), dir.path().join("out"));
    eval(dir.path(), &[&model, "--task", &task, "--out", text(&out)]).success();
    let check = |task: &str| eval(dir.path(), &["check", "--task", task, "--results", text(&out), "--json"]);
    let ran = check(&task);
    let report: Value = serde_json::from_str(&ran.out).unwrap();
    // Four tokens are no answer.
    let found = report["findings"].as_array().unwrap();
    let truncated = found.iter().any(|f| f["check"] == "answers_truncated" && f["severity"] == "error");
    assert!(truncated && ran.code == Some(1), "{report}");
    let other = dir.path().join("other.toml");
    std::fs::write(
        &other,
        std::fs::read_to_string(&task).unwrap().replace("max_tokens = 4", "max_tokens = 5"),
    )
    .unwrap();
    let refused = check(text(&other));
    assert!(refused.code == Some(2) && refused.err.contains("another task file"), "{refused:?}");
}

#[test]
fn published_scores_are_reproduced_or_the_gate_fails() {
    let dir = tempfile::tempdir().unwrap();
    let (model, task, out) = (at("run"), at("planted.toml"), dir.path().join("out"));
    eval(dir.path(), &[&model, "--task", &task, "--formulation", "cloze", "--out", text(&out)]).success();
    let own = results(&out)["tasks"][0]["scores"]["metrics"]["accuracy_char"]["value"].as_f64().unwrap();
    let with = |score: f64| -> PathBuf {
        let path = dir.path().join(format!("reference-{score}.toml"));
        let reference = |name: &str| {
            format!(
                "\n[[reference]]\nmodel = \"lab/{name}\"\nformulation = \"cloze\"\nmetric = \"accuracy_char\"\n\
                 score = {score}\ntolerance = 0.3\nfrom = \"x\"\n"
            )
        };
        let text =
            std::fs::read_to_string(&task).unwrap() + &reference("a") + &reference("b") + &reference("c");
        std::fs::write(&path, text).unwrap();
        path
    };
    let (a, b) = (format!("lab/a={}", out.display()), format!("b={}", out.display()));
    let gate = |task: &Path, more: &[&str]| {
        eval(dir.path(), &[&["replicate", "--task", text(task), &a, &b, "--json"], more].concat())
    };
    let good = gate(&with(own), &[]);
    assert_eq!(good.code, Some(1), "40 items prove nothing: {}", good.out);
    let report: Value = serde_json::from_str(&good.out).unwrap();
    assert_eq!(report["tasks"][0]["verdict"], "too_few_items");
    assert!(report["left_out"][0].as_str().unwrap().contains("lab/c: not measured"), "{report}");
    let bad = gate(&with(if own < 0.5 { 0.999 } else { 0.001 }), &[]);
    let report: Value = serde_json::from_str(&bad.out).unwrap();
    assert_eq!((bad.code, &report["tasks"][0]["verdict"]), (Some(1), &"differs".into()), "{report}");
    let none = eval(dir.path(), &["replicate", "--task", &task, &a]);
    assert!(none.code == Some(2) && none.err.contains("[[reference]]"), "{none:?}");
}
