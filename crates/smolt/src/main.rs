//! The binary: one file per command, argument parsing and printing only.

mod args;
mod commands;
mod contamination;
mod curation;
mod device;
mod during_training;
mod evaluation;
mod model_folder;
mod output;
mod pipeline;
mod report;
mod skills;

use clap::{Parser, Subcommand};
use smolt_run::error::Failure;
use std::process::ExitCode;

/// Trains small language models end to end: raw text in, a chat model out.
#[derive(Parser)]
#[command(name = "smolt", version, max_term_width = 110, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a whole pipeline as a graph of steps, skipping those whose inputs did not change
    Run(commands::run::Args),
    /// Train, measure and compare tokenizers
    #[command(subcommand)]
    Tokenizer(commands::tokenizer::Action),
    /// Make and tokenize data
    #[command(subcommand)]
    Data(commands::data::Action),
    /// Say what a model costs before it is trained
    #[command(subcommand)]
    Plan(commands::plan::Action),
    /// Train a model by a recipe
    Train(commands::train::Args),
    /// Train the recipes of a folder, several seeds each, and compare them
    Ablate(commands::ablate::Args),
    /// List and verify the checkpoints of a run, look inside a model
    #[command(subcommand)]
    Checkpoint(commands::checkpoint::Action),
    /// Score a model on test items
    Eval(Box<commands::eval::Args>),
    /// Continue a prompt
    Generate(commands::generate::Args),
    /// Talk with a model
    Chat(commands::chat::Args),
    /// Write a model in another format
    Export(commands::export::Args),
    /// Measure this machine
    #[command(subcommand)]
    Bench(commands::bench::Action),
}

/// How a command ended: the process's exit code.
pub(crate) type Outcome = Result<ExitCode, Failure>;

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Run(args) => commands::run::run(args),
        Command::Tokenizer(action) => commands::tokenizer::run(action),
        Command::Data(action) => commands::data::run(action),
        Command::Plan(action) => commands::plan::run(action),
        Command::Train(args) => commands::train::run(args),
        Command::Ablate(args) => commands::ablate::run(args),
        Command::Checkpoint(action) => commands::checkpoint::run(action),
        Command::Eval(args) => commands::eval::run(*args),
        Command::Generate(args) => commands::generate::run(args),
        Command::Chat(args) => commands::chat::run(args),
        Command::Export(args) => commands::export::run(args),
        Command::Bench(action) => commands::bench::run(action),
    };
    outcome.unwrap_or_else(|failure| {
        output::note!("error: {failure}");
        ExitCode::from(failure.exit.code())
    })
}
