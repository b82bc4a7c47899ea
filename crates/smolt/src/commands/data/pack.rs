//! `smolt data pack`

use crate::{Outcome, output};
use clap::ValueEnum;
use smolt_data::pack::{self, Mode, Options};
use smolt_data::shard::Shard;
use smolt_run::error::Failure;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A shard of documents, NAME.ds
    shard: PathBuf,
    /// Which documents share a sequence
    #[arg(long, value_enum)]
    mode: Packing,
    /// The shard to write, NAME.ds
    #[arg(long)]
    out: PathBuf,
    /// Tokens per sequence of the training that will read it; needed for best-fit
    #[arg(long)]
    sequence_length: Option<usize>,
    /// Fills sequences to their end, never learnt [default: the shard's end-of-text token]
    #[arg(long)]
    pad_token_id: Option<u32>,
    /// Of the shuffle
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

#[derive(Clone, Copy, ValueEnum)]
enum Packing {
    /// Shuffled, joined and cut wherever a sequence ends
    Cut,
    /// Whole where they fit; longer ones cut; the rest padding
    BestFit,
    /// Like beside like (BM25), joined and cut
    Grouped,
}

pub(super) fn run(a: &Args) -> Outcome {
    let shard = Shard::open(&a.shard)?;
    let mode = match a.mode {
        Packing::Cut => Mode::Cut,
        Packing::BestFit => Mode::BestFit,
        Packing::Grouped => Mode::Grouped,
    };
    let fitted = mode == Mode::BestFit;
    let missing = |what: &str| Failure::bad_input(format!("--mode best-fit needs {what}"));
    let sequence_length = match a.sequence_length {
        None if fitted => return Err(missing("--sequence-length, of the training that will read the shard")),
        length => length.unwrap_or(1),
    };
    let pad_token_id = match a.pad_token_id.or(shard.meta().eos_token_id) {
        None if fitted => {
            return Err(missing("--pad-token-id: the shard does not say its end-of-text token"));
        }
        id => id.unwrap_or(0),
    };
    let options = Options { mode, sequence_length, pad_token_id, seed: a.seed };
    output::json(&pack::pack(&shard, options, &a.out)?);
    Ok(ExitCode::SUCCESS)
}
