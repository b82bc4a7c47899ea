//! The step graph of a pipeline: what runs, in which order, and what is up to date.
//!
//! A step owns `out/<name>/`. Its key is the hash of its kind, version, resolved settings and the keys of its inputs;
//! it is up to date when `out/<name>/.step.json` holds that key. A file from outside the pipeline counts only through
//! what the caller puts into the settings: put its hash there.

mod order;
mod run;

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::error::{Exit, ExitKind, FileError};
use crate::hash;

pub use order::{is_plain_name, order};
pub use run::{Outcome, Report, run};

/// One step of a pipeline.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Names its folder: letters, digits, `-`, `_` and `.`, not first a dot.
    pub name: String,
    /// What it does, such as `train`.
    pub kind: String,
    /// Raised when the step's code comes to different results for the same settings.
    pub version: u32,
    /// Everything that decides the result, defaults included; see [`crate::recipe::to_json`].
    pub settings: Value,
    /// Names of the steps whose folders it reads.
    pub inputs: Vec<String>,
}

/// Why a pipeline cannot run.
#[derive(Debug, thiserror::Error)]
pub enum GraphError {
    /// A name that is no plain folder name.
    #[error("step name {0:?}: use letters, digits, `-`, `_` and `.`, at most 100, and no dot at the start")]
    BadName(String),
    /// Two steps with one name.
    #[error("two steps are named `{0}`: rename one")]
    Duplicate(String),
    /// An input that is no step.
    #[error("step `{step}` reads `{input}`, which is no step: {fix}")]
    UnknownInput {
        /// Who reads.
        step: String,
        /// What does not exist.
        input: String,
        /// The nearest name, or all.
        fix: String,
    },
    /// Steps that wait for each other.
    #[error("steps wait for each other: {}: remove one of these inputs", .0.join(" → "))]
    Cycle(Vec<String>),
    /// A folder that this pipeline did not write.
    #[error("{} was not written by this pipeline: move it away, or choose another --out", .0.display())]
    Foreign(PathBuf),
    /// The file system refused.
    #[error(transparent)]
    File(#[from] FileError),
}

impl ExitKind for GraphError {
    fn exit(&self) -> Exit {
        match self {
            Self::File(error) => error.exit(),
            _ => Exit::BadInput,
        }
    }
}

/// The key of every step, in the order of `steps`: 64 hex digits.
pub fn keys(steps: &[Step]) -> Result<Vec<String>, GraphError> {
    let mut keys = vec![String::new(); steps.len()];
    for index in order(steps)? {
        let step = &steps[index];
        let mut inputs = serde_json::Map::new();
        for input in &step.inputs {
            if let Some(at) = steps.iter().position(|other| other.name == *input) {
                inputs.insert(input.clone(), Value::from(keys[at].as_str()));
            }
        }
        let all = json!({
            "kind": step.kind, "version": step.version, "settings": step.settings, "inputs": inputs,
        });
        keys[index] = hash::bytes(canonical(&all).to_string().as_bytes());
    }
    Ok(keys)
}

/// The same JSON with the keys of every object sorted, so that the order of declaration does not matter.
fn canonical(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut sorted: Vec<_> = map.iter().collect();
            sorted.sort_by_key(|(key, _)| *key);
            Value::Object(sorted.into_iter().map(|(key, value)| (key.clone(), canonical(value))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(canonical).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
pub(crate) fn step(name: &str, settings: Value, inputs: &[&str]) -> Step {
    Step {
        name: name.to_owned(),
        kind: "test".to_owned(),
        version: 1,
        settings,
        inputs: inputs.iter().map(|input| (*input).to_owned()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_see_everything_but_the_order_of_settings_and_the_name() {
        let chain = |settings: Value| vec![step("a", settings, &[]), step("b", json!({}), &["a"])];
        let base = keys(&chain(json!({ "x": 1, "y": { "p": 1.0, "q": 2 } }))).unwrap();
        assert_eq!(base, keys(&chain(json!({ "y": { "q": 2, "p": 1.0 }, "x": 1 }))).unwrap());
        let changed = keys(&chain(json!({ "x": 2, "y": { "p": 1.0, "q": 2 } }))).unwrap();
        assert!(base[0] != changed[0] && base[1] != changed[1], "a change reaches dependents");
        let mut newer = chain(json!({}));
        newer[1].version = 2;
        let (old, new) = (keys(&chain(json!({}))).unwrap(), keys(&newer).unwrap());
        assert!(old[0] == new[0] && old[1] != new[1]);
    }
}
