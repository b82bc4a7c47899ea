//! `smolt data`: one file per subcommand.

mod classify;
mod corpus;
mod curate;
mod inspect;
mod lengths;
mod mix;
mod pack;
mod tinytown;
mod tokenize;

use crate::Outcome;
use clap::Subcommand;
use smolt_run::error::{Failure, FileError};
use std::path::Path;

#[derive(Subcommand)]
pub(crate) enum Action {
    /// Write the bundled corpus as JSONL
    Corpus(corpus::Args),
    /// Generate Tinytown: recitals, stories, questions, chats and test items
    Tinytown(tinytown::Args),
    /// Filter, repair and deduplicate documents by a recipe
    Curate(curate::Args),
    /// Train a quality classifier, or score documents with one
    #[command(subcommand)]
    Classify(classify::Action),
    /// Turn documents or chats into a token shard
    Tokenize(tokenize::Args),
    /// Count how long documents are, and what packing them lets a token see
    Lengths(lengths::Args),
    /// Pack a shard anew: documents whole where they fit, or like beside like
    Pack(pack::Args),
    /// Say what a recipe draws from each source and stage, how often, and how that differs from what was stated
    Mix(mix::Args),
    /// Look into a shard, or into the batch of any step of a recipe
    Inspect(inspect::Args),
}

pub(crate) fn run(action: Action) -> Outcome {
    match action {
        Action::Corpus(args) => corpus::run(&args),
        Action::Tinytown(args) => tinytown::run(&args),
        Action::Curate(args) => curate::run(args),
        Action::Classify(action) => classify::run(&action),
        Action::Tokenize(args) => tokenize::run(&args),
        Action::Lengths(args) => lengths::run(&args),
        Action::Pack(args) => pack::run(&args),
        Action::Mix(args) => mix::run(&args),
        Action::Inspect(args) => inspect::run(&args),
    }
}

/// Makes the folder `dir`, or refuses one with content.
fn fresh(dir: &Path) -> Result<(), Failure> {
    if dir.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Failure::bad_input(format!("{} is not empty; choose another --out", dir.display())));
    }
    Ok(std::fs::create_dir_all(dir).map_err(|e| FileError::writing(dir, e))?)
}

/// `12.30` for a share of 0.123.
fn percent(share: f64) -> String {
    format!("{:.2}", 100.0 * share)
}
