//! ThinkFollow: whether a model with two modes heeds `/think` and `/no_think`, turn by turn (spec CA-01).
//!
//! The prompts of conversations are asked one turn after the other, with a flag at random turns; a flag stays in force until
//! the next. A turn passes if its think block is non-empty in mode `think`, or empty in mode `no_think` (spec F-05). What
//! the prompts ask for is not judged.

mod ask;
mod plan;
mod report;
mod rows;

#[cfg(test)]
mod tests;

pub use ask::{Turn, ask};
pub use plan::{Planned, Step, plan};
pub use report::{Cell, Counts, Report, Verdict};
pub use rows::{Conversation, bundled, conversations};

use crate::dataset::{self, DatasetError, Provenance, Sources};
use crate::model::ModelError;
use crate::record::ModelRecord;
use crate::task::{Task, TaskError};
use serde::{Deserialize, Serialize};
use smolt_run::error::{Exit, ExitKind};
use std::fmt;

/// Version of `results.json`.
pub const FORMAT_VERSION: u32 = 1;

/// Its name, by which its results are told from those of tasks.
pub const NAME: &str = "thinkfollow";

/// How a turn is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// After reasoning.
    Think,
    /// At once.
    NoThink,
}

impl Mode {
    /// What the user writes to ask for it.
    pub fn flag(self) -> &'static str {
        match self {
            Mode::Think => "/think",
            Mode::NoThink => "/no_think",
        }
    }

    fn other(self) -> Mode {
        match self {
            Mode::Think => Mode::NoThink,
            Mode::NoThink => Mode::Think,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.flag().trim_start_matches('/'))
    }
}

/// Where the flag of the first turn stands; those of later turns always end the user's message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FirstFlag {
    /// At the end of the user's message.
    #[default]
    User,
    /// As the system prompt.
    System,
}

/// How it was asked; part of what a score means (spec PEV-07).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct How {
    /// Seed of the flags and of sampled answers.
    pub seed: u64,
    /// Where the first flag stands.
    pub first_flag: FirstFlag,
    /// Whether earlier turns are shown with their reasoning, which most templates then cut off.
    pub keep_reasoning: bool,
    /// Most turns of a conversation.
    pub turns: Option<usize>,
    /// Whether only a fixed part of the conversations was asked.
    pub limit: Option<usize>,
    /// Longest answer in tokens.
    pub max_tokens: usize,
    /// 0 is greedy.
    pub temperature: f64,
    /// Only the likeliest tokens whose probabilities sum to this.
    pub top_p: f64,
}

/// Everything measured in one go, as `results.json` holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// Version of this file's format.
    pub format_version: u32,
    /// [`NAME`].
    pub evaluation: String,
    /// Version of smolt.
    pub smolt: String,
    /// When, UTC.
    pub date: String,
    /// The model.
    pub model: ModelRecord,
    /// CPU and instruction set.
    pub machine: String,
    /// Where the conversations are from.
    pub dataset: Provenance,
    /// How they were asked.
    pub how: How,
    /// The scores.
    pub report: Report,
    /// Wall time.
    pub seconds: f64,
}

/// Why nothing could be asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data set.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// The data set's address.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// A row is no conversation.
    #[error("{file}, row {row}: {problem}")]
    Row {
        /// Where the rows are.
        file: String,
        /// Counted from 0, over all files of the split.
        row: usize,
        /// What is wrong, and the fix.
        problem: String,
    },
    /// The model.
    #[error("thinkfollow: {0}")]
    Model(#[from] ModelError),
}

impl ExitKind for Error {
    fn exit(&self) -> Exit {
        Exit::BadInput
    }
}

/// What conversations are read by: tasks know how to find and read rows.
const TASK: &str = r#"
name = "thinkfollow"
[dataset]
path = ""
[generation]
target = "''"
"#;

/// Reads the conversations of a folder, a file or `hf://datasets/OWNER/NAME[@REVISION]`.
///
/// # Errors
/// Data that cannot be found or read, or a row that is no conversation.
pub fn load(
    path: &str,
    config: Option<&str>,
    split: &str,
    sources: &Sources,
) -> Result<(Vec<Conversation>, Provenance), Error> {
    let mut task = Task::parse(NAME, TASK.as_bytes(), &[])?;
    let hub = path.strip_prefix("hf://").and_then(|rest| rest.split_once('@'));
    task.dataset.path = hub.map_or(path.to_owned(), |(name, _)| format!("hf://{name}"));
    if let Some((_, revision)) = hub {
        task.dataset.revision = revision.to_owned();
    }
    task.dataset.config = config.map(str::to_owned);
    task.dataset.split = split.to_owned();
    let loaded = dataset::load(&task, sources)?;
    Ok((conversations(&loaded.provenance.found, &loaded.rows)?, loaded.provenance))
}
