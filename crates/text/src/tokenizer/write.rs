//! Writing tokenizer.json "version 1.0", the form that every released transformers reads.

use super::train::SplitDigits;
use serde_json::{Map, Value, json};

/// tokenizer.json of a byte-level BPE tokenizer; `vocab` in id order, special tokens among it by name.
pub(super) fn tokenizer_json(
    vocab: &[String],
    merges: &[(String, String)],
    special_tokens: &[(u32, &str)],
    split_digits: SplitDigits,
) -> Vec<u8> {
    let added: Vec<Value> = special_tokens
        .iter()
        .map(|(id, token)| {
            json!({
                "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true,
            })
        })
        .collect();
    let vocab: Map<String, Value> =
        vocab.iter().enumerate().map(|(id, token)| (token.clone(), Value::from(id))).collect();
    let document = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": pre_tokenizer(split_digits),
        "post_processor": null,
        "decoder": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true },
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocab, "merges": merges,
        },
    });
    let mut text = format!("{document:#}");
    text.push('\n');
    text.into_bytes()
}

/// SmolLM's pre-tokenizer, or GPT-2's without digit splitting: both are known by name to llama.cpp (`smollm`, `gpt-2`),
/// which a pattern of our own would not be.
fn pre_tokenizer(split_digits: SplitDigits) -> Value {
    let byte_level =
        json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
    match split_digits {
        SplitDigits::None => byte_level,
        SplitDigits::Single => json!({
            "type": "Sequence",
            "pretokenizers": [{ "type": "Digits", "individual_digits": true }, byte_level],
        }),
    }
}
