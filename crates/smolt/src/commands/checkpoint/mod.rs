//! `smolt checkpoint list|verify|probe`

mod probe;

use crate::{Outcome, output};
use clap::Subcommand;
use serde_json::json;
use smolt_run::error::{Exit, Failure};
use smolt_train::checkpoint;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Subcommand)]
pub(crate) enum Action {
    /// List a run's checkpoints, whole and damaged
    List(Args),
    /// Compare every file with its checksum; exit code 1 if one is damaged
    Verify(Args),
    /// Look inside a model as it reads texts: sizes of its values, where attention goes, what experts serve
    Probe(probe::Args),
}

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A run's folder
    run: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(action: Action) -> Outcome {
    let (args, verify) = match action {
        Action::List(args) => (args, false),
        Action::Verify(args) => (args, true),
        Action::Probe(args) => return probe::run(&args),
    };
    let found = checkpoint::list(&args.run).map_err(|e| Failure::bad_input(e.to_string()))?;
    if found.is_empty() {
        let text = format!("{}: no checkpoints/step-N folders here; give a run's folder", args.run.display());
        return Err(Failure::bad_input(text));
    }
    let checked: Vec<_> = found.iter().map(|(step, path)| (*step, path, checkpoint::verify(path))).collect();
    if args.json {
        let entry = |(step, path, result): &(u64, &PathBuf, Result<checkpoint::State, checkpoint::Error>)| {
            let damage = result.as_ref().err().map(ToString::to_string);
            json!({"step": step, "path": path.display().to_string(), "whole": damage.is_none(), "damage": damage})
        };
        output::json(&checked.iter().map(entry).collect::<Vec<_>>());
    } else {
        let row = |(step, path, result): &(u64, &PathBuf, Result<checkpoint::State, checkpoint::Error>)| {
            let status = result.as_ref().map_or_else(ToString::to_string, |_| "whole".into());
            vec![path.display().to_string(), step.to_string(), status]
        };
        output::line(output::table(
            &["checkpoint", "step", "state"],
            &checked.iter().map(row).collect::<Vec<_>>(),
        ));
    }
    let damaged = checked.iter().any(|(_, _, result)| result.is_err());
    Ok(if verify && damaged { ExitCode::from(Exit::Failed.code()) } else { ExitCode::SUCCESS })
}
