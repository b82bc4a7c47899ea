//! The shape of a decoder of the Llama family, as Hugging Face names it.

use serde::{Deserialize, Serialize};

/// Caps on single sizes: far above any published model, far below what overflows or exhausts memory.
const MAX_LAYERS: usize = 1024;
const MAX_WIDTH: usize = 1 << 20;
const MAX_HEADS: usize = 4096;
const MAX_HEAD_DIM: usize = 1024;
const MAX_VOCAB: usize = 1 << 22;
/// Positions × head_dim: the RoPE tables hold that many numbers.
const MAX_ROPE_TABLE: usize = 1 << 27;
/// Parameters in all.
const MAX_PARAMETERS: u64 = 1 << 42;

/// Architectures that are known, named as `model_type` in `config.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelType {
    /// Llama: RoPE in every layer.
    Llama,
    /// SmolLM3: Llama with some layers without RoPE (spec POS-09).
    SmolLm3,
}

impl ModelType {
    /// The spelling in `config.json`.
    pub fn as_str(self) -> &'static str {
        match self {
            ModelType::Llama => "llama",
            ModelType::SmolLm3 => "smollm3",
        }
    }
}

/// What is wrong with one field of a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {reason}")]
pub struct FieldError {
    /// The field, in Hugging Face spelling.
    pub field: String,
    /// What is wrong and what would be right, to be read after the field's name.
    pub reason: String,
}

impl FieldError {
    pub(crate) fn new(field: &str, reason: impl Into<String>) -> Self {
        FieldError { field: field.to_owned(), reason: reason.into() }
    }
}

/// A decoder: pre-norm blocks of grouped-query attention (spec ATT-01) and a SiLU-gated MLP, no biases.
///
/// Deserialisation fills the defaults named below and checks as [`ModelConfig::validate`] does, except
/// that `vocab_size` may be left out (0) to be set from a tokenizer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Raw")]
pub struct ModelConfig {
    /// Architecture.
    pub model_type: ModelType,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the gated MLP.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads, each shared by a group of query heads. Default: num_attention_heads.
    pub num_key_value_heads: usize,
    /// Features per head, even. Default: hidden_size / num_attention_heads.
    pub head_dim: usize,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Longest sequence.
    pub max_position_embeddings: usize,
    /// Base of the rotary frequencies. Default: 10,000 (llama), 2,000,000 (smollm3), as transformers has it.
    pub rope_theta: f64,
    /// One entry per layer; **1 means RoPE is used in that layer, 0 means none** (spec POS-09: the name
    /// misleads). Default: by `no_rope_layer_interval`.
    pub no_rope_layers: Vec<u8>,
    /// SmolLM3 only: every n-th layer has no RoPE unless `no_rope_layers` says otherwise; 0: all have it.
    /// Default: 4.
    pub no_rope_layer_interval: usize,
    /// Added to the mean square before the root. Default: 1e-6.
    pub rms_norm_eps: f64,
    /// One matrix for embedding and output head (spec EMB-01). Default: false (llama), true (smollm3).
    pub tie_word_embeddings: bool,
    /// Standard deviation of the initial weights. Default: 0.02.
    pub initializer_range: f64,
    /// Token that opens a document, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bos_token_id: Option<u32>,
    /// Tokens that end a text.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub eos_token_id: Vec<u32>,
    /// Token that fills up batches, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pad_token_id: Option<u32>,
}

/// Every field of [`ModelConfig`] and what it means, in order.
pub const FIELDS: &[(&str, &str)] = &[
    ("model_type", "Architecture: llama or smollm3."),
    ("hidden_size", "Width of the residual stream."),
    ("intermediate_size", "Width of the gated MLP."),
    ("num_hidden_layers", "Number of blocks."),
    ("num_attention_heads", "Query heads."),
    ("num_key_value_heads", "Key and value heads, each shared by a group of query heads."),
    ("head_dim", "Features per head, even."),
    ("vocab_size", "Rows of the embedding."),
    ("max_position_embeddings", "Longest sequence."),
    ("rope_theta", "Base of the rotary frequencies."),
    ("no_rope_layers", "One entry per layer: 1 means RoPE is used in that layer, 0 means none."),
    ("no_rope_layer_interval", "Every n-th layer has no RoPE (smollm3); 0: all have it."),
    ("rms_norm_eps", "Added to the mean square before the root."),
    ("tie_word_embeddings", "One matrix for embedding and output head."),
    ("initializer_range", "Standard deviation of the initial weights."),
    ("bos_token_id", "Token that opens a document."),
    ("eos_token_id", "Token or tokens that end a text."),
    ("pad_token_id", "Token that fills up batches."),
];

impl Default for ModelConfig {
    /// A SmolLM3 of about 7M parameters.
    fn default() -> Self {
        let mut config = ModelConfig {
            model_type: ModelType::SmolLm3,
            hidden_size: 256,
            intermediate_size: 704,
            num_hidden_layers: 6,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            head_dim: 64,
            vocab_size: 4096,
            max_position_embeddings: 512,
            rope_theta: 10_000.0,
            no_rope_layers: Vec::new(),
            no_rope_layer_interval: 4,
            rms_norm_eps: 1e-6,
            tie_word_embeddings: true,
            initializer_range: 0.02,
            bos_token_id: None,
            eos_token_id: Vec::new(),
            pad_token_id: None,
        };
        config.set_no_rope_layer_interval(4);
        config
    }
}

impl ModelConfig {
    /// Whether RoPE turns queries and keys in `layer` (counted from 0).
    pub fn uses_rope(&self, layer: usize) -> bool {
        self.no_rope_layers.get(layer).is_none_or(|&flag| flag == 1)
    }

    /// Takes RoPE from every `interval`-th layer of a SmolLM3, from none if 0. A Llama keeps it everywhere.
    pub fn set_no_rope_layer_interval(&mut self, interval: usize) {
        self.no_rope_layer_interval = interval;
        let skips = self.model_type == ModelType::SmolLm3 && interval > 0;
        // More layers than the cap are refused by `validate`; until then they must not exhaust memory.
        self.no_rope_layers = (0..self.num_hidden_layers.min(MAX_LAYERS))
            .map(|layer| u8::from(!(skips && (layer + 1) % interval == 0)))
            .collect();
    }

    /// Checks every size and relation; the error names the first field that is wrong.
    pub fn validate(&self) -> Result<(), FieldError> {
        self.validate_sizes()?;
        self.validate_heads()?;
        self.validate_rope()?;
        self.validate_numbers()?;
        self.validate_tokens()?;
        // Every factor is below 2^22, so no product here comes near 2^64.
        match crate::count::parameters(self).total() {
            total if total > MAX_PARAMETERS => Err(FieldError::new(
                "hidden_size",
                format!("and the other sizes give {total} parameters, above the limit of {MAX_PARAMETERS}"),
            )),
            _ => Ok(()),
        }
    }

    fn validate_sizes(&self) -> Result<(), FieldError> {
        for (field, value, cap) in [
            ("hidden_size", self.hidden_size, MAX_WIDTH),
            ("intermediate_size", self.intermediate_size, MAX_WIDTH),
            ("num_hidden_layers", self.num_hidden_layers, MAX_LAYERS),
            ("num_attention_heads", self.num_attention_heads, MAX_HEADS),
            ("num_key_value_heads", self.num_key_value_heads, MAX_HEADS),
            ("head_dim", self.head_dim, MAX_HEAD_DIM),
            ("vocab_size", self.vocab_size, MAX_VOCAB),
            ("max_position_embeddings", self.max_position_embeddings, MAX_ROPE_TABLE),
        ] {
            if value == 0 || value > cap {
                return Err(FieldError::new(field, format!("must be between 1 and {cap}, found {value}")));
            }
        }
        Ok(())
    }

    fn validate_heads(&self) -> Result<(), FieldError> {
        let (d, h, k) = (self.hidden_size, self.num_attention_heads, self.num_key_value_heads);
        if d % h != 0 {
            let reason = format!("{h} must divide hidden_size {d}");
            return Err(FieldError::new("num_attention_heads", reason));
        }
        if h % k != 0 {
            let reason = format!("{k} must divide num_attention_heads {h}");
            return Err(FieldError::new("num_key_value_heads", reason));
        }
        if !self.head_dim.is_multiple_of(2) {
            let reason = format!("{} must be even: RoPE turns pairs of features", self.head_dim);
            return Err(FieldError::new("head_dim", reason));
        }
        Ok(())
    }

    fn validate_rope(&self) -> Result<(), FieldError> {
        if self.max_position_embeddings > MAX_ROPE_TABLE / self.head_dim {
            let reason =
                format!("{} is above {}", self.max_position_embeddings, MAX_ROPE_TABLE / self.head_dim);
            return Err(FieldError::new("max_position_embeddings", reason));
        }
        let (flags, layers) = (&self.no_rope_layers, self.num_hidden_layers);
        if flags.len() != layers {
            let reason = format!("has {} entries for num_hidden_layers {layers}", flags.len());
            return Err(FieldError::new("no_rope_layers", reason));
        }
        if flags.iter().any(|&flag| flag > 1) {
            return Err(FieldError::new("no_rope_layers", "must hold 1 (RoPE) and 0 (no RoPE) only"));
        }
        if self.model_type == ModelType::Llama && flags.contains(&0) {
            let reason = "has a 0, but a llama has RoPE in every layer: use model_type smollm3";
            return Err(FieldError::new("no_rope_layers", reason));
        }
        Ok(())
    }

    fn validate_numbers(&self) -> Result<(), FieldError> {
        for (field, value, cap) in [
            ("rope_theta", self.rope_theta, 1e12),
            ("rms_norm_eps", self.rms_norm_eps, 1.0),
            ("initializer_range", self.initializer_range, 1.0),
        ] {
            // Written so that NaN fails too.
            if !(value > 0.0 && value <= cap) {
                let reason = format!("must be above 0 and at most {cap}, found {value}");
                return Err(FieldError::new(field, reason));
            }
        }
        Ok(())
    }

    fn validate_tokens(&self) -> Result<(), FieldError> {
        let ids = (self.bos_token_id.iter().map(|id| ("bos_token_id", id)))
            .chain(self.eos_token_id.iter().map(|id| ("eos_token_id", id)))
            .chain(self.pad_token_id.iter().map(|id| ("pad_token_id", id)));
        for (field, &id) in ids {
            if id as usize >= self.vocab_size {
                let reason = format!("{id} is not below vocab_size {}", self.vocab_size);
                return Err(FieldError::new(field, reason));
            }
        }
        Ok(())
    }
}

/// One id or several, as `eos_token_id` is found.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(u32),
    Many(Vec<u32>),
}

/// What a user or a file said; nothing filled in yet.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Raw {
    model_type: Option<ModelType>,
    hidden_size: Option<usize>,
    intermediate_size: Option<usize>,
    num_hidden_layers: Option<usize>,
    num_attention_heads: Option<usize>,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    vocab_size: Option<usize>,
    max_position_embeddings: Option<usize>,
    rope_theta: Option<f64>,
    no_rope_layers: Option<Vec<u8>>,
    no_rope_layer_interval: Option<usize>,
    rms_norm_eps: Option<f64>,
    tie_word_embeddings: Option<bool>,
    initializer_range: Option<f64>,
    bos_token_id: Option<u32>,
    eos_token_id: Option<OneOrMany>,
    pad_token_id: Option<u32>,
}

impl Raw {
    /// Fills in the defaults that transformers has for the model type; checks nothing.
    pub(crate) fn resolve(self) -> Result<ModelConfig, FieldError> {
        let need = |field: &str, value: Option<usize>| {
            value.ok_or_else(|| FieldError::new(field, "is missing: add it"))
        };
        let model_type = self
            .model_type
            .ok_or_else(|| FieldError::new("model_type", "is missing: add llama or smollm3"))?;
        let smollm3 = model_type == ModelType::SmolLm3;
        let hidden_size = need("hidden_size", self.hidden_size)?;
        let heads = need("num_attention_heads", self.num_attention_heads)?;
        let mut config = ModelConfig {
            model_type,
            hidden_size,
            intermediate_size: need("intermediate_size", self.intermediate_size)?,
            num_hidden_layers: need("num_hidden_layers", self.num_hidden_layers)?,
            num_attention_heads: heads,
            num_key_value_heads: self.num_key_value_heads.unwrap_or(heads),
            head_dim: self.head_dim.unwrap_or(hidden_size / heads.max(1)),
            vocab_size: self.vocab_size.unwrap_or(0),
            max_position_embeddings: need("max_position_embeddings", self.max_position_embeddings)?,
            rope_theta: self.rope_theta.unwrap_or(if smollm3 { 2e6 } else { 1e4 }),
            no_rope_layers: Vec::new(),
            no_rope_layer_interval: 4,
            rms_norm_eps: self.rms_norm_eps.unwrap_or(1e-6),
            tie_word_embeddings: self.tie_word_embeddings.unwrap_or(smollm3),
            initializer_range: self.initializer_range.unwrap_or(0.02),
            bos_token_id: self.bos_token_id,
            eos_token_id: match self.eos_token_id {
                Some(OneOrMany::Many(ids)) => ids,
                Some(OneOrMany::One(id)) => vec![id],
                None => Vec::new(),
            },
            pad_token_id: self.pad_token_id,
        };
        config.set_no_rope_layer_interval(self.no_rope_layer_interval.unwrap_or(4));
        if let Some(mut flags) = self.no_rope_layers {
            // transformers reads the first num_hidden_layers entries and allows more.
            flags.truncate(config.num_hidden_layers);
            config.no_rope_layers = flags;
        }
        Ok(config)
    }
}

impl TryFrom<Raw> for ModelConfig {
    type Error = FieldError;

    fn try_from(raw: Raw) -> Result<Self, FieldError> {
        let mut config = raw.resolve()?;
        match config.vocab_size {
            0 => {
                config.vocab_size = MAX_VOCAB;
                let checked = config.validate();
                config.vocab_size = 0;
                checked?;
            }
            _ => config.validate()?,
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_means_rope_and_zero_means_none() {
        let config = ModelConfig::default();
        assert_eq!(config.no_rope_layers, [1, 1, 1, 0, 1, 1]);
        let rope: Vec<bool> = (0..6).map(|layer| config.uses_rope(layer)).collect();
        assert_eq!(rope, [true, true, true, false, true, true]);
        let mut all = ModelConfig::default();
        all.set_no_rope_layer_interval(0);
        assert!((0..6).all(|layer| all.uses_rope(layer)));
        let mut llama = ModelConfig { model_type: ModelType::Llama, ..ModelConfig::default() };
        llama.set_no_rope_layer_interval(4);
        assert!((0..6).all(|layer| llama.uses_rope(layer)));
        assert_eq!(llama.validate(), Ok(()));
    }

    #[test]
    fn each_wrong_field_is_named() {
        type Change = fn(&mut ModelConfig);
        let wrong: [(&str, Change); 16] = [
            ("hidden_size", |c| c.hidden_size = 0),
            ("hidden_size", |c| {
                (c.hidden_size, c.vocab_size, c.num_hidden_layers) = (1 << 20, 1 << 22, 1024)
            }),
            ("intermediate_size", |c| c.intermediate_size = usize::MAX),
            ("num_hidden_layers", |c| c.num_hidden_layers = 1 << 60),
            ("num_attention_heads", |c| c.num_attention_heads = 3),
            ("num_key_value_heads", |c| c.num_key_value_heads = 3),
            ("head_dim", |c| c.head_dim = 63),
            ("vocab_size", |c| c.vocab_size = 0),
            ("max_position_embeddings", |c| c.max_position_embeddings = 1 << 26),
            ("rope_theta", |c| c.rope_theta = f64::NAN),
            ("rms_norm_eps", |c| c.rms_norm_eps = 0.0),
            ("initializer_range", |c| c.initializer_range = f64::INFINITY),
            ("no_rope_layers", |c| c.no_rope_layers = vec![1; 5]),
            ("no_rope_layers", |c| c.no_rope_layers = vec![1, 1, 2, 1, 1, 1]),
            ("no_rope_layers", |c| c.model_type = ModelType::Llama),
            ("eos_token_id", |c| c.eos_token_id = vec![1, 4096]),
        ];
        for (i, (field, change)) in wrong.into_iter().enumerate() {
            let mut config = ModelConfig::default();
            change(&mut config);
            if field == "hidden_size" || field == "num_hidden_layers" {
                config.set_no_rope_layer_interval(4);
            }
            assert_eq!(config.validate().unwrap_err().field, field, "case {i}");
        }
    }

    #[test]
    fn fields_are_the_struct_s() {
        let mut config = ModelConfig::default();
        (config.bos_token_id, config.eos_token_id, config.pad_token_id) = (Some(0), vec![1], Some(2));
        let value = serde_json::to_value(&config).unwrap();
        let names: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names, FIELDS.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        assert_eq!(serde_json::from_value::<ModelConfig>(value).unwrap(), config);
    }

    #[test]
    fn a_table_without_vocabulary_waits_for_the_tokenizer() {
        let text = r#"{"model_type":"llama","hidden_size":64,"intermediate_size":128,"num_hidden_layers":2,
            "num_attention_heads":4,"max_position_embeddings":32}"#;
        let config: ModelConfig = serde_json::from_str(text).unwrap();
        assert_eq!((config.vocab_size, config.head_dim, config.num_key_value_heads), (0, 16, 4));
        assert_eq!(config.validate().unwrap_err().field, "vocab_size");
        let error = serde_json::from_str::<ModelConfig>(&text.replace("heads\":4", "heads\":5"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("`num_attention_heads` 5 must divide hidden_size 64"), "{error}");
        let error = serde_json::from_str::<ModelConfig>(&text.replace("hidden_s", "hiden_s")).unwrap_err();
        assert!(error.to_string().contains("hiden_size"), "{error}");
    }
}
