//! Inputs → shards: a pure function of the recipe and of what the inputs are, so every rank plans the same.

use serde::{Serialize, Serializer};
use smolt_store::{Address, Store};

use super::error::Error;
use crate::recipe::{Curation, Places};

/// Files in a shard at most, so that folders of tiny files still spread.
const SHARD_FILES: usize = 4096;

/// One input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Input {
    /// Where it is; written without what a query may hold, such as a signature.
    #[serde(serialize_with = "shown")]
    pub address: Address,
    /// Its size; a changed size is another plan.
    pub bytes: u64,
}

/// Inputs of one source that are read in one go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shard {
    /// Index of the source in the recipe.
    pub source: usize,
    /// In order.
    pub inputs: Vec<Input>,
}

fn shown<S: Serializer>(address: &Address, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&address.shown())
}

impl Shard {
    /// Bytes of its inputs.
    pub fn bytes(&self) -> u64 {
        self.inputs.iter().map(|input| input.bytes).sum()
    }
}

/// All shards; their numbers are their places.
pub fn plan(curation: &Curation, places: &Places, store: &Store) -> Result<Vec<Shard>, Error> {
    let mut shards = Vec::new();
    for (number, source) in curation.source.iter().enumerate() {
        let mut inputs = Vec::new();
        for pattern in &source.inputs {
            let entries = store.list(&places.address(pattern)?)?;
            inputs
                .extend(entries.into_iter().map(|entry| Input { address: entry.address, bytes: entry.size }));
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
