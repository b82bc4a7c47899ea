//! `smolt eval prompts`: what exactly a model reads (spec PEV-15, EVL-09).

use super::Asked;
use super::access::{Opener, Opens};
use crate::model_folder::ModelFolder;
use crate::{Outcome, evaluation, output};
use smolt_eval::evaluate::{How, continuation};
use smolt_eval::task::pose::Item;
use smolt_run::error::Failure;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    asked: Asked,
    /// Through the tokenizer and chat template of this model
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// How many of each task
    #[arg(long, default_value_t = 1, value_name = "N")]
    count: usize,
    #[command(flatten)]
    opens: Opens,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What may follow the prompt. Where candidates lie in their prompts, each with its own question before it.
fn targets(item: &Item, how: &How) -> Vec<String> {
    if item.answer.is_none() {
        return item.answers.clone();
    }
    let target = |(i, question): (usize, &str)| format!("{question}{}", continuation(item, how, i));
    let own = item.questions.iter().map(String::as_str).filter(|_| item.questions.len() > 1);
    own.chain(std::iter::repeat("")).take(item.continuations.len()).enumerate().map(target).collect()
}

pub(super) fn run(args: &Args) -> Outcome {
    let tasks = args.asked.tasks()?;
    if tasks.is_empty() {
        return Err(Failure::bad_input("whose prompts? give --task NAME, a suite or a file"));
    }
    if args.asked.chat && args.model.is_none() {
        return Err(Failure::bad_input("--chat asks through a chat template; give --model DIR, whose it is"));
    }
    let folder = args.model.as_deref().map(ModelFolder::load).transpose()?;
    let mut all = Vec::new();
    for (task, formulations) in &tasks {
        let loaded = smolt_eval::dataset::load(task, &args.asked.sources())?;
        args.opens.open(task, &loaded, Opener { path: args.model.as_deref(), model: None })?;
        for &formulation in formulations {
            let items = evaluation::items(task, formulation, &loaded, args.asked.limit())?;
            for item in items.iter().take(args.count) {
                let how = args.asked.how(formulation);
                let prompt = evaluation::shown(folder.as_ref(), item, &how)?;
                all.push(serde_json::json!({
                    "task": task.name, "formulation": formulation.name(), "id": item.id, "prompt": prompt,
                    "candidates_or_answers": targets(item, &how), "answer": item.answer,
                }));
            }
        }
    }
    if args.json {
        output::json(&all);
        return Ok(ExitCode::SUCCESS);
    }
    for shown in &all {
        let text = |key: &str| shown[key].as_str().unwrap_or_default().to_owned();
        output::line(format_args!("── {} · {} · item {} ──", text("task"), text("formulation"), text("id")));
        output::line(format_args!("{}⏎", text("prompt")));
        for (i, target) in shown["candidates_or_answers"].as_array().into_iter().flatten().enumerate() {
            let right = if shown["answer"].is_null() || shown["answer"] == i { "→" } else { " " };
            output::line(format_args!("{right} {target}"));
        }
        output::line("");
    }
    Ok(ExitCode::SUCCESS)
}
