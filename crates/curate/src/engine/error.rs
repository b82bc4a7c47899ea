//! What can go wrong in a curation.

use std::path::{Path, PathBuf};

use smolt_run::error::{Exit, ExitKind, FileError};
use smolt_run::recipe::RecipeError;

/// Every message is one line: file, place, fix.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// An input cannot be read.
    #[error(transparent)]
    Data(#[from] smolt_data::Error),
    /// The recipe is wrong.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// Deduplication failed.
    #[error(transparent)]
    Dedup(#[from] crate::dedup::DedupError),
    /// A file at an address cannot be read.
    #[error(transparent)]
    Store(#[from] smolt_store::Error),
    /// The disk or the network failed in the middle of a file.
    #[error("{0}")]
    Unreachable(String),
    /// A step cannot be built.
    #[error("{file}: step {step}: {problem}")]
    Step {
        /// The recipe.
        file: String,
        /// The step's kind.
        step: String,
        /// What is wrong and how to repair it.
        problem: String,
    },
    /// Settings that cannot work with these inputs.
    #[error("{0}")]
    Settings(String),
    /// A file that this engine wrote earlier is not what it wrote.
    #[error("{path}: {problem}; delete the folder and run again")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A signal asked to stop; what is finished stays.
    #[error("stopped by {0}; the same command goes on where it stopped")]
    Stopped(&'static str),
}

impl Error {
    pub(crate) fn damaged(path: &Path, problem: impl ToString) -> Self {
        Self::Damaged { path: path.to_owned(), problem: problem.to_string() }
    }
}

impl ExitKind for Error {
    fn exit(&self) -> Exit {
        match self {
            Self::File(error) => error.exit(),
            Self::Data(error) => error.exit(),
            Self::Dedup(error) => error.exit(),
            Self::Store(error) => error.exit(),
            Self::Stopped(_) | Self::Unreachable(_) => Exit::Failed,
            _ => Exit::BadInput,
        }
    }
}
