//! What an evaluation leaves behind: `results.json` and `samples/TASK.FORMULATION.jsonl`.

use crate::access::Standing;
use crate::contamination::Contamination;
use crate::dataset::Provenance;
use crate::evaluate::{How, Sample, TaskScores};
use crate::reading::Reading;
use crate::task::{Formulation, Task};
use serde::{Deserialize, Serialize};
use smolt_run::error::{Exit, ExitKind, FileError};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Version of `results.json`.
pub const FORMAT_VERSION: u32 = 1;

/// The name of the results within their folder.
pub const RESULTS: &str = "results.json";

/// Stands for the precision of a model behind a server, which does not say it.
pub const SERVER: &str = "server";

/// Largest file of results or samples that is read back, bytes.
const MAX_FILE: u64 = 4 << 30;

/// The model behind the scores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelRecord {
    /// Folder or address.
    pub path: String,
    /// BLAKE3 of the weights' file, or the name a server gives.
    pub hash: String,
    /// Of the tokenizer.
    pub tokenizer_hash: String,
    /// Of config.json, which says what the weights compute.
    #[serde(default)]
    pub config_hash: Option<String>,
    /// Of the chat template, where there is one.
    #[serde(default)]
    pub template_hash: Option<String>,
    /// fp32 or bf16.
    pub precision: String,
    /// Most tokens of a prompt with its answer.
    pub context_length: usize,
    /// Parameters.
    pub parameters: Option<u64>,
    /// Step of the training, where it is a checkpoint.
    pub step: Option<u64>,
    /// Tokens it was trained on until then.
    pub tokens_seen: Option<u64>,
}

/// A task, how it was put, and its scores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskResult {
    /// Name of the task.
    pub task: String,
    /// Of the resolved task file: another hash is another benchmark.
    pub task_hash: String,
    /// Kept for final reports.
    pub held_out: bool,
    /// Examples before each question.
    pub few_shot: usize,
    /// How it was put.
    pub how: How,
    /// Where the rows are from.
    pub dataset: Provenance,
    /// Whether only a fixed part of the items was asked.
    pub limit: Option<usize>,
    /// The scores.
    pub scores: TaskScores,
    /// What was found of it in the training data; none where nobody looked.
    pub contamination: Option<Contamination>,
    /// What its score is good for.
    #[serde(default)]
    pub standing: Standing,
    /// Wall time.
    pub seconds: f64,
}

impl ModelRecord {
    /// Whether this is the same model in the same precision: what it answers to a text is the same. Older records
    /// do not say their configuration. Of a server its address and its model's name are all that is known.
    pub fn is(&self, other: &ModelRecord) -> bool {
        let agree = |a: &Option<String>, b: &Option<String>| a.is_none() || b.is_none() || a == b;
        self.hash == other.hash
            && self.server() == other.server()
            && self.precision == other.precision
            && self.tokenizer_hash == other.tokenizer_hash
            && agree(&self.config_hash, &other.config_hash)
    }

    /// The address, where it is a server's.
    fn server(&self) -> Option<&str> {
        (self.precision == SERVER).then_some(self.path.as_str())
    }

    /// A hash of all that decides what it answers, the chat template included.
    pub fn identity(&self) -> String {
        let about = (&self.hash, &self.tokenizer_hash, &self.config_hash, &self.template_hash);
        let json = serde_json::json!([about, self.precision, self.server(), self.context_length]).to_string();
        blake3::hash(json.as_bytes()).to_hex().to_string()
    }
}

impl TaskResult {
    /// Task and formulation, as files are named.
    pub fn name(&self) -> String {
        format!("{}.{}", self.task, self.how.formulation.name())
    }

    /// Whether two scores may be compared: same questions, same settings (spec PEV-07).
    ///
    /// # Errors
    /// What differs.
    pub fn comparable(&self, other: &TaskResult) -> Result<(), String> {
        let differs = [
            ("the task's file", self.task_hash != other.task_hash),
            ("the data set", self.dataset.hash != other.dataset.hash),
            ("the rows that examples come from", !self.dataset.same_examples(&other.dataset)),
            ("the number of examples", self.few_shot != other.few_shot),
            ("the items asked", self.limit != other.limit),
            ("how answers were sampled or prompts put", self.how != other.how),
        ];
        let names: Vec<&str> =
            differs.iter().filter(|(_, differs)| *differs).map(|(name, _)| *name).collect();
        if names.is_empty() { Ok(()) } else { Err(names.join(", ")) }
    }
}

/// Everything measured in one go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// Version of this file's format.
    pub format_version: u32,
    /// Version of smolt.
    pub smolt: String,
    /// When, UTC.
    pub date: String,
    /// The model.
    pub model: ModelRecord,
    /// CPU and instruction set.
    pub machine: String,
    /// In the order they were asked for.
    pub tasks: Vec<TaskResult>,
    /// Texts that were read.
    #[serde(default)]
    pub texts: Vec<Reading>,
}

/// A record that cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file.
    #[error(transparent)]
    File(#[from] FileError),
    /// Its content.
    #[error("{}: {problem}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

impl ExitKind for RecordError {
    fn exit(&self) -> Exit {
        match self {
            RecordError::File(error) => error.exit(),
            RecordError::Content { .. } => Exit::BadInput,
        }
    }
}

/// The hash of a resolved task.
pub fn task_hash(task: &Task) -> String {
    // What is measured does not depend on what others measured, nor on where the data lies.
    let task = Task { reference: Vec::new(), ..task.clone() };
    let mut json = smolt_run::recipe::to_json(&task);
    if let Some(dataset) = json.get_mut("dataset").and_then(serde_json::Value::as_object_mut) {
        dataset.remove("path");
        dataset.remove("revision");
    }
    blake3::hash(json.to_string().as_bytes()).to_hex()[..16].to_owned()
}

/// Where the samples of a task lie within the folder of results.
pub fn samples_path(folder: &Path, task: &str, formulation: Formulation) -> PathBuf {
    folder.join("samples").join(format!("{task}.{}.jsonl", formulation.name()))
}

/// Where answers are kept while a task is asked, of which nothing is left when it is done.
pub fn answers_path(folder: &Path, task: &str) -> PathBuf {
    folder.join("answers").join(format!("{task}.jsonl"))
}

/// Writes the samples of a task, whole or not at all.
pub fn write_samples(path: &Path, samples: &[Sample]) -> Result<(), RecordError> {
    let mut text = Vec::new();
    for sample in samples {
        let line = serde_json::to_string(sample)
            .map_err(|e| RecordError::Content { path: path.to_owned(), problem: e.to_string() })?;
        let _ = writeln!(text, "{line}");
    }
    write(path, &text)
}

/// Writes the results.
pub fn write_results(folder: &Path, results: &Results) -> Result<(), RecordError> {
    let path = folder.join(RESULTS);
    let text = serde_json::to_string_pretty(results)
        .map_err(|e| RecordError::Content { path: path.clone(), problem: e.to_string() })?;
    write(&path, (text + "\n").as_bytes())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), RecordError> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|e| FileError::writing(folder, e))?;
    }
    Ok(smolt_run::atomic::write(path, bytes)?)
}

/// Reads `results.json` of a folder.
pub fn read_results(folder: &Path) -> Result<Results, RecordError> {
    let path = folder.join(RESULTS);
    let bytes = read(&path)?;
    let results: Results = serde_json::from_slice(&bytes).map_err(|e| RecordError::Content {
        path: path.clone(),
        problem: format!("not results of smolt eval: {e}"),
    })?;
    if results.format_version > FORMAT_VERSION {
        let problem = format!(
            "format {} is newer than this smolt, which knows {FORMAT_VERSION}",
            results.format_version
        );
        return Err(RecordError::Content { path, problem });
    }
    Ok(results)
}

/// Reads the samples of a task.
pub fn read_samples(path: &Path) -> Result<Vec<Sample>, RecordError> {
    read_lines(path)
}

/// Reads a file of JSON, a line for each value.
pub fn read_lines<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Vec<T>, RecordError> {
    let bytes = read(path)?;
    let lines = bytes.split(|&b| b == b'\n').enumerate().filter(|(_, line)| !line.is_empty());
    lines
        .map(|(i, line)| {
            serde_json::from_slice(line).map_err(|e| RecordError::Content {
                path: path.to_owned(),
                problem: format!("line {}: {e}", i + 1),
            })
        })
        .collect()
}

fn read(path: &Path) -> Result<Vec<u8>, RecordError> {
    let size = std::fs::metadata(path).map_err(|e| FileError::reading(path, e))?.len();
    if size > MAX_FILE {
        return Err(RecordError::Content {
            path: path.to_owned(),
            problem: format!("larger than {MAX_FILE} bytes"),
        });
    }
    Ok(std::fs::read(path).map_err(|e| FileError::reading(path, e))?)
}
