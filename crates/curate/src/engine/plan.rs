//! Inputs → shards: a pure function of the recipe and of what the inputs are, so every rank plans the same.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use smolt_run::error::FileError;

use super::error::Error;
use crate::recipe::{Curation, Places};

/// Files in a shard at most, so that folders of tiny files still spread.
const SHARD_FILES: usize = 4096;

/// One input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// A path, as the recipe names it.
    pub address: String,
    /// Its size; a changed size is another plan.
    pub bytes: u64,
}

/// Inputs of one source that are read in one go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// Index of the source in the recipe.
    pub source: usize,
    /// In order.
    pub inputs: Vec<Input>,
}

impl Shard {
    /// Bytes of its inputs.
    pub fn bytes(&self) -> u64 {
        self.inputs.iter().map(|input| input.bytes).sum()
    }
}

/// All shards; their numbers are their places.
pub fn plan(curation: &Curation, places: &Places) -> Result<Vec<Shard>, Error> {
    let mut shards = Vec::new();
    for (number, source) in curation.source.iter().enumerate() {
        let mut inputs = Vec::new();
        for pattern in &source.inputs {
            inputs.extend(find(places, pattern)?);
        }
        if inputs.is_empty() {
            let name = &source.name;
            return Err(Error::Settings(format!(
                "source {name}: no file matches its `inputs`; check the paths"
            )));
        }
        shards.extend(group(number, inputs, curation.output.shard_bytes));
    }
    Ok(shards)
}

fn group(source: usize, inputs: Vec<Input>, shard_bytes: u64) -> Vec<Shard> {
    let mut shards: Vec<Shard> = Vec::new();
    for input in inputs {
        match shards.last_mut() {
            Some(shard) if shard.inputs.len() < SHARD_FILES && shard.bytes() + input.bytes <= shard_bytes => {
                shard.inputs.push(input);
            }
            _ => shards.push(Shard { source, inputs: vec![input] }),
        }
    }
    shards
}

/// The files behind one `inputs` entry, sorted.
fn find(places: &Places, pattern: &str) -> Result<Vec<Input>, Error> {
    let path = places.path(pattern);
    let mut files = Vec::new();
    walk(&path, &mut files)?;
    files.sort_by(|a, b| a.0.cmp(&b.0));
    let input = |(path, bytes): (PathBuf, u64)| Input { address: path.to_string_lossy().into_owned(), bytes };
    Ok(files.into_iter().map(input).collect())
}

fn walk(path: &Path, files: &mut Vec<(PathBuf, u64)>) -> Result<(), Error> {
    let reading = |source| FileError::reading(path, source);
    let meta = std::fs::metadata(path).map_err(reading)?;
    if !meta.is_dir() {
        files.push((path.to_owned(), meta.len()));
        return Ok(());
    }
    for entry in std::fs::read_dir(path).map_err(reading)? {
        walk(&entry.map_err(reading)?.path(), files)?;
    }
    Ok(())
}
