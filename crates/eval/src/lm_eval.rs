//! Results and samples as lm-evaluation-harness writes them, for tools that read its files.

use crate::evaluate::{Candidate, Sample};
use crate::record::{Results, TaskResult};
use crate::stats::Score;
use crate::task::Formulation;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// The name by which a score goes there: `metric,filter`.
fn metric_name(name: &str) -> String {
    let (metric, filter) = match name {
        "accuracy" => ("acc", "none"),
        "accuracy_char" => ("acc_norm", "none"),
        "accuracy_byte" => ("acc_bytes", "none"),
        "accuracy_pmi" => ("acc_mutual_info", "none"),
        _ => match name.split_once("exact_match_") {
            Some(("", filter)) => ("exact_match", filter),
            _ => (name, "none"),
        },
    };
    format!("{metric},{filter}")
}

/// Task names carry the formulation where the task was also asked in a more usual one.
fn task_name(results: &Results, result: &TaskResult) -> String {
    let rank = |formulation: Formulation| match formulation {
        Formulation::Cloze => 0,
        Formulation::Generation => 1,
        Formulation::MultipleChoice => 2,
    };
    let own = rank(result.how.formulation);
    let more_usual = |other: &TaskResult| other.task == result.task && rank(other.how.formulation) < own;
    match (results.tasks.iter().any(more_usual), result.how.formulation) {
        (true, Formulation::Generation) => format!("{}_gen", result.task),
        (true, _) => format!("{}_mcf", result.task),
        (false, _) => result.task.clone(),
    }
}

/// The tables of `results_DATE.json`, each by name of task.
#[derive(Default)]
struct Tables {
    scores: Map<String, Value>,
    shots: Map<String, Value>,
    versions: Map<String, Value>,
    higher: Map<String, Value>,
    counts: Map<String, Value>,
    configs: Map<String, Value>,
}

impl Tables {
    /// A task, or a subset of one, which there is a task of its own.
    fn add(&mut self, name: &str, alias: &str, result: &TaskResult, metrics: &BTreeMap<String, Score>) {
        let mut row = Map::from_iter([("alias".to_owned(), json!(alias))]);
        let mut better = Map::new();
        for (metric, score) in metrics {
            let spelled = metric_name(metric);
            let (metric, filter) = spelled.split_once(',').unwrap_or((&spelled, "none"));
            row.insert(spelled.clone(), json!(score.value));
            row.insert(format!("{metric}_stderr,{filter}"), json!(score.stderr));
            better.insert(metric.to_owned(), json!(metric != "answer_bits_per_byte"));
        }
        let effective = metrics.values().next().map_or(0, |score| score.n);
        let whole = effective == result.scores.items;
        let original = if whole { result.dataset.rows } else { effective };
        self.scores.insert(name.to_owned(), row.into());
        self.shots.insert(name.to_owned(), json!(result.few_shot));
        self.versions.insert(name.to_owned(), json!(result.task_hash));
        self.higher.insert(name.to_owned(), better.into());
        self.counts.insert(name.to_owned(), json!({"original": original, "effective": effective}));
        self.configs.insert(name.to_owned(), config(name, result));
    }
}

/// What of a task's settings there are words for.
fn config(name: &str, result: &TaskResult) -> Value {
    let how = &result.how;
    let mut config = json!({
        "task": name,
        "dataset_path": result.dataset.path,
        "dataset_name": result.dataset.config,
        "test_split": result.dataset.split,
        "output_type": "multiple_choice",
        "num_fewshot": result.few_shot,
        "repeats": how.samples,
        "metadata": {"version": result.task_hash, "formulation": how.formulation.name()},
    });
    if how.formulation == Formulation::Generation {
        config["output_type"] = json!("generate_until");
        config["generation_kwargs"] = json!({
            "do_sample": how.temperature > 0.0, "temperature": how.temperature, "top_p": how.top_p,
            "max_gen_toks": how.max_tokens,
        });
    }
    config
}

/// The content of `results_DATE.json`.
pub fn results(results: &Results) -> Value {
    let mut tables = Tables::default();
    let (mut groups, mut parts_of) = (Map::new(), Map::new());
    for result in &results.tasks {
        let name = task_name(results, result);
        tables.add(&name, &name, result, &result.scores.metrics);
        let mut parts = Vec::new();
        for (subset, metrics) in &result.scores.subsets {
            let part = format!("{name}_{}", sanitised(subset));
            tables.add(&part, &format!(" - {subset}"), result, metrics);
            parts.push(part);
        }
        if !parts.is_empty() {
            groups.insert(name.clone(), tables.scores[&name].clone());
            parts_of.insert(name, json!(parts));
        }
    }
    let seconds: f64 = results.tasks.iter().map(|task| task.seconds).sum();
    json!({
        "results": tables.scores,
        "groups": groups,
        "group_subtasks": parts_of,
        "configs": tables.configs,
        "versions": tables.versions,
        "n-shot": tables.shots,
        "higher_is_better": tables.higher,
        "n-samples": tables.counts,
        "config": {
            "model": "smolt", "model_args": format!("pretrained={}", results.model.path),
            "model_num_parameters": results.model.parameters, "model_dtype": results.model.precision,
            "batch_size": null, "device": results.machine,
        },
        "git_hash": null,
        "date": results.date,
        "model_source": "smolt",
        "model_name": results.model.path,
        "model_name_sanitized": sanitised(&results.model.path),
        "total_evaluation_time_seconds": seconds.to_string(),
    })
}

fn sanitised(path: &str) -> String {
    path.chars().map(|c| if c.is_alphanumeric() || "-._".contains(c) { c } else { '_' }).collect()
}

fn sha256(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Name of the samples' file of a task: `samples_TASK_DATE.jsonl`.
pub fn samples_file(results: &Results, result: &TaskResult) -> String {
    format!("samples_{}_{}.jsonl", task_name(results, result), file_date(&results.date))
}

/// Name of the results' file.
pub fn results_file(date: &str) -> String {
    format!("results_{}.json", file_date(date))
}

/// A date as its file names spell it, without the zone and without colons.
fn file_date(date: &str) -> String {
    date.trim_end_matches('Z').replace(':', "-")
}

/// The lines of `samples_TASK_DATE.jsonl`.
pub fn samples(samples: &[Sample]) -> Vec<Value> {
    samples.iter().flat_map(sample).collect()
}

fn sample(sample: &Sample) -> Vec<Value> {
    let arguments = |all: Vec<Value>| -> Map<String, Value> {
        all.into_iter().enumerate().map(|(i, value)| (format!("gen_args_{i}"), value)).collect()
    };
    let line = |filter: &str, target: Value, arguments: Map<String, Value>, resps: Value, kept: Value| {
        let mut line = Map::new();
        let mut metrics = Vec::new();
        for (name, value) in &sample.values {
            let spelled = metric_name(name);
            let (metric, of) = spelled.split_once(',').unwrap_or((&spelled, "none"));
            if of == filter {
                metrics.push(metric.to_owned());
                line.insert(metric.to_owned(), json!(value));
            }
        }
        let doc = json!({"id": sample.id, "subset": sample.subset});
        let said = target.as_str().unwrap_or_default();
        let mut head = Map::from_iter([
            ("doc_id".to_owned(), json!(sample.row)),
            ("doc_hash".to_owned(), json!(sha256(&doc.to_string()))),
            ("prompt_hash".to_owned(), json!(sha256(&sample.prompt))),
            ("target_hash".to_owned(), json!(sha256(said))),
            ("doc".to_owned(), doc),
            ("target".to_owned(), target),
            ("arguments".to_owned(), arguments.into()),
            ("resps".to_owned(), resps),
            ("filtered_resps".to_owned(), kept),
            ("filter".to_owned(), json!(filter)),
            ("metrics".to_owned(), json!(metrics)),
        ]);
        head.extend(line);
        Value::from(head)
    };
    if !sample.candidates.is_empty() {
        let prompt = |c: &Candidate| c.prompt.clone().unwrap_or_else(|| sample.prompt.clone());
        let asked = sample.candidates.iter().map(|c| json!({"arg_0": prompt(c), "arg_1": c.continuation}));
        // There, numbers of samples are written as text.
        let answer =
            |c: &Candidate| json!([c.log_likelihood.to_string(), if c.greedy { "True" } else { "False" }]);
        let resps: Vec<Value> = sample.candidates.iter().map(|c| json!([answer(c)])).collect();
        let kept: Vec<Value> = sample.candidates.iter().map(answer).collect();
        let target = json!(sample.answer.map(|a| a.to_string()));
        return vec![line("none", target, arguments(asked.collect()), json!(resps), json!(kept))];
    }
    let resps: Vec<&str> = sample.written.iter().map(|w| w.generated.text.as_str()).collect();
    let target = json!(sample.answers.first());
    let asked = || arguments(vec![json!({"arg_0": sample.prompt})]);
    let metrics = sample.written.first().map(|w| w.judged.as_slice()).unwrap_or_default();
    metrics
        .iter()
        .enumerate()
        .map(|(i, judged)| {
            let spelled = metric_name(&judged.metric);
            let filter = spelled.split_once(',').map_or("none", |(_, filter)| filter).to_owned();
            let found = |w: &crate::evaluate::Written| w.judged.get(i).and_then(|j| j.extracted.clone());
            let kept: Vec<_> =
                sample.written.iter().map(|w| found(w).unwrap_or_else(|| "[invalid]".into())).collect();
            line(&filter, target.clone(), asked(), json!([resps]), json!(kept))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::{self, tests::result};
    use crate::record::ModelRecord;
    use crate::task::builtin;
    use crate::task::pose::pose;

    const MODEL: &str =
        r#"{"path": "m", "hash": "h", "tokenizer_hash": "t", "precision": "fp32", "context_length": 8}"#;
    fn candidate(prompt: Option<String>, continuation: &str) -> Candidate {
        let continuation = continuation.to_owned();
        Candidate {
            prompt,
            continuation,
            log_likelihood: -1.0,
            unconditional: None,
            tokens: 1,
            greedy: false,
        }
    }

    fn row(value: Value) -> crate::task::pose::Row {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn each_candidate_stands_after_its_own_prompt() {
        let task = builtin("winogrande", &[]).unwrap();
        let rows =
            [row(json!({"sentence": "He saw _ run.", "option1": "Tom", "option2": "Jim", "answer": "2"}))];
        let item = &pose(&task, Formulation::Cloze, &rows, None).unwrap()[0];
        let mut sample = evaluate::sample(item, item.prompt(0));
        sample.candidates = (0..2).map(|i| candidate(Some(item.prompt(i)), " run.")).collect();
        let line = &samples(&[sample.clone()])[0];
        let context = |i: usize| line["arguments"][format!("gen_args_{i}")]["arg_0"].clone();
        assert_eq!((context(0), context(1)), (json!("He saw Tom"), json!("He saw Jim")));
        assert_eq!((&line["target"], &line["target_hash"]), (&json!("1"), &json!(sha256("1"))));
        assert_eq!(line["prompt_hash"], sha256("He saw Tom"));
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256("abc"), known);
    }

    #[test]
    fn subsets_are_tasks_of_a_group_and_each_has_a_configuration() {
        let task = builtin("mmlu", &[]).unwrap();
        let of = |subject| {
            row(json!({"question": "q", "subject": subject, "choices": ["a", "b", "c", "d"], "answer": 0}))
        };
        let rows = [of("anatomy"), of("anatomy"), of("world religions")];
        let items = pose(&task, Formulation::Cloze, &rows, None).unwrap();
        let mut all: Vec<Sample> = items.iter().map(|item| evaluate::sample(item, item.prompt(0))).collect();
        for sample in &mut all {
            sample.values.insert("accuracy".into(), 1.0);
        }
        let model: ModelRecord = serde_json::from_str(MODEL).unwrap();
        let found = results(&Results {
            format_version: 1,
            smolt: String::new(),
            date: String::new(),
            model,
            machine: String::new(),
            tasks: vec![result(&task, Formulation::Cloze, &items, &all)],
            texts: Vec::new(),
        });
        assert_eq!(found["group_subtasks"]["mmlu"], json!(["mmlu_anatomy", "mmlu_world_religions"]));
        assert_eq!(found["results"]["mmlu_anatomy"]["acc,none"], 1.0);
        assert_eq!(found["n-samples"]["mmlu_anatomy"], json!({"original": 2, "effective": 2}));
        assert_eq!(found["n-samples"]["mmlu"], json!({"original": 9, "effective": 3}));
        let config = &found["configs"]["mmlu_anatomy"];
        assert_eq!((&config["num_fewshot"], &config["output_type"]), (&json!(3), &json!("multiple_choice")));
        assert_eq!(config["dataset_name"], "all");
    }
}
