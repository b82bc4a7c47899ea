//! The one error type of this crate.

use std::path::{Path, PathBuf};

use smolt_run::error::{Exit, ExitKind, FileError};

/// What can go wrong between a file of documents and a batch. Every message is one line: file, place, fix.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused to read or write a file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A line of a JSONL file cannot be read (not UTF-8, not JSON, too long, a truncated archive).
    #[error("{path}:{line}: {problem}")]
    Line {
        /// The JSONL file.
        path: PathBuf,
        /// Counted from 1.
        line: u64,
        /// What is wrong and how to repair it.
        problem: String,
    },
    /// A plain text file cannot be one document.
    #[error("{path}: {problem}")]
    Text {
        /// The text file.
        path: PathBuf,
        /// What is wrong and how to repair it.
        problem: String,
    },
    /// A token shard whose files disagree with each other or with the settings of the run.
    #[error("{path}: {problem}")]
    Shard {
        /// The `.ds` file or the file beside it that is wrong.
        path: PathBuf,
        /// What is wrong and how to repair it.
        problem: String,
    },
    /// A token that the model has no embedding for.
    #[error(
        "{path}: token {position} has id {id}, but the model's vocabulary ends at {vocab_size}; tokenize the data with the model's own tokenizer"
    )]
    TokenOutOfRange {
        /// The `.ds` file.
        path: PathBuf,
        /// Index of the token in the shard, from 0.
        position: u64,
        /// The id found there.
        id: u32,
        /// Ids must be below this.
        vocab_size: u32,
    },
    /// Settings that contradict each other or the data.
    #[error("{0}")]
    Settings(String),
    /// Nothing was left to write into a shard.
    #[error("{path}: not written, no document is left ({rejected})")]
    NothingLeft {
        /// The shard that was to be written.
        path: PathBuf,
        /// Counts of what was rejected, with reasons.
        rejected: String,
    },
    /// A tokenizer or chat template failed on a document.
    #[error("document {document}: {problem}")]
    Encode {
        /// The document's id, or its place in the input counted from 0.
        document: String,
        /// What the tokenizer or template said.
        problem: String,
    },
    /// The data of a run to be resumed is not the data it was started with.
    #[error(
        "the data changed since this run started (manifest {saved}, now {current}): restore the shards, weights, seed and sequence length, or start a new run"
    )]
    ManifestChanged {
        /// The hash saved with the checkpoint.
        saved: String,
        /// The hash of what is there now.
        current: String,
    },
}

impl Error {
    /// Whether a reader goes on after it.
    pub fn is_recoverable(&self) -> bool {
        false
    }

    /// Countable words for it.
    pub fn reason(&self) -> &'static str {
        "damaged record"
    }

    pub(crate) fn shard(path: &Path, problem: impl Into<String>) -> Self {
        Self::Shard { path: path.to_owned(), problem: problem.into() }
    }
}

impl ExitKind for Error {
    fn exit(&self) -> Exit {
        match self {
            Self::File(error) => error.exit(),
            _ => Exit::BadInput,
        }
    }
}
