//! Documents → curated documents: filters, repairs and deduplication, one file per step, over any number of shards and
//! ranks (spec `CLN-01`).
//!
//! Must not know token shards, tensors or models: benchmark texts reach it as JSONL.

pub mod analysis;
pub mod classify;
pub mod decontaminate;
pub mod dedup;
pub mod engine;
pub mod external_sort;
pub mod fasttext;
pub mod global;
pub mod lists;
pub mod recipe;
pub mod step;
pub mod steps;
pub mod union_find;

pub use global::{Collector, GlobalStep, Judge};
pub use step::{Rejection, Step, Verdict};
