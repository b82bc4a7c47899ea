//! `.smolt.json`: what datatrove's files do not say about a shard.

use serde::{Deserialize, Serialize};

/// The version written; newer ones are refused.
pub const FORMAT_VERSION: u32 = 1;

/// How documents were laid out in the shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Packing {
    /// One after another; a document may straddle chunks (spec `PKD-01`).
    Concatenate,
    /// In chunks of `chunk_length` tokens that no document straddles, padded to the chunk's end.
    Whole,
}

/// BLAKE3 of each file, in hex.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checksums {
    /// Of `.ds`.
    pub tokens: String,
    /// Of `.ds.index`.
    pub index: String,
    /// Of `.ds.loss`, when there is one.
    pub loss: Option<String>,
    /// Of `.ds.ids`, when there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<String>,
}

/// The content of `.smolt.json`. For a shard without one, what a scan finds; `None` is what only the writer knew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardMeta {
    /// [`FORMAT_VERSION`].
    pub format_version: u32,
    /// Hash of the tokenizer that made the ids.
    pub tokenizer_hash: Option<String>,
    /// Every id is below this.
    pub vocab_size: Option<u32>,
    /// Bytes per token in `.ds`: 2 or 4.
    pub token_size: u8,
    /// Tokens, with end-of-sequence and padding.
    pub n_tokens: u64,
    /// Documents; each stretch of padding counts as one.
    pub n_documents: u64,
    /// The lowest id.
    pub min_token_id: u32,
    /// The highest id.
    pub max_token_id: u32,
    /// UTF-8 bytes of the documents' text: the denominator of bits per byte.
    pub text_bytes: Option<u64>,
    /// Appended to each document, when it is.
    pub eos_token_id: Option<u32>,
    /// Put before each document, when it is.
    pub bos_token_id: Option<u32>,
    /// Fills the end of a chunk when packed whole.
    pub pad_token_id: Option<u32>,
    /// The layout.
    pub packing: Packing,
    /// Tokens per chunk (sequence length + 1) when packed whole, or found to have been shuffled in chunks by datatrove.
    pub chunk_length: Option<u64>,
    /// To detect damage, and to refuse to resume on other data.
    pub checksums: Checksums,
}
