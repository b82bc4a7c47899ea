//! The records of a data set: documents and chats. How files hold them is in [`crate::format`].

use std::collections::VecDeque;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::error::Error;
use crate::format::{self, DocumentReader, OnDamage, ReadOptions};

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
    /// Every other key, written back as it was read; never `id`, `text`, `source` or `url`.
    pub metadata: Metadata,
}

/// One chat, as `{"messages": [{"role", "content"}, …]}` in JSONL; other keys are ignored.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Chat {
    /// A string or a number in the file.
    #[serde(default, deserialize_with = "string_or_number")]
    pub id: Option<String>,
    /// The turns, in order.
    pub messages: Vec<Message>,
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
    Ok(Option::<Id>::deserialize(deserializer)?.map(|id| match id {
        Id::Text(text) => text,
        Id::Number(number) => number.to_string(),
    }))
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
