//! The fields of a `config.json`, taken out one by one, so that what is left over was not understood.

use super::{shorten, unsupported};
use crate::config::FieldError;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Fields that say how a model was stored or called, not what it computes.
const HARMLESS: &[&str] = &[
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_commit_hash",
    "_flash_attn_2_enabled",
    "_name_or_path",
    "_sliding_window_pattern",
    "architectures",
    "attn_implementation",
    "auto_map",
    "cache_implementation",
    "chunk_size_feed_forward",
    "dtype",
    "finetuning_task",
    "id2label",
    "initial_context_length",
    "is_llama_config",
    "label2id",
    "max_window_layers",
    "num_labels",
    "output_attentions",
    "output_hidden_states",
    "output_router_logits",
    "prefix",
    "pretraining_tp",
    "problem_type",
    "return_dict",
    "task_specific_params",
    "tokenizer_class",
    "torch_dtype",
    "torchscript",
    "transformers.js_config",
    "transformers_version",
    "unsloth_fixed",
    "unsloth_version",
    "use_bfloat16",
    "use_cache",
];

/// Fields that are not yet understood.
pub(super) struct Fields {
    map: Map<String, Value>,
    nulls: Vec<String>,
}

impl Fields {
    /// Null means "not set" in nearly any field.
    pub(super) fn new(mut map: Map<String, Value>) -> Fields {
        let nulls = map.iter().filter(|(_, value)| value.is_null()).map(|(key, _)| key.clone()).collect();
        map.retain(|_, value| !value.is_null());
        Fields { map, nulls }
    }

    /// Whether the field is set to null, where that is not the same as being left out.
    pub(super) fn is_null(&self, field: &str) -> bool {
        self.nulls.iter().any(|null| null == field)
    }

    /// As [`Fields::take`], with null for none.
    pub(super) fn take_or_none<T: DeserializeOwned>(
        &mut self,
        field: &str,
        to: &mut Option<T>,
    ) -> Result<(), FieldError> {
        if self.is_null(field) {
            *to = None;
        } else if let Some(value) = self.get(field)? {
            *to = Some(value);
        }
        Ok(())
    }

    /// A field as it is, if it is set.
    pub(super) fn raw(&mut self, field: &str) -> Option<Value> {
        self.map.remove(field)
    }

    /// A field's value, if it is set.
    pub(super) fn get<T: DeserializeOwned>(&mut self, field: &str) -> Result<Option<T>, FieldError> {
        self.map.remove(field).map(|value| parse(field, value)).transpose()
    }

    /// Sets `to` where the field is set.
    pub(super) fn take<T: DeserializeOwned>(&mut self, field: &str, to: &mut T) -> Result<(), FieldError> {
        if let Some(value) = self.get(field)? {
            *to = value;
        }
        Ok(())
    }

    /// Sets `to`, or refuses a file without the field.
    pub(super) fn need<T: DeserializeOwned>(&mut self, field: &str, to: &mut T) -> Result<(), FieldError> {
        *to = self.get(field)?.ok_or_else(|| FieldError::new(field, "is missing: add it"))?;
        Ok(())
    }

    /// A field of which one value is supported.
    pub(super) fn fixed(&mut self, field: &str, only: &Value) -> Result<(), FieldError> {
        match self.map.remove(field) {
            Some(value) if !same(&value, only) => Err(unsupported(field, &value, &format!("only {only} is"))),
            _ => Ok(()),
        }
    }

    /// Refuses what is left, but for what is harmless.
    pub(super) fn finish(self) -> Result<(), FieldError> {
        // Early Llama files write -1 for "no such token".
        let harmless = |key: &str| HARMLESS.contains(&key) || key.ends_with("_token_id");
        match self.map.iter().find(|(key, _)| !harmless(key)) {
            Some((key, value)) => {
                Err(unsupported(&shorten(key), value, "it is unknown; remove it if it has no effect"))
            }
            None => Ok(()),
        }
    }
}

/// Whether two values are the same, numbers by value.
pub(super) fn same(a: &Value, b: &Value) -> bool {
    a == b || a.as_f64().is_some() && a.as_f64() == b.as_f64()
}

pub(super) fn parse<T: DeserializeOwned>(field: &str, value: Value) -> Result<T, FieldError> {
    serde_json::from_value(value)
        .map_err(|e| FieldError::new(field, format!("is wrong: {}", shorten(&e.to_string()))))
}
