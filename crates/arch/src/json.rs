//! `config.json` in and out. Whatever could change what the model computes is either understood or refused
//! by name; nothing is ignored but an explicit list of harmless fields.

use crate::config::{FIELDS, FieldError, ModelConfig, ModelType, Raw};
use serde_json::{Map, Value, json};
use smolt_run::error::{Exit, ExitKind, FileError};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Longer files are not configurations.
const MAX_BYTES: u64 = 1 << 20;

/// Fields that say how a model was stored or called, not what it computes.
const HARMLESS: &[&str] = &[
    "_name_or_path",
    "architectures",
    "chunk_size_feed_forward",
    "dtype",
    "is_llama_config",
    "max_window_layers",
    "output_attentions",
    "output_hidden_states",
    "pretraining_tp",
    "return_dict",
    "torch_dtype",
    "transformers.js_config",
    "transformers_version",
    "use_cache",
];

/// Fields with effect of which one value is supported.
const FIXED: &[(&str, Value)] = &[
    ("attention_bias", Value::Bool(false)),
    ("is_encoder_decoder", Value::Bool(false)),
    ("mlp_bias", Value::Bool(false)),
    ("rope_interleaved", Value::Bool(false)),
    ("use_sliding_window", Value::Bool(false)),
];

/// Why a `config.json` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is not a JSON object of sensible size.
    #[error("{}: {reason}", file.display())]
    Json {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A field is missing, wrong or not supported.
    #[error("{}: {source}", file.display())]
    Field {
        /// The file.
        file: PathBuf,
        /// The field and what is wrong.
        source: FieldError,
    },
}

impl ExitKind for Error {
    fn exit(&self) -> Exit {
        match self {
            Error::File(error) => error.exit(),
            Error::Json { .. } | Error::Field { .. } => Exit::BadInput,
        }
    }
}

impl ModelConfig {
    /// Reads and checks a `config.json`.
    pub fn load(path: &Path) -> Result<ModelConfig, Error> {
        let read = |source| FileError::reading(path, source);
        let mut bytes = Vec::new();
        // One byte more than allowed, so that longer files are refused below.
        let file = std::fs::File::open(path).map_err(read)?;
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(read)?;
        ModelConfig::from_json(path, &bytes)
    }

    /// Reads and checks the contents of a `config.json`; `file` names it in errors.
    pub fn from_json(file: &Path, bytes: &[u8]) -> Result<ModelConfig, Error> {
        let broken = |reason: String| Error::Json { file: file.to_owned(), reason };
        if bytes.len() as u64 > MAX_BYTES {
            return Err(broken(format!("more than {MAX_BYTES} bytes: not a model configuration")));
        }
        let map: Map<String, Value> =
            serde_json::from_slice(bytes).map_err(|e| broken(format!("not a JSON object: {e}")))?;
        from_map(map).map_err(|source| Error::Field { file: file.to_owned(), source })
    }

    /// The contents of `config.json`, for weights stored as `dtype` (`float32`, `bfloat16`), with the
    /// spellings of RoPE and dtype that transformers 4 and 5 read.
    pub fn to_json(&self, dtype: &str) -> String {
        let smollm3 = self.model_type == ModelType::SmolLm3;
        let mut map = Map::new();
        let mut put = |key: &str, value: Value| map.insert(key.to_owned(), value);
        put("architectures", json!([if smollm3 { "SmolLM3ForCausalLM" } else { "LlamaForCausalLM" }]));
        put("attention_bias", json!(false));
        put("attention_dropout", json!(0.0));
        // Null is said, not left out: transformers would fill in ids beyond a small vocabulary.
        put("bos_token_id", json!(self.bos_token_id));
        put("dtype", json!(dtype));
        put(
            "eos_token_id",
            match self.eos_token_id.as_slice() {
                [] => Value::Null,
                [id] => json!(id),
                ids => json!(ids),
            },
        );
        put("head_dim", json!(self.head_dim));
        put("hidden_act", json!("silu"));
        put("hidden_size", json!(self.hidden_size));
        put("initializer_range", json!(self.initializer_range));
        put("intermediate_size", json!(self.intermediate_size));
        put("max_position_embeddings", json!(self.max_position_embeddings));
        put("mlp_bias", json!(false));
        put("model_type", json!(self.model_type.as_str()));
        if smollm3 {
            put("layer_types", json!(vec!["full_attention"; self.num_hidden_layers]));
            put("no_rope_layer_interval", json!(self.no_rope_layer_interval));
            put("no_rope_layers", json!(self.no_rope_layers));
            put("sliding_window", Value::Null);
            put("use_sliding_window", json!(false));
        }
        put("num_attention_heads", json!(self.num_attention_heads));
        put("num_hidden_layers", json!(self.num_hidden_layers));
        put("num_key_value_heads", json!(self.num_key_value_heads));
        put("pad_token_id", json!(self.pad_token_id));
        put("rms_norm_eps", json!(self.rms_norm_eps));
        put("rope_parameters", json!({"rope_theta": self.rope_theta, "rope_type": "default"}));
        put("rope_scaling", Value::Null);
        put("rope_theta", json!(self.rope_theta));
        put("tie_word_embeddings", json!(self.tie_word_embeddings));
        put("torch_dtype", json!(dtype));
        put("use_cache", json!(true));
        put("vocab_size", json!(self.vocab_size));
        format!("{:#}\n", Value::Object(map))
    }
}

fn from_map(mut map: Map<String, Value>) -> Result<ModelConfig, FieldError> {
    match map.get("model_type") {
        Some(Value::String(name)) if ["llama", "smollm3"].contains(&name.as_str()) => {}
        None => return Err(FieldError::new("model_type", "is missing: llama and smollm3 are supported")),
        Some(other) => return Err(unsupported("model_type", other, "llama and smollm3 are")),
    }
    // Null means "not set", in any field.
    map.retain(|_, value| !value.is_null());
    normalise_rope(&mut map)?;
    let layer_types = map.remove("layer_types");
    map.retain(|key, value| {
        // Early Llama files write -1 for "no such token".
        !(HARMLESS.contains(&key.as_str()) || key.ends_with("_token_id") && *value == json!(-1))
    });
    refuse_unsupported(&mut map)?;
    for (key, value) in &map {
        if !FIELDS.iter().any(|(name, _)| name == key) {
            return Err(unsupported(&shorten(key), value, "it is unknown; remove it if it has no effect"));
        }
        // One field at a time: serde's errors on a value do not name the field.
        let alone = Map::from_iter([(key.clone(), value.clone())]);
        serde_json::from_value::<Raw>(Value::Object(alone))
            .map_err(|e| FieldError::new(key, format!("is wrong: {}", shorten(&e.to_string()))))?;
    }
    let raw: Raw = serde_json::from_value(Value::Object(map))
        .map_err(|e| FieldError::new("model_type", format!("and the rest: {}", shorten(&e.to_string()))))?;
    let config = raw.resolve()?;
    config.validate()?;
    check_layer_types(layer_types, config.num_hidden_layers)?;
    Ok(config)
}

/// Brings `rope_parameters` (transformers 5) and `rope_theta` + `rope_scaling` (4) to `rope_theta`.
fn normalise_rope(map: &mut Map<String, Value>) -> Result<(), FieldError> {
    let mut theta = map.remove("rope_theta");
    for field in ["rope_parameters", "rope_scaling"] {
        let Some(value) = map.remove(field) else { continue };
        let Value::Object(rope) = &value else {
            return Err(unsupported(field, &value, "a table is expected"));
        };
        for (key, entry) in rope {
            let name = format!("{field}.{}", shorten(key));
            match key.as_str() {
                _ if entry.is_null() => {}
                "rope_theta" if theta.as_ref().is_none_or(|theta| same_number(theta, entry)) => {
                    theta = Some(entry.clone());
                }
                "rope_theta" => return Err(unsupported(&name, entry, "it contradicts another rope_theta")),
                "rope_type" | "type" if entry == "default" => {}
                "rope_type" | "type" => return Err(unsupported(&name, entry, "only \"default\" is")),
                "partial_rotary_factor" if entry.as_f64() == Some(1.0) => {}
                _ => return Err(unsupported(&name, entry, "only unscaled RoPE is")),
            }
        }
    }
    map.extend(theta.map(|theta| ("rope_theta".to_owned(), theta)));
    Ok(())
}

fn same_number(a: &Value, b: &Value) -> bool {
    a == b || a.as_f64().is_some() && a.as_f64() == b.as_f64()
}

/// Takes out the fields of which one value is supported, if they have it.
fn refuse_unsupported(map: &mut Map<String, Value>) -> Result<(), FieldError> {
    for (field, only) in FIXED {
        match map.remove(*field) {
            Some(value) if value != *only => {
                return Err(unsupported(field, &value, &format!("only {only} is")));
            }
            _ => {}
        }
    }
    for field in ["attention_dropout", "hidden_dropout"] {
        match map.remove(field) {
            Some(value) if value.as_f64() != Some(0.0) => {
                return Err(unsupported(field, &value, "only 0 is"));
            }
            _ => {}
        }
    }
    match map.remove("hidden_act") {
        Some(value) if value != "silu" => Err(unsupported("hidden_act", &value, "only \"silu\" is")),
        _ => Ok(()),
    }
}

fn check_layer_types(value: Option<Value>, layers: usize) -> Result<(), FieldError> {
    let Some(value) = value else { return Ok(()) };
    match value.as_array() {
        Some(types) if types.len() != layers => {
            let reason = format!("has {} entries for num_hidden_layers {layers}", types.len());
            Err(FieldError::new("layer_types", reason))
        }
        Some(types) if types.iter().all(|kind| kind == "full_attention") => Ok(()),
        _ => Err(unsupported("layer_types", &value, "only \"full_attention\" in every layer is")),
    }
}

fn unsupported(field: &str, found: &Value, fix: &str) -> FieldError {
    FieldError::new(field, format!("= {} is not supported: {fix}", shorten(&found.to_string())))
}

/// Error messages stay one line whatever the file holds.
fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(80).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests;
