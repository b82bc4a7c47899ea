//! Linear text classifiers in fastText's file format (`.bin`, quantised `.ftz`): reading, predicting, training, writing.
//!
//! Bojanowski et al. 2017 (character n-grams), Joulin et al. 2017 (the classifier), Joulin et al. 2016
//! "FastText.zip" (quantisation). A model that fastText wrote predicts the same here, and the other way round.

mod model;
mod predict;
mod quantized;
mod read;
pub mod train;
mod write;

pub use model::{Loss, Model};
pub use predict::Prediction;
pub use read::{MAX_DIM, fuzz_fasttext};

use std::path::PathBuf;

use smolt_run::error::{Exit, ExitKind, FileError};

/// Why a model cannot be read, trained or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system's answer.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is not a model that can be used.
    #[error("{}: {problem} at byte {offset}; is this a complete supervised fastText model?", path.display())]
    Format {
        /// The model.
        path: PathBuf,
        /// Where reading stopped.
        offset: u64,
        /// What is wrong there.
        problem: String,
    },
    /// Training cannot start or did not work.
    #[error("{0}")]
    Training(String),
}

impl ExitKind for Error {
    fn exit(&self) -> Exit {
        match self {
            Self::File(error) => error.exit(),
            Self::Format { .. } | Self::Training(_) => Exit::BadInput,
        }
    }
}
