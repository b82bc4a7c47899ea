//! What decontamination found, by benchmark and item.

use serde::{Deserialize, Serialize};

/// One decontamination, over all shards and ranks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecontaminationReport {
    /// Of this report.
    pub format_version: u32,
    /// Words of an n-gram.
    pub n: u32,
    /// Documents looked at.
    pub documents: u64,
    /// Those that went.
    pub rejected: u64,
    /// Those that lost lines.
    pub trimmed: u64,
    /// By benchmark, in the order in which they were given.
    pub benchmarks: Vec<BenchmarkReport>,
}

/// One benchmark's share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BenchmarkReport {
    /// The benchmark.
    pub name: String,
    /// Its items.
    pub items: u64,
    /// Distinct n-grams looked for.
    pub ngrams: u64,
    /// Texts (a prompt with one answer) shorter than n words, looked for as a whole.
    pub short: u64,
    /// Texts too short to be looked for at all.
    pub unchecked: u64,
    /// The items that were found, in order.
    pub found: Vec<ItemReport>,
}

/// An item that was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemReport {
    /// Its line in the benchmark's file, counted from 1; blank lines do not count.
    pub line: u64,
    /// Documents that share words with it.
    pub documents: u64,
}
