//! `smolt eval replicate`: whether published scores are reproduced (spec EVL-08, PEV-14).

use super::Asked;
use crate::{Outcome, output};
use serde::Serialize;
use smolt_eval::record::{self, Results, TaskResult};
use smolt_eval::stats::replication::{Pair, Replication, Settings, Verdict, gate};
use smolt_eval::task::{Reference, Task};
use smolt_run::error::Failure;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Folders that `smolt eval --out` wrote, one for each model; MODEL=DIR where the path does not tell its name on the
    /// Hub
    #[arg(required = true, value_name = "[MODEL=]DIR")]
    results: Vec<String>,
    #[command(flatten)]
    asked: Asked,
    /// Fewest models that a task must be reproduced with
    #[arg(long, default_value_t = 2, value_name = "N")]
    models: usize,
    /// How often a right implementation may fail a task
    #[arg(long, default_value_t = 0.05)]
    alpha: f64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    passed: bool,
    tasks: Vec<Replication>,
    /// Published scores that nothing was measured for, and measured ones that do not compare.
    left_out: Vec<String>,
}

/// Results with the name of their model.
struct Measured {
    model: Option<String>,
    folder: PathBuf,
    results: Results,
}

pub(super) fn run(args: &Args) -> Outcome {
    let tasks = args.asked.tasks()?;
    if tasks.is_empty() {
        return Err(Failure::bad_input(
            "replicate what? give --task NAME, a suite or a file with [[reference]]",
        ));
    }
    let measured = args.results.iter().map(|name| read(name)).collect::<Result<Vec<_>, Failure>>()?;
    let mut report = Report { passed: false, tasks: Vec::new(), left_out: Vec::new() };
    for (task, formulations) in &tasks {
        let mut of_task: BTreeMap<String, (Vec<Pair>, f64)> = BTreeMap::new();
        for reference in task.reference.iter().filter(|r| formulations.contains(&r.formulation)) {
            match pair(task, reference, &measured) {
                Ok(pair) => {
                    let (pairs, tolerance) = of_task.entry(pair.task.clone()).or_default();
                    *tolerance = tolerance.max(reference.tolerance);
                    pairs.push(pair);
                }
                Err(problem) => report.left_out.push(problem),
            }
        }
        for (pairs, rounding) in of_task.into_values() {
            let most_tolerance = Settings::default().most_tolerance + rounding;
            let (alpha, fewest_models) = (args.alpha, args.models);
            report.tasks.extend(gate(
                &pairs,
                &Settings { alpha, rounding, most_tolerance, fewest_models, ..Settings::default() },
            )?);
        }
    }
    if report.tasks.is_empty() {
        let why = if report.left_out.is_empty() {
            "the tasks have no [[reference]]".into()
        } else {
            report.left_out.join("; ")
        };
        return Err(Failure::bad_input(format!("nothing to compare with published scores: {why}")));
    }
    report.passed = report.tasks.iter().all(|task| task.verdict == Verdict::Reproduced);
    if args.json {
        output::json(&report);
    } else {
        output::line(table(&report));
    }
    Ok(if report.passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn read(name: &str) -> Result<Measured, Failure> {
    // A folder may have = in its name.
    let (model, folder) = match name.split_once('=') {
        Some((model, folder)) if !Path::new(name).exists() => (Some(model.to_owned()), PathBuf::from(folder)),
        _ => (None, PathBuf::from(name)),
    };
    let results = record::read_results(&folder)?;
    Ok(Measured { model, folder, results })
}

/// Whether a path is that of a model on the Hub: its folder has the name, or it lies in the Hub's cache.
fn is_of(path: &str, model: &str) -> bool {
    let name = model.rsplit('/').next().unwrap_or(model);
    let cached = format!("models--{}", model.replace('/', "--"));
    Path::new(path).components().any(|part| {
        let part = part.as_os_str().to_string_lossy();
        part == name || part == cached.as_str()
    })
}

/// A published score with the measured one.
///
/// # Errors
/// Why there is none that compares.
fn pair(task: &Task, reference: &Reference, measured: &[Measured]) -> Result<Pair, String> {
    let name = format!("{}.{}.{}", task.name, reference.formulation.name(), reference.metric);
    let said = |problem: String| format!("{name} of {}: {problem}", reference.model);
    let of_model = measured.iter().find(|m| match &m.model {
        Some(model) => {
            *model == reference.model || *model == reference.model.rsplit('/').next().unwrap_or_default()
        }
        None => is_of(&m.results.model.path, &reference.model),
    });
    let of_model = of_model.ok_or_else(|| said("not measured".into()))?;
    let same =
        |result: &&TaskResult| result.task == task.name && result.how.formulation == reference.formulation;
    let result = of_model
        .results
        .tasks
        .iter()
        .find(same)
        .ok_or_else(|| said(format!("{} has no results of it", of_model.folder.display())))?;
    let mut asked = task.clone();
    asked.few_shot.count = result.few_shot;
    if result.task_hash != record::task_hash(&asked) {
        return Err(said("measured with another task file; evaluate again".into()));
    }
    if result.few_shot != reference.few_shot {
        let (own, published) = (result.few_shot, reference.few_shot);
        return Err(said(format!(
            "measured with {own} examples, published with {published}; give --few-shot {published}"
        )));
    }
    let known = || result.scores.metrics.keys().cloned().collect::<Vec<_>>().join(", ");
    let score = result.scores.metrics.get(&reference.metric);
    let score = score.ok_or_else(|| said(format!("no such score among {}", known())))?;
    // Of a part of the items, the published score is of all of them.
    let n = result.dataset.rows.max(1) as f64;
    let published = (reference.score * (1.0 - reference.score) / n).max(0.0).sqrt();
    let reference_stderr = result.limit.is_some().then_some(published);
    Ok(Pair {
        task: name,
        model: reference.model.clone(),
        measured: *score,
        reference: reference.score,
        reference_stderr,
    })
}

fn table(report: &Report) -> String {
    let verdict = |verdict| match verdict {
        Verdict::Reproduced => "reproduced",
        Verdict::Differs => "DIFFERS",
        Verdict::TooFewItems => "too few items",
        Verdict::TooFewModels => "too few models",
    };
    let points = |x: f64| format!("{:+.2}", 100.0 * x);
    let mut rows = Vec::new();
    for task in &report.tasks {
        for figure in &task.figures {
            rows.push(vec![
                task.task.clone(),
                figure.model.clone(),
                points(figure.difference),
                format!("{:.2}", 100.0 * figure.tolerance),
                verdict(figure.verdict).into(),
            ]);
        }
        let (mean, tolerance) = (points(task.bias), format!("{:.2}", 100.0 * task.bias_tolerance));
        rows.push(vec![task.task.clone(), "mean".into(), mean, tolerance, verdict(task.verdict).into()]);
    }
    let mut text = output::table(&["score", "model", "measured − published", "tolerance", "verdict"], &rows);
    for left_out in &report.left_out {
        text += &format!("\nleft out: {left_out}");
    }
    text + if report.passed { "\nthe gate is passed" } else { "\nthe gate is NOT passed" }
}
