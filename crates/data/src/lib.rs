//! Documents → token shards → batches, in an order that needs no index; and Tinytown, the small generated world.
//!
//! Must not know tensors or models: batches are plain `u32` slices.

pub mod batch;
pub mod document;
pub mod error;
#[doc(hidden)]
pub mod fuzz;
pub mod leaves;
pub mod order;
pub mod shard;
pub mod tokenize;
pub mod validation;

pub use error::Error;
