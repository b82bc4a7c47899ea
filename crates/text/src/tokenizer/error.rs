//! Why a tokenizer cannot be trained, read or written.

use smolt_run::error::{Exit, ExitKind, FileError};
use std::path::PathBuf;

/// Errors of this module; each names the file, the place and the fix.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is larger than any real tokenizer.
    #[error("{}: {bytes} bytes is too large for a tokenizer (limit {limit}); is this the right file?", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        bytes: u64,
        /// The largest size accepted, in bytes.
        limit: u64,
    },
    /// The file is not a tokenizer.json, or is damaged.
    #[error("{}: not a valid tokenizer.json: {problem}; fetch or write it again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What and where.
        problem: String,
    },
    /// The file is well formed but describes something that no engine here follows.
    #[error("{}: {problem}; tokenizers of BPE (byte-level or with byte fallback), Unigram and WordPiece are supported", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What is not supported.
        problem: String,
    },
    /// The record of a training is damaged or another tokenizer's.
    #[error("{}: {problem}; train the tokenizer again, or remove this file", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// What and where.
        problem: String,
    },
    /// Settings that cannot give a tokenizer.
    #[error("tokenizer settings: {0}")]
    Settings(String),
    /// A role was given to a token that the tokenizer lacks.
    #[error("the tokenizer has no token `{token}` for the role {role}; train it with that special token")]
    NoSuchToken {
        /// `bos_token`, `eos_token` or `pad_token`.
        role: &'static str,
        /// The missing token.
        token: String,
    },
    /// The trainer itself failed.
    #[error("tokenizer training failed: {0}")]
    Training(String),
}

impl ExitKind for TokenizerError {
    fn exit(&self) -> Exit {
        match self {
            TokenizerError::File(file) => file.exit(),
            TokenizerError::Training(_) => Exit::Failed,
            _ => Exit::BadInput,
        }
    }
}
