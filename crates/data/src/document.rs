//! Documents in: JSONL (plain or `.zst`) and plain text, streamed, every error with its file and line.
//!
//! A reader yields `Result`s; after an error it ends, because the rest of a broken file cannot be trusted.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use smolt_run::error::FileError;

use crate::error::Error;

pub use smolt_text::template::Message;

/// The longest line of a JSONL file, in bytes: bounds the memory that a hostile file can claim.
pub const MAX_LINE: usize = 64 << 20;

/// The largest plain text file taken as one document, in bytes.
pub const MAX_TEXT_FILE: u64 = 1 << 30;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// One text, as `{"id"?, "text", "source"?, "url"?, …}` in JSONL; other keys are its metadata.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Document {
    /// A string or a number in the file; a text file's is its path.
    #[serde(default, deserialize_with = "string_or_number", skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The text itself.
    pub text: String,
    /// Where it came from, for provenance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The page it was taken from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Every other key, written back as it was read.
    #[serde(flatten)]
    pub metadata: serde_json::Map<String, serde_json::Value>,
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

/// What a JSONL line can hold.
pub trait Record: DeserializeOwned {
    /// The expected shape, for error messages.
    const SHAPE: &'static str;
    /// True when there is nothing to learn from it; tokenizing leaves such records out and counts them.
    fn is_empty(&self) -> bool;
}

impl Record for Document {
    const SHAPE: &'static str = r#"{"id"?, "text", "source"?}"#;
    fn is_empty(&self) -> bool {
        self.text.trim().is_empty()
    }
}

impl Record for Chat {
    const SHAPE: &'static str = r#"{"messages": [{"role", "content"}, …]}"#;
    fn is_empty(&self) -> bool {
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

/// A streaming reader of JSONL. Blank lines are ignored.
pub struct JsonLines<T> {
    path: PathBuf,
    input: Box<dyn BufRead + Send>,
    line: u64,
    ended: bool,
    buffer: Vec<u8>,
    record: PhantomData<T>,
}

impl<T: Record> JsonLines<T> {
    /// Opens a file; a name that ends in `.zst` is decompressed on the way.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Ok(Self::new(path, open_stream(path)?))
    }

    /// Reads from memory or any other source; `path` only names it in errors.
    pub fn new(path: &Path, input: Box<dyn BufRead + Send>) -> Self {
        Self { path: path.to_owned(), input, line: 0, ended: false, buffer: Vec::new(), record: PhantomData }
    }

    fn error(&self, problem: impl Into<String>) -> Error {
        Error::Line { path: self.path.clone(), line: self.line, problem: problem.into() }
    }

    fn read(&mut self) -> Result<Option<T>, Error> {
        loop {
            self.line += 1;
            match read_line(&mut self.input, &mut self.buffer, MAX_LINE) {
                Ok(Line::End) => return Ok(None),
                Ok(Line::TooLong) => {
                    return Err(self.error(format!("line longer than {MAX_LINE} bytes; split the document")));
                }
                Ok(Line::Read) => {}
                Err(source) => {
                    return Err(self.error(format!("cannot read: {source}; is the file complete?")));
                }
            }
            let bytes = match self.line {
                1 => self.buffer.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&self.buffer),
                _ => &self.buffer,
            };
            if bytes.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let text = std::str::from_utf8(bytes).map_err(|source| {
                self.error(format!(
                    "not UTF-8 at byte {} of the line; convert the file",
                    source.valid_up_to()
                ))
            })?;
            return serde_json::from_str(text)
                .map(Some)
                .map_err(|source| self.error(format!("{source}; expected {} on one line", T::SHAPE)));
        }
    }
}

impl<T: Record> Iterator for JsonLines<T> {
    type Item = Result<T, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let item = self.read().transpose();
        self.ended = !matches!(item, Some(Ok(_)));
        item
    }
}

enum Line {
    Read,
    TooLong,
    End,
}

/// Reads up to and including `\n` into `buffer`, at most `limit` bytes.
fn read_line(input: &mut dyn BufRead, buffer: &mut Vec<u8>, limit: usize) -> io::Result<Line> {
    buffer.clear();
    let read = input.take(limit as u64 + 1).read_until(b'\n', buffer)?;
    Ok(match read {
        0 => Line::End,
        _ if buffer.len() > limit => Line::TooLong,
        _ => Line::Read,
    })
}

fn open_stream(path: &Path) -> Result<Box<dyn BufRead + Send>, Error> {
    let reading = |source| FileError::reading(path, source);
    let file = File::open(path).map_err(reading)?;
    if path.extension().is_some_and(|extension| extension == "zst") {
        let decoder = zstd::Decoder::new(file).map_err(reading)?;
        return Ok(Box::new(BufReader::with_capacity(1 << 17, decoder)));
    }
    Ok(Box::new(BufReader::with_capacity(1 << 17, file)))
}

/// Reads one text file (plain or `.zst`) as one document whose id and source are its path.
pub fn read_text(path: &Path) -> Result<Document, Error> {
    let problem = |problem| Error::Text { path: path.to_owned(), problem };
    let mut bytes = Vec::new();
    open_stream(path)?
        .take(MAX_TEXT_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| FileError::reading(path, source))?;
    if bytes.len() as u64 > MAX_TEXT_FILE {
        return Err(problem(format!("larger than {MAX_TEXT_FILE} bytes; split it into documents as JSONL")));
    }
    if bytes.starts_with(BYTE_ORDER_MARK) {
        bytes.drain(..BYTE_ORDER_MARK.len());
    }
    let text = String::from_utf8(bytes).map_err(|source| {
        problem(format!("not UTF-8 at byte {}; convert the file", source.utf8_error().valid_up_to()))
    })?;
    let name = path.display().to_string();
    Ok(Document { id: Some(name.clone()), text, source: Some(name), ..Document::default() })
}

/// The documents of several files in order: `.jsonl` and `.jsonl.zst` line by line, any other file as one document.
pub struct Documents {
    paths: VecDeque<PathBuf>,
    current: Option<JsonLines<Document>>,
    ended: bool,
}

impl Documents {
    /// Files are opened one after another while reading.
    pub fn new(paths: &[PathBuf]) -> Self {
        Self { paths: VecDeque::from(paths.to_vec()), current: None, ended: false }
    }

    fn read(&mut self) -> Result<Option<Document>, Error> {
        loop {
            if let Some(lines) = &mut self.current {
                if let Some(item) = lines.next() {
                    return item.map(Some);
                }
                self.current = None;
            }
            let Some(path) = self.paths.pop_front() else { return Ok(None) };
            if is_jsonl(&path) {
                self.current = Some(JsonLines::open(&path)?);
            } else {
                return read_text(&path).map(Some);
            }
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
        self.ended = !matches!(item, Some(Ok(_)));
        item
    }
}

fn is_jsonl(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = name.strip_suffix(".zst").unwrap_or(&name);
    name.ends_with(".jsonl") || name.ends_with(".ndjson")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines<T: Record>(bytes: &[u8]) -> JsonLines<T> {
        JsonLines::new(Path::new("in.jsonl"), Box::new(io::Cursor::new(bytes.to_vec())))
    }

    #[test]
    fn documents_with_and_without_ids() {
        let input = "\u{FEFF}{\"id\": 7, \"text\": \"a\", \"url\": \"x\"}\n\n{\"text\":\" \"}\r\n{\"id\":\"b\",\"text\":\"é\",\"source\":\"s\"}";
        let read: Vec<_> = lines::<Document>(input.as_bytes()).map(Result::unwrap).collect();
        assert_eq!(read.len(), 3);
        let url = Some("x".to_owned());
        assert_eq!(read[0], Document { id: Some("7".into()), text: "a".into(), url, ..Document::default() });
        assert!(read[1].is_empty());
        assert_eq!(read[2].text, "é");
    }

    #[test]
    fn chats() {
        let mut reader = lines::<Chat>(br#"{"messages":[{"role":"user","content":"hi"}]}"#);
        assert_eq!(reader.next().unwrap().unwrap().messages[0].role, "user");
        assert!(reader.next().is_none());
    }

    #[test]
    fn errors_name_file_line_and_place_and_end_the_stream() {
        let mut reader = lines::<Document>(b"{\"text\":\"a\"}\n{\"text\":\"\xFF\"}\n{\"text\":\"b\"}\n");
        assert!(reader.next().unwrap().is_ok());
        let error = reader.next().unwrap().unwrap_err().to_string();
        assert!(error.contains("in.jsonl:2: not UTF-8 at byte 9"), "{error}");
        assert!(reader.next().is_none());
        let error = lines::<Document>(b"{\"txt\":1}").next().unwrap().unwrap_err().to_string();
        assert!(error.contains("in.jsonl:1:") && error.contains("text"), "{error}");
    }

    #[test]
    fn lines_are_capped() {
        let mut buffer = Vec::new();
        let mut input: &[u8] = b"12345\n";
        assert!(matches!(read_line(&mut input, &mut buffer, 6).unwrap(), Line::Read));
        let mut input: &[u8] = b"123456\n";
        assert!(matches!(read_line(&mut input, &mut buffer, 6).unwrap(), Line::TooLong));
    }

    #[test]
    fn files_plain_and_compressed() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("a.txt"), "first").unwrap();
        std::fs::write(path("empty.txt"), " \n").unwrap();
        let jsonl = b"{\"text\":\"second\"}\n{\"text\":\"\"}\n{\"text\":\"third\"}\n";
        let packed = zstd::encode_all(&jsonl[..], 3).unwrap();
        std::fs::write(path("b.jsonl.zst"), &packed).unwrap();
        let documents = Documents::new(&[path("a.txt"), path("empty.txt"), path("b.jsonl.zst")]);
        let texts: Vec<_> = documents.map(|document| document.unwrap().text).collect();
        assert_eq!(texts, ["first", " \n", "second", "", "third"]);

        std::fs::write(path("cut.jsonl.zst"), &packed[..packed.len() - 5]).unwrap();
        assert!(Documents::new(&[path("cut.jsonl.zst")]).any(|document| document.is_err()));
        std::fs::write(path("bad.txt"), b"ab\xC3").unwrap();
        let error = read_text(&path("bad.txt")).unwrap_err().to_string();
        assert!(error.contains("bad.txt: not UTF-8 at byte 2"), "{error}");
        let error = Documents::new(&[path("gone.txt")]).next().unwrap().unwrap_err().to_string();
        assert!(error.contains("gone.txt"), "{error}");
    }

    proptest! {
        #[test]
        fn any_text_round_trips(texts in prop::collection::vec(".*\\S.*", 0..20)) {
            let mut bytes = Vec::new();
            for text in &texts {
                serde_json::to_writer(&mut bytes, &serde_json::json!({ "text": text })).unwrap();
                bytes.push(b'\n');
            }
            let read: Vec<_> = lines::<Document>(&bytes).map(|document| document.unwrap().text).collect();
            prop_assert_eq!(read, texts);
        }

        #[test]
        fn any_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            crate::fuzz::fuzz_jsonl(&bytes);
        }
    }
}
