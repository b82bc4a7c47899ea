//! A Hugging Face model folder: `config.json` and `model.safetensors` (or its shards with an index).

use crate::safetensors::{self, File, Store};
use crate::{Transformer, init, storage};
use smolt_arch::parameters::{Part, Slot, groups};
use smolt_arch::{ModelConfig, ModelType};
use smolt_tensor::tape::View;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Largest shard index read, bytes; published ones stay far below.
const MAX_INDEX: u64 = 64 << 20;

/// Tensors without a place in the model that an error names.
const NAMED: usize = 3;

/// Where the matrix of tokens is stored, and the output head where it is another.
const EMBEDDING: &str = "model.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";

/// Why a model folder cannot be loaded or saved.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its configuration is missing, broken or unsupported.
    #[error(transparent)]
    Config(#[from] smolt_arch::Error),
    /// Its weights are missing or broken.
    #[error(transparent)]
    Weights(#[from] safetensors::Error),
    /// Its shard index is broken.
    #[error("{}: {reason}", path.display())]
    Index {
        /// The index file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Its weights are another model's than the configuration describes.
    #[error("{}: {reason}", dir.display())]
    Foreign {
        /// The folder.
        dir: PathBuf,
        /// Which tensors have no place, and where to look.
        reason: String,
    },
    /// Writing failed.
    #[error(transparent)]
    Write(#[from] smolt_run::error::FileError),
}

/// A model and its weights in memory.
pub struct Loaded {
    /// The architecture.
    pub model: Transformer,
    /// Flat parameters, `[model.layout().len()]`.
    pub weights: Vec<f32>,
}

impl Loaded {
    /// A model with fresh weights (see [`init::fresh`]).
    pub fn fresh(config: ModelConfig, seed: u64) -> Loaded {
        let model = Transformer::new(config);
        let weights = init::fresh(&model, seed);
        Loaded { model, weights }
    }

    /// A model whose weights are zero, to be filled.
    pub fn blank(config: ModelConfig) -> Loaded {
        let model = Transformer::new(config);
        let weights = smolt_tensor::memory::zeros(model.layout().len());
        Loaded { model, weights }
    }

    /// Loads `dir`, every tensor checked against the configuration.
    pub fn load(dir: &Path) -> Result<Loaded, Error> {
        Loaded::load_as(dir, ModelConfig::load(&dir.join("config.json"))?)
    }

    /// Loads the weights of `dir` into a model of another configuration, every tensor checked against it.
    pub fn load_as(dir: &Path, config: ModelConfig) -> Result<Loaded, Error> {
        let shards = Shards::open(dir)?;
        // Every tensor first, so that a configuration that lies cannot make us allocate more than the files hold.
        for tensor in groups(&config).iter().flat_map(|group| &group.tensors) {
            shards.file(&tensor.name).check(&tensor.name, &tensor.shape)?;
        }
        let foreign = |reason| Error::Foreign { dir: dir.to_owned(), reason };
        shards.all_belong_to(&config).map_err(foreign)?;
        let Loaded { model, mut weights } = Loaded::blank(config);
        for (tensor, view) in storage::tensors(&model) {
            let part = &mut weights[view.range.clone()];
            shards.file(&view.name).read_f32(&view.name, &view.shape, part)?;
            storage::take_in(tensor, part);
        }
        Ok(Loaded { model, weights })
    }
}

/// Weights or gradients of `model`, tensor by tensor as a checkpoint has them.
pub fn tensors<'a>(
    model: &'a Transformer,
    flat: &'a [f32],
) -> impl Iterator<Item = (&'a View, Cow<'a, [f32]>)> {
    storage::tensors(model).map(|(tensor, view)| (view, storage::give_out(tensor, &flat[view.range.clone()])))
}

/// Reads what [`tensors`] gave, under its names with `prefix` before them, back into `flat`.
pub fn read_tensors(
    file: &File,
    prefix: &str,
    model: &Transformer,
    flat: &mut [f32],
) -> Result<(), safetensors::Error> {
    for (tensor, view) in storage::tensors(model) {
        let part = &mut flat[view.range.clone()];
        file.read_f32(&format!("{prefix}{}", view.name), &view.shape, part)?;
        storage::take_in(tensor, part);
    }
    Ok(())
}

/// Writes `config.json` and `model.safetensors` into `dir`.
pub fn save(dir: &Path, model: &Transformer, weights: &[f32], store: Store) -> Result<(), Error> {
    let text = model.config().to_json(match store {
        Store::F32 => "float32",
        Store::Bf16 => "bfloat16",
    });
    smolt_run::atomic::write(&dir.join("config.json"), text.as_bytes())?;
    let given: Vec<_> = tensors(model, weights).collect();
    let stores = model.groups().iter().flat_map(|group| {
        let store = match group.slot {
            // It moves in steps that bf16 has no numbers for, and transformers keeps it in fp32 too.
            Slot::Layer(_, Part::SelectionBias) => Store::F32,
            _ => store,
        };
        group.tensors.iter().map(move |_| store)
    });
    let tensors: Vec<safetensors::Tensor<'_>> = given
        .iter()
        .zip(stores)
        .map(|((view, data), store)| (view.name.as_str(), view.shape.as_slice(), &data[..], store))
        .collect();
    Ok(safetensors::write(&dir.join("model.safetensors"), &tensors)?)
}

/// The safetensors files of a folder and which tensor lies in which.
struct Shards {
    files: Vec<File>,
    /// Tensor → file (of which there is at least one); empty when there is one file.
    place: BTreeMap<String, usize>,
}

impl Shards {
    fn open(dir: &Path) -> Result<Shards, Error> {
        let index = dir.join("model.safetensors.index.json");
        if !index.exists() {
            let file = File::open(&dir.join("model.safetensors"))?;
            return Ok(Shards { files: vec![file], place: BTreeMap::new() });
        }
        let wrong = |reason: String| Error::Index { path: index.clone(), reason };
        let mut text = String::new();
        let file = std::fs::File::open(&index).map_err(|e| wrong(e.to_string()))?;
        file.take(MAX_INDEX).read_to_string(&mut text).map_err(|e| wrong(e.to_string()))?;
        let json: serde_json::Value = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
        let map = json["weight_map"].as_object().ok_or_else(|| wrong("it has no `weight_map`".into()))?;
        let mut names: Vec<&str> = map.values().filter_map(|v| v.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        if names.is_empty() {
            return Err(wrong("its `weight_map` names no file; copy the model again".into()));
        }
        if let Some(name) = names.iter().find(|n| n.contains(['/', '\\']) || n.contains("..")) {
            return Err(wrong(format!("`{name}` points outside the folder")));
        }
        let files = names.iter().map(|n| File::open(&dir.join(n))).collect::<Result<_, _>>()?;
        let place = map
            .iter()
            .filter_map(|(tensor, file)| Some((tensor.clone(), names.binary_search(&file.as_str()?).ok()?)))
            .collect();
        Ok(Shards { files, place })
    }

    /// Refuses tensors that the configuration does not explain: without them it would be another model.
    fn all_belong_to(&self, config: &ModelConfig) -> Result<(), String> {
        let groups = groups(config);
        let known: BTreeSet<&str> =
            groups.iter().flat_map(|group| &group.tensors).map(|tensor| tensor.name.as_str()).collect();
        let stored: BTreeMap<String, &File> = self
            .files
            .iter()
            .flat_map(|file| file.names().into_iter().map(move |name| (name, file)))
            .collect();
        let mut strange = Vec::new();
        for (name, file) in stored.iter().filter(|(name, _)| !known.contains(name.as_str())) {
            let copied = name == HEAD && config.tie_word_embeddings;
            if copied && !file.same(HEAD, self.file(EMBEDDING), EMBEDDING) {
                return Err(format!(
                    "tensor `{HEAD}` is not `{EMBEDDING}`, but config.json has `tie_word_embeddings` true: set it to \
                     false"
                ));
            }
            let predicts_further =
                further(name, config).is_some_and(|projection| stored.contains_key(&projection));
            if !copied && !predicts_further && !name.ends_with(".rotary_emb.inv_freq") {
                // Files are hostile: a name may be of any length and hold anything.
                strange.push(format!("`{}`", name.chars().take(100).collect::<String>().escape_debug()));
            }
        }
        let (count, more) = (strange.len(), if strange.len() > NAMED { ", …" } else { "" });
        strange.truncate(NAMED);
        match count {
            0 => Ok(()),
            _ => Err(format!(
                "config.json describes a model without {count} of the tensors ({}{more}): look for the setting that they \
                 belong to, such as a bias, a norm or the number of layers",
                strange.join(", ")
            )),
        }
    }

    fn file(&self, tensor: &str) -> &File {
        // A tensor missing from the index is then missing from the first file, which says so.
        &self.files[self.place.get(tensor).copied().unwrap_or(0)]
    }
}

/// The projection that marks a layer of DeepSeek behind the last, which predicts a further token and is not read, if
/// `name` would be of one.
fn further(name: &str, config: &ModelConfig) -> Option<String> {
    let layer: usize = name.strip_prefix("model.layers.")?.split('.').next()?.parse().ok()?;
    let behind = config.model_type == ModelType::DeepseekV3 && layer >= config.num_hidden_layers;
    behind.then(|| format!("model.layers.{layer}.eh_proj.weight"))
}
