//! A folder that holds a model, its tokenizer and its chat template.

use crate::commands::eval::server::ServerArgs;
use smolt_arch::ModelConfig;
use smolt_eval::model::encoder::Encoder;
use smolt_infer::Decoder;
use smolt_model::folder::Loaded;
use smolt_run::error::Failure;
use smolt_tensor::Cpu;
use smolt_tensor::gemm::Precision;
use smolt_text::template::ChatTemplate;
use smolt_text::tokenizer::Tokenizer;
use std::path::{Path, PathBuf};

/// Flags of every command that may ask a model beyond the length it was trained for.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct RopeArgs {
    /// Stretch RoPE, in the spelling of config.json: '{"rope_type": "yarn", "factor": 4.0}'; the context grows to factor times
    /// the original
    #[arg(long, value_name = "JSON")]
    pub(crate) rope_scaling: Option<String>,
}

impl RopeArgs {
    /// A server's model is as it is.
    pub(crate) fn check(&self, server: &ServerArgs) -> Result<(), Failure> {
        match (&self.rope_scaling, server.given()) {
            (Some(_), Some(_)) => Err(Failure::bad_input(
                "--rope-scaling changes a folder's model: start the server with it instead",
            )),
            _ => Ok(()),
        }
    }
}

/// A model ready to be asked.
pub(crate) struct ModelFolder {
    pub(crate) path: PathBuf,
    pub(crate) loaded: Loaded,
    pub(crate) tokenizer: Tokenizer,
}

impl ModelFolder {
    /// Loads a Hugging Face folder; a run folder stands for its newest whole checkpoint.
    pub(crate) fn load(path: &Path) -> Result<ModelFolder, Failure> {
        ModelFolder::stretched(path, &RopeArgs::default())
    }

    /// Loads a folder, its RoPE stretched.
    pub(crate) fn stretched(path: &Path, rope: &RopeArgs) -> Result<ModelFolder, Failure> {
        let path = resolve(path)?;
        let bad = |e: &dyn std::fmt::Display| Failure::bad_input(e.to_string());
        let mut config = ModelConfig::load(&path.join("config.json")).map_err(|e| bad(&e))?;
        if let Some(scaling) = &rope.rope_scaling {
            config = config.stretched(scaling).map_err(|e| bad(&format!("--rope-scaling: {e}")))?;
        }
        let loaded = Loaded::load_as(&path, config).map_err(|e| bad(&e))?;
        let tokenizer = Tokenizer::load(&path.join("tokenizer.json"))?;
        if tokenizer.vocab_size() > loaded.model.config().vocab_size {
            return Err(Failure::bad_input(format!(
                "{}: the tokenizer has {} tokens, the model {}; they do not belong together",
                path.display(),
                tokenizer.vocab_size(),
                loaded.model.config().vocab_size
            )));
        }
        Ok(ModelFolder { path, loaded, tokenizer })
    }

    /// The folder's chat template.
    pub(crate) fn template(&self) -> Result<ChatTemplate, Failure> {
        template(&self.path)
    }

    /// Tokens that end an answer: the configuration's end-of-sequence tokens.
    pub(crate) fn stop_tokens(&self) -> Vec<u32> {
        self.loaded.model.config().eos_token_id.clone()
    }

    /// From text to this model's tokens.
    pub(crate) fn encoder<'a>(&'a self, template: Option<&'a ChatTemplate>) -> Encoder<'a> {
        Encoder { tokenizer: &self.tokenizer, template, end_tokens: self.stop_tokens() }
    }

    /// Room for `slots` sequences of up to `capacity` tokens, fewer where half of the memory would not hold them.
    pub(crate) fn decoder<'a>(
        &'a self,
        cpu: &'a Cpu,
        precision: Precision,
        slots: usize,
        capacity: usize,
    ) -> Decoder<'a> {
        let config = self.loaded.model.config();
        let each = 4 * config.num_hidden_layers as u64 * smolt_arch::count::cached_per_token(config);
        let most = smolt_run::resources::memory_limit().map_or(u64::MAX, |limit| limit / 2);
        let fits = most / each.saturating_mul(slots as u64).max(1);
        let capacity = capacity.min(usize::try_from(fits).unwrap_or(usize::MAX));
        Decoder::new(cpu, &self.loaded.model, &self.loaded.weights, precision, slots, capacity)
    }
}

/// The chat template of a Hugging Face folder.
pub(crate) fn template(folder: &Path) -> Result<ChatTemplate, Failure> {
    let path = folder.join("chat_template.jinja");
    let source = std::fs::read_to_string(&path).map_err(|e| {
        Failure::bad_input(format!("cannot read {}: {e}; chatting needs a chat template", path.display()))
    })?;
    Ok(ChatTemplate::new(&source)?)
}

/// `path` itself, or the newest whole checkpoint when `path` is a run's folder.
pub(crate) fn resolve(path: &Path) -> Result<PathBuf, Failure> {
    if path.join("config.json").exists() || !path.join("checkpoints").exists() {
        return Ok(path.to_path_buf());
    }
    match smolt_train::checkpoint::newest(path).map_err(|e| Failure::bad_input(e.to_string()))? {
        (Some((newest, _)), _) => Ok(newest),
        (None, damaged) => {
            let reasons: Vec<String> = damaged.iter().map(ToString::to_string).collect();
            Err(Failure::bad_input(format!(
                "{}: no whole checkpoint here {}",
                path.display(),
                reasons.join("; ")
            )))
        }
    }
}
