//! One turn of a conversation.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// One turn, in the form of the OpenAI API and of chat datasets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant`, `tool` or what the template knows.
    pub role: String,
    /// What is said; missing or null, as in messages that only call tools, reads as empty.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub content: String,
    /// Every other field (`tool_calls`, `reasoning_content`, …), in order; templates see them.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

fn null_is_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.unwrap_or_default())
}

impl Message {
    /// A plain turn.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into(), extra: Map::new() }
    }

    /// What templates see, as transformers gives it: no null fields, and reasoning under its standard name.
    pub(super) fn for_template(&self) -> Value {
        let mut map = Map::new();
        map.insert("role".into(), self.role.clone().into());
        map.insert("content".into(), self.content.clone().into());
        for (key, value) in self.extra.iter().filter(|(_, value)| !value.is_null()) {
            map.insert(key.clone(), value.clone());
        }
        let reasoning =
            ["reasoning_content", "thinking", "reasoning"].iter().find_map(|key| map.get(*key)).cloned();
        if let Some(reasoning) = reasoning {
            map.entry("thinking").or_insert(reasoning.clone());
            map.insert("reasoning_content".into(), reasoning);
        }
        Value::Object(map)
    }
}
