//! What a step of curation is: it looks at one document, may change it, and keeps or rejects it.

use serde_json::Value;
use smolt_data::document::Document;

use crate::analysis::Analysis;
use crate::engine::StepTally;

/// Why a document was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Stable and countable, such as `gopher_short_doc`; where datatrove has the rule, its own word for it.
    pub reason: &'static str,
    /// What was found in this document, such as `49 words`; empty when the reason says it all.
    pub detail: String,
}

/// What a step says of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on, perhaps changed.
    Keep,
    /// It goes to the side output.
    Reject(Rejection),
}

impl Verdict {
    /// A rejection without detail.
    pub fn reject(reason: &'static str) -> Self {
        Self::Reject(Rejection { reason, detail: String::new() })
    }

    /// Whether the document goes on.
    pub fn keeps(&self) -> bool {
        matches!(self, Self::Keep)
    }
}

/// A step that needs one document at a time.
///
/// A pure function of the document and the step's settings, so that shards, ranks and threads change no byte.
pub trait Step: Send + Sync {
    /// Looks at a document. A step that changes `document.text` calls [`Analysis::text_changed`].
    fn apply(&self, document: &mut Document, analysis: &mut Analysis) -> Verdict;

    /// What is worth telling, beside the counts, of all documents that the step was given.
    fn report(&self, _: &StepTally) -> Option<Value> {
        None
    }
}
