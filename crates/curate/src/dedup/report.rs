//! What deduplication found, by source: so that a source's epochs are counted over documents that differ (spec
//! `CLN-06`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::DedupError;

/// Which source each shard belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    names: Vec<String>,
    of_shard: Vec<u32>,
}

impl Sources {
    /// `of_shard[shard]` is an index into `names`.
    pub fn new(names: Vec<String>, of_shard: Vec<u32>) -> Result<Self, DedupError> {
        match of_shard.iter().position(|&source| source as usize >= names.len()) {
            Some(shard) => Err(DedupError::Settings(format!("shard {shard} belongs to no source"))),
            None => Ok(Self { names, of_shard }),
        }
    }

    /// The index of a shard's source.
    pub fn of(&self, shard: u32) -> Result<usize, DedupError> {
        let source = self.of_shard.get(shard as usize).copied();
        source.map(|source| source as usize).ok_or_else(|| {
            DedupError::Settings(format!("shard {shard} is none of the {} of this run", self.of_shard.len()))
        })
    }

    /// The names of the sources.
    pub fn names(&self) -> &[String] {
        &self.names
    }
}

/// One source's share of a [`Report`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceReport {
    /// The source.
    pub name: String,
    /// Its documents.
    pub documents: u64,
    /// Those with a key; others (too short, without URL) are kept.
    pub compared: u64,
    /// Those removed.
    pub removed: u64,
    /// Of the removed, how many had their first copy in each source, in the order of the sources: its own place counts
    /// the duplicates within.
    pub first_seen_in: Vec<u64>,
}

/// What one deduplication of documents found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Of this report.
    pub format_version: u32,
    /// All documents.
    pub documents: u64,
    /// Those with a key.
    pub compared: u64,
    /// Those removed.
    pub removed: u64,
    /// Clusters of two documents and more; each keeps one.
    pub clusters: u64,
    /// How many clusters have how many documents.
    pub cluster_sizes: BTreeMap<u32, u64>,
    /// By source.
    pub sources: Vec<SourceReport>,
}

impl Report {
    pub(super) fn new(sources: &Sources) -> Self {
        let count = sources.names().len();
        let of = |name: &String| SourceReport {
            name: name.clone(),
            first_seen_in: vec![0; count],
            ..SourceReport::default()
        };
        Self { format_version: 1, sources: sources.names().iter().map(of).collect(), ..Self::default() }
    }

    pub(super) fn add_shard(&mut self, source: usize, documents: u64, compared: u64) {
        self.documents += documents;
        self.compared += compared;
        self.sources[source].documents += documents;
        self.sources[source].compared += compared;
    }

    pub(super) fn add_removed(&mut self, source: usize, first_seen_in: usize) {
        self.removed += 1;
        self.sources[source].removed += 1;
        self.sources[source].first_seen_in[first_seen_in] += 1;
    }

    pub(super) fn add_cluster(&mut self, size: u32) {
        self.clusters += 1;
        *self.cluster_sizes.entry(size).or_default() += 1;
    }
}
