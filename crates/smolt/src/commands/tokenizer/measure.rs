//! `smolt tokenizer measure` (spec `TOK-06`, `TOK-07`, `TOK-08`)

use super::{Named, Text};
use crate::Outcome;
use crate::output::{self, thousands};
use serde_json::{Value, json};
use smolt_run::error::Failure;
use smolt_text::measure::Measure;
use smolt_text::measure::words::SEGMENTER;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Folders with tokenizer.json, or such files
    #[arg(required = true, value_name = "FOLDER")]
    tokenizers: Vec<PathBuf>,
    /// A JSONL or text file of a language or domain; may be repeated
    #[arg(long, required = true, value_name = "LANG=FILE")]
    text: Vec<Text>,
    /// Put the best tokenizer first, by this measure over all texts
    #[arg(long)]
    rank: Option<Rank>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What tokenizers are put in order by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Rank {
    /// Tokens per word, the geometric mean over texts
    Fertility,
    /// Share of words of two or more tokens, the mean over texts
    Continued,
    /// Bytes per token; within one language only
    Bytes,
    /// Characters per token; within one language only
    Characters,
}

type Measured = (Named, BTreeMap<String, Measure>);

pub(crate) fn run(args: &Args) -> Outcome {
    let texts = super::read_texts(&args.text)?;
    if let Some(by @ (Rank::Bytes | Rank::Characters)) = args.rank
        && texts.len() > 1
    {
        let labels: Vec<&str> = texts.keys().map(String::as_str).collect();
        return Err(Failure::bad_input(format!(
            "--rank {} says nothing across {}: a character is one byte in English and three in Chinese, a word two characters there and ten in German; rank by fertility, or give one language",
            if by == Rank::Bytes { "bytes" } else { "characters" },
            labels.join(", ")
        )));
    }
    let tokenizers = super::load(&args.tokenizers)?;
    let measures = super::measure_all(&tokenizers, &texts);
    let mut measured: Vec<Measured> = tokenizers.into_iter().zip(measures).collect();
    if let Some(rank) = args.rank {
        measured.sort_by(|a, b| cost(rank, &a.1).total_cmp(&cost(rank, &b.1)));
    }
    if args.json {
        output::json(&json!({
            "segmenter": SEGMENTER,
            "tokenizers": measured.iter().map(as_json).collect::<Vec<_>>(),
        }));
    } else {
        print(&measured, texts.keys());
    }
    Ok(ExitCode::SUCCESS)
}

/// Less is better.
fn cost(rank: Rank, measures: &BTreeMap<String, Measure>) -> f64 {
    let mean =
        |of: fn(&Measure) -> f64| measures.values().map(of).sum::<f64>() / measures.len().max(1) as f64;
    match rank {
        Rank::Fertility => super::mean_fertility(measures),
        Rank::Continued => mean(Measure::continued_share),
        Rank::Bytes => -mean(Measure::bytes_per_token),
        Rank::Characters => -mean(Measure::characters_per_token),
    }
}

fn as_json((named, measures): &Measured) -> Value {
    let texts: serde_json::Map<String, Value> = measures
        .iter()
        .map(|(label, m)| {
            let value = json!({
                "words": m.words, "tokens": m.tokens, "bytes": m.bytes, "characters": m.characters,
                "fertility": m.fertility(), "continued_share": m.continued_share(),
                "fertility_with_space": m.fertility_spaced(),
                "continued_share_with_space": m.continued_share_spaced(),
                "characters_per_token": m.characters_per_token(), "bytes_per_token": m.bytes_per_token(),
            });
            (label.clone(), value)
        })
        .collect();
    json!({
        "name": named.name, "vocab_size": named.tokenizer.vocab_size(),
        "tokenizer_hash": named.tokenizer.hash(), "texts": texts,
    })
}

fn print<'a>(measured: &[Measured], labels: impl Iterator<Item = &'a String>) {
    let header = [
        "text",
        "tokenizer",
        "vocabulary",
        "words",
        "fertility",
        "PCW",
        "␣fertility",
        "␣PCW",
        "chars/token",
        "bytes/token",
    ];
    let mut rows = Vec::new();
    for label in labels {
        for (named, measures) in measured {
            let m = &measures[label];
            rows.push(vec![
                label.clone(),
                named.name.clone(),
                thousands(named.tokenizer.vocab_size() as u64),
                thousands(m.words),
                format!("{:.3}", m.fertility()),
                format!("{:.3}", m.continued_share()),
                format!("{:.3}", m.fertility_spaced()),
                format!("{:.3}", m.continued_share_spaced()),
                format!("{:.3}", m.characters_per_token()),
                format!("{:.3}", m.bytes_per_token()),
            ]);
        }
    }
    output::line(output::table(&header, &rows));
    output::line(format_args!(
        "\nFertility: tokens per word, each word encoded alone; PCW: share of words of two or more tokens; ␣: with a space \
         before each word.\nWords by {SEGMENTER}.\nCharacters and bytes per token are comparable within one row's text only."
    ));
}
