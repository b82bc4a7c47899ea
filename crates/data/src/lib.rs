//! Documents → token shards → batches, in an order that needs no index; and Tinytown, the small generated world.
//!
//! Must not know tensors or models: batches are plain `u32` slices.

pub mod batch;
pub mod corpus;
pub mod document;
pub mod error;
pub mod format;
mod fuzz;
pub mod leaves;
pub mod lengths;
pub mod order;
pub mod pack;
pub mod prefetch;
pub mod shard;
pub mod shuffle_check;
pub mod tinytown;
pub mod tokenize;
pub mod validation;

pub use error::Error;
#[doc(hidden)]
pub use fuzz::{
    fuzz_archive, fuzz_csv, fuzz_ids, fuzz_jsonl, fuzz_parquet, fuzz_rows, fuzz_shard, fuzz_warc,
};
