//! What a tokenizer was trained on, recorded beside it (spec `TOK-15`).

use super::{TokenizerError, read_capped};
use serde::{Deserialize, Serialize};
use smolt_run::atomic;
use std::collections::BTreeMap;
use std::path::Path;

/// The file's name in a tokenizer's folder.
pub const TRAINING_FILE: &str = "tokenizer_training.json";

/// The mixture of a training sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingRecord {
    /// 1.
    pub format_version: u32,
    /// [`super::Tokenizer::hash`] of the tokenizer that came out.
    pub tokenizer_hash: String,
    /// What each source gave.
    pub sources: BTreeMap<String, SourceRecord>,
}

/// One source of a training sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceRecord {
    /// Its weight in the mixture, as it was asked for.
    pub weight: f64,
    /// Documents in the sample.
    pub documents: u64,
    /// Their UTF-8 bytes.
    pub bytes: u64,
}

impl TrainingRecord {
    /// The record in `dir`, if there is one; one of another tokenizer (`hash`) is refused.
    pub fn load(dir: &Path, hash: &str) -> Result<Option<Self>, TokenizerError> {
        let path = dir.join(TRAINING_FILE);
        if !path.exists() {
            return Ok(None);
        }
        let damaged = |problem: String| TokenizerError::Record { path: path.clone(), problem };
        let record: Self =
            serde_json::from_slice(&read_capped(&path)?).map_err(|e| damaged(e.to_string()))?;
        if record.format_version != 1 {
            return Err(damaged(format!("format_version is {}, known is 1", record.format_version)));
        }
        if record.tokenizer_hash != hash {
            return Err(damaged("it belongs to another tokenizer.json than the one beside it".into()));
        }
        Ok(Some(record))
    }

    /// Writes it into `dir`.
    pub fn save(&self, dir: &Path) -> Result<(), TokenizerError> {
        let text = serde_json::to_string_pretty(self).map_err(|e| TokenizerError::Training(e.to_string()))?;
        Ok(atomic::write(&dir.join(TRAINING_FILE), format!("{text}\n").as_bytes())?)
    }

    /// Bytes of each source in the sample: the shares that the tokenizer saw.
    pub fn shares(&self) -> BTreeMap<String, f64> {
        self.sources.iter().map(|(name, source)| (name.clone(), source.bytes as f64)).collect()
    }
}
