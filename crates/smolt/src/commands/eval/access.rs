//! `smolt eval access`, and how held-out benchmarks are opened (spec PEV-12).

use crate::{Outcome, output};
use smolt_eval::access::{self, LOG, Opening, Purpose, Standing};
use smolt_eval::dataset::Loaded;
use smolt_eval::record::{self, ModelRecord};
use smolt_eval::task::Task;
use smolt_run::error::Failure;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A run's folder, a model's folder, or a log; evals/access.jsonl here when left out
    path: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Outcome {
    let path = match &args.path {
        Some(path) if path.is_file() => path.clone(),
        path => log_of(path.as_deref()),
    };
    let openings = access::read(&path)?;
    if args.json {
        output::json(&openings);
        return Ok(ExitCode::SUCCESS);
    }
    if openings.is_empty() {
        output::line(format_args!("{}: no held-out benchmark was opened", path.display()));
        return Ok(ExitCode::SUCCESS);
    }
    let purpose = |purpose| match purpose {
        Purpose::FinalReport => "final report",
        Purpose::Development => "development",
    };
    let short = |hash: &str| hash.chars().take(12).collect::<String>();
    let row = |o: &Opening| {
        vec![
            o.date.clone(),
            o.task.clone(),
            purpose(o.purpose).into(),
            o.reason.clone(),
            o.model.clone(),
            short(&o.model_hash),
            short(&o.task_hash),
        ]
    };
    let header = ["date", "task", "for", "reason", "model", "weights", "task file"];
    output::line(output::table(&header, &openings.iter().map(row).collect::<Vec<_>>()));
    Ok(ExitCode::SUCCESS)
}

/// How held-out benchmarks are opened.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct Opens {
    /// Open held-out benchmarks for a final report, and log why
    #[arg(long, value_name = "REASON", conflicts_with = "open_held_out")]
    final_report: Option<String>,
    /// Open held-out benchmarks while developing: they are validation sets from now on
    #[arg(long, value_name = "REASON", num_args = 0..=1, require_equals = true, default_missing_value = "development")]
    open_held_out: Option<String>,
    /// The log of openings [default: evals/access.jsonl of the run, or here]
    #[arg(long, value_name = "FILE")]
    access_log: Option<PathBuf>,
}

impl Opens {
    /// What a score of the task is good for. An opening is logged before anything is shown or asked.
    pub(crate) fn open(&self, task: &Task, loaded: &Loaded, of: Opener<'_>) -> Result<Standing, Failure> {
        if !task.held_out {
            return Ok(Standing::Validation);
        }
        let path = self.access_log.clone().unwrap_or_else(|| log_of(of.path));
        let mut log = access::read(&path)?;
        if self.access_log.is_none() {
            // What was opened for another run's sake has been seen by whoever trains this one.
            for other in others(&path, of.path) {
                log.extend(access::read(&other)?);
            }
        }
        let (task_hash, data_hash) = (record::task_hash(task), loaded.provenance.hash.clone());
        let purpose = match (&self.final_report, &self.open_held_out) {
            (Some(reason), _) => Some((Purpose::FinalReport, reason.as_str())),
            (None, Some(reason)) => Some((Purpose::Development, reason.as_str())),
            (None, None) => None,
        };
        let now = crate::evaluation::now();
        let standing = access::standing(task, &task_hash, &data_hash, &log, purpose, &now)
            .map_err(Failure::bad_input)?;
        // A benchmark that is a validation set already is used like any other.
        if let Some((purpose, reason)) = purpose {
            let opening = Opening {
                date: now,
                purpose,
                reason: reason.to_owned(),
                task: task.name.clone(),
                task_hash,
                data_hash,
                model: of.path.map_or_else(String::new, |path| path.display().to_string()),
                model_hash: of.model.map_or_else(String::new, |model| model.hash.clone()),
                previous: String::new(),
            };
            access::append(&path, opening)?;
        }
        Ok(standing)
    }
}

/// Who opens.
#[derive(Clone, Copy)]
pub(crate) struct Opener<'a> {
    /// Folder of the model or run, where there is one.
    pub(crate) path: Option<&'a Path>,
    pub(crate) model: Option<&'a ModelRecord>,
}

/// The log of a run, also by one of its checkpoints; else the one of the folder in which the command runs.
fn log_of(path: Option<&Path>) -> PathBuf {
    run_of(path).map_or_else(|| PathBuf::from(LOG), |run| run.join(LOG))
}

fn run_of(path: Option<&Path>) -> Option<&Path> {
    let is_run = |folder: &&Path| folder.join("recipe.lock.toml").exists();
    // RUN/checkpoints/step-N
    path?.ancestors().take(3).find(is_run)
}

/// The other logs that there are beside `log`: of the runs in the same folder as a run, and of the folder in which the command
/// runs.
fn others(log: &Path, path: Option<&Path>) -> Vec<PathBuf> {
    let absolute = |path: &Path| path.canonicalize().ok();
    let runs = run_of(path).and_then(absolute).and_then(|run| Some(run.parent()?.to_owned()));
    let siblings = runs.into_iter().filter_map(|runs| std::fs::read_dir(runs).ok()).flatten().flatten();
    let mut logs: Vec<PathBuf> = siblings
        .map(|run| run.path().join(LOG))
        .chain([PathBuf::from(LOG)])
        .filter_map(|log| absolute(&log))
        .filter(|other| Some(other) != absolute(log).as_ref())
        .collect();
    logs.sort();
    logs.dedup();
    logs
}
