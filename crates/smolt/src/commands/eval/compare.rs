//! `smolt eval compare`

use crate::{Outcome, output};
use serde::Serialize;
use smolt_eval::compare::{TaskComparison, compare_task};
use smolt_eval::evaluate::Sample;
use smolt_eval::record::{self, Results, TaskResult};
use smolt_eval::stats::paired::{Settings, Verdict, judge_family};
use smolt_run::error::Failure;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Results of the baseline: a folder that `smolt eval --out` wrote
    baseline: PathBuf,
    /// Results of the candidate
    candidate: PathBuf,
    /// How often equal models may be called different, over all tasks together
    #[arg(long, default_value_t = 0.05)]
    alpha: f64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Compared {
    baseline: String,
    candidate: String,
    tasks: Vec<TaskComparison>,
    /// Tasks that only one was asked, or that were asked in another way.
    left_out: Vec<String>,
}

pub(super) fn run(args: &Args) -> Outcome {
    let (a, b) = (record::read_results(&args.baseline)?, record::read_results(&args.candidate)?);
    let settings = Settings { alpha: args.alpha, ..Settings::default() };
    let mut compared = Compared {
        baseline: a.model.path.clone(),
        candidate: b.model.path.clone(),
        tasks: Vec::new(),
        left_out: Vec::new(),
    };
    for baseline in &a.tasks {
        let Some(candidate) = find(&b, baseline) else {
            compared.left_out.push(format!("{}: the candidate was not asked", baseline.name()));
            continue;
        };
        let samples = (samples(&args.baseline, baseline)?, samples(&args.candidate, candidate)?);
        match compare_task((baseline, &samples.0), (candidate, &samples.1), &settings) {
            Ok(task) => compared.tasks.push(task),
            Err(problem) => compared.left_out.push(format!("{}: {problem}", baseline.name())),
        }
    }
    if compared.tasks.is_empty() {
        return Err(Failure::bad_input(format!(
            "{} and {} have nothing in common to compare: {}",
            args.baseline.display(),
            args.candidate.display(),
            compared.left_out.join("; ")
        )));
    }
    let mut family: Vec<_> = compared.tasks.iter().map(|task| task.comparison).collect();
    judge_family(&mut family);
    compared.tasks.iter_mut().zip(family).for_each(|(task, judged)| task.comparison = judged);
    if args.json {
        output::json(&compared);
    } else {
        output::line(table(&compared));
    }
    Ok(ExitCode::SUCCESS)
}

fn find<'a>(results: &'a Results, like: &TaskResult) -> Option<&'a TaskResult> {
    results.tasks.iter().find(|task| task.name() == like.name())
}

fn samples(folder: &Path, result: &TaskResult) -> Result<Vec<Sample>, Failure> {
    Ok(record::read_samples(&record::samples_path(folder, &result.task, result.how.formulation))?)
}

fn table(compared: &Compared) -> String {
    let percent = |x: f64| format!("{:.1}", 100.0 * x);
    let row = |task: &TaskComparison| {
        let c = &task.comparison;
        let verdict = match c.verdict {
            Verdict::Better => "better",
            Verdict::Worse => "worse",
            Verdict::NoDifference => "no difference",
        };
        vec![
            task.name.clone(),
            task.metric.clone(),
            percent(task.baseline.value),
            percent(task.candidate.value),
            format!("{:+.1}±{:.1}", 100.0 * c.difference.value, 100.0 * c.difference.stderr),
            format!("{:.3}", c.p_adjusted),
            c.smallest_visible.map_or("-".into(), percent),
            verdict.into(),
        ]
    };
    let header =
        ["task", "score", "baseline", "candidate", "difference", "p (Holm)", "would have seen", "verdict"];
    let rows: Vec<Vec<String>> = compared.tasks.iter().map(row).collect();
    let mut text = output::table(&header, &rows);
    for left_out in &compared.left_out {
        text += &format!("\nleft out: {left_out}");
    }
    text
}
