//! Documents → curated documents: filters, repairs and deduplication, one file per step, over any number of shards and
//! ranks (spec `CLN-01`).
//!
//! Must not know token shards, tensors or models: benchmark texts reach it as JSONL.

pub mod analysis;
pub mod classify;
pub mod fasttext;
pub mod lists;
pub mod step;
pub mod steps;

pub use step::{Rejection, Step, Verdict};
