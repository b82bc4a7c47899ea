//! `smolt data`: looking at shards, mixtures and batches.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Ran, repository, run, smolt};
use serde_json::Value;
use std::path::Path;

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&run(args.iter().chain(&["--json"])).success()).unwrap()
}

fn path(relative: &str) -> String {
    repository(relative).display().to_string()
}

/// Shares by category are those computed from the published configuration (spec MIX-01), and what was written about them
/// elsewhere differs from it where it is known to (MIX-04).
#[test]
fn smollm3s_mixtures_are_as_published_and_their_errors_are_told() {
    let found = json(&["data", "mix", &path("recipes/smollm3-3b/pretrain.toml")]);
    let stages = found["mix"]["stages"].as_array().unwrap();
    let shares = |recipe: &[(&str, f64)], stage: &Value| {
        for (category, share) in recipe {
            let is = stage["percent"][category].as_f64().unwrap();
            assert!((is - share).abs() < 0.08, "{stage} {category}");
        }
    };
    shares(&[("web", 72.4), ("multilingual", 12.0), ("code", 12.9), ("math", 2.7)], &stages[0]);
    shares(&[("web", 64.7), ("multilingual", 11.7), ("code", 14.5), ("math", 9.1)], &stages[1]);
    shares(&[("web", 51.1), ("multilingual", 12.3), ("code", 23.4), ("math", 13.1)], &stages[2]);
    let steps: Vec<u64> = stages.iter().map(|stage| stage["steps"].as_u64().unwrap()).collect();
    assert_eq!(steps, [3_450_000, 748_000, 522_000]);
    let differences = found["mix"]["differences"].to_string();
    for words in [
        r#"stage \"stable\": stated 8.00T tokens, the recipe trains on 8.14T (+1.7 %)"#,
        r#"stage \"stable\": stated 75 % web, the recipe has 72.4 % (-2.6)"#,
        r#"stage \"stable\": stated 10 % code, the recipe has 12.9 % (+2.9)"#,
        r#"stage \"higher quality\": stated 2.00T tokens, the recipe trains on 1.76T"#,
        r#"stage \"decay\": stated 1.10T tokens, the recipe trains on 1.23T"#,
        r#"stage \"decay\": the weights sum to 1.005650, not 1"#,
    ] {
        assert!(differences.contains(words), "{words}: {differences}");
    }
    for (recipe, reasoning, math) in [("long-context-32k", 10.1, 15.3), ("long-context-64k", 13.1, 13.5)] {
        let found = json(&["data", "mix", &path(&format!("recipes/smollm3-3b/{recipe}.toml"))]);
        let stages = found["mix"]["stages"].as_array().unwrap();
        assert_eq!(stages.len(), 1);
        shares(&[("reasoning", reasoning), ("math", math)], &stages[0]);
    }
}

#[test]
fn a_mix_shows_epochs_what_rises_and_what_falls_and_a_chart() {
    let dir = tempfile::tempdir().unwrap();
    let chart = dir.path().join("mix.svg");
    let recipe = path("recipes/tests/kill-resume.toml");
    let out =
        run(["data", "mix", &recipe, "--raise", "questions=2", "--svg", chart.to_str().unwrap()]).success();
    assert!(out.contains("stories") && out.contains("epochs now"), "{out}");
    let found = json(&["data", "mix", &recipe, "--raise", "questions=2"]);
    let share = |of: &Value, i: usize| of["sources"][i]["target_share"].as_f64().unwrap();
    assert!((share(&found["raised"], 0) - 0.6 / 1.4).abs() < 1e-9, "{found}");
    assert!(found["mix"]["sources"][0]["epochs"].as_f64().unwrap() > 0.1);
    let svg = std::fs::read_to_string(chart).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains("learning rate"));
    for (raise, words) in
        [("x=2", "no such name"), ("questions", "SOURCE=FACTOR"), ("questions=a", "not a number")]
    {
        let ran = run(["data", "mix", &recipe, "--raise", raise]);
        assert!(ran.code == Some(2) && ran.err.contains(words), "{}", ran.err);
    }
}

/// Which documents were in a batch: their tokens, in order, are the batch, and their names are the input's.
#[test]
fn the_documents_of_a_batch_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let documents: String = (0..60)
        .map(|i| format!("{{\"id\": \"page-{i}\", \"text\": \"the cat {i} sat {}\"}}\n", "on ".repeat(i)))
        .collect();
    std::fs::write(at("in.jsonl"), documents).unwrap();
    let tokenizer = path("recipes/tests/kill-resume/tokenizer");
    run(["data", "tokenize", &at("in.jsonl"), "--tokenizer", &tokenizer, "--out", &at("a.ds")]).success();
    let recipe = format!(
        "[model]\n[data]\ntokenizer = {tokenizer:?}\nsources = [{{ name = \"a\", path = \"a.ds\" }}]\n\
         [train]\ntrain_steps = 9\nsequence_length = 31\nglobal_batch_size = 4\nmicro_batch_size = 4\n"
    );
    std::fs::write(at("r.toml"), recipe).unwrap();
    let found = json(&["data", "inspect", &at("r.toml"), "--step", "3", "--characters", "10000"]);
    assert_eq!((&found["first_sample"], &found["stage"]), (&8.into(), &"all".into()));
    let rows = found["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 4);
    let mut labels = 0;
    for row in rows {
        let documents = row["documents"].as_array().unwrap();
        let tokens: u64 = documents.iter().map(|d| d["tokens"].as_u64().unwrap()).sum();
        assert_eq!(tokens, 32);
        labels += 32 - documents.len() as u64;
        for document in documents {
            let number = document["id"].as_str().unwrap().strip_prefix("page-").unwrap();
            if document["first_token"] == 0 && document["tokens"] == document["document_tokens"] {
                assert!(
                    document["text"].as_str().unwrap().starts_with(&format!("the cat {number} sat")),
                    "{document}"
                );
            }
        }
    }
    assert_eq!(found["label_tokens"], labels);
    let out = run(["data", "inspect", &at("r.toml"), "--step", "3", "--rows", "1"]).success();
    assert!(
        out.contains("step 3 of 9") && out.contains("\"page-") && out.contains("3 more sequences"),
        "{out}"
    );
    // The shard itself, and shards made from it.
    let shown = ["--tokenizer", &tokenizer, "--rows", "5", "--characters", "10000"];
    let shard = json(&[&["data", "inspect", &at("a.ds")], &shown[..]].concat());
    assert_eq!(shard["documents"].as_array().unwrap().len(), 5);
    assert!(shard["documents"][0]["text"].as_str().unwrap().ends_with("<|im_end|>"), "{shard}");
    let packed: Value = serde_json::from_str(
        &run([
            "data",
            "pack",
            &at("a.ds"),
            "--mode",
            "best-fit",
            "--sequence-length",
            "31",
            "--out",
            &at("b.ds"),
        ])
        .success(),
    )
    .unwrap();
    assert_eq!(packed["documents"], 60);
    let ids = std::fs::read_to_string(at("b.ds.ids")).unwrap();
    assert!(ids.lines().any(|line| line == "\"page-59\"") && ids.lines().any(|line| line == "null"), "{ids}");
    assert!(run(["data", "lengths", &at("a.ds"), &at("b.ds")]).success().contains("60 documents"));
    let refused = run(["data", "pack", &at("a.ds"), "--mode", "best-fit", "--out", &at("c.ds")]);
    assert!(refused.code == Some(2) && refused.err.contains("--sequence-length"), "{}", refused.err);
    // Another tokenizer than the recipe's is told before anything is read.
    run(["tokenizer", "train", &at("in.jsonl"), "--vocab-size", "384", "--out", &at("tok")]).success();
    let mut command = smolt();
    command
        .args(["data", "inspect", &at("r.toml"), "--set"])
        .arg(format!("data.tokenizer={}/base", at("tok")));
    let refused = Ran::of(command);
    assert!(
        refused.code == Some(2) && refused.err.contains("made with another tokenizer"),
        "{}",
        refused.err
    );
}

/// What a chat says beside its words reaches the template: tools, their calls, reasoning, names, and that nothing was said.
#[test]
fn chats_are_rendered_with_all_that_they_hold() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    common::copy(Path::new(&path("recipes/tests/kill-resume/tokenizer")), Path::new(&at("tok")));
    let template = "{% for t in tools %}tool {{ t.name }}; {% endfor %}{% for m in messages %}{{ m.role }}\
        {% if m.name %} {{ m.name }}{% endif %}{% if 'content' in m %}: {{ m.content }}{% endif %}; \
        {% if m.role == 'assistant' %}{% generation %}{{ m.reasoning_content }}\
        {%- for c in m.tool_calls %} calls {{ c.name }}{% endfor %}{{ eos_token }}{% endgeneration %}{% endif %}{% endfor %}";
    let simple = "{% if not messages[1].tool_calls %}{% generation %}Answer{{ eos_token }}{% endgeneration %}\
        {% else %}TEMPLATE{% endif %}";
    std::fs::write(at("tok/chat_template.jinja"), simple.replace("TEMPLATE", template)).unwrap();
    let chat = serde_json::json!({
        "messages": [
            {"role": "user", "name": "Ann", "content": "time?"},
            {"role": "assistant", "content": null, "reasoning_content": "hm", "tool_calls": [{"name": "clock"}]},
        ],
        "tools": [{"name": "clock"}],
    });
    std::fs::write(at("in.jsonl"), format!("{chat}\n")).unwrap();
    let (tok, shard) = (at("tok"), at("a.ds"));
    run(["data", "tokenize", "--chats", &at("in.jsonl"), "--tokenizer", &tok, "--out", &shard]).success();
    let shown = json(&["data", "inspect", &shard, "--tokenizer", &tok, "--characters", "10000"]);
    let text = "tool clock; user Ann: time?; assistant; hm calls clock<|im_end|>";
    assert_eq!(shown["documents"][0]["text"], text, "{shown}");
}

#[test]
fn the_shuffle_of_a_recipe_is_checked() {
    let recipe = path("recipes/tests/kill-resume.toml");
    assert!(Path::new(&recipe).exists());
    let out = run(["data", "inspect", &recipe, "--check"]).success();
    assert!(out.contains("adjacency") && !out.contains("FAILED"), "{out}");
    let refused = run(["data", "inspect", &path("recipes/tests/kill-resume/qa.ds"), "--check"]);
    assert!(refused.code == Some(2) && refused.err.contains("give a recipe"), "{}", refused.err);
}
