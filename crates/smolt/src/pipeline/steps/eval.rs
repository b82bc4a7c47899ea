//! `kind = "eval"`: scores a model on test items beside its baselines.

use super::Context;
use crate::output;
use crate::output::note;
use crate::skills::{self, Plan};
use smolt_run::error::Failure;

smolt_run::recipe! {
    /// What to measure.
    pub(crate) struct EvalSettings {
        /// A model folder, or a run's folder for its newest checkpoint.
        model: String,
        /// Folder of test items, one SKILL.jsonl each; other files in it are passed over.
        items: String,
        /// Items per skill; 0 takes all.
        items_per_skill: usize = 0,
        /// Lettered options as well (MCF), where a model is to be tested for it.
        multiple_choice: bool = false,
        /// Chat answers compared exactly (FG); off for models without a chat template.
        exact_match: bool = true,
        /// JSONL of chats that await the assistant: how many answers end?
        chat_prompts: Option<String>,
        /// Longest answer.
        max_tokens: usize = 64,
        /// A fresh model of the same shape beside it, with initial weights of this seed.
        untrained_seed: Option<u64>,
        /// Shards to train the n-gram baseline on.
        ngram_shards: Vec<String> = Vec::new(),
        /// Order of the n-gram baseline.
        ngram_order: usize = 5,
        /// Token shard of held-out text for bits per byte.
        held_out: Option<String>,
        /// JSONL of the same text, and of the text that zstd may refer to.
        held_out_text: Option<String>,
        /// See `held_out_text`.
        reference_text: Option<String>,
        /// Sequence length for bits per byte.
        sequence_length: usize = 256,
        /// Arithmetic of matrix products.
        precision: smolt_train::recipe::PrecisionSetting = smolt_train::recipe::PrecisionSetting::Auto,
    }
}

pub(super) fn run(s: &EvalSettings, context: &Context<'_>) -> Result<(), Failure> {
    let path = |p: &Option<String>| p.as_ref().map(|p| context.path(p));
    let plan = Plan {
        model: context.path(&s.model),
        items: context.path(&s.items),
        items_per_skill: s.items_per_skill,
        multiple_choice: s.multiple_choice,
        exact_match: s.exact_match,
        chat_prompts: path(&s.chat_prompts),
        max_tokens: s.max_tokens,
        untrained_seed: s.untrained_seed,
        ngram_shards: s.ngram_shards.iter().map(|p| context.path(p)).collect(),
        ngram_order: s.ngram_order,
        held_out: path(&s.held_out),
        held_out_text: path(&s.held_out_text),
        reference_text: path(&s.reference_text),
        sequence_length: s.sequence_length,
        precision: s.precision,
        threads: context.threads,
        quiet: context.quiet,
    };
    let scores = skills::run(&plan)?;
    if !context.quiet {
        note!("{}", skills::table(&scores));
    }
    let text = output::or_empty(serde_json::to_string_pretty(&scores));
    smolt_run::atomic::write(&context.folder.join("scores.json"), text.as_bytes())?;
    Ok(())
}
