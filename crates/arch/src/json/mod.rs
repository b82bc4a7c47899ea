//! `config.json` in and out. Whatever could change what the model computes is either understood or refused
//! by name; nothing is ignored but an explicit list of harmless fields.

mod fields;
mod read;
mod rope;
mod write;

use crate::config::{FieldError, ModelConfig, ModelType};
use serde_json::{Map, Value};
use smolt_run::error::{Exit, ExitKind, FileError};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Longer files are not configurations.
const MAX_BYTES: u64 = 1 << 20;

/// Where settings are kept that Hugging Face has no name for and that do not change what the model computes.
const OURS: &str = "smolt";

/// How weights are stored that are not plain numbers: as transformers spells it, and as MLX does.
const QUANTIZATION: [&str; 2] = ["quantization_config", "quantization"];

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
    /// Reads and checks a `config.json` whose weights are to be loaded.
    pub fn load(path: &Path) -> Result<ModelConfig, Error> {
        ModelConfig::from_json(path, &contents(path)?)
    }

    /// Reads and checks a `config.json` for the sake of the architecture alone: its weights may be stored in any way.
    pub fn load_shape(path: &Path) -> Result<ModelConfig, Error> {
        ModelConfig::shape_from_json(path, &contents(path)?)
    }

    /// Reads and checks the contents of a `config.json`; `file` names it in errors.
    pub fn from_json(file: &Path, bytes: &[u8]) -> Result<ModelConfig, Error> {
        let map = object(file, bytes)?;
        plain_weights(&map).map_err(|source| Error::Field { file: file.to_owned(), source })?;
        checked(file, map)
    }

    /// As [`ModelConfig::load_shape`], from the contents.
    pub fn shape_from_json(file: &Path, bytes: &[u8]) -> Result<ModelConfig, Error> {
        let mut map = object(file, bytes)?;
        map.retain(|key, _| !QUANTIZATION.contains(&key.as_str()));
        checked(file, map)
    }

    /// The contents of `config.json`, for weights stored as `dtype` (`float32`, `bfloat16`), with the
    /// spellings of RoPE and dtype that transformers 4 and 5 read.
    pub fn to_json(&self, dtype: &str) -> String {
        format!("{:#}\n", Value::Object(write::write(self, dtype)))
    }
}

fn contents(path: &Path) -> Result<Vec<u8>, Error> {
    let read = |source| FileError::reading(path, source);
    let mut bytes = Vec::new();
    // One byte more than allowed, so that longer files are refused.
    let file = std::fs::File::open(path).map_err(read)?;
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(read)?;
    Ok(bytes)
}

fn object(file: &Path, bytes: &[u8]) -> Result<Map<String, Value>, Error> {
    let broken = |reason: String| Error::Json { file: file.to_owned(), reason };
    if bytes.len() as u64 > MAX_BYTES {
        return Err(broken(format!("more than {MAX_BYTES} bytes: not a model configuration")));
    }
    serde_json::from_slice(bytes).map_err(|e| broken(format!("not a JSON object: {e}")))
}

fn checked(file: &Path, map: Map<String, Value>) -> Result<ModelConfig, Error> {
    read::read(map)
        .and_then(|config| config.validate().map(|()| config))
        .map_err(|source| Error::Field { file: file.to_owned(), source })
}

/// Refuses weights that are stored in blocks with scales.
fn plain_weights(map: &Map<String, Value>) -> Result<(), FieldError> {
    let found =
        QUANTIZATION.iter().find_map(|&field| Some((field, map.get(field).filter(|v| !v.is_null())?)));
    match found {
        None => Ok(()),
        Some((field, value)) => {
            let method = value["quant_method"].as_str().map_or_else(|| value.to_string(), str::to_owned);
            let reason = format!(
                "says that its weights are stored as {}: convert them to bf16 first",
                shorten(&method)
            );
            Err(FieldError::new(field, reason))
        }
    }
}

/// Refuses a configuration that its model type's `config.json` cannot say: what is written must read back as it was.
pub(crate) fn expressible(config: &ModelConfig) -> Result<(), FieldError> {
    if config.model_type == ModelType::Smolt {
        return Ok(());
    }
    let read = read::read(write::write(config, "float32"))?;
    let (Value::Object(meant), Value::Object(said)) = (to_value(config), to_value(&read)) else {
        return Ok(());
    };
    match meant.iter().find(|(field, value)| said.get(*field) != Some(value)) {
        Some((field, value)) => {
            let (field, value, other) =
                first_difference(field, value, said.get(field).unwrap_or(&Value::Null));
            let kind = config.model_type;
            Err(FieldError::new(
                &field,
                format!(
                    "= {} is nothing a `model_type` {kind} can have (it has {}): use another model_type; smolt takes \
                     any combination",
                    shorten(&value.to_string()),
                    shorten(&other.to_string())
                ),
            ))
        }
        None => Ok(()),
    }
}

fn to_value(config: &ModelConfig) -> Value {
    serde_json::to_value(config).unwrap_or(Value::Null)
}

/// Goes into tables that differ, to the entry that does.
fn first_difference(field: &str, meant: &Value, said: &Value) -> (String, Value, Value) {
    if let (Value::Object(a), Value::Object(b)) = (meant, said)
        && let Some((key, value)) = a.iter().find(|(key, value)| b.get(*key) != Some(value))
    {
        return first_difference(&format!("{field}.{key}"), value, b.get(key).unwrap_or(&Value::Null));
    }
    (field.to_owned(), meant.clone(), said.clone())
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
