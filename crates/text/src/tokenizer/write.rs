//! Writing tokenizer.json "version 1.0", the form that every released transformers reads.

use super::train::{Digits, Model};
use serde_json::{Map, Value, json};

/// What a word starts with in a Unigram vocabulary instead of a space: SentencePiece's mark, U+2581.
pub(super) const SPACE_MARK: char = '\u{2581}';

/// What a token that continues a word begins with in a WordPiece vocabulary.
pub(super) const CONTINUING_PREFIX: &str = "##";

/// Llama 3's pattern, known to llama.cpp: numbers in groups of up to three digits from the left.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const THREES_FROM_LEFT: &str = r"\p{N}{1,3}";
/// A group is taken only where whole groups of three follow it.
const THREES_FROM_RIGHT: &str = r"\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))";
/// Words of Unigram: the spaces before them belong to them, line feeds stand alone.
const MARKED_WORDS: &str = "\\n+|\u{2581}*[^\u{2581}\\n]+|\u{2581}+";

/// What a model of tokenizer.json holds besides its name and options.
pub(super) enum Body<'a> {
    /// Tokens in id order, and merges.
    Bpe { vocab: &'a [String], merges: &'a [(String, String)] },
    /// Tokens in id order, each with its log probability, and the id of `<unk>`.
    Unigram { vocab: &'a [(String, f64)], unk_id: usize },
    /// Tokens in id order.
    WordPiece { vocab: &'a [String] },
}

impl Body<'_> {
    fn model(&self) -> Model {
        match self {
            Body::Bpe { .. } => Model::Bpe,
            Body::Unigram { .. } => Model::Unigram,
            Body::WordPiece { .. } => Model::WordPiece,
        }
    }

    fn json(&self) -> Value {
        match self {
            Body::Bpe { vocab, merges } => json!({
                "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                "vocab": numbered(vocab), "merges": merges,
            }),
            Body::Unigram { vocab, unk_id } => {
                json!({ "type": "Unigram", "unk_id": unk_id, "vocab": vocab, "byte_fallback": true })
            }
            Body::WordPiece { vocab } => json!({
                "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": CONTINUING_PREFIX,
                "max_input_chars_per_word": 100, "vocab": numbered(vocab),
            }),
        }
    }
}

fn numbered(vocab: &[String]) -> Map<String, Value> {
    vocab.iter().enumerate().map(|(id, token)| (token.clone(), Value::from(id))).collect()
}

/// tokenizer.json of a tokenizer of ours; special tokens are among its vocabulary, here by id and name.
pub(super) fn tokenizer_json(body: &Body<'_>, special_tokens: &[(u32, &str)], digits: Digits) -> Vec<u8> {
    let added: Vec<Value> = special_tokens
        .iter()
        .map(|(id, token)| {
            json!({
                "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true,
            })
        })
        .collect();
    let model = body.model();
    let document = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": normalizer(model),
        "pre_tokenizer": pre_tokenizer(model, digits),
        "post_processor": null,
        "decoder": decoder(model),
        "model": body.json(),
    });
    let mut text = format!("{document:#}");
    text.push('\n');
    text.into_bytes()
}

fn normalizer(model: Model) -> Value {
    match model {
        Model::Bpe => Value::Null,
        Model::Unigram => {
            json!({ "type": "Replace", "pattern": { "String": " " }, "content": SPACE_MARK.to_string() })
        }
        Model::WordPiece => json!({
            "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": null, "lowercase": false,
        }),
    }
}

fn byte_level(use_regex: bool) -> Value {
    json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex })
}

fn split(pattern: &str) -> Value {
    json!({ "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated", "invert": false })
}

fn sequence(members: impl IntoIterator<Item = Value>) -> Value {
    json!({ "type": "Sequence", "pretokenizers": members.into_iter().collect::<Vec<_>>() })
}

/// How digits are cut apart, if they are.
fn digit_splitter(digits: Digits) -> Option<Value> {
    match digits {
        Digits::None => None,
        Digits::Single => Some(json!({ "type": "Digits", "individual_digits": true })),
        Digits::ThreeLeft => Some(split(THREES_FROM_LEFT)),
        Digits::ThreeRight => Some(split(THREES_FROM_RIGHT)),
    }
}

/// For byte-level BPE GPT-2's pre-tokenizer, SmolLM's with single digits and Llama 3's with groups from the left: these
/// three are known by name to llama.cpp (`gpt-2`, `smollm`, `llama-bpe`), which patterns of our own would not be.
fn pre_tokenizer(model: Model, digits: Digits) -> Value {
    match (model, digits) {
        (Model::Bpe, Digits::None) => byte_level(true),
        (Model::Bpe, Digits::ThreeLeft) => sequence([split(LLAMA3), byte_level(false)]),
        (Model::Bpe, _) => sequence(digit_splitter(digits).into_iter().chain([byte_level(true)])),
        (Model::Unigram, _) => sequence([split(MARKED_WORDS)].into_iter().chain(digit_splitter(digits))),
        (Model::WordPiece, _) => {
            sequence([json!({ "type": "BertPreTokenizer" })].into_iter().chain(digit_splitter(digits)))
        }
    }
}

fn decoder(model: Model) -> Value {
    match model {
        Model::Bpe => byte_level(true),
        Model::Unigram => json!({
            "type": "Sequence",
            "decoders": [
                { "type": "Replace", "pattern": { "String": SPACE_MARK.to_string() }, "content": " " },
                { "type": "ByteFallback" },
                { "type": "Fuse" },
            ],
        }),
        Model::WordPiece => json!({ "type": "WordPiece", "prefix": CONTINUING_PREFIX, "cleanup": false }),
    }
}
