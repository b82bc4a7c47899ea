//! One turn of a conversation.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One turn, in the form of the OpenAI API and of chat datasets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Turn", into = "Turn")]
pub struct Message {
    /// `system`, `user`, `assistant`, `tool` or what the template knows.
    pub role: String,
    /// What is said.
    pub content: String,
    /// The content is missing or null, as in messages that only call tools. It reads as empty, but templates find none.
    pub content_is_null: bool,
    /// Every other field (`tool_calls`, `reasoning_content`, …), in order; templates see them.
    pub extra: Map<String, Value>,
}

/// A message as JSON has it.
#[derive(Serialize, Deserialize)]
struct Turn {
    role: String,
    #[serde(default)]
    content: Option<String>,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

impl From<Turn> for Message {
    fn from(turn: Turn) -> Self {
        let content_is_null = turn.content.is_none();
        Self {
            role: turn.role,
            content: turn.content.unwrap_or_default(),
            content_is_null,
            extra: turn.extra,
        }
    }
}

impl From<Message> for Turn {
    fn from(message: Message) -> Self {
        let content = (!message.content_is_null).then_some(message.content);
        Self { role: message.role, content, extra: message.extra }
    }
}

impl Message {
    /// A plain turn.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into(), ..Self::default() }
    }

    /// What templates see, as transformers gives it: no null fields, and reasoning under its standard name.
    pub(super) fn for_template(&self) -> Value {
        let mut map = Map::new();
        map.insert("role".into(), self.role.clone().into());
        if !self.content_is_null {
            map.insert("content".into(), self.content.clone().into());
        }
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
