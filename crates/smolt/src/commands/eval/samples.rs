//! `smolt eval samples`: how often to sample each question for a wanted error, from a pilot (spec PEV-06).

use crate::output::note;
use crate::{Outcome, output};
use serde::Serialize;
use smolt_eval::evaluate::{Sample, Written};
use smolt_eval::record::{self, TaskResult};
use smolt_eval::stats::Score;
use smolt_eval::stats::avg_at_k::{AvgAtK, MANY_ITEMS, Plan, Tries, avg_at_k, pass_at_k, plan};
use smolt_eval::task::Formulation;
use smolt_run::error::Failure;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Results of a pilot: a folder that `smolt eval --samples 4 --temperature 0.6 --out` wrote
    results: PathBuf,
    /// Wanted standard error of sampling, 0 to 1
    #[arg(long, default_value_t = 0.01)]
    stderr: f64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Planned {
    task: String,
    metric: String,
    avg_at_k: AvgAtK,
    /// Share of questions that some answer of the pilot's k solves.
    pass_at_k: Score,
    plan: Plan,
}

impl Planned {
    /// A plan for a task, or why there is none.
    fn of(task: &TaskResult, samples: &[Sample], stderr: f64) -> Result<Result<Planned, String>, Failure> {
        let metric = &task.scores.primary;
        let values = |w: &Written| -> Vec<f64> {
            w.judged.iter().filter(|j| j.metric == *metric).map(|j| j.value).collect()
        };
        let written = || samples.iter().flat_map(|sample| &sample.written);
        if written().flat_map(values).any(|value| value != 0.0 && value != 1.0) {
            return Ok(Err(format!("{metric} grades answers, and avg@k counts right ones")));
        }
        let solved = |sample: &Sample| sample.written.iter().filter(|w| values(w).contains(&1.0)).count();
        let tries: Vec<Tries> = samples
            .iter()
            .map(|sample| Tries { solved: solved(sample) as u32, of: sample.written.len() as u32 })
            .collect();
        let fewest = tries.iter().map(|tries| tries.of).min().unwrap_or(0);
        if fewest < 2 {
            return Ok(Err(format!("{fewest} answers per question; ask with --samples 4")));
        }
        Ok(Ok(Planned {
            task: task.task.clone(),
            metric: metric.clone(),
            avg_at_k: avg_at_k(&tries)?,
            pass_at_k: pass_at_k(&tries, fewest)?,
            plan: plan(&tries, stderr)?,
        }))
    }
}

pub(super) fn run(args: &Args) -> Outcome {
    let results = record::read_results(&args.results)?;
    let (mut planned, mut left_out) = (Vec::new(), Vec::new());
    for task in results.tasks.iter().filter(|task| task.how.formulation == Formulation::Generation) {
        let samples =
            record::read_samples(&record::samples_path(&args.results, &task.task, task.how.formulation))?;
        match Planned::of(task, &samples, args.stderr)? {
            Ok(of) => planned.push(of),
            Err(why) => left_out.push(format!("{}: {why}", task.task)),
        }
    }
    if planned.is_empty() {
        left_out.push("ask with --formulation generation --samples 4 --temperature 0.6".to_owned());
        return Err(Failure::bad_input(format!(
            "{}: no task has several free answers; {}",
            args.results.display(),
            left_out.join("; ")
        )));
    }
    left_out.iter().for_each(|why| note!("{why}"));
    if args.json {
        output::json(&planned);
        return Ok(ExitCode::SUCCESS);
    }
    print(&planned);
    Ok(ExitCode::SUCCESS)
}

fn print(planned: &[Planned]) {
    let percent = |x: f64| format!("{:.2}", 100.0 * x);
    let row = |of: &Planned| {
        vec![
            of.task.clone(),
            of.avg_at_k.k.map_or("-".into(), |k| k.to_string()),
            percent(of.avg_at_k.score.value),
            of.avg_at_k.sampling_stderr.map_or("-".into(), percent),
            of.avg_at_k.items_stderr.map_or("-".into(), percent),
            percent(of.pass_at_k.value),
            of.plan.k.to_string(),
            percent(of.plan.stderr),
        ]
    };
    let header = ["task", "k", "avg@k", "± sampling", "± items", "pass@k", "k wanted", "± both then"];
    output::line(output::table(&header, &planned.iter().map(row).collect::<Vec<_>>()));
    for of in planned.iter().filter(|of| of.plan.small) {
        output::line(format_args!(
            "{}: so few questions (under {MANY_ITEMS}) are sampled more than once in any case",
            of.task
        ));
    }
    for of in planned.iter().filter(|of| of.plan.items_dominate) {
        output::line(format_args!(
            "{}: more samples do not bring the whole error below that; more items would",
            of.task
        ));
    }
}
