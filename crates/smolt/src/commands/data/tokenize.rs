//! `smolt data tokenize`

use crate::device::DeviceArgs;
use crate::pipeline::{tokenize_chats, tokenize_documents};
use crate::{Outcome, output};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// JSONL or text files
    #[arg(required = true)]
    inputs: Vec<PathBuf>,
    /// Folder with tokenizer.json
    #[arg(long)]
    tokenizer: PathBuf,
    /// The shard to write, NAME.ds
    #[arg(long)]
    out: PathBuf,
    /// The lines are chats: apply the chat template, train on the assistant's tokens only
    #[arg(long)]
    chats: bool,
    /// Tokens per sequence (chats are packed whole into sequences)
    #[arg(long, default_value_t = 256)]
    sequence_length: usize,
    /// Of the shuffle
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    device: DeviceArgs,
}

pub(super) fn run(a: &Args) -> Outcome {
    let threads = a.device.threads();
    let report = match a.chats {
        true => tokenize_chats(&a.tokenizer, &a.inputs, a.sequence_length, a.seed, threads, &a.out)?,
        false => tokenize_documents(&a.tokenizer, &a.inputs, a.seed, threads, &a.out)?,
    };
    output::json(&report);
    Ok(ExitCode::SUCCESS)
}
