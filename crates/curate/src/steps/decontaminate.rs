//! Rejects or trims documents that contain items of evaluation sets; the step of [`crate::decontaminate`] (spec `PEV-10`).

use crate::decontaminate::{Action, Benchmark, Decontaminate, DecontaminateError, DecontaminateSettings};

smolt_run::recipe! {
    /// Which evaluation sets, and how much of an item a document may share.
    pub struct Settings {
        /// The evaluation sets.
        pub benchmark: Vec<BenchmarkSettings>,
        /// Consecutive words that must be shared: 13 as in FineMath, 8 as in open-r1.
        pub n: u32 = 13,
        /// The least words of an item that is shorter than `n` and looked for as a whole.
        pub min_words: u32 = 6,
        /// Only the lines with hits go; the document too when fewer than `min_left_words` words are left.
        pub trim: bool = false,
        /// The least words of a document that lost lines.
        pub min_left_words: u32 = 50,
        /// MiB that the n-grams of the evaluation sets may take.
        pub memory_mib: u64 = 1024,
    }

    /// One evaluation set.
    pub struct BenchmarkSettings {
        /// As rejections name it.
        pub name: String,
        /// JSONL, plain or compressed.
        pub path: String,
        /// Where the texts are: first the prompt, then answers; `a.b` is `b` within `a`.
        pub keys: Vec<String>,
    }
}

impl Settings {
    /// The evaluation sets, their paths as the recipe has them.
    pub(super) fn benchmarks(&self) -> Vec<Benchmark> {
        let benchmark = |b: &BenchmarkSettings| Benchmark {
            name: b.name.clone(),
            path: b.path.clone().into(),
            keys: b.keys.clone(),
        };
        self.benchmark.iter().map(benchmark).collect()
    }
}

/// Reads the evaluation sets.
pub(super) fn build(
    settings: &Settings,
    benchmarks: &[Benchmark],
) -> Result<Decontaminate, DecontaminateError> {
    let &Settings { n, min_words, trim, min_left_words, memory_mib, .. } = settings;
    let action = if trim { Action::Trim } else { Action::Reject };
    let settings = DecontaminateSettings { n, min_words, action, min_left_words };
    Decontaminate::new(settings, benchmarks, memory_mib << 20)
}
