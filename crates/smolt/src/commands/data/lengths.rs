//! `smolt data lengths`

use super::percent;
use crate::Outcome;
use crate::output::{self, thousands};
use serde_json::json;
use smolt_data::lengths::{Attended, CLASSES, Lengths};
use smolt_data::shard::Shard;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Token shards, NAME.ds
    #[arg(required = true)]
    shards: Vec<PathBuf>,
    /// Tokens per sequence; repeat it to compare
    #[arg(long, default_values_t = [256, 2048, 4096])]
    sequence_length: Vec<u64>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(a: &Args) -> Outcome {
    let mut all = Vec::new();
    for path in &a.shards {
        let shard = Shard::open(path)?;
        let lengths = Lengths::of_shard(&shard);
        let attended: Vec<Attended> =
            a.sequence_length.iter().map(|&length| Attended::of_shard(&shard, length)).collect();
        if a.json {
            all.push(json!({"shard": path.display().to_string(), "lengths": lengths, "packed": attended}));
        } else {
            output::line(format_args!("{}", path.display()));
            print(&lengths, &attended);
        }
    }
    if a.json {
        output::json(&all);
    }
    Ok(ExitCode::SUCCESS)
}

fn print(l: &Lengths, attended: &[Attended]) {
    output::line(format_args!(
        "{} documents, {} tokens, mean {:.0}, longest {}; {} % below 2,048 tokens",
        thousands(l.documents),
        thousands(l.tokens),
        l.mean,
        thousands(l.longest),
        percent(l.share_below_2k)
    ));
    let share = |part: u64, all: u64| percent(part as f64 / all.max(1) as f64);
    let row = |(i, class): (usize, &&str)| {
        let (documents, tokens) = (l.documents_by_class[i], l.tokens_by_class[i]);
        vec![
            (*class).to_owned(),
            thousands(documents),
            share(documents, l.documents),
            thousands(tokens),
            share(tokens, l.tokens),
        ]
    };
    let rows: Vec<Vec<String>> = CLASSES.iter().enumerate().map(row).collect();
    output::line(output::table(&["tokens", "documents", "%", "tokens in them", "%"], &rows));
    let row = |a: &Attended| {
        vec![
            thousands(a.sequence_length),
            thousands(a.rows),
            percent(a.crossing_pairs),
            format!("{:.0}", a.mean),
            format!("{:.0}", a.mean_without_masking),
        ]
    };
    let rows: Vec<Vec<String>> = attended.iter().map(row).collect();
    let header =
        ["sequence length", "sequences", "% of pairs cross documents", "tokens seen, masked", "unmasked"];
    output::line(output::table(&header, &rows));
}
