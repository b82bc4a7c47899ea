//! The tokenizer's files in a Hugging Face folder.

use super::{Tokenizer, TokenizerError, read_capped};
use serde_json::{Map, Value, json};
use smolt_run::atomic;
use std::collections::BTreeMap;
use std::path::Path;

/// Which tokens play which role, by their text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpecialRoles {
    /// Begins a document; most models trained here have none.
    pub bos: Option<String>,
    /// Ends a document or an answer: generation stops at it.
    pub eos: Option<String>,
    /// Fills up batches, never learned.
    pub pad: Option<String>,
}

impl SpecialRoles {
    /// Of a pretrained model: `<|endoftext|>` ends documents.
    pub fn pretrained() -> Self {
        Self { bos: None, eos: Some("<|endoftext|>".into()), pad: Some("<|pad|>".into()) }
    }

    /// Of a chat model: `<|im_end|>` ends answers (spec `CT-12`).
    pub fn chat() -> Self {
        Self { eos: Some("<|im_end|>".into()), ..Self::pretrained() }
    }

    fn named(&self) -> [(&'static str, &Option<String>); 3] {
        [("bos_token", &self.bos), ("eos_token", &self.eos), ("pad_token", &self.pad)]
    }
}

/// Writes `tokenizer.json`, `tokenizer_config.json` and `generation_config.json`, and `chat_template.jinja` if there is
/// one, into the existing folder `dir`, so that `AutoTokenizer.from_pretrained(dir)` gives the same ids.
pub fn save(
    dir: &Path,
    tokenizer: &Tokenizer,
    roles: &SpecialRoles,
    chat_template: Option<&str>,
) -> Result<(), TokenizerError> {
    if roles.eos.is_some() && roles.eos == roles.pad {
        // Padding is masked out of the loss: a model whose end token is its padding never learns to stop.
        return Err(TokenizerError::Settings("eos and pad must be different tokens".into()));
    }
    let mut config = Map::new();
    let mut generation = Map::new();
    generation.insert("_from_model_config".into(), json!(false));
    for (role, token) in roles.named() {
        let Some(token) = token else { continue };
        let Some(id) = tokenizer.token_to_id(token) else {
            return Err(TokenizerError::NoSuchToken { role, token: token.clone() });
        };
        config.insert(role.into(), json!(token));
        generation.insert(format!("{role}_id"), json!(id));
    }
    config.insert("add_prefix_space".into(), json!(false));
    config.insert("clean_up_tokenization_spaces".into(), json!(false));
    config.insert("model_input_names".into(), json!(["input_ids", "attention_mask"]));
    // The generic class: model classes would rebuild the pre-tokenizer their own way.
    config.insert("tokenizer_class".into(), json!("PreTrainedTokenizerFast"));
    atomic::write(&dir.join("tokenizer.json"), tokenizer.json())?;
    atomic::write(&dir.join("tokenizer_config.json"), &pretty(config))?;
    atomic::write(&dir.join("generation_config.json"), &pretty(generation))?;
    if let Some(template) = chat_template {
        atomic::write(&dir.join("chat_template.jinja"), template.as_bytes())?;
    }
    Ok(())
}

fn pretty(object: Map<String, Value>) -> Vec<u8> {
    format!("{:#}\n", Value::Object(object)).into_bytes()
}

/// Every `*_token` of tokenizer_config.json, written as text or as an object with `content`.
pub(super) fn special_tokens_map(path: &Path) -> Result<BTreeMap<String, String>, TokenizerError> {
    let damaged = |problem: String| TokenizerError::Damaged { path: path.to_owned(), problem };
    let value: Value = serde_json::from_slice(&read_capped(path)?).map_err(|e| damaged(e.to_string()))?;
    let config = value.as_object().ok_or_else(|| damaged("not an object".into()))?;
    let token = |(key, value): (&String, &Value)| {
        let text = value.as_str().or_else(|| value["content"].as_str())?;
        key.ends_with("_token").then(|| (key.clone(), text.to_owned()))
    };
    Ok(config.iter().filter_map(token).collect())
}
