//! Checkpoints: a Hugging Face folder plus what resuming needs, atomic and checksummed.
//!
//! `checkpoints/step-N/` holds `config.json`, `model.safetensors` (fp32 masters), the tokenizer's files,
//! `optimizer.safetensors`, `state.json` and `checksums.json`. A folder is written under another name,
//! synced, then renamed; a damaged one is passed over for the one before.

use serde::{Deserialize, Serialize};
use smolt_model::Transformer;
use smolt_model::folder;
use smolt_model::safetensors::{self, Store};
use smolt_run::error::FileError;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Version of `state.json` and `checksums.json`.
pub const FORMAT_VERSION: u32 = 1;

/// Everything beside weights and moments that decides the next step. Randomness is counter-based, so
/// the seed and the sample index are the whole state of every generator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Version of this file.
    pub format_version: u32,
    /// Steps done.
    pub step: u64,
    /// The next sample of the mixture.
    pub next_sample: u64,
    /// Key of all randomness.
    pub seed: u64,
    /// Hash of the data: shards, weights, sequence length.
    pub data_manifest: String,
    /// The same of the stages that have begun, where more are to come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_begun: Option<String>,
    /// `fp32` or `bf16`.
    pub precision: String,
    /// Instruction-set path; another one continues with other bits.
    pub isa: String,
}

/// Why a checkpoint cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error(transparent)]
    Io(#[from] FileError),
    /// A file is not what was written.
    #[error("{}: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Weights or moments.
    #[error(transparent)]
    Tensors(#[from] safetensors::Error),
    /// Model folder.
    #[error(transparent)]
    Folder(#[from] folder::Error),
}

#[derive(Serialize, Deserialize)]
struct Checksums {
    format_version: u32,
    /// File name → blake3.
    files: BTreeMap<String, String>,
}

/// What a checkpoint is made from.
pub struct Contents<'a> {
    /// The architecture.
    pub model: &'a Transformer,
    /// Flat weights.
    pub weights: &'a [f32],
    /// Flat first moments.
    pub m: &'a [f32],
    /// Flat second moments.
    pub v: &'a [f32],
    /// Position of the run.
    pub state: &'a State,
    /// Files copied beside the weights (tokenizer, chat template, generation configuration).
    pub extras: &'a [PathBuf],
}

fn reading(path: &Path) -> impl Fn(io::Error) -> Error + '_ {
    |source| FileError::reading(path, source).into()
}

fn writing(path: &Path) -> impl Fn(io::Error) -> Error + '_ {
    |source| FileError::writing(path, source).into()
}

/// Where the checkpoint of a step lies.
pub fn folder_of(run: &Path, step: u64) -> PathBuf {
    run.join("checkpoints").join(format!("step-{step}"))
}

/// Writes `checkpoints/step-N/` and returns it.
pub fn save(run: &Path, contents: &Contents<'_>) -> Result<PathBuf, Error> {
    let done = folder_of(run, contents.state.step);
    let partial = run.join("checkpoints").join(format!(".step-{}.partial", contents.state.step));
    if partial.exists() {
        std::fs::remove_dir_all(&partial).map_err(writing(&partial))?;
    }
    std::fs::create_dir_all(&partial).map_err(writing(&partial))?;
    smolt_run::atomic::sync_dir(run).map_err(writing(run))?;
    let written = write_files(&partial, contents);
    if written.is_err() {
        // A full disk must not be left fuller; the error that matters is the first.
        let _ = std::fs::remove_dir_all(&partial);
    }
    written?;
    if done.exists() {
        // Only a damaged folder of the same step can stand here: a resumed run writes it anew.
        std::fs::remove_dir_all(&done).map_err(writing(&done))?;
    }
    smolt_run::atomic::commit_dir(&partial, &done)?;
    Ok(done)
}

fn write_files(dir: &Path, c: &Contents<'_>) -> Result<(), Error> {
    folder::save(dir, c.model, c.weights, Store::F32)?;
    let of = |prefix: char, flat| {
        folder::tensors(c.model, flat)
            .map(move |(view, data)| (format!("{prefix}.{}", view.name), view, data))
    };
    let moments: Vec<_> = of('m', c.m).chain(of('v', c.v)).collect();
    let moments: Vec<safetensors::Tensor<'_>> = moments
        .iter()
        .map(|(name, view, data)| (name.as_str(), view.shape.as_slice(), &data[..], Store::F32))
        .collect();
    safetensors::write(&dir.join("optimizer.safetensors"), &moments)?;
    for extra in c.extras {
        let Some(name) = extra.file_name() else { continue };
        std::fs::copy(extra, dir.join(name)).map_err(writing(extra))?;
    }
    write_json(&dir.join("state.json"), c.state)?;
    let mut files = BTreeMap::new();
    for path in files_in(dir)? {
        let hash = smolt_run::hash::file(&path)?;
        files.insert(name_of(&path), hash);
    }
    write_json(&dir.join("checksums.json"), &Checksums { format_version: FORMAT_VERSION, files })
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(value).map_err(|e| writing(path)(e.into()))?;
    Ok(smolt_run::atomic::write(path, text.as_bytes())?)
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

fn files_in(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(reading(dir))? {
        let path = entry.map_err(reading(dir))?.path();
        if path.is_file() && name_of(&path) != "checksums.json" {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Compares every file of a checkpoint with its checksum and returns its state.
pub fn verify(dir: &Path) -> Result<State, Error> {
    let sums: Checksums = read_json(&dir.join("checksums.json"))?;
    check_version(&dir.join("checksums.json"), sums.format_version)?;
    for (name, want) in &sums.files {
        let path = dir.join(name);
        if name.contains(['/', '\\']) {
            return Err(Error::Damaged { path, reason: "a checksum names a file outside the folder".into() });
        }
        let got = smolt_run::hash::file(&path)?;
        if got != *want {
            let reason = "its bytes differ from the checksum written with it".to_string();
            return Err(Error::Damaged { path, reason });
        }
    }
    let required = ["config.json", "model.safetensors", "optimizer.safetensors", "state.json"];
    if let Some(name) = required.iter().find(|n| !sums.files.contains_key(**n)) {
        return Err(Error::Damaged { path: dir.join(name), reason: "missing from checksums.json".into() });
    }
    let state: State = read_json(&dir.join("state.json"))?;
    check_version(&dir.join("state.json"), state.format_version)?;
    Ok(state)
}

fn check_version(path: &Path, found: u32) -> Result<(), Error> {
    if found == FORMAT_VERSION {
        return Ok(());
    }
    let reason =
        format!("format_version {found} was written by another smolt; this one reads {FORMAT_VERSION}");
    Err(Error::Damaged { path: path.to_path_buf(), reason })
}

fn read_json<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<T, Error> {
    let text = std::fs::read(path).map_err(reading(path))?;
    serde_json::from_slice(&text)
        .map_err(|e| Error::Damaged { path: path.to_path_buf(), reason: e.to_string() })
}

/// Checkpoints of a run in order of step, whether whole or not.
pub fn list(run: &Path) -> Result<Vec<(u64, PathBuf)>, Error> {
    let dir = run.join("checkpoints");
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&dir).map_err(reading(&dir))? {
        let path = entry.map_err(reading(&dir))?.path();
        if let Some(step) = name_of(&path).strip_prefix("step-").and_then(|n| n.parse().ok()) {
            found.push((step, path));
        }
    }
    found.sort();
    Ok(found)
}

/// The newest whole checkpoint with its state, and what is wrong with each newer one.
pub type Newest = (Option<(PathBuf, State)>, Vec<Error>);

/// Looks for the newest whole checkpoint.
pub fn newest(run: &Path) -> Result<Newest, Error> {
    let mut damaged = Vec::new();
    for (_, path) in list(run)?.into_iter().rev() {
        match verify(&path) {
            Ok(state) => return Ok((Some((path, state)), damaged)),
            Err(error) => damaged.push(error),
        }
    }
    Ok((None, damaged))
}

/// Reads weights and moments of a verified checkpoint into flat buffers laid out for `model`.
pub fn restore(
    dir: &Path,
    model: &Transformer,
    weights: &mut [f32],
    m: &mut [f32],
    v: &mut [f32],
) -> Result<(), Error> {
    let (model_file, moments) = (
        safetensors::File::open(&dir.join("model.safetensors"))?,
        safetensors::File::open(&dir.join("optimizer.safetensors"))?,
    );
    folder::read_tensors(&model_file, "", model, weights)?;
    folder::read_tensors(&moments, "m.", model, m)?;
    folder::read_tensors(&moments, "v.", model, v)?;
    Ok(())
}

/// Removes all but the newest `keep` checkpoints (0 keeps all) up to `step`, the one that was just written, and leftovers
/// of interrupted writes. Later ones were damaged when the run resumed: they do not count, and are written anew in time.
pub fn prune(run: &Path, keep: usize, step: u64) -> Result<(), Error> {
    let mut all = list(run)?;
    all.retain(|&(of, _)| of <= step);
    if keep > 0 && all.len() > keep {
        for (_, path) in &all[..all.len() - keep] {
            std::fs::remove_dir_all(path).map_err(writing(path))?;
        }
    }
    let dir = run.join("checkpoints");
    for entry in std::fs::read_dir(&dir).map_err(reading(&dir))? {
        let path = entry.map_err(reading(&dir))?.path();
        if name_of(&path).starts_with(".step-") {
            std::fs::remove_dir_all(&path).map_err(writing(&path))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
