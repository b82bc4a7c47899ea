//! `smolt data tinytown`

use crate::{Outcome, output};
use smolt_data::tinytown;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where to write
    #[arg(long)]
    out: PathBuf,
    /// Decides everything
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Training recitals: words said again
    #[arg(long, default_value_t = 30_000)]
    recitals: u64,
    /// Training stories
    #[arg(long, default_value_t = 20_000)]
    stories: u64,
    /// Training pages of questions and answers
    #[arg(long, default_value_t = 40_000)]
    qa: u64,
    /// Training chats
    #[arg(long, default_value_t = 10_000)]
    chats: u64,
}

pub(super) fn run(args: &Args) -> Outcome {
    super::fresh(&args.out)?;
    let &Args { seed, recitals, stories, qa, chats, .. } = args;
    let settings = tinytown::Settings { seed, recitals, stories, qa, chats };
    let written = tinytown::write_jsonl(&args.out, &settings)?;
    output::line(format_args!("{} of text in {}", output::bytes(written.bytes), args.out.display()));
    Ok(ExitCode::SUCCESS)
}
