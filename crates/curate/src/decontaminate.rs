//! Decontamination: documents that share n consecutive words with an evaluation set go, or lose those lines (spec
//! `PEV-10`).
//!
//! Words are compared without case, accents and punctuation ([`words`]). An item is its prompt followed by an answer, once
//! for each answer, so that prompts, answers and what spans the two count. An item of fewer than n words counts where it
//! stands whole in a document; one of fewer than `min_words` would match anything, is not looked for and is counted.
//!
//! Only 64-bit hashes of n-grams are kept: an index of a million of them takes a document's n-gram for one that it is not
//! once in 10^13.

mod index;
mod matcher;
mod report;
mod words;

use std::cell::RefCell;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use smolt_data::document::Document;
use smolt_run::error::{Exit, ExitKind};

use crate::analysis::Analysis;
use crate::engine::StepTally;
use crate::step::{Rejection, Step, Verdict};
use index::Hit;
pub use index::{Benchmark, Index, fuzz_evaluation_set};
pub use matcher::{DocumentWords, Match, Matcher, Needle};
pub use report::{BenchmarkReport, DecontaminationReport, ItemReport};
use words::Words;

/// What becomes of a document with a hit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It goes.
    #[default]
    Reject,
    /// The lines with hits go; the document too, when fewer than `min_left_words` words are left.
    Trim,
}

/// When a document is contaminated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DecontaminateSettings {
    /// Consecutive words that must be shared: 13 as in FineMath, 8 as in open-r1.
    pub n: u32,
    /// The least words of an item that is shorter than `n` and looked for as a whole.
    pub min_words: u32,
    /// What becomes of a contaminated document.
    pub action: Action,
    /// The least words of a document that lost lines.
    pub min_left_words: u32,
}

impl Default for DecontaminateSettings {
    fn default() -> Self {
        Self { n: 13, min_words: 6, action: Action::Reject, min_left_words: 50 }
    }
}

/// Why an index cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum DecontaminateError {
    /// The evaluation set cannot be read.
    #[error(transparent)]
    Data(#[from] smolt_data::Error),
    /// A line of it is not what its keys promise.
    #[error("{path}:{line}: {problem}")]
    Item {
        /// The evaluation set.
        path: PathBuf,
        /// Counted from 1.
        line: u64,
        /// What is wrong and how to repair it.
        problem: String,
    },
    /// Settings that cannot be.
    #[error("decontamination: {0}")]
    Settings(String),
    /// The index outgrows its budget.
    #[error("decontamination: the n-grams of the evaluation sets need more than {0} bytes; raise memory_mib")]
    Memory(u64),
}

impl ExitKind for DecontaminateError {
    fn exit(&self) -> Exit {
        match self {
            Self::Data(error) => error.exit(),
            _ => Exit::BadInput,
        }
    }
}

/// The step, with its index.
pub struct Decontaminate {
    settings: DecontaminateSettings,
    index: Index,
}

thread_local! {
    static WORDS: RefCell<Words> = RefCell::default();
}

impl Decontaminate {
    /// Indexes the benchmarks in at most `memory` bytes.
    pub fn new(
        settings: DecontaminateSettings,
        benchmarks: &[Benchmark],
        memory: u64,
    ) -> Result<Self, DecontaminateError> {
        let index = Index::build(benchmarks, settings.n, settings.min_words, memory)?;
        Ok(Self { settings, index })
    }

    /// What was found, from what was counted over all documents.
    pub fn summary(&self, tally: &StepTally) -> DecontaminationReport {
        let mut report = self.index.report(&tally.found);
        (report.n, report.documents) = (self.settings.n, tally.seen.documents);
        (report.rejected, report.trimmed) = (tally.rejected.documents, tally.changed.documents);
        report
    }

    /// The hits as one line: the item with the most, and how many more items there are.
    fn describe(&self, hits: &[Hit]) -> (String, Vec<u32>) {
        let mut items: Vec<u32> = hits.iter().map(|hit| hit.item).collect();
        items.sort_unstable();
        let mut most = (0, 0);
        for run in items.chunk_by(|a, b| a == b) {
            if run.len() > most.1 {
                most = (run[0], run.len());
            }
        }
        items.dedup();
        let (benchmark, line) = self.index.name(most.0);
        let mut detail = format!("{benchmark} line {line}: {} hits", most.1);
        if items.len() > 1 {
            detail.push_str(&format!(", and {} other items", items.len() - 1));
        }
        (detail, items)
    }
}

impl Step for Decontaminate {
    fn apply(&self, document: &mut Document, analysis: &mut Analysis) -> Verdict {
        WORDS.with_borrow_mut(|words| {
            words.find(&document.text);
            let hits = self.index.hits(words);
            if hits.is_empty() {
                return Verdict::Keep;
            }
            let (detail, items) = self.describe(&hits);
            items.into_iter().for_each(|item| analysis.found(item));
            if self.settings.action == Action::Trim {
                let left = without_lines(&document.text, &hits, words);
                words.find(&left);
                if words.len() >= self.settings.min_left_words as usize {
                    document.text = left;
                    analysis.text_changed();
                    return Verdict::Keep;
                }
            }
            Verdict::Reject(Rejection { reason: "contaminated", detail })
        })
    }

    fn report(&self, tally: &StepTally) -> Option<Value> {
        Some(json!(self.summary(tally)))
    }
}

/// The text without the lines that any hit touches.
fn without_lines(text: &str, hits: &[Hit], words: &Words) -> String {
    let mut spans: Vec<_> = hits.iter().map(|hit| words.span(hit.first, hit.last)).collect();
    spans.sort_unstable();
    let mut left = String::with_capacity(text.len());
    let mut spans = spans.into_iter().peekable();
    let mut reach = 0; // the end of the farthest hit that began before this line's end
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let end = start + line.len();
        let begun_before = reach;
        while let Some((_, last)) = spans.next_if(|&(first, _)| first < end) {
            reach = reach.max(last);
        }
        if begun_before <= start && reach == begun_before {
            left.push_str(line);
        }
        start = end;
    }
    left
}

#[cfg(test)]
mod tests;
