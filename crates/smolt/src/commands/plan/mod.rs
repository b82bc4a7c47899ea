//! `smolt plan`: what a model costs, sees and may be compared with, before anything is allocated.

mod masks;
mod matching;
mod model;

use super::train::load_recipe;
use crate::{Outcome, model_folder};
use clap::Subcommand;
use smolt_arch::ModelConfig;
use smolt_run::error::Failure;
use smolt_tensor::isa::Isa;
use smolt_text::tokenizer::Tokenizer;
use smolt_train::recipe::Train;
use std::path::Path;

#[derive(Subcommand)]
pub(crate) enum Action {
    /// Count a model: parameters, FLOPs, memory of training, key–value cache
    Model(model::Args),
    /// Show which tokens each kind of layer sees, in a sequence of packed documents
    Masks(masks::Args),
    /// Find sizes that make a changed model comparable: as many parameters, as many FLOPs, as many layers
    Match(matching::Args),
}

pub(crate) fn run(action: Action) -> Outcome {
    match action {
        Action::Model(args) => model::run(&args),
        Action::Masks(args) => masks::run(&args),
        Action::Match(args) => matching::run(&args),
    }
}

fn detect() -> Result<Isa, Failure> {
    Isa::detect().map_err(|e| Failure::bad_input(e.to_string()))
}

/// Whether what is to be planned is a recipe; else it is a folder.
fn is_recipe(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "toml")
}

/// A recipe with every size resolved; its tokenizer is read only where the vocabulary is left to it.
fn resolved(file: &Path, set: &[String], isa: Isa) -> Result<Train, Failure> {
    let mut recipe = load_recipe(file, set)?;
    let vocab_size = match (&recipe.model.from, recipe.model.vocab_size) {
        (None, None) => {
            Tokenizer::load(&Path::new(&recipe.data.tokenizer).join("tokenizer.json"))?.vocab_size()
        }
        _ => 0,
    };
    recipe.resolve(isa, vocab_size);
    Ok(recipe)
}

/// The configuration of a folder, which has no settings to change.
fn of_folder(folder: &Path, set: &[String]) -> Result<ModelConfig, Failure> {
    if !set.is_empty() {
        return Err(Failure::bad_input(
            "--set changes a recipe, and a folder has none; give a recipe (.toml)",
        ));
    }
    Ok(ModelConfig::load_shape(&model_folder::resolve(folder)?.join("config.json"))?)
}
