//! `smolt tokenizer train`

use crate::pipeline::{TokenizerSettings, train_tokenizer};
use crate::{Outcome, output};
use clap::Subcommand;
use smolt_run::error::{Failure, FileError};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Subcommand)]
pub(crate) enum Action {
    /// Train byte-level BPE; writes OUT/base and OUT/chat, folders that transformers loads
    Train(TrainArgs),
}

#[derive(clap::Args)]
pub(crate) struct TrainArgs {
    /// JSONL or text files of documents
    #[arg(required = true)]
    documents: Vec<PathBuf>,
    /// Where to write
    #[arg(long)]
    out: PathBuf,
    /// Tokens in all, rounded up to a multiple of 128
    #[arg(long, default_value_t = 4096)]
    vocab_size: usize,
    /// Let digits merge into numbers
    #[arg(long)]
    merge_digits: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(action: Action) -> Outcome {
    let Action::Train(args) = action;
    if args.out.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Failure::bad_input(format!("{} is not empty; choose another --out", args.out.display())));
    }
    std::fs::create_dir_all(&args.out).map_err(|e| FileError::writing(&args.out, e))?;
    let settings = TokenizerSettings {
        documents: Vec::new(),
        vocab_size: args.vocab_size,
        split_digits: !args.merge_digits,
        min_frequency: 2,
        chat_template: None,
    };
    let report = train_tokenizer(&settings, &args.documents, None, &args.out)?;
    if args.json {
        output::json(&report);
    } else {
        output::line(report);
    }
    Ok(ExitCode::SUCCESS)
}
