//! `smolt run`

use crate::device::DeviceArgs;
use crate::output::note;
use crate::{Outcome, output, pipeline};
use serde_json::json;
use smolt_run::error::Failure;
use smolt_run::{graph, signal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A pipeline (TOML)
    pipeline: PathBuf,
    /// Folder of the results [default: runs/NAME]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Override a step's setting, e.g. --set pretrain.optimizer.learning_rate=2e-3
    #[arg(long, value_name = "STEP.KEY=VALUE")]
    set: Vec<String>,
    /// Print the steps as JSON and no progress
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

pub(crate) fn run(args: Args) -> Outcome {
    let loaded = pipeline::load(&args.pipeline, &args.set)?;
    let out = args.out.unwrap_or_else(|| pipeline::default_out(&loaded));
    signal::install().map_err(|e| Failure::failed(format!("cannot handle signals: {e}")))?;
    let base = args.pipeline.parent().unwrap_or(Path::new("."));
    let reports = pipeline::run(&loaded, base, &out, args.device.threads(), args.json);
    if let (Err(failure), Some(signal)) = (&reports, signal::requested()) {
        note!("{failure}");
        note!("stopped by {}; the same command goes on where it stopped", signal.name());
        return Ok(ExitCode::from(signal.exit_code()));
    }
    let reports = reports?;
    if args.json {
        let row = |r: &graph::Report| json!({"step": r.name, "ran": r.outcome == graph::Outcome::Ran, "seconds": r.seconds, "output": r.output});
        output::json(
            &json!({"out": out.display().to_string(), "steps": reports.iter().map(row).collect::<Vec<_>>()}),
        );
        return Ok(ExitCode::SUCCESS);
    }
    let report = out.join("report/report.html");
    if report.exists() {
        output::line(format_args!("report: {}", report.display()));
    }
    let model = out.join("export/model");
    if model.exists() {
        output::line(format_args!("chat:   smolt chat {}", model.display()));
    }
    Ok(ExitCode::SUCCESS)
}
