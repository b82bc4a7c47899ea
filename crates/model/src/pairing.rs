//! The same model with its rotary features in another order (spec POS-03): half-split, as most families have them, or in
//! pairs of neighbours. Scores, and all that follows from them, stay what they are.

use crate::Transformer;
use crate::folder::Loaded;
use smolt_arch::ModelConfig;
use smolt_arch::config::ModelType;
use smolt_arch::parameters::{Group, Slot};
use smolt_tensor::ops::rope::{Pairing, convert_rows};
use smolt_tensor::tape::View;
use std::collections::BTreeMap;
use std::ops::Range;

/// Families of half-split pairs that a model of ours may turn out to be.
const FAMILIES: [ModelType; 5] =
    [ModelType::Llama, ModelType::SmolLm3, ModelType::Qwen2, ModelType::Qwen3, ModelType::Mistral];

/// What of a tensor turns: heads of `head` rows, in each of which `dim` rows from `at` on do.
struct Turning {
    head: usize,
    at: usize,
    dim: usize,
}

/// The model with `to` as its pairing. One that only had a `model_type` of ours for its pairing gets the family's; one whose
/// family has the other pairing fixed gets ours.
///
/// # Errors
/// The reason, where no type can express it.
pub fn paired(loaded: Loaded, to: Pairing) -> Result<Loaded, String> {
    let before = loaded.model.config();
    let from = if before.rope_interleaved { Pairing::Interleaved } else { Pairing::HalfSplit };
    if from == to {
        return Ok(loaded);
    }
    let config = config(ModelConfig { rope_interleaved: to == Pairing::Interleaved, ..before.clone() })?;
    let model = Transformer::new(config);
    let mut weights = loaded.weights;
    for view in loaded.model.layout().views() {
        if let Some(turning) = turning(before, &view.name) {
            let part = &mut weights[view.range.clone()];
            // A bias or a norm is a matrix with one column.
            let n_in = if view.shape.len() == 2 { view.shape[1] } else { 1 };
            let turned = convert_rows(from, to, part, n_in, turning.head, turning.at, turning.dim);
            part.copy_from_slice(&turned);
        }
    }
    let mut moved = smolt_tensor::memory::zeros(weights.len());
    // Types differ in the order of their parameters.
    let places = slots(&loaded.model);
    for (slot, to) in slots(&model) {
        moved[to].copy_from_slice(&weights[places[&slot].clone()]);
    }
    Ok(Loaded { model, weights: moved })
}

/// Where each of the engine's parameters lies.
fn slots(model: &Transformer) -> BTreeMap<Slot, Range<usize>> {
    let mut views = model.layout().views().iter();
    let range = |group: &Group, views: &mut dyn Iterator<Item = &View>| {
        let own: Vec<_> = views.take(group.tensors.len()).map(|view| view.range.clone()).collect();
        own.first().map_or(0, |first| first.start)..own.last().map_or(0, |last| last.end)
    };
    model.groups().iter().map(|group| (group.slot, range(group, &mut views))).collect()
}

/// The configuration under its own type, under the first family that can express it, or under ours.
fn config(config: ModelConfig) -> Result<ModelConfig, String> {
    let own = (config.model_type != ModelType::Smolt).then_some(config.model_type);
    let mut problem = String::new();
    for model_type in own.into_iter().chain(FAMILIES).chain([ModelType::Smolt]) {
        let config = ModelConfig { model_type, ..config.clone() };
        match config.validate() {
            Ok(()) => return Ok(config),
            Err(error) => problem = error.to_string(),
        }
    }
    Err(problem)
}

fn turning(c: &ModelConfig, name: &str) -> Option<Turning> {
    let (_, part) = name.split_once("self_attn.")?;
    let dim = c.rotary_dim();
    Some(match (&c.latent, part) {
        (
            None,
            "q_proj.weight" | "q_proj.bias" | "k_proj.weight" | "k_proj.bias" | "q_norm.weight"
            | "k_norm.weight",
        ) => Turning { head: c.head_dim, at: 0, dim },
        (Some(latent), "q_proj.weight" | "q_b_proj.weight") => {
            let at = latent.qk_nope_head_dim;
            Turning { head: at + latent.qk_rope_head_dim, at, dim }
        }
        (Some(latent), "kv_a_proj_with_mqa.weight") => {
            let at = latent.kv_lora_rank;
            Turning { head: at + latent.qk_rope_head_dim, at, dim }
        }
        _ => return None,
    })
}
