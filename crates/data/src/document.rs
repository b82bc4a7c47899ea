//! The records of a data set: documents and chats. How files hold them is in [`crate::format`].

use std::collections::VecDeque;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::Error as _;
use serde_json::{Map, Value};

use crate::error::Error;
use crate::format::{self, DocumentReader, OnDamage, ReadOptions, spelling};

pub use crate::format::{JsonLines, MAX_LINE, MAX_TEXT_FILE};
pub use smolt_text::template::Message;

/// What a file says of a document beside its fields, in the order of the file.
pub type Metadata = Map<String, Value>;

/// One text, as `{"id"?, "text", "source"?, "url"?, …}` in JSONL; other keys are its metadata.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Document {
    /// A string or a number in the file; a text file's is its path.
    pub id: Option<String>,
    /// The text itself.
    pub text: String,
    /// Where it came from, for provenance.
    pub source: Option<String>,
    /// The page it was taken from.
    pub url: Option<String>,
    /// Every other key, written back as it was read, but numbers beyond 64 bits as the nearest float; never `id`, `text`,
    /// `source` or `url`.
    pub metadata: Metadata,
}

/// One chat, as `{"messages": [{"role", "content", …}, …], "tools"?}` in JSONL; other keys are ignored.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Chat {
    /// A string or a number in the file.
    #[serde(default, deserialize_with = "string_or_number")]
    pub id: Option<String>,
    /// The turns, in order, with whatever else they hold: calls of tools, reasoning, names.
    pub messages: Vec<Message>,
    /// The tools that the assistant may call: a list in the file, or a string with its JSON.
    #[serde(default, deserialize_with = "list_or_json")]
    pub tools: Option<Vec<Value>>,
}

impl Document {
    /// Nothing but white space, so nothing to learn from.
    pub fn is_empty(&self) -> bool {
        self.text.trim().is_empty()
    }
}

impl Chat {
    /// No turn says anything.
    pub fn is_empty(&self) -> bool {
        self.messages.iter().all(|message| message.content.trim().is_empty())
    }
}

fn string_or_number<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Id {
        Text(String),
        Number(serde_json::Number),
    }
    let text = |id| match id {
        Id::Text(text) => Ok(text),
        Id::Number(number) => {
            spelling(&number).map_err(|problem| D::Error::custom(format!("`id` is {problem}")))
        }
    };
    Option::<Id>::deserialize(deserializer)?.map(text).transpose()
}

fn list_or_json<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Value>>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(None),
        Value::Array(tools) => Ok(Some(tools)),
        Value::String(json) => {
            serde_json::from_str(&json).map_err(|e| D::Error::custom(format!("`tools` is no JSON list: {e}")))
        }
        _ => Err(D::Error::custom("`tools` is no list")),
    }
}

/// The chats of several files in order, opened one after another while reading; of each, up to its first error.
pub fn chats(paths: &[PathBuf]) -> impl Iterator<Item = Result<Chat, Error>> {
    paths.iter().flat_map(|path| {
        let (lines, error) = match JsonLines::open(path) {
            Ok(lines) => (Some(lines), None),
            Err(error) => (None, Some(Err(error))),
        };
        lines.into_iter().flatten().chain(error)
    })
}

/// The documents of several files in order, each read as its name says ([`crate::format::Format::of_name`]).
///
/// It ends after the first error, unless the options say that damaged records are passed over; an error of a file ends
/// it in any case.
pub struct Documents {
    paths: VecDeque<PathBuf>,
    options: ReadOptions,
    current: Option<DocumentReader>,
    ended: bool,
}

impl Documents {
    /// Files are opened one after another while reading.
    pub fn new(paths: &[PathBuf]) -> Self {
        Self::with_options(paths, ReadOptions::default())
    }

    /// The same with other options.
    pub fn with_options(paths: &[PathBuf], options: ReadOptions) -> Self {
        Self { paths: VecDeque::from(paths.to_vec()), options, current: None, ended: false }
    }

    fn read(&mut self) -> Result<Option<Document>, Error> {
        loop {
            if let Some(reader) = &mut self.current {
                if let Some(item) = reader.next() {
                    return item.map(Some);
                }
                self.current = None;
            }
            let Some(path) = self.paths.pop_front() else { return Ok(None) };
            self.current = Some(format::open(&path, &self.options)?);
        }
    }
}

impl Iterator for Documents {
    type Item = Result<Document, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let item = self.read().transpose();
        self.ended = match &item {
            Some(Ok(_)) => false,
            Some(Err(error)) => self.options.on_damage == OnDamage::Stop || !error.is_recoverable(),
            None => true,
        };
        item
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn chats_keep_tools_and_what_turns_hold() {
        let line = r#"{"id":7,"messages":[{"role":"assistant","content":null,"tool_calls":[1],"name":"a"}],"tools":TOOLS}"#;
        let read = |tools: &str| serde_json::from_str::<Chat>(&line.replace("TOOLS", tools));
        for tools in [r#"[{"name":"f"}]"#, r#""[{\"name\":\"f\"}]""#] {
            let chat = read(tools).unwrap();
            assert_eq!(chat.tools, Some(vec![json!({"name": "f"})]));
            assert_eq!(chat.messages[0].extra["tool_calls"], json!([1]));
            assert!(chat.messages[0].content_is_null && chat.messages[0].extra["name"] == "a");
        }
        assert_eq!(read("null").unwrap().tools, None);
        for bad in ["{}", "\"f\"", "1"] {
            assert!(read(bad).unwrap_err().to_string().contains("`tools`"), "{bad}");
        }
        let large = line.replace(":7,", ":18446744073709551616,").replace("TOOLS", "null");
        assert!(serde_json::from_str::<Chat>(&large).unwrap_err().to_string().contains("in quotes"));
    }

    /// As many files as there may be; only as many as are read at once are open.
    #[test]
    fn chats_are_opened_while_reading() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("a"), r#"{"messages":[]}"#).unwrap();
        let paths = [path("a"), path("later")];
        let mut read = chats(&paths);
        assert!(read.next().unwrap().is_ok(), "the second file is not there yet");
        std::fs::write(path("later"), r#"{"messages":[]}"#).unwrap();
        assert!(read.next().unwrap().is_ok() && read.next().is_none());
        assert!(chats(&[path("gone")]).next().unwrap().unwrap_err().to_string().contains("gone"));
    }
}
