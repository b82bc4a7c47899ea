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
        read::read(map)
            .and_then(|config| config.validate().map(|()| config))
            .map_err(|source| Error::Field { file: file.to_owned(), source })
    }

    /// The contents of `config.json`, for weights stored as `dtype` (`float32`, `bfloat16`), with the
    /// spellings of RoPE and dtype that transformers 4 and 5 read.
    pub fn to_json(&self, dtype: &str) -> String {
        format!("{:#}\n", Value::Object(write::write(self, dtype)))
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
