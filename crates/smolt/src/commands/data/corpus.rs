//! `smolt data corpus`

use crate::{Outcome, output};
use smolt_data::corpus;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where to write
    #[arg(long)]
    out: PathBuf,
}

pub(super) fn run(args: &Args) -> Outcome {
    super::fresh(&args.out)?;
    let bytes = corpus::write_jsonl(&args.out)?;
    output::line(format_args!("{} of text in {}", output::bytes(bytes), args.out.display()));
    Ok(ExitCode::SUCCESS)
}
