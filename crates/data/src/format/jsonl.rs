//! JSONL: one record per line. This is the hot path of curation, so a line is parsed where it was read.

use std::io::Read;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::de::DeserializeSeed;
use serde_json::error::Category;

use super::json::DocumentSeed;
use super::lines::{Line, Lines};
use super::source::Input;
use super::{Guard, ReadDocument, ReadOptions};
use crate::document::{Chat, Document};
use crate::error::{Error, Fault, Place};

pub(crate) const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// What a JSONL line can hold.
pub trait Record: Sized {
    /// The expected shape, for error messages.
    const SHAPE: &'static str;
    /// Parses one line.
    fn parse(line: &[u8], options: &ReadOptions) -> serde_json::Result<Self>;
}

impl Record for Document {
    const SHAPE: &'static str = r#"{"id"?, "text", "source"?}"#;
    fn parse(line: &[u8], options: &ReadOptions) -> serde_json::Result<Self> {
        let mut deserializer = serde_json::Deserializer::from_slice(line);
        let document = DocumentSeed { text_key: &options.text_key }.deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok(document)
    }
}

impl Record for Chat {
    const SHAPE: &'static str = r#"{"messages": [{"role", "content"}, …]}"#;
    fn parse(line: &[u8], _: &ReadOptions) -> serde_json::Result<Self> {
        serde_json::from_slice(line)
    }
}

/// A streaming reader of JSONL, plain or compressed. Blank lines are ignored.
pub struct JsonLines<T> {
    path: PathBuf,
    lines: Lines,
    options: ReadOptions,
    guard: Guard,
    record: PhantomData<T>,
}

impl<T: Record> JsonLines<T> {
    /// Opens a local file; it ends after the first error.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::read_input(Input::open(path)?, &ReadOptions::default())
    }

    /// Reads from memory or any other stream; `path` only names it in errors. It ends after the first error.
    pub fn new(path: &Path, input: Box<dyn Read + Send>) -> Self {
        Self::from_stream(path.to_owned(), input, &ReadOptions::default())
    }

    /// Reads any input.
    pub fn read_input(input: Input, options: &ReadOptions) -> Result<Self, Error> {
        let (name, stream) = input.into_stream()?;
        Ok(Self::from_stream(name, stream, options))
    }

    pub(super) fn from_stream(path: PathBuf, input: Box<dyn Read + Send>, options: &ReadOptions) -> Self {
        let lines = Lines::new(input, options.max_record());
        let guard = Guard::new(options);
        Self { path, lines, options: options.clone(), guard, record: PhantomData }
    }

    pub(super) fn read_record(&mut self) -> Result<Option<T>, Error> {
        loop {
            let number = self.lines.number + 1;
            let place = Place::Line(number);
            let line = match self.lines.next() {
                Ok(Line::Bytes(line)) => line,
                Ok(Line::End) => return Ok(None),
                Ok(Line::TooLong(length)) => {
                    let limit = self.options.max_record();
                    let problem =
                        format!("line of {length} bytes, longer than {limit} bytes; split the document");
                    return Err(Error::record(&self.path, place, Fault::TooLong, problem));
                }
                Err(source) => return Err(Error::stream(&self.path, place, &source)),
            };
            let line = match number {
                1 => line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line),
                _ => line,
            };
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            return match T::parse(line, &self.options) {
                Ok(record) => Ok(Some(record)),
                Err(source) => Err(diagnose::<T>(&self.path, place, line, &source)),
            };
        }
    }
}

/// Says what is wrong with a line that does not parse.
fn diagnose<T: Record>(path: &Path, place: Place, line: &[u8], source: &serde_json::Error) -> Error {
    if let Err(utf8) = std::str::from_utf8(line) {
        let at = utf8.valid_up_to();
        let problem = format!("not UTF-8 at byte {at} of the line; convert the file");
        return Error::record(path, place, Fault::NotUtf8, problem);
    }
    let head = line.trim_ascii_start().first();
    if place == Place::Line(1) && head == Some(&b'[') {
        let problem =
            format!("a JSON list, not lines; write its items as lines, such as {} (`jq -c '.[]'`)", T::SHAPE);
        return Error::damaged(path, place, problem);
    }
    let fault = match source.classify() {
        Category::Data => Fault::Fields,
        _ => Fault::NotJson,
    };
    Error::record(path, place, fault, format!("{source}; expected {} on one line", T::SHAPE))
}

impl<T: Record> Iterator for JsonLines<T> {
    type Item = Result<T, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.guard.ended {
            return None;
        }
        let item = self.read_record();
        self.guard.pass(item)
    }
}

impl ReadDocument for JsonLines<Document> {
    fn read(&mut self) -> Result<Option<Document>, Error> {
        self.read_record()
    }
}
