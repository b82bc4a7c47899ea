//! Results and samples as lm-evaluation-harness writes them, for tools that read its files.

use crate::evaluate::Sample;
use crate::record::{Results, TaskResult};
use crate::task::Formulation;
use serde_json::{Map, Value, json};

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

/// The content of `results_DATE.json`.
pub fn results(results: &Results) -> Value {
    let mut tables: [Map<String, Value>; 5] = Default::default();
    let [scores, shots, versions, higher, counts] = &mut tables;
    for result in &results.tasks {
        let name = task_name(results, result);
        let mut row = Map::from_iter([("alias".to_owned(), json!(name))]);
        let mut better = Map::new();
        for (metric, score) in &result.scores.metrics {
            let spelled = metric_name(metric);
            let (metric, filter) = spelled.split_once(',').unwrap_or((&spelled, "none"));
            row.insert(spelled.clone(), json!(score.value));
            row.insert(format!("{metric}_stderr,{filter}"), json!(score.stderr));
            better.insert(metric.to_owned(), json!(metric != "answer_bits_per_byte"));
        }
        scores.insert(name.clone(), row.into());
        shots.insert(name.clone(), json!(result.few_shot));
        versions.insert(name.clone(), json!(result.task_hash));
        higher.insert(name.clone(), better.into());
        counts.insert(name, json!({"original": result.dataset.rows, "effective": result.scores.items}));
    }
    let seconds: f64 = results.tasks.iter().map(|task| task.seconds).sum();
    let [scores, shots, versions, higher, counts] = tables;
    json!({
        "results": scores,
        "group_subtasks": {},
        "configs": {},
        "versions": versions,
        "n-shot": shots,
        "higher_is_better": higher,
        "n-samples": counts,
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
        let mut head = Map::from_iter([
            ("doc_id".to_owned(), json!(sample.row)),
            ("doc".to_owned(), json!({"id": sample.id, "subset": sample.subset})),
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
        let asked =
            sample.candidates.iter().map(|c| json!({"arg_0": sample.prompt, "arg_1": c.continuation}));
        // There, numbers of samples are written as text.
        let answer = |c: &crate::evaluate::Candidate| {
            json!([c.log_likelihood.to_string(), if c.greedy { "True" } else { "False" }])
        };
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
