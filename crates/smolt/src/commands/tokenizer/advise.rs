//! `smolt tokenizer advise` (spec `TOK-01`, `TOK-04`, `TOK-14`, `TOK-15`)

use super::{Share, Text};
use crate::{Outcome, output};
use serde_json::json;
use smolt_run::error::Failure;
use smolt_text::advice::{self, Candidate, Finding, Goals, Severity};
use smolt_text::measure::digits::DigitAudit;
use smolt_text::tokenizer::TrainingRecord;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Tokenizers that could be taken: folders with tokenizer.json, or such files
    #[arg(value_name = "FOLDER")]
    tokenizers: Vec<PathBuf>,
    /// A language that the model is for; may be repeated
    #[arg(long, value_name = "LANG")]
    language: Vec<String>,
    /// A domain that the model is for, such as math or code, or `none`; may be repeated
    #[arg(long, value_name = "NAME")]
    domain: Vec<String>,
    /// A source of the mixture that the model will be trained on; may be repeated
    #[arg(long, value_name = "SOURCE=SHARE")]
    mixture: Vec<Share>,
    /// A JSONL or text file of a language; may be repeated
    #[arg(long, value_name = "LANG=FILE")]
    text: Vec<Text>,
    /// A vocabulary to be checked when one is trained
    #[arg(long, value_name = "N")]
    vocab_size: Option<usize>,
    /// Width of the model
    #[arg(long, value_name = "N")]
    hidden_size: Option<u64>,
    /// Parameters of the model
    #[arg(long, value_name = "N")]
    parameters: Option<u64>,
    /// Input and output have embeddings of their own
    #[arg(long)]
    untied: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let goals = Goals {
        languages: args.language.clone(),
        domains: args.domain.clone(),
        mixture: args.mixture.iter().map(|Share(name, share)| (name.clone(), *share)).collect(),
        hidden_size: args.hidden_size,
        parameters: args.parameters,
        tied: !args.untied,
    };
    let open = advice::open_questions(&goals);
    if !open.is_empty() {
        let texts: Vec<String> = open.into_iter().map(|f| f.text).collect();
        let text = format!("a vocabulary cannot be chosen before this is known: {}", texts.join("; "));
        return Err(Failure::bad_input(text));
    }
    let candidates = candidates(args)?;
    let planned = args.vocab_size.map(|size| advice::vocabulary_findings(&goals, size)).unwrap_or_default();
    let found: Vec<Vec<Finding>> = candidates.iter().map(|c| advice::candidate_findings(&goals, c)).collect();
    let advice = advice::advise(&goals, &candidates);
    if args.json {
        let each = |(c, f): (&Candidate, &Vec<Finding>)| json!({"name": c.name, "vocab_size": c.vocab_size, "findings": f});
        output::json(&json!({
            "goals": goals, "advice": advice, "planned_vocabulary": planned,
            "candidates": candidates.iter().zip(&found).map(each).collect::<Vec<_>>(),
        }));
    } else {
        match &advice.reuse {
            Some(name) => output::line(format_args!("take {name}: {}", advice.reason)),
            None => output::line(format_args!("train your own: {}", advice.reason)),
        }
        let named = candidates.iter().map(|c| c.name.clone()).zip(found);
        let planned = std::iter::once(("the planned vocabulary".to_owned(), planned));
        for (name, findings) in named.chain(planned).filter(|(_, f)| !f.is_empty()) {
            output::line(format_args!("\n{name}"));
            findings.iter().for_each(|f| output::line(format_args!("  {}: {}", word(f.severity), f.text)));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    }
}

fn candidates(args: &Args) -> Result<Vec<Candidate>, Failure> {
    let texts = super::read_texts(&args.text)?;
    let tokenizers = super::load(&args.tokenizers)?;
    let measures = super::measure_all(&tokenizers, &texts);
    let mut all = Vec::new();
    for (named, measures) in tokenizers.into_iter().zip(measures) {
        let record = TrainingRecord::load(&named.folder, named.tokenizer.hash())?;
        all.push(Candidate {
            vocab_size: named.tokenizer.vocab_size(),
            digits: DigitAudit::of(&named.tokenizer),
            trained_on: record.map(|r| r.shares()),
            name: named.name,
            measures,
        });
    }
    Ok(all)
}
