//! What decontamination found, by benchmark and item.

use serde::{Deserialize, Serialize};

/// One decontamination; several processes' reports are added up by [`DecontaminationReport::merge`].
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

impl DecontaminationReport {
    /// Adds another process's counts; both must come from the same settings and benchmarks.
    pub fn merge(&mut self, other: &Self) {
        self.documents += other.documents;
        self.rejected += other.rejected;
        self.trimmed += other.trimmed;
        for (mine, theirs) in self.benchmarks.iter_mut().zip(&other.benchmarks) {
            for item in &theirs.found {
                match mine.found.binary_search_by_key(&item.line, |found| found.line) {
                    Ok(at) => mine.found[at].documents += item.documents,
                    Err(at) => mine.found.insert(at, *item),
                }
            }
        }
    }
}
