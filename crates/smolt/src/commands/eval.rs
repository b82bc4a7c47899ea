//! `smolt eval`

use crate::device::DeviceArgs;
use crate::evaluate::{self, Plan};
use crate::{Outcome, output};
use smolt_train::recipe::PrecisionSetting;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A Hugging Face folder, or a run's folder for its newest checkpoint
    model: PathBuf,
    /// Folder of test items, one SKILL.jsonl each
    #[arg(long)]
    items: PathBuf,
    /// Items per skill; 0 takes all
    #[arg(long, default_value_t = 0)]
    items_per_skill: usize,
    /// Score lettered options as well
    #[arg(long)]
    multiple_choice: bool,
    /// Chat answers compared exactly
    #[arg(long)]
    exact_match: bool,
    /// Longest answer
    #[arg(long, default_value_t = 64)]
    max_tokens: usize,
    /// Score a fresh model of the same shape beside it
    #[arg(long)]
    untrained: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

pub(crate) fn run(args: Args) -> Outcome {
    let scores = evaluate::run(&Plan {
        model: args.model,
        items: args.items,
        items_per_skill: args.items_per_skill,
        multiple_choice: args.multiple_choice,
        exact_match: args.exact_match,
        chat_prompts: None,
        max_tokens: args.max_tokens,
        untrained_seed: args.untrained.then_some(0),
        ngram_shards: Vec::new(),
        ngram_order: 5,
        held_out: None,
        held_out_text: None,
        reference_text: None,
        sequence_length: 256,
        precision: PrecisionSetting::Fp32,
        threads: args.device.threads(),
        quiet: args.json,
    })?;
    if args.json {
        output::json(&scores);
    } else {
        output::line(evaluate::table(&scores));
    }
    Ok(ExitCode::SUCCESS)
}
