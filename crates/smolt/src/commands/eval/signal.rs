//! `smolt eval signal`: which tasks are worth deciding by, computed from the evaluated checkpoints of runs (spec EVL-01, EVL-02).

use crate::{Outcome, output};
use serde::Serialize;
use smolt_eval::record::{self, Results};
use smolt_eval::stats::signal::{Criterion, Outcome as Judged, Row, Settings, Signal, judge};
use smolt_eval::task::Formulation;
use smolt_run::error::{Failure, FileError};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Folders of runs whose checkpoints were evaluated into evals/step-N/; runs that differ only in their seed count as one
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// Step at which noise and chance are judged [default: the last that all runs have]
    #[arg(long, value_name = "STEP")]
    score_at: Option<u64>,
    /// Step from which rankings of runs should hold [default: half of it]
    #[arg(long, value_name = "STEP")]
    ranking_from: Option<u64>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Verdict {
    task: String,
    metric: String,
    clear: bool,
    #[serde(flatten)]
    signal: Signal,
}

/// A run's evaluated checkpoints.
struct Evaluated {
    /// Runs with the same recipe but for the seed share it.
    group: String,
    seed: u64,
    steps: Vec<(u64, Results)>,
}

pub(super) fn run(args: &Args) -> Outcome {
    let runs = args.runs.iter().map(|run| evaluated(run)).collect::<Result<Vec<_>, _>>()?;
    // (task and formulation, metric) → its rows, and what guessing scores.
    let mut tasks: BTreeMap<(String, String), (Vec<Row>, f64, bool)> = BTreeMap::new();
    for run in &runs {
        for (step, results) in &run.steps {
            for task in &results.tasks {
                let generative = task.how.formulation == Formulation::Generation;
                for (metric, score) in
                    task.scores.metrics.iter().filter(|(name, _)| *name != "answer_bits_per_byte")
                {
                    let row =
                        Row { run: run.group.clone(), seed: run.seed, tokens: *step, score: score.value };
                    let key = (task.name(), metric.clone());
                    let of = tasks
                        .entry(key)
                        .or_insert_with(|| (Vec::new(), task.scores.random_baseline, generative));
                    of.0.push(row);
                }
            }
        }
    }
    let mut verdicts = Vec::new();
    for ((task, metric), (rows, baseline, generative)) in tasks {
        let (score_at, ranking_from) = (args.score_at, args.ranking_from);
        let settings = Settings { baseline, generative, score_at, ranking_from, ..Settings::default() };
        let signal = judge(&rows, &settings)?;
        verdicts.push(Verdict { task, metric, clear: signal.clear(), signal });
    }
    if args.json {
        output::json(&verdicts);
    } else {
        output::line(table(&verdicts));
    }
    Ok(ExitCode::SUCCESS)
}

fn evaluated(run: &Path) -> Result<Evaluated, Failure> {
    let path = run.join("recipe.lock.toml");
    let recipe = std::fs::read_to_string(&path).map_err(|e| FileError::reading(&path, e))?;
    let (seeds, rest): (Vec<&str>, Vec<&str>) = recipe.lines().partition(|line| line.starts_with("seed = "));
    let seed = seeds.first().and_then(|line| line["seed = ".len()..].trim().parse().ok()).unwrap_or(0);
    let folder = run.join("evals");
    let mut steps = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(|e| FileError::reading(&folder, e))? {
        let path = entry.map_err(|e| FileError::reading(&folder, e))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let step = name.strip_prefix("step-").and_then(|step| step.parse::<u64>().ok());
        if let Some(step) = step.filter(|_| path.join(record::RESULTS).exists()) {
            steps.push((step, record::read_results(&path)?));
        }
    }
    if steps.is_empty() {
        return Err(Failure::bad_input(format!(
            "{}: no evaluated checkpoints; `smolt eval watch {}` makes them",
            folder.display(),
            run.display()
        )));
    }
    steps.sort_by_key(|(step, _)| *step);
    Ok(Evaluated { group: smolt_run::hash::bytes(rest.join("\n").as_bytes()), seed, steps })
}

fn table(verdicts: &[Verdict]) -> String {
    let cell = |criterion: &Criterion| {
        let value = criterion.value.map_or("-".into(), |value| format!("{value:.2}"));
        match criterion.outcome {
            Judged::Met => format!("{value} met"),
            Judged::Missed => format!("{value} missed"),
            Judged::Exempt => format!("{value} exempt"),
            Judged::Compared => value,
            Judged::NotEnoughRuns => "too few runs".into(),
        }
    };
    let row = |verdict: &Verdict| {
        let signal = &verdict.signal;
        vec![
            verdict.task.clone(),
            verdict.metric.clone(),
            cell(&signal.monotonicity),
            cell(&signal.noise),
            cell(&signal.above_random),
            cell(&signal.ranking),
            if verdict.clear { "clear" } else { "not clear" }.into(),
        ]
    };
    let header =
        ["task", "score", "rises (ρ)", "signal / noise", "above random (σ)", "ranking (τ)", "verdict"];
    output::table(&header, &verdicts.iter().map(row).collect::<Vec<_>>())
}
