//! What a step that must have seen every document is: deduplication of any kind.
//!
//! It works in two passes. In the first, each shard's documents leave records in a file of its own, on any thread of any
//! rank. Then one process decides over all records, in bounded memory, and writes a verdict file per shard. In the
//! second pass each shard reads its verdicts and its documents again.

use std::path::{Path, PathBuf};

use smolt_data::document::Document;

use crate::analysis::Analysis;
use crate::engine::Error;
use crate::step::Verdict;

/// The place of a document: shard number << 32 | place in the shard's file. Order of documents is order of these.
pub type DocumentNumber = u64;

/// What the decision may use.
#[derive(Clone, Debug)]
pub struct Budget {
    /// Bytes of memory.
    pub memory: u64,
    /// Threads to compute on.
    pub threads: usize,
    /// An empty folder for temporary files.
    pub folder: PathBuf,
}

/// A step over all documents.
pub trait GlobalStep: Send + Sync {
    /// Appends the document's records to `records`: a pure function of its arguments.
    fn gather(
        &self,
        document: &Document,
        number: DocumentNumber,
        analysis: &mut Analysis,
        records: &mut Vec<u8>,
    );

    /// Reads the records of every shard (`records[shard]`), writes `verdicts[shard]`, and returns what is worth telling.
    fn decide(
        &self,
        records: &[PathBuf],
        sources: &[String],
        verdicts: &[PathBuf],
        budget: &Budget,
    ) -> Result<serde_json::Value, Error>;

    /// Opens the verdicts of one shard.
    fn judge(&self, verdicts: &Path) -> Result<Box<dyn Judge>, Error>;
}

/// The verdicts of one shard, asked in document order.
pub trait Judge: Send {
    /// Looks at the next document; may change it.
    fn apply(&mut self, document: &mut Document, number: DocumentNumber) -> Result<Verdict, Error>;
}
