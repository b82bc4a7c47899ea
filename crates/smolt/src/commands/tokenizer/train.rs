//! `smolt tokenizer train`

use crate::device::DeviceArgs;
use crate::pipeline::{
    TokenizerSettings, TokenizerSourceFiles as Source, UNNAMED_SOURCE as UNNAMED, train_tokenizer,
};
use crate::{Outcome, output};
use smolt_run::error::{Failure, FileError};
use smolt_text::tokenizer::{Digits, Model};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// JSONL or text files of documents
    #[arg(required_unless_present = "source", conflicts_with = "source")]
    documents: Vec<PathBuf>,
    /// A source of the mixture that the sample mirrors, by bytes
    #[arg(long, value_name = "NAME=WEIGHT:FILE[,FILE…]", value_parser = parse_source)]
    source: Vec<(String, f64, Vec<PathBuf>)>,
    /// The most bytes of the sample [default: as many as mirror the sources without repeating]
    #[arg(long, value_name = "N")]
    sample_bytes: Option<u64>,
    /// Where to write
    #[arg(long)]
    out: PathBuf,
    /// bpe, unigram or wordpiece
    #[arg(long, default_value_t = Model::Bpe)]
    model: Model,
    /// Tokens in all, rounded up to a multiple of 128
    #[arg(long, default_value_t = 4096)]
    vocab_size: usize,
    /// How digits are cut: single, three-left, three-right or none
    #[arg(long, default_value_t = Digits::Single)]
    digits: Digits,
    /// A further control token
    #[arg(long, value_name = "TOKEN")]
    special_token: Vec<String>,
    /// A pair must occur this often to be merged
    #[arg(long, default_value_t = 2)]
    min_frequency: u64,
    #[command(flatten)]
    device: DeviceArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn parse_source(text: &str) -> Result<(String, f64, Vec<PathBuf>), String> {
    let parts = || {
        let (name, rest) = text.split_once('=').filter(|(name, _)| !name.is_empty())?;
        let (weight, files) = rest.split_once(':').filter(|(_, files)| !files.is_empty())?;
        Some((name.to_owned(), weight.parse().ok()?, files.split(',').map(PathBuf::from).collect()))
    };
    parts().ok_or_else(|| "write it as NAME=WEIGHT:FILE, e.g. code=0.15:code.jsonl".into())
}

pub(crate) fn run(args: &Args) -> Outcome {
    if args.out.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Failure::bad_input(format!("{} is not empty; choose another --out", args.out.display())));
    }
    std::fs::create_dir_all(&args.out).map_err(|e| FileError::writing(&args.out, e))?;
    let settings = TokenizerSettings {
        documents: Vec::new(),
        sources: Vec::new(),
        sample_bytes: args.sample_bytes,
        model: args.model,
        vocab_size: args.vocab_size,
        digits: args.digits,
        special_tokens: args.special_token.clone(),
        min_frequency: args.min_frequency,
        chat_template: None,
    };
    let mut sources: Vec<Source> =
        args.source.iter().cloned().map(|(name, weight, paths)| Source { name, weight, paths }).collect();
    if sources.is_empty() {
        sources.push(Source { name: UNNAMED.into(), weight: 1.0, paths: args.documents.clone() });
    }
    let report = train_tokenizer(&settings, &sources, None, args.device.threads(), &args.out)?;
    if args.json {
        output::json(&report);
    } else {
        output::line(report);
    }
    Ok(ExitCode::SUCCESS)
}
