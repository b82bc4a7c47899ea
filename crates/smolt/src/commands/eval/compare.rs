//! `smolt eval compare`: two models, task by task, and a guard against regressions (spec PEV-19, PEV-21).

use crate::{Outcome, args, output};
use serde::Serialize;
use smolt_eval::compare::{Guard, LongItem, TaskComparison, compare_long, compare_task, guard};
use smolt_eval::evaluate::Sample;
use smolt_eval::record::{self, Results, TaskResult};
use smolt_eval::stats::paired::{Settings, Verdict, judge_family};
use smolt_run::error::Failure;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What `smolt eval ruler --out` writes.
const RULER: &str = "ruler.json";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Results of the baseline: a folder that `smolt eval --out` or `smolt eval ruler --out` wrote
    baseline: PathBuf,
    /// Results of the candidate
    candidate: PathBuf,
    /// Exit code 1 if the candidate is worse on a task, and by more than this: 0.02 is two points of a hundred
    #[arg(long, value_name = "SHARE", value_parser = args::share)]
    max_drop: Option<f64>,
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
    /// Whether the candidate fell behind, where that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    guard: Option<Guarded>,
}

#[derive(Serialize)]
struct Guarded {
    max_drop: f64,
    verdicts: BTreeMap<String, Guard>,
}

/// What a folder holds.
struct Side<'a> {
    folder: &'a Path,
    results: Option<Results>,
    long: Option<Long>,
}

/// RULER's report and its items.
struct Long {
    model: String,
    chat: bool,
    items: Vec<LongItem>,
}

pub(super) fn run(args: &Args) -> Outcome {
    let (a, b) = (Side::read(&args.baseline)?, Side::read(&args.candidate)?);
    let settings = Settings { alpha: args.alpha, ..Settings::default() };
    let (mut tasks, mut left_out) = compare_tasks(&a, &b, &settings)?;
    if let Some(long) = &a.long {
        let (more, others) = match &b.long {
            Some(other) if other.chat != long.chat => {
                (Vec::new(), vec!["ruler: not comparable: how prompts were put differs".to_owned()])
            }
            other => {
                let theirs = other.as_ref().map(|other| other.items.as_slice()).unwrap_or_default();
                compare_long(&long.items, theirs, &settings)
            }
        };
        tasks.extend(more);
        left_out.extend(others);
    }
    if tasks.is_empty() {
        return Err(Failure::bad_input(format!(
            "{} and {} have nothing in common to compare: {}",
            args.baseline.display(),
            args.candidate.display(),
            left_out.join("; ")
        )));
    }
    let mut family: Vec<_> = tasks.iter().map(|task| task.comparison).collect();
    judge_family(&mut family);
    tasks.iter_mut().zip(family).for_each(|(task, judged)| task.comparison = judged);
    let guard = args.max_drop.map(|max_drop| {
        let verdict = |task: &TaskComparison| (task.name.clone(), guard(&task.comparison, max_drop));
        Guarded { max_drop, verdicts: tasks.iter().map(verdict).collect() }
    });
    let compared = Compared { baseline: a.model(), candidate: b.model(), tasks, left_out, guard };
    match args.json {
        true => output::json(&compared),
        false => output::line(table(&compared)),
    }
    Ok(if compared.fell() { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

impl<'a> Side<'a> {
    fn read(folder: &'a Path) -> Result<Side<'a>, Failure> {
        let long = folder.join(RULER).exists().then(|| Long::read(folder)).transpose()?;
        let results = match long.is_some() && !folder.join(record::RESULTS).exists() {
            true => None,
            false => Some(record::read_results(folder)?),
        };
        Ok(Side { folder, results, long })
    }

    fn model(&self) -> String {
        let of_results = self.results.as_ref().map(|results| results.model.path.clone());
        of_results.or(self.long.as_ref().map(|long| long.model.clone())).unwrap_or_default()
    }

    fn samples(&self, result: &TaskResult) -> Result<Vec<Sample>, Failure> {
        let path = record::samples_path(self.folder, &result.task, result.how.formulation);
        Ok(record::read_samples(&path)?)
    }
}

impl Long {
    fn read(folder: &Path) -> Result<Long, Failure> {
        let path = folder.join(RULER);
        let text = std::fs::read(&path).map_err(|e| smolt_run::error::FileError::reading(&path, e))?;
        let report: serde_json::Value = serde_json::from_slice(&text)
            .map_err(|e| Failure::bad_input(format!("{}: not a report of RULER: {e}", path.display())))?;
        Ok(Long {
            model: report["model"]["path"].as_str().unwrap_or_default().to_owned(),
            chat: report["chat"].as_bool().unwrap_or(false),
            items: record::read_lines(&folder.join("samples.jsonl"))?,
        })
    }
}

impl Compared {
    /// Whether a guarded task dropped, or escaped the guard because it could not be compared.
    fn fell(&self) -> bool {
        let alarm = |guard: &Guarded| guard.verdicts.values().any(|verdict| *verdict == Guard::Alarm);
        self.guard.as_ref().is_some_and(|guard| alarm(guard) || !self.left_out.is_empty())
    }
}

/// The tasks of two results; and those that cannot be compared, and why.
fn compare_tasks(
    a: &Side<'_>,
    b: &Side<'_>,
    settings: &Settings,
) -> Result<(Vec<TaskComparison>, Vec<String>), Failure> {
    let (mut tasks, mut left_out) = (Vec::new(), Vec::new());
    for baseline in a.results.iter().flat_map(|results| &results.tasks) {
        let same = |task: &&TaskResult| task.name() == baseline.name();
        let Some(candidate) = b.results.iter().flat_map(|results| &results.tasks).find(same) else {
            left_out.push(format!("{}: the candidate was not asked", baseline.name()));
            continue;
        };
        let samples = (a.samples(baseline)?, b.samples(candidate)?);
        match compare_task((baseline, &samples.0), (candidate, &samples.1), settings) {
            Ok(task) => tasks.push(task),
            Err(problem) => left_out.push(format!("{}: {problem}", baseline.name())),
        }
    }
    Ok((tasks, left_out))
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
        let guard = compared.guard.as_ref().map(|guard| match guard.verdicts.get(&task.name) {
            Some(Guard::Alarm) => "ALARM",
            Some(Guard::Held) => "held",
            _ => "unclear",
        });
        let cells = [
            task.name.clone(),
            task.metric.clone(),
            percent(task.baseline.value),
            percent(task.candidate.value),
            format!("{:+.1}±{:.1}", 100.0 * c.difference.value, 100.0 * c.difference.stderr),
            format!("{:.3}", c.p_adjusted),
            c.smallest_visible.map_or("-".into(), percent),
            verdict.into(),
        ];
        cells.into_iter().chain(guard.map(str::to_owned)).collect()
    };
    let mut header = vec![
        "task",
        "score",
        "baseline",
        "candidate",
        "difference",
        "p (Holm)",
        "would have seen",
        "verdict",
    ];
    header.extend(compared.guard.as_ref().map(|_| "guard"));
    let rows: Vec<Vec<String>> = compared.tasks.iter().map(row).collect();
    let mut text = output::table(&header, &rows);
    for left_out in &compared.left_out {
        text += &format!("\nleft out: {left_out}");
    }
    text + &compared.guard.as_ref().map_or(String::new(), |guard| guarded(guard, &compared.left_out))
}

/// What the guard says, in lines.
fn guarded(guard: &Guarded, left_out: &[String]) -> String {
    let of = |wanted: Guard| {
        let names = guard.verdicts.iter().filter(|(_, verdict)| **verdict == wanted);
        names.map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
    };
    let points = format!("{:.1} points", 100.0 * guard.max_drop);
    let mut text = match of(Guard::Alarm) {
        alarms if alarms.is_empty() => format!("\nno task is known to have dropped by more than {points}"),
        alarms => format!("\ndropped by more than {points}: {alarms}"),
    };
    let unclear = of(Guard::Unclear);
    if !unclear.is_empty() {
        text += &format!("\ntoo few items to rule that out: {unclear}");
    }
    if !left_out.is_empty() {
        text += "\nwhat was left out is not guarded: ask it again as the baseline was";
    }
    text
}
