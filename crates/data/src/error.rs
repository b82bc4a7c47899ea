//! The one error type of this crate.

use std::fmt;
use std::path::{Path, PathBuf};

use smolt_run::error::{Exit, ExitKind, FileError};

/// What can go wrong between a file of documents and a batch. Every message is one line: file, place, fix.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused to read or write a file.
    #[error(transparent)]
    File(#[from] FileError),
    /// One record of a file (a line, a row, a web page) cannot be read; the reader goes on after it.
    #[error("{path}{place}: {problem}")]
    Record {
        /// The file.
        path: PathBuf,
        /// Where in it.
        place: Place,
        /// What kind of damage, for counting.
        fault: Fault,
        /// What is wrong and how to repair it.
        problem: String,
    },
    /// The rest of a file cannot be read: a cut archive, a damaged footer, another schema.
    #[error("{path}{place}: {problem}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it.
        place: Place,
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

/// A place in a file of documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The whole file.
    File,
    /// A line, counted from 1.
    Line(u64),
    /// A row of a table, counted from 1.
    Row(u64),
    /// A record that begins at this byte of the decompressed file, from 0.
    Byte(u64),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File => Ok(()),
            Self::Line(line) => write!(f, ":{line}"),
            Self::Row(row) => write!(f, ": row {row}"),
            Self::Byte(byte) => write!(f, ": record at byte {byte}"),
        }
    }
}

/// Why a record could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Fault {
    /// Bytes that are not UTF-8.
    NotUtf8,
    /// Longer than the limit that bounds memory.
    TooLong,
    /// Not JSON.
    NotJson,
    /// A field that is missing, null, twice there or of another type; a row with too few or too many.
    Fields,
    /// The frame around the record: the headers of a WARC record or of the HTTP response in it.
    Header,
    /// The compression within a record.
    Encoding,
}

impl Fault {
    /// Stable and countable, such as `not_utf8`.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotUtf8 => "not_utf8",
            Self::TooLong => "too_long",
            Self::NotJson => "not_json",
            Self::Fields => "wrong_fields",
            Self::Header => "bad_header",
            Self::Encoding => "bad_encoding",
        }
    }
}

impl Error {
    /// Whether only one record is lost and the reader goes on after it.
    pub fn is_recoverable(&self) -> bool {
        self.fault().is_some()
    }

    /// The kind of damage of a recoverable error.
    pub fn fault(&self) -> Option<Fault> {
        match self {
            Self::Record { fault, .. } => Some(*fault),
            _ => None,
        }
    }

    pub(crate) fn record(path: &Path, place: Place, fault: Fault, problem: impl Into<String>) -> Self {
        Self::Record { path: path.to_owned(), place, fault, problem: problem.into() }
    }

    pub(crate) fn damaged(path: &Path, place: Place, problem: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), place, problem: problem.into() }
    }

    /// A stream that broke while it was read.
    pub(crate) fn stream(path: &Path, place: Place, source: &std::io::Error) -> Self {
        Self::damaged(path, place, format!("cannot read: {source}; is the file complete?"))
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
