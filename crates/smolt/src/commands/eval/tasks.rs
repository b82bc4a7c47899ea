//! `smolt eval tasks`

use crate::{Outcome, output};
use smolt_eval::task::{SUITES, builtin, names};
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print JSON: every task resolved
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Outcome {
    let tasks = names().map(|name| builtin(name, &[])).collect::<Result<Vec<_>, _>>()?;
    if args.json {
        output::json(&tasks.iter().map(smolt_run::recipe::to_json).collect::<Vec<_>>());
        return Ok(ExitCode::SUCCESS);
    }
    let row = |task: &smolt_eval::task::Task| {
        let formulations: Vec<&str> = task.formulations().iter().map(|f| f.name()).collect();
        vec![
            task.name.clone(),
            task.domain.clone(),
            formulations.join(", "),
            task.dataset.path.clone(),
            task.licence.clone(),
        ]
    };
    let rows: Vec<Vec<String>> = tasks.iter().map(row).collect();
    output::line(output::table(&["task", "domain", "formulations", "data", "licence"], &rows));
    output::line("");
    let rows: Vec<Vec<String>> = SUITES
        .iter()
        .map(|suite| vec![suite.name.into(), suite.description.into(), suite.tasks.join(", ")])
        .collect();
    output::line(output::table(&["suite", "for", "tasks"], &rows));
    Ok(ExitCode::SUCCESS)
}
