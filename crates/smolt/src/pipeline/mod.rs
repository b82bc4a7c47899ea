//! Pipelines: a TOML file of `[[step]]`s, each a recipe of its kind, run as a graph.
//!
//! A value `"@step/file"` names a file that another step writes, and makes that step an input.

mod steps;

use crate::output::note;
use serde_json::{Value, json};
use smolt_run::error::Failure;
use smolt_run::folder::RunFolder;
use smolt_run::graph::{self, Outcome, Report};
use smolt_run::recipe::{Document, FormatVersion};
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
        format_version: FormatVersion = FormatVersion,
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
    plain_name(&pipeline.name).map_err(|e| Failure { message: format!("{}: {e}", path.display()), ..e })?;
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

/// Settings that hold text, in which an `@` is an `@` and a dot no path.
const TEXTS: [&str; 5] = ["name", "title", "prompts", "special_tokens", "metadata"];

/// Refuses names that would lead out of the folder they are joined to.
pub(crate) fn plain_name(name: &str) -> Result<(), Failure> {
    if graph::is_plain_name(name) {
        return Ok(());
    }
    Err(Failure::bad_input(format!(
        "name {name:?}: use letters, digits, `-`, `_` and `.`, at most 100, and no dot at the start"
    )))
}

/// Collects the steps that settings refer to, and hashes of the files and folders outside the pipeline.
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
            } else if text.contains(['/', '.']) {
                let path = base.join(text);
                // A folder that holds the pipeline itself is none that a step reads.
                let around = || path.canonicalize().is_ok_and(|path| here(base).starts_with(path));
                if path.is_file() {
                    outside.insert(text.clone(), hash::file(&path)?.into());
                } else if path.is_dir() && !around() {
                    outside.insert(text.clone(), hash::folder(&path)?.into());
                }
            }
        }
        Value::Array(items) => {
            items.iter().try_for_each(|item| references(item, base, inputs, outside))?;
        }
        Value::Object(map) => {
            let mut places = map.iter().filter(|(key, _)| !TEXTS.contains(&key.as_str()));
            places.try_for_each(|(_, item)| references(item, base, inputs, outside))?;
        }
        _ => {}
    }
    Ok(())
}

fn here(base: &Path) -> PathBuf {
    let base = if base.as_os_str().is_empty() { Path::new(".") } else { base };
    base.canonicalize().unwrap_or_default()
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
                note!("[{number}/{total}] {} ({})", step.name, step.kind);
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
                note!("[{number}/{total}] {name}: {text} ({seconds:.1} s)");
            }
        },
    )
}

/// Where results go by default.
pub(crate) fn default_out(pipeline: &Loaded) -> PathBuf {
    Path::new("runs").join(&pipeline.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steps_read_is_told_from_what_they_say() {
        let dir = tempfile::tempdir().unwrap();
        let model = dir.path().join("models/base");
        std::fs::create_dir_all(&model).unwrap();
        std::fs::write(model.join("config.json"), "{}").unwrap();
        let read = || {
            let settings = json!({
                "model": "models/base", "run": "@train/run", "base": ".", "prompts": ["@Tom, hello."],
                "special_tokens": ["@user"], "file": "models/base/config.json",
            });
            let (mut inputs, mut outside) = (Vec::new(), serde_json::Map::new());
            references(&settings, dir.path(), &mut inputs, &mut outside).unwrap();
            (inputs, outside)
        };
        let (inputs, before) = read();
        assert_eq!(inputs, ["train"]);
        assert_eq!(before.keys().collect::<Vec<_>>(), ["models/base", "models/base/config.json"]);
        std::fs::write(model.join("tokenizer.json"), "{}").unwrap();
        let after = read().1;
        assert!(before["models/base"] != after["models/base"], "a changed folder is seen");
        assert_eq!(before["models/base/config.json"], after["models/base/config.json"]);
    }
}
