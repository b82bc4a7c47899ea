//! What a record says of a model.

use crate::model_folder::ModelFolder;
use smolt_eval::record::ModelRecord;
use smolt_run::error::{Failure, FileError};
use smolt_run::hash;
use std::path::{Path, PathBuf};

/// What is known of a model, but for the precision it is asked in.
pub(super) fn describe(folder: &ModelFolder) -> Result<ModelRecord, Failure> {
    let config = folder.loaded.model.config();
    let step = std::fs::read(folder.path.join("state.json"))
        .ok()
        .and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok())
        .and_then(|state| state["step"].as_u64());
    Ok(ModelRecord {
        path: folder.path.display().to_string(),
        hash: weights_hash(&folder.path)?,
        config_hash: file_hash(&folder.path.join("config.json"))?,
        template_hash: file_hash(&folder.path.join("chat_template.jinja"))?,
        tokenizer_hash: folder.tokenizer.hash().to_owned(),
        precision: String::new(),
        context_length: config.max_position_embeddings,
        parameters: Some(folder.loaded.model.layout().count() as u64),
        step,
        tokens_seen: None,
    })
}

fn file_hash(path: &Path) -> Result<Option<String>, FileError> {
    if path.exists() { hash::file(path).map(Some) } else { Ok(None) }
}

/// Of all files of weights, in order of name.
fn weights_hash(folder: &Path) -> Result<String, Failure> {
    let entries = std::fs::read_dir(folder).map_err(|e| FileError::reading(folder, e))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "safetensors"))
        .filter(|path| path.file_stem().is_some_and(|stem| stem != "optimizer"))
        .collect();
    files.sort();
    let hashes = files.iter().map(|file| hash::file(file)).collect::<Result<Vec<_>, _>>()?;
    Ok(hash::bytes(hashes.join("\n").as_bytes()))
}
