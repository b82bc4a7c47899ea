//! `smolt data curate`

use crate::device::DeviceArgs;
use crate::output::{self, note, thousands};
use crate::pipeline::plain_name;
use crate::{Outcome, curation};
use smolt_curate::engine::Options;
use smolt_curate::recipe::{Curation, Places};
use smolt_run::error::Failure;
use smolt_run::folder::RunFolder;
use smolt_run::launcher::Rank;
use smolt_run::recipe::Document;
use smolt_run::signal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A curation (TOML): sources, steps, output
    recipe: PathBuf,
    /// Folder of the results [default: runs/NAME]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Override a setting, e.g. --set output.rejected=false, or of a step, e.g. --set step.gopher_quality.min_doc_words=20
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Memory that deduplication may use
    #[arg(long, value_name = "SIZE", default_value = "2GiB", value_parser = output::parse_bytes)]
    memory: u64,
    /// This process's number among those that share the work [default: what the launcher says]
    #[arg(long, requires = "world_size")]
    rank: Option<u64>,
    /// How many processes share the work [default: what the launcher says]
    #[arg(long, requires = "rank")]
    world_size: Option<u64>,
    /// Print the report as JSON and no progress
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

pub(crate) fn run(args: Args) -> Outcome {
    let mut document = Document::load(&args.recipe)?;
    for set in &args.set {
        document.set(set)?;
    }
    let recipe: Curation = document.read()?;
    let rank = match (args.rank, args.world_size) {
        (Some(rank), Some(world)) if rank < world => Rank { rank, world },
        (Some(rank), Some(world)) => {
            return Err(Failure::bad_input(format!("--rank {rank} is not below --world-size {world}")));
        }
        _ => Rank::from_env()?,
    };
    plain_name(&recipe.name)
        .map_err(|e| Failure { message: format!("{}: {e}", args.recipe.display()), ..e })?;
    let out = args.out.unwrap_or_else(|| Path::new("runs").join(&recipe.name));
    signal::install().map_err(|e| Failure::failed(format!("cannot handle signals: {e}")))?;
    let base = args.recipe.parent().unwrap_or(Path::new("."));
    let options = Options {
        places: Places { base: base.to_owned(), steps: base.to_owned() },
        out: out.clone(),
        threads: args.device.threads(),
        memory: args.memory,
        rank,
    };
    // Ranks share the folder; each locks a part of its own.
    let locked = match rank.world {
        1 => out.clone(),
        _ => out.join("ranks").join(rank.rank.to_string()),
    };
    let folder = RunFolder::create_or_resume(&locked, true)?;
    let argv: Vec<String> = std::env::args().collect();
    folder.write_environment(env!("CARGO_PKG_VERSION"), &argv)?;
    let report = match curation::run(&recipe, &options, args.json) {
        Err(failure) => match signal::requested() {
            Some(signal) => {
                note!("{failure}");
                return Ok(ExitCode::from(signal.exit_code()));
            }
            None => return Err(failure),
        },
        Ok(report) => report,
    };
    match args.json {
        true => output::json(&report),
        false => {
            output::line(curation::table(&report));
            let kept = thousands(report.total.kept.documents);
            let bytes = output::bytes(report.total.kept.bytes);
            output::line(format_args!(
                "{kept} documents, {bytes} of text in {}",
                out.join("documents").display()
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}
