//! Deduplication in bounded memory: exact (documents, URLs, lines) and MinHash-LSH, within and across sources
//! (spec `CLN-06`).
//!
//! Three phases, so that any number of ranks can share the work: (1) each shard on its own becomes a file of keys;
//! (2) one process brings equal keys together by external sort and joins their documents by union–find; (3) each shard
//! reads which of its documents (or lines) go. The first document, in the order of [`number`], is kept. Everything is a
//! function of the documents and their order: no thread, rank, budget or order of processing changes a byte.

mod clusters;
pub mod exact;
mod fuzz;
pub mod lines;
pub mod minhash;
pub mod records;
pub mod removals;
pub mod report;
pub mod shingle;
pub mod simplify;

use std::path::{Path, PathBuf};

use smolt_run::error::{Exit, ExitKind, FileError};

use crate::external_sort::SortError;
use crate::union_find::TooManyMembers;

#[doc(hidden)]
pub use fuzz::fuzz_dedup_records;
pub use report::{Report, Sources};

/// The number of a document: shards in order, then its position in the shard, both counted from 0.
pub fn number(shard: u32, position: u32) -> u64 {
    u64::from(shard) << 32 | u64::from(position)
}

/// What the second phase may use.
#[derive(Clone, Copy, Debug)]
pub struct Space<'a> {
    /// Bytes of memory for everything that grows with the corpus, at least 1 MiB.
    pub memory: u64,
    /// An existing folder for temporary files.
    pub scratch: &'a Path,
}

/// Why deduplication stops.
#[derive(Debug, thiserror::Error)]
pub enum DedupError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The external sort failed.
    #[error(transparent)]
    Sort(#[from] SortError),
    /// More documents than the budget can hold.
    #[error(transparent)]
    Members(#[from] TooManyMembers),
    /// A file of keys or removals that is not what it should be.
    #[error("{path}: {problem}; remove it and run its step again")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Settings that cannot be, or files that do not belong together.
    #[error("deduplication: {0}")]
    Settings(String),
}

impl ExitKind for DedupError {
    fn exit(&self) -> Exit {
        match self {
            Self::File(error) => error.exit(),
            Self::Sort(error) => error.exit(),
            Self::Members(error) => error.exit(),
            Self::Damaged { .. } | Self::Settings(_) => Exit::BadInput,
        }
    }
}
