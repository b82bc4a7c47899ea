//! `smolt eval check`: faults of prompts, extraction and scores, before anybody decides by them (spec PEV-15, EVL-08).

use super::Asked;
use super::access::{Opener, Opens};
use crate::model_folder::ModelFolder;
use crate::{Outcome, evaluation, output};
use smolt_eval::checks::{self, Finding, Reader, Severity};
use smolt_eval::record::{self, Results};
use smolt_eval::task::{Formulation, Task};
use smolt_run::error::Failure;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    asked: Asked,
    /// Check prompts as tokens of this model, too
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Check scores and answers, too: a folder that `smolt eval --out` wrote
    #[arg(long, value_name = "DIR")]
    results: Option<PathBuf>,
    #[command(flatten)]
    opens: Opens,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A model's tokenizer with its context.
struct Tokens<'m>(&'m ModelFolder);

impl Reader for Tokens<'_> {
    fn pieces(&self, text: &str) -> Vec<Vec<u8>> {
        let tokenizer = &self.0.tokenizer;
        tokenizer.encode(text, false).into_iter().map(|id| tokenizer.token_bytes(id).to_vec()).collect()
    }

    fn context_length(&self) -> usize {
        self.0.loaded.model.config().max_position_embeddings
    }
}

pub(super) fn run(args: &Args) -> Outcome {
    let tasks = args.asked.tasks()?;
    if tasks.is_empty() {
        return Err(Failure::bad_input("check what? give --task NAME, a suite or a file"));
    }
    let folder = args.model.as_deref().map(ModelFolder::load).transpose()?;
    let tokens = folder.as_ref().map(Tokens);
    let results = args.results.as_deref().map(record::read_results).transpose()?;
    let (mut found, mut checked) = (Vec::new(), Vec::new());
    for (task, formulations) in &tasks {
        let loaded = smolt_eval::dataset::load(task, &args.asked.sources())?;
        args.opens.open(task, &loaded, Opener { path: args.model.as_deref(), model: None })?;
        for &formulation in formulations {
            let items = evaluation::items(task, formulation, &loaded, args.asked.limit())?;
            let reader = tokens.as_ref().map(|tokens| tokens as &dyn Reader);
            found.extend(checks::prompts(task, formulation, &items, reader));
            if formulation == Formulation::Generation {
                found.extend(checks::gold(task, &items));
            }
            let name = format!("{}.{}", task.name, formulation.name());
            if let (Some(results), Some(folder)) = (&results, &args.results) {
                found.extend(of_results(task, formulation, results, folder)?);
            }
            checked.push(name);
        }
    }
    found.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    let errors = found.iter().filter(|finding| finding.severity == Severity::Error).count();
    if args.json {
        output::json(&serde_json::json!({"checked": checked, "errors": errors, "findings": found}));
    } else {
        output::line(text(&checked, &found, errors));
    }
    Ok(if errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Checks of what a model scored and wrote.
fn of_results(
    task: &Task,
    formulation: Formulation,
    results: &Results,
    folder: &Path,
) -> Result<Vec<Finding>, Failure> {
    let same =
        |result: &&record::TaskResult| result.task == task.name && result.how.formulation == formulation;
    let Some(result) = results.tasks.iter().find(same) else {
        return Err(Failure::bad_input(format!(
            "{} has no results of {}.{}; name the tasks and formulations that it has",
            folder.display(),
            task.name,
            formulation.name()
        )));
    };
    if result.task_hash != record::task_hash(task) {
        return Err(Failure::bad_input(format!(
            "{}: {} was evaluated with another task file; evaluate again, or give the same --set and --few-shot",
            folder.display(),
            result.name()
        )));
    }
    let samples = record::read_samples(&record::samples_path(folder, &task.name, formulation))?;
    let mut found = checks::scores(task, formulation, &result.scores, &samples);
    if formulation == Formulation::Generation {
        found.extend(checks::written(task, &samples));
    }
    Ok(found)
}

fn text(checked: &[String], found: &[Finding], errors: usize) -> String {
    let mut text = String::new();
    for finding in found {
        let severity = match finding.severity {
            Severity::Error => "ERROR",
            Severity::Warning => "warning",
        };
        text += &format!("{severity} {}, {}: {}\n", finding.task, finding.check, finding.problem);
        if !finding.example.is_empty() {
            text += &format!("  example: {:?}\n", finding.example);
        }
        text += &format!("  fix: {}\n", finding.fix);
    }
    text + &format!("{} checked: {errors} errors, {} warnings", checked.join(", "), found.len() - errors)
}
