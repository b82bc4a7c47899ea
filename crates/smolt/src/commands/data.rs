//! `smolt data corpus|tinytown|curate|tokenize`

use super::curate;
use crate::device::DeviceArgs;
use crate::pipeline::{tokenize_chats, tokenize_documents};
use crate::{Outcome, output};
use clap::Subcommand;
use smolt_data::{corpus, tinytown};
use smolt_run::error::{Failure, FileError};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Subcommand)]
pub(crate) enum Action {
    /// Write the bundled corpus as JSONL
    Corpus {
        /// Where to write
        #[arg(long)]
        out: PathBuf,
    },
    /// Generate Tinytown: recitals, stories, questions, chats and test items
    Tinytown {
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
    },
    /// Filter, repair and deduplicate documents by a recipe
    Curate(curate::Args),
    /// Turn documents or chats into a token shard
    Tokenize(TokenizeArgs),
}

#[derive(clap::Args)]
pub(crate) struct TokenizeArgs {
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

fn fresh(dir: &Path) -> Result<(), Failure> {
    if dir.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Failure::bad_input(format!("{} is not empty; choose another --out", dir.display())));
    }
    Ok(std::fs::create_dir_all(dir).map_err(|e| FileError::writing(dir, e))?)
}

pub(crate) fn run(action: Action) -> Outcome {
    match action {
        Action::Corpus { out } => {
            fresh(&out)?;
            let bytes = corpus::write_jsonl(&out)?;
            output::line(format_args!("{} of text in {}", output::bytes(bytes), out.display()));
        }
        Action::Tinytown { out, seed, recitals, stories, qa, chats } => {
            fresh(&out)?;
            let settings = tinytown::Settings { seed, recitals, stories, qa, chats };
            let written = tinytown::write_jsonl(&out, &settings)?;
            output::line(format_args!("{} of text in {}", output::bytes(written.bytes), out.display()));
        }
        Action::Curate(args) => return curate::run(args),
        Action::Tokenize(a) => {
            let threads = a.device.threads();
            let report = match a.chats {
                true => tokenize_chats(&a.tokenizer, &a.inputs, a.sequence_length, a.seed, threads, &a.out)?,
                false => tokenize_documents(&a.tokenizer, &a.inputs, a.seed, threads, &a.out)?,
            };
            output::json(&report);
        }
    }
    Ok(ExitCode::SUCCESS)
}
