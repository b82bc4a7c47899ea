//! What a step that must have seen every document is: deduplication of any kind.
//!
//! It works in two passes. In the first, each shard's documents leave records in a file of its own, on any thread of any
//! rank. Then one process decides over all records, in bounded memory, and writes a verdict file per shard. In the
//! second pass each shard reads its verdicts and its documents again.

use std::path::{Path, PathBuf};

use serde_json::Value;
use smolt_data::document::Document;

use crate::dedup::{Sources, Space};
use crate::engine::Error;
use crate::step::Verdict;

/// A step over all documents.
pub trait GlobalStep: Send + Sync {
    /// Appends to `keys` what is costly to find of a document: a pure function, called on many threads.
    fn keys(&self, document: &Document, keys: &mut Vec<u8>);

    /// Starts the records of a shard.
    fn collect(&self, path: &Path, shard: u32) -> Result<Box<dyn Collector>, Error>;

    /// Reads the records of every shard (`records[shard]`), writes verdicts into `folder`, and returns what is worth
    /// telling.
    fn decide(
        &self,
        records: &[PathBuf],
        folder: &Path,
        sources: &Sources,
        space: &Space<'_>,
    ) -> Result<Value, Error>;

    /// Opens the verdicts of one shard.
    fn judge(&self, folder: &Path, shard: u32) -> Result<Box<dyn Judge>, Error>;
}

/// Writes the records of a shard, asked in document order.
pub trait Collector {
    /// The next document and its [`GlobalStep::keys`]; `position` is its place in the shard, from 0.
    fn push(&mut self, position: u32, document: &Document, keys: &[u8]) -> Result<(), Error>;

    /// Makes the file whole; `documents` is how many the shard has.
    fn finish(self: Box<Self>, documents: u64) -> Result<(), Error>;
}

/// The verdicts of one shard, asked in document order.
pub trait Judge {
    /// Looks at the next document; may change it.
    fn apply(&mut self, document: &mut Document, position: u32) -> Result<Verdict, Error>;

    /// Checks that the verdicts were for as many documents.
    fn finish(self: Box<Self>, documents: u64) -> Result<(), Error>;
}
