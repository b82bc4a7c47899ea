//! Pipelines: a TOML file of `[[step]]`s, each a recipe of its kind, run as a graph.
//!
//! A value `"@step/file"` names a file that another step writes, and makes that step an input.

mod steps;

use serde_json::{Value, json};
use smolt_run::error::Failure;
use smolt_run::folder::RunFolder;
use smolt_run::graph::{self, Outcome, Report};
use smolt_run::recipe::Document;
use smolt_run::{hash, signal};
use std::cell::Cell;
use std::path::{Path, PathBuf};

use steps::Context;
pub(crate) use steps::tokenize::{chats as tokenize_chats, documents as tokenize_documents};
pub(crate) use steps::tokenizer::{
    Source as TokenizerSourceFiles, TokenizerSettings, UNNAMED as UNNAMED_SOURCE, train as train_tokenizer,
};

smolt_run::recipe! {
    /// A pipeline: steps that feed each other.
    pub(crate) struct Pipeline {
        /// Version of this file's format.
        format_version: u32 = 1,
        /// Its name; the default folder of its results is runs/NAME.
        pub(crate) name: String,
        /// The steps, in any order.
        step: Vec<Document>,
    }

    /// What a step does.
    pub(crate) enum Kind {
        /// Writes the bundled corpus as JSONL.
        Corpus = "corpus",
        /// Generates Tinytown's recitals, stories, questions, chats and test items.
        Tinytown = "tinytown",
        /// Filters, repairs and deduplicates documents.
        Curate = "curate",
        /// Trains a tokenizer.
        Tokenizer = "tokenizer",
        /// Turns documents and chats into token shards.
        Tokenize = "tokenize",
        /// Trains a model.
        Train = "train",
        /// Scores a model.
        Eval = "eval",
        /// Writes a model as a Hugging Face folder.
        Export = "export",
        /// Writes report.html.
        Report = "report",
    }
}

/// A pipeline file, checked: every step's settings read, every default filled in.
pub(crate) struct Loaded {
    pub(crate) name: String,
    steps: Vec<(graph::Step, steps::Work)>,
}

/// Reads `path`, applies `--set step.key=value`, and checks every step.
pub(crate) fn load(path: &Path, sets: &[String]) -> Result<Loaded, Failure> {
    let mut document = Document::load(path)?;
    for set in sets {
        document.set_in("step", set)?;
    }
    let pipeline: Pipeline = document.read()?;
    let base = path.parent().unwrap_or(Path::new("."));
    let steps = pipeline
        .step
        .into_iter()
        .map(|mut document| {
            let name: String = document.take("name")?;
            let kind: Kind = document.take("kind")?;
            let work = steps::Work::read(kind, &document)?;
            work.check()
                .map_err(|e| Failure { message: format!("{}: step {name}: {e}", path.display()), ..e })?;
            let (mut inputs, mut outside) = (Vec::new(), serde_json::Map::new());
            references(&work.settings(), base, &mut inputs, &mut outside)?;
            let mut settings = json!({"settings": work.settings(), "outside": outside});
            if let Some(inputs) = work.inputs(base)? {
                settings["inputs"] = inputs;
            }
            let step =
                graph::Step { name, kind: kind.to_string(), version: work.version(), settings, inputs };
            Ok((step, work))
        })
        .collect::<Result<Vec<_>, Failure>>()?;
    let nodes: Vec<graph::Step> = steps.iter().map(|(step, _)| step.clone()).collect();
    graph::keys(&nodes).map_err(|e| Failure::bad_input(format!("{}: {e}", path.display())))?;
    Ok(Loaded { name: pipeline.name, steps })
}

/// Collects the steps that settings refer to, and hashes of the files outside the pipeline.
fn references(
    settings: &Value,
    base: &Path,
    inputs: &mut Vec<String>,
    outside: &mut serde_json::Map<String, Value>,
) -> Result<(), Failure> {
    match settings {
        Value::String(text) => {
            if let Some(reference) = text.strip_prefix('@') {
                let step = reference.split('/').next().unwrap_or(reference).to_string();
                if !inputs.contains(&step) {
                    inputs.push(step);
                }
            } else if text.contains(['/', '.']) && base.join(text).is_file() {
                outside.insert(text.clone(), hash::file(&base.join(text))?.into());
            }
        }
        Value::Array(items) => {
            items.iter().try_for_each(|item| references(item, base, inputs, outside))?;
        }
        Value::Object(map) => map.values().try_for_each(|item| references(item, base, inputs, outside))?,
        _ => {}
    }
    Ok(())
}

/// Brings every step up to date in `out`.
pub(crate) fn run(
    pipeline: &Loaded,
    base: &Path,
    out: &Path,
    threads: usize,
    quiet: bool,
) -> Result<Vec<Report>, Failure> {
    let folder = RunFolder::create_or_resume(out, true)?;
    let args: Vec<String> = std::env::args().collect();
    folder.write_environment(env!("CARGO_PKG_VERSION"), &args)?;
    let steps: Vec<graph::Step> = pipeline.steps.iter().map(|(step, _)| step.clone()).collect();
    let total = steps.len();
    let number = Cell::new(0);
    let next = || number.set(number.get() + 1);
    graph::run(
        &steps,
        out,
        |step, folder, _| {
            if let Some(signal) = signal::requested() {
                return Err(Failure::failed(format!(
                    "stopped by {} before step {}",
                    signal.name(),
                    step.name
                )));
            }
            next();
            if !quiet {
                let number = number.get();
                eprintln!("[{number}/{total}] {} ({})", step.name, step.kind);
            }
            let Some((_, work)) = pipeline.steps.iter().find(|(s, _)| s.name == step.name) else {
                return Err(Failure::failed(format!("step {} is not in the pipeline", step.name)));
            };
            let context = Context { base, out, folder, threads, quiet };
            work.run(&context)
        },
        |report| {
            let Report { name, outcome, seconds, .. } = report;
            if *outcome == Outcome::UpToDate {
                next();
            }
            if !quiet {
                let text = if *outcome == Outcome::Ran { "done" } else { "up to date" };
                let number = number.get();
                eprintln!("[{number}/{total}] {name}: {text} ({seconds:.1} s)");
            }
        },
    )
}

/// Where results go by default.
pub(crate) fn default_out(pipeline: &Loaded) -> PathBuf {
    Path::new("runs").join(&pipeline.name)
}
