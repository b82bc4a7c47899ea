//! `recipe.lock.toml`: the recipe a run was started with, and what of it may change.

use crate::recipe::{PrecisionSetting, Source, Stage, Train};
use serde_json::Value;
use smolt_run::error::{Failure, FileError};
use smolt_run::folder::RunFolder;
use smolt_run::recipe;
use std::path::{Path, PathBuf};

fn lock_path(folder: &RunFolder) -> PathBuf {
    folder.join("recipe.lock.toml")
}

/// Writes the lock of a new run; `replace` also that of an old one.
pub(super) fn write_lock(folder: &RunFolder, resolved: &Train, replace: bool) -> Result<(), FileError> {
    let path = lock_path(folder);
    if path.exists() && !replace {
        return Ok(());
    }
    smolt_run::atomic::write(&path, recipe::to_toml(resolved).as_bytes())
}

/// `auto` was decided when the run started: another machine goes on with the same arithmetic.
pub(super) fn keep_precision(folder: &RunFolder, recipe: &mut Train) -> Result<(), Failure> {
    let path = lock_path(folder);
    if recipe.train.precision == PrecisionSetting::Auto && path.exists() {
        recipe.train.precision = recipe::load::<Train>(&path, &[])?.train.precision;
    }
    Ok(())
}

/// A run that another's newest checkpoint was the beginning of goes on from there, however far the other has come.
pub(super) fn keep_origin(folder: &RunFolder, recipe: &mut Train) -> Result<(), Failure> {
    let path = lock_path(folder);
    let Some(from) = recipe.model.from.as_mut().filter(|_| path.exists()) else { return Ok(()) };
    let Some(was) = recipe::load::<Train>(&path, &[])?.model.from else { return Ok(()) };
    let of_a_run = |path: &str| Path::new(path).parent().is_some_and(|p| p.ends_with("checkpoints"));
    if of_a_run(from) && of_a_run(&was) {
        *from = was;
    }
    Ok(())
}

/// Compares the recipe with the one the run was started with, `recipe.lock.toml`, if it was. With `change_stages`, stages
/// that have not begun at the newest checkpoint may differ; if they do, the stages of before are returned.
pub(super) fn check_lock(
    folder: &RunFolder,
    resolved: &Train,
    change_stages: bool,
) -> Result<Option<Value>, Failure> {
    let path = lock_path(folder);
    if !path.exists() {
        return Ok(None);
    }
    let locked: Train = recipe::load(&path, &[])?;
    let (was, is) = (without_folders(&locked), without_folders(resolved));
    if recipe::to_json(&was) == recipe::to_json(&is) {
        return Ok(None);
    }
    let newest = crate::checkpoint::list(folder.path()).map_err(|e| Failure::failed(e.to_string()))?;
    let step = newest.last().map_or(0, |(step, _)| *step);
    let (was_begun, is_begun) = (begun(&was, step)?, begun(&is, step)?);
    let only_later = recipe::to_json(&was_begun) == recipe::to_json(&is_begun);
    if only_later && change_stages {
        let stages = locked.data.stages.iter().map(recipe::to_json).collect();
        return Ok(Some(Value::Array(stages)));
    }
    let (was, is) = if change_stages { (was_begun, is_begun) } else { (was, is) };
    let mut changed = Vec::new();
    differences("", &recipe::to_json(&was), &recipe::to_json(&is), &mut changed);
    let fix = match only_later {
        true => "restore it, or say --change-stages: only stages that have not begun differ",
        false => "restore it, or choose another --out",
    };
    Err(Failure::bad_input(format!(
        "{}: the run was started with another recipe: {}; {fix}",
        path.display(),
        changed.join(", ")
    )))
}

/// The recipe with only those stages that `step` steps have entered, and their sources, in one spelling.
fn begun(recipe: &Train, step: u64) -> Result<Train, Failure> {
    let batch = recipe.train.global_batch_size as u64;
    let mut stages = recipe.stages()?;
    // The first stage is fixed from the start: a run is its beginning.
    stages.retain(|stage| stage.first_sample == 0 || stage.first_sample < step.saturating_mul(batch));
    let mut recipe = recipe.clone();
    let drawn = |source: usize| stages.iter().any(|stage| stage.weights[source] > 0.0);
    let names: Vec<String> = recipe.data.sources.iter().map(|source| source.name.clone()).collect();
    recipe.data.stages = stages
        .iter()
        .map(|stage| Stage {
            name: String::new(),
            start_step: Some(stage.first_sample / batch.max(1) + 1),
            start_tokens: None,
            weights: names.iter().cloned().zip(stage.weights.iter().copied()).filter(|w| w.1 > 0.0).collect(),
            mix: Vec::new(),
            stated: None,
        })
        .collect();
    let sources = recipe.data.sources.drain(..).enumerate().filter(|(number, _)| drawn(*number));
    recipe.data.sources = sources.map(|(_, s)| Source { weight: 1.0, category: None, ..s }).collect();
    Ok(recipe)
}

/// The recipe with the names of its files only. Where they lie may change (a move, another working directory); what is
/// in them is compared by the data's manifest.
fn without_folders(recipe: &Train) -> Train {
    let mut recipe = recipe.clone();
    let name = |path: &mut String| {
        if let Some(name) = Path::new(&*path).file_name() {
            *path = name.to_string_lossy().into_owned();
        }
    };
    recipe.data.map_paths(name);
    recipe.model.from.iter_mut().for_each(name);
    recipe
}

fn differences(path: &str, was: &Value, is: &Value, out: &mut Vec<String>) {
    match (was, is) {
        (Value::Object(a), Value::Object(b)) => {
            let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                differences(
                    &path,
                    a.get(key).unwrap_or(&Value::Null),
                    b.get(key).unwrap_or(&Value::Null),
                    out,
                );
            }
        }
        _ if was != is => out.push(format!("{path} was {was}, now {is}")),
        _ => {}
    }
}
