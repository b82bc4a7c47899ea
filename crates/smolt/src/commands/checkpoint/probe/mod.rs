//! `smolt checkpoint probe` (spec `STB-01` to `STB-04`, `SCP-05`, `MOE-09`)

mod tables;

use crate::device::DeviceArgs;
use crate::model_folder::ModelFolder;
use crate::{Outcome, args, output};
use serde_json::{Value, json};
use smolt_arch::ModelConfig;
use smolt_arch::config::QkNorm;
use smolt_data::format::{self, ReadOptions};
use smolt_infer::probe::{
    self, Experts, FEW, FEWEST, Found, Layer, Mass, Needle, Norms, Planted, Report, Spread, Subject, Text,
};
use smolt_run::error::Failure;
use smolt_run::resources;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Tokens that are read of each text unless more or fewer are asked for.
const TOKENS: usize = 512;

/// Bytes of text that hold a token, with room to spare.
const TOKEN_BYTES: usize = 64;

/// What is planted.
const NEEDLE: &str = " The secret number of the lighthouse is 4071.";
/// What asks for it.
const QUESTION: &str = " What is the secret number of the lighthouse? The secret number of the lighthouse is";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A Hugging Face folder, a checkpoint, or a run's folder for its newest checkpoint
    model: PathBuf,
    /// A JSONL, Parquet or text file of a domain; may be repeated
    #[arg(long, required = true, value_name = "NAME=FILE", value_parser = args::named_file)]
    text: Vec<(String, PathBuf)>,
    /// Tokens to read of each text, document by document; longer documents are cut [default: 512, or the model's context if
    /// that is shorter]
    #[arg(long, value_name = "N", value_parser = args::count)]
    tokens: Option<usize>,
    /// Also plant a sentence in the first text, ask for it at the end, and measure the attention it gets
    #[arg(long)]
    needle: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

/// What was found.
struct Findings {
    folder: PathBuf,
    report: Report,
    needle: Option<Vec<Planted>>,
    warnings: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let folder = ModelFolder::load(&args.model)?;
    let cpu = args.device.cpu()?;
    let (model, weights) = (&folder.loaded.model, &folder.loaded.weights[..]);
    let tokens = args.tokens.unwrap_or(TOKENS.min(model.config().longest_sequence()));
    check(args, tokens, &folder)?;
    let texts = args.text.iter().map(|(name, file)| read(name, file, tokens, &folder));
    let texts = texts.collect::<Result<Vec<Text>, Failure>>()?;
    let subject = Subject { cpu: &cpu, model, weights };
    let bad = |e: probe::Error| Failure::bad_input(e.to_string());
    let report = probe::probe(subject, &texts).map_err(bad)?;
    let needle = args.needle.then(|| plant(subject, &texts[0], tokens, &folder)).transpose()?;
    let mut warnings = probe::warnings(&report);
    if args.needle && model.config().qk_norm != QkNorm::None {
        warnings.push(qk_norm(model.config()));
    }
    let findings = Findings { folder: folder.path, report, needle, warnings };
    if args.json {
        output::json(&findings.json());
    } else {
        tables::print(&findings);
    }
    Ok(ExitCode::SUCCESS)
}

/// Refuses what cannot be read before anything is.
fn check(args: &Args, tokens: usize, folder: &ModelFolder) -> Result<(), Failure> {
    let names = args.text.iter().map(|(name, _)| name);
    if let Some(twice) = names.clone().enumerate().find_map(|(i, n)| names.clone().take(i).find(|m| *m == n))
    {
        return Err(Failure::bad_input(format!(
            "--text: two texts are called {twice:?}; give each its name"
        )));
    }
    let longest = folder.loaded.model.config().longest_sequence();
    if args.needle && tokens > longest {
        return Err(Failure::bad_input(format!(
            "--tokens {tokens}: --needle asks over so many tokens, and the model has positions for {longest}"
        )));
    }
    let (needed, limit) = (probe::kept_bytes(&folder.loaded.model, tokens), resources::memory_limit());
    match limit {
        Some(limit) if needed > limit / 2 => Err(Failure::bad_input(format!(
            "--tokens {tokens}: a probe of so many keeps {} and {} of memory are available; ask for fewer",
            output::bytes(needed),
            output::bytes(limit)
        ))),
        _ => Ok(()),
    }
}

/// The first `tokens` of a file, as the model was trained on it: a beginning token where its tokenizer puts one.
fn read(name: &str, file: &Path, tokens: usize, folder: &ModelFolder) -> Result<Text, Failure> {
    let config = folder.loaded.model.config();
    let longest = config.longest_sequence();
    let begins = folder.tokenizer.encode("", true).first().copied();
    let bos = config.bos_token_id.filter(|&bos| begins == Some(bos));
    let mut text = Text { name: name.to_owned(), documents: Vec::new() };
    let mut left = tokens;
    for document in format::open(file, &ReadOptions::default())? {
        let document = document?.text;
        // A book is not tokenized for its first page.
        let enough = document.floor_char_boundary(left.saturating_mul(TOKEN_BYTES));
        let mut all = folder.tokenizer.encode_ordinary(&document[..enough]);
        if let Some(bos) = bos.filter(|_| !all.is_empty()) {
            all.insert(0, bos);
        }
        all.truncate(left);
        left -= all.len();
        text.documents.extend(all.chunks(longest).map(<[u32]>::to_vec));
        if left == 0 {
            break;
        }
    }
    if text.tokens() < FEWEST {
        return Err(Failure::bad_input(format!(
            "{}: {} tokens, too few to say anything; give a text, and --tokens, of at least {FEWEST}",
            file.display(),
            text.tokens()
        )));
    }
    Ok(text)
}

/// STB-03, in one sequence of a text.
fn plant(
    subject: Subject<'_>,
    text: &Text,
    tokens: usize,
    folder: &ModelFolder,
) -> Result<Vec<Planted>, Failure> {
    let haystack = text.documents.concat();
    let [sentence, question] = [NEEDLE, QUESTION].map(|text| folder.tokenizer.encode_ordinary(text));
    let needle = Needle { haystack: &haystack, sentence: &sentence, question: &question, tokens };
    probe::needle(subject, &needle).map_err(|e| Failure::bad_input(format!("--needle: {e}")))
}

/// STB-03: what is known of normed queries and keys where contexts are long.
fn qk_norm(config: &ModelConfig) -> String {
    format!(
        "qk_norm = {}: norms take from queries and keys the magnitude by which a needle stands out in a long context; \
         compare its shares with those of a model without (STB-03)",
        config.qk_norm
    )
}

impl Findings {
    fn json(&self) -> Value {
        let report = &self.report;
        let text = |text: &probe::TextReport| {
            json!({
                "name": text.name, "documents": text.documents, "tokens": text.tokens, "loss": text.loss,
                "log_z": spread(&text.log_z),
            })
        };
        json!({
            "model": self.folder.display().to_string(),
            "texts": report.texts.iter().map(text).collect::<Vec<_>>(),
            "log_z": spread(&report.log_z),
            "embedding": norms(&report.embedding),
            "head": report.head.as_ref().map(norms),
            "embedded_rms": report.embedded_rms,
            "layers": report.layers.iter().map(layer).collect::<Vec<_>>(),
            "needle": self.needle.as_ref().map(|planted| planted.iter().map(depth).collect::<Vec<_>>()),
            "warnings": self.warnings,
        })
    }
}

fn spread(s: &Spread) -> Value {
    json!({"mean": s.mean, "standard_deviation": s.deviation, "least": s.least, "most": s.most})
}

fn norms(n: &Norms) -> Value {
    json!({
        "rms": n.rms,
        "row_norms": {"least": n.least, "p1": n.low, "median": n.median, "p99": n.high, "most": n.most},
    })
}

fn mass(mass: Mass) -> Value {
    json!({"mean": mass.mean, "most": mass.most})
}

fn layer(layer: &Layer) -> Value {
    let looks = &layer.looks;
    json!({
        "stream_rms": layer.stream_rms,
        "attention_rms": layer.attention_rms,
        "mlp_rms": layer.mlp_rms,
        "attention": {
            "largest_score": looks.largest_score,
            "largest_magnitude_before_cap": looks.largest_product,
            "first_token": looks.first.map(mass),
            "first_tokens": {"count": FEW, "share": looks.few.map(mass), "uniform": looks.few_uniform},
            "learned_sinks": looks.sinks.map(mass),
            "window_without_sinks": looks.window_without_sinks,
        },
        "experts": layer.experts.as_ref().map(experts),
    })
}

fn experts(experts: &Experts) -> Value {
    let all = || 0..experts.experts();
    let texts = || 0..experts.tokens.len();
    let over = experts.over_activated();
    json!({
        "load": experts.load(),
        "load_by_text": experts.counts,
        "max_load": experts.max_load(),
        "dead": experts.dead(),
        "entropy": experts.entropy(),
        "entropy_by_text": experts.entropies,
        "share_by_text": texts().map(|t| all().map(|e| experts.share(t, e)).collect()).collect::<Vec<Vec<f64>>>(),
        "over_activated": over.iter().map(|o| json!({
            "text": o.text, "expert": o.expert, "share": o.share, "lift": o.lift,
        })).collect::<Vec<_>>(),
        "tokens_dropped": 0,
    })
}

fn depth(planted: &Planted) -> Value {
    let found = |found: &Found| json!({"share": mass(found.mass), "uniform": found.uniform});
    json!({
        "depth": planted.depth,
        "first_token": planted.rows.start,
        "tokens": planted.rows.len(),
        "layers": planted.layers.iter().map(found).collect::<Vec<_>>(),
    })
}
