//! `smolt tokenizer compare` (spec `TOK-03`, `TOK-04`, `TOK-11`, `TOK-12`, `TOK-13`)

use super::{Named, Text, html};
use crate::Outcome;
use crate::output::{self, thousands};
use serde_json::{Value, json};
use smolt_text::advice::embedding_parameters;
use smolt_text::measure::Measure;
use smolt_text::measure::digits::{DigitAudit, pieces};
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
    #[arg(long, value_name = "LANG=FILE")]
    text: Vec<Text>,
    /// A sentence to show token by token; may be repeated
    #[arg(long, value_name = "TEXT")]
    sentence: Vec<String>,
    /// Write the sentences, tokens coloured, into this file too
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Width of the model, for the price of the embedding
    #[arg(long, default_value_t = 2048, value_name = "N")]
    hidden_size: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let texts = super::read_texts(&args.text)?;
    let tokenizers = super::load(&args.tokenizers)?;
    let measures = super::measure_all(&tokenizers, &texts);
    let audits: Vec<DigitAudit> = tokenizers.iter().map(|t| DigitAudit::of(&t.tokenizer)).collect();
    let names: Vec<&str> = tokenizers.iter().map(|t| t.name.as_str()).collect();
    let sentences: Vec<(String, Vec<Vec<String>>)> = args
        .sentence
        .iter()
        .map(|s| (s.clone(), tokenizers.iter().map(|t| pieces(&t.tokenizer, s)).collect()))
        .collect();
    if let Some(file) = &args.html {
        smolt_run::atomic::write(file, html::page(&names, &sentences).as_bytes())?;
    }
    if args.json {
        output::json(&as_json(args, &tokenizers, &measures, &audits, &sentences));
        return Ok(ExitCode::SUCCESS);
    }
    if !texts.is_empty() {
        print_words(&names, &measures, texts.keys());
    }
    for (sentence, cut) in &sentences {
        let rows: Vec<Vec<String>> = names
            .iter()
            .zip(cut)
            .map(|(name, tokens)| vec![name.to_string(), tokens.len().to_string(), joined(tokens)])
            .collect();
        output::line(format_args!("{sentence}\n{}\n", left(&["tokenizer", "tokens", "cut"], &rows)));
    }
    print_digits(&names, &audits);
    print_price(&tokenizers, &measures, args.hidden_size);
    Ok(ExitCode::SUCCESS)
}

/// Tokens between bars; what does not print is spelled out.
fn joined(tokens: &[String]) -> String {
    let visible = |token: &String| {
        let spelled = |c: char| match c {
            c if c.is_control() || c == '|' => c.escape_default().to_string(),
            c => c.to_string(),
        };
        token.chars().map(spelled).collect::<String>()
    };
    tokens.iter().map(visible).collect::<Vec<_>>().join("|")
}

/// A table whose last column is text.
fn left(header: &[&str], rows: &[Vec<String>]) -> String {
    let short: Vec<Vec<String>> = rows.iter().map(|row| row[..row.len() - 1].to_vec()).collect();
    let table = output::table(&header[..header.len() - 1], &short);
    let width = table.lines().map(|line| line.chars().count()).max().unwrap_or(0);
    let last = std::iter::once(header[header.len() - 1]).chain(rows.iter().map(|r| r[r.len() - 1].as_str()));
    let line = |(line, last): (&str, &str)| format!("{line:<width$}  {last}").trim_end().to_owned();
    table.lines().zip(last).map(line).collect::<Vec<_>>().join("\n")
}

/// The playbook's table: fertility / continued words; `*` at the best of a row.
fn print_words<'a>(
    names: &[&str],
    measures: &[BTreeMap<String, Measure>],
    labels: impl Iterator<Item = &'a String>,
) {
    let mut rows = Vec::new();
    for label in labels {
        let best =
            |of: fn(&Measure) -> f64| measures.iter().map(|m| of(&m[label])).fold(f64::INFINITY, f64::min);
        let (fertility, continued) = (best(Measure::fertility), best(Measure::continued_share));
        let star = |value: f64, best: f64| {
            // What prints alike is alike.
            let shown = format!("{value:.3}");
            if shown == format!("{best:.3}") { format!("{shown}*") } else { shown }
        };
        let cell = |m: &BTreeMap<String, Measure>| {
            let m = &m[label];
            format!("{} / {}", star(m.fertility(), fertility), star(m.continued_share(), continued))
        };
        rows.push(std::iter::once(label.clone()).chain(measures.iter().map(cell)).collect());
    }
    let header: Vec<&str> = std::iter::once("text").chain(names.iter().copied()).collect();
    output::line(output::table(&header, &rows));
    output::line(format_args!(
        "\nTokens per word / share of words of two or more tokens, each word encoded alone; * is the best of a row.\nWords by \
         {SEGMENTER}.\n"
    ));
}

fn print_digits(names: &[&str], audits: &[DigitAudit]) {
    let rows: Vec<Vec<String>> = names
        .iter()
        .zip(audits)
        .map(|(name, a)| {
            let digits = [a.longest.to_string(), a.multi_digit_tokens.to_string(), a.policy.clone()];
            std::iter::once(name.to_string()).chain(digits).chain([joined(&a.example)]).collect()
        })
        .collect();
    let header = ["numbers", "longest", "tokens of digits", "policy", "342792"];
    output::line(left(&header, &rows));
    for (name, _) in names.iter().zip(audits).filter(|(_, a)| a.memorises()) {
        output::line(format_args!(
            "warning: {name} has tokens of more than three digits, learned by heart; not for math"
        ));
    }
}

fn print_price(tokenizers: &[Named], measures: &[BTreeMap<String, Measure>], hidden_size: u64) {
    let millions = |v: usize, tied| format!("{:.1}", embedding_parameters(v, hidden_size, tied) as f64 / 1e6);
    let row = |(named, measures): (&Named, &BTreeMap<String, Measure>)| {
        let v = named.tokenizer.vocab_size();
        let words = if measures.is_empty() {
            "–".into()
        } else {
            format!("{:.3}", super::mean_fertility(measures))
        };
        vec![named.name.clone(), thousands(v as u64), millions(v, true), millions(v, false), words]
    };
    let rows: Vec<Vec<String>> = tokenizers.iter().zip(measures).map(row).collect();
    let header = ["embedding", "vocabulary", "tied, M", "untied, M", "tokens/word"];
    output::line(format_args!("\n{}", output::table(&header, &rows)));
    output::line(format_args!(
        "\nMillions of parameters at width {hidden_size}, against the geometric mean of tokens per word over the texts."
    ));
}

fn as_json(
    args: &Args,
    tokenizers: &[Named],
    measures: &[BTreeMap<String, Measure>],
    audits: &[DigitAudit],
    sentences: &[(String, Vec<Vec<String>>)],
) -> Value {
    let one = |i: usize| {
        let v = tokenizers[i].tokenizer.vocab_size();
        let texts: serde_json::Map<String, Value> = measures[i]
            .iter()
            .map(|(l, m)| {
                (l.clone(), json!({"fertility": m.fertility(), "continued_share": m.continued_share()}))
            })
            .collect();
        json!({
            "name": tokenizers[i].name, "vocab_size": v, "tokenizer_hash": tokenizers[i].tokenizer.hash(),
            "texts": texts, "digits": audits[i],
            "embedding_parameters": {
                "tied": embedding_parameters(v, args.hidden_size, true),
                "untied": embedding_parameters(v, args.hidden_size, false),
            },
            "sentences": sentences.iter().map(|(_, cut)| &cut[i]).collect::<Vec<_>>(),
        })
    };
    json!({
        "segmenter": SEGMENTER,
        "sentences": args.sentence,
        "tokenizers": (0..tokenizers.len()).map(one).collect::<Vec<_>>(),
    })
}
