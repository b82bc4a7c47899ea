//! `smolt eval contamination`: which items of a benchmark stand in the training data (spec PEV-10, PEV-11).

use super::Asked;
use crate::Outcome;
use crate::contamination::{Corpus, Search, measure};
use crate::device::DeviceArgs;
use crate::output::{self, thousands};
use smolt_eval::contamination::{Contamination, Effect, Found};
use smolt_run::error::Failure;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    asked: Asked,
    /// Folder of a run: the shards that it trains on
    #[arg(long, value_name = "RUN", required_unless_present = "shards", conflicts_with = "shards")]
    run: Option<PathBuf>,
    /// Token shards (NAME.ds)
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "tokenizer")]
    shards: Vec<PathBuf>,
    /// Folder with the tokenizer.json that made the shards
    #[arg(long, value_name = "DIR")]
    tokenizer: Option<PathBuf>,
    #[command(flatten)]
    lengths: Lengths,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

/// Lengths of n-grams.
#[derive(clap::Args, Clone)]
pub(crate) struct Lengths {
    /// Consecutive words that an item and a document must share; may be repeated
    #[arg(long = "n", value_name = "WORDS", default_values_t = [13, 8], value_parser = clap::value_parser!(u32).range(2..=256))]
    n: Vec<u32>,
}

impl Lengths {
    /// Each once, the longest first.
    pub(crate) fn sorted(&self) -> Vec<u32> {
        let mut lengths = self.n.clone();
        lengths.sort_unstable_by(|a, b| b.cmp(a));
        lengths.dedup();
        lengths
    }
}

pub(super) fn run(args: &Args) -> Outcome {
    if args.asked.tasks()?.is_empty() {
        return Err(Failure::bad_input("which benchmarks? give --task NAME, a suite or a file"));
    }
    let corpus = match (&args.run, &args.tokenizer) {
        (Some(run), _) => Corpus::of_run(run)?,
        (None, Some(tokenizer)) => Corpus::of_files(tokenizer, &args.shards)?,
        (None, None) => {
            return Err(Failure::bad_input("give --run RUN, or --shards FILE… with --tokenizer DIR"));
        }
    };
    let lengths = args.lengths.sorted();
    let search =
        Search { asked: &args.asked, lengths: &lengths, threads: args.device.threads(), quiet: args.json };
    let measured = measure(&corpus, &search)?;
    if args.json {
        output::json(&measured);
    } else {
        output::line(table(&measured));
    }
    Ok(ExitCode::SUCCESS)
}

/// `12.3` for a share of 0.123.
fn percent(share: f64) -> String {
    format!("{:.1}", 100.0 * share)
}

fn table(measured: &BTreeMap<String, Contamination>) -> String {
    let header = [
        "task",
        "words",
        "items",
        "contaminated",
        "%",
        "in question",
        "in answer",
        "in candidate",
        "too short",
        "documents",
    ];
    let mut rows = Vec::new();
    for (task, of) in measured {
        for found in &of.by_n {
            let counts = [found.in_question, found.in_answer, found.in_candidate, found.unchecked];
            let mut row = vec![task.clone(), found.n.to_string(), thousands(found.items as u64)];
            row.extend([thousands(found.contaminated as u64), percent(found.share)]);
            row.extend(counts.map(|count| thousands(count as u64)));
            row.push(thousands(found.documents));
            rows.push(row);
        }
    }
    let mut text = output::table(&header, &rows);
    for (task, of) in measured {
        for found in of.by_n.iter().filter(|found| !found.worst.is_empty()) {
            text += &format!("\n\n{task}, {} words: documents with most items", found.n);
            for document in &found.worst {
                let source =
                    document.source.as_ref().map_or_else(String::new, |source| format!(" {source:?}"));
                text += &format!(
                    "\n  {} document {}{source}: {} items, such as {}: {:?}",
                    document.shard, document.document, document.items, document.example, document.excerpt
                );
            }
        }
    }
    text
}

/// Contamination beside a score, a line for each length of n-grams.
pub(crate) fn lines(name: &str, contamination: Option<&Contamination>) -> Vec<String> {
    let line = |found: &Found| {
        let mut text = format!(
            "{name}: {} of {} items in the training data by {} words ({} %)",
            thousands(found.contaminated as u64),
            thousands((found.items - found.unchecked) as u64),
            found.n,
            percent(found.share)
        );
        if found.unchecked > 0 {
            text += &format!(", {} too short to tell", thousands(found.unchecked as u64));
        }
        match &found.effect {
            Some(effect) => text += &format!("; {}", apart(effect)),
            None if found.contaminated > 0 => text += "; too few on one side to score them apart",
            None => {}
        }
        text
    };
    contamination.map_or_else(Vec::new, |of| of.by_n.iter().map(line).collect())
}

fn apart(effect: &Effect) -> String {
    let points = |x: f64| format!("{:.1}", 100.0 * x);
    format!(
        "clean {}±{}, contaminated {}±{}, difference {:+.1}±{}{}; {:+.1}±{} of the score",
        points(effect.clean.value),
        points(effect.clean.stderr),
        points(effect.contaminated.value),
        points(effect.contaminated.stderr),
        100.0 * effect.difference,
        points(effect.difference_stderr),
        if effect.inflated { ", more than the error" } else { ", within the error" },
        100.0 * effect.inflation,
        points(effect.inflation_stderr),
    )
}
