//! Readers and writers of documents, one file per format: JSONL, Parquet, CSV, plain text, WARC and WET.
//!
//! A reader streams: it holds one record, or for Parquet a few pages. It yields `Result`s. An error of one record is
//! *recoverable* ([`Error::is_recoverable`]): with [`OnDamage::Continue`] the reader goes on behind it, so that a caller
//! can count what was lost. An error of the file (a cut archive, a damaged footer) is final.

mod compress;
mod csv;
pub mod dataset;

mod json;
mod jsonl;
mod lines;
mod list;
mod rows;
mod source;
mod text;
mod warc;
pub mod write;

#[cfg(feature = "parquet")]
pub(crate) mod parquet;

use std::path::Path;

use crate::document::Document;
use crate::error::Error;

pub(crate) use json::spelling;
pub use jsonl::{JsonLines, Record};
pub use rows::{Row, Rows, rows};
pub use source::{Body, Input, RandomAccess};
pub use text::MAX_TEXT_FILE;

/// The longest record that is read unless the options say otherwise, in bytes: a line of JSONL, a row, a web page. It
/// bounds the memory that a hostile file can claim.
pub const MAX_LINE: usize = 64 << 20;

/// The highest limit that can be set.
const HIGHEST_LIMIT: usize = 1 << 30;

/// What files of documents hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object per line.
    Jsonl,
    /// Rows in columns, in row groups.
    Parquet,
    /// Comma-separated rows below a header.
    Csv,
    /// Tab-separated rows below a header.
    Tsv,
    /// Web pages, or the text of web pages (WET), with their headers.
    Warc,
    /// Plain text.
    Text,
}

impl Format {
    /// What the name of a file says, behind an optional `.gz` or `.zst`. `None` where it says nothing.
    pub fn of_name(name: &Path) -> Option<Self> {
        let name = name.file_name()?.to_string_lossy().to_ascii_lowercase();
        let plain = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(&name);
        let (_, extension) = plain.rsplit_once('.')?;
        match extension {
            "jsonl" | "ndjson" | "json" => Some(Self::Jsonl),
            "parquet" => Some(Self::Parquet),
            "csv" => Some(Self::Csv),
            "tsv" => Some(Self::Tsv),
            "warc" | "wet" => Some(Self::Warc),
            "txt" | "text" | "md" => Some(Self::Text),
            _ => None,
        }
    }
}

/// What happens after a damaged record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDamage {
    /// Its error is the last thing the reader yields.
    #[default]
    Stop,
    /// Its error is yielded and the reader goes on behind it.
    Continue,
}

/// What a plain text file is divided into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TextUnit {
    /// It is one document.
    #[default]
    File,
    /// Each line that is not blank is one.
    Line,
    /// Each run of lines that are not blank is one.
    Paragraph,
}

/// How documents are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadOptions {
    /// The key or column of the text, `text` unless set.
    pub text_key: String,
    /// The longest line, row or page in bytes, at most 1 GiB.
    pub max_record: usize,
    /// What a plain text file is divided into.
    pub unit: TextUnit,
    /// What happens after a damaged record.
    pub on_damage: OnDamage,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            text_key: "text".to_owned(),
            max_record: MAX_LINE,
            unit: TextUnit::File,
            on_damage: OnDamage::Stop,
        }
    }
}

impl ReadOptions {
    /// The limit in bytes, itself bounded.
    pub(crate) fn max_record(&self) -> usize {
        self.max_record.min(HIGHEST_LIMIT)
    }
}

/// The documents of one file.
pub struct DocumentReader {
    inner: Box<dyn ReadDocument>,
    guard: Guard,
}

impl Iterator for DocumentReader {
    type Item = Result<Document, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.guard.ended {
            return None;
        }
        let item = self.inner.read();
        self.guard.pass(item)
    }
}

/// Opens a local file. A name that says nothing is plain text.
pub fn open(path: &Path, options: &ReadOptions) -> Result<DocumentReader, Error> {
    let format = Format::of_name(path).unwrap_or(Format::Text);
    read(Input::open(path)?, format, options)
}

/// Reads the documents of one file, decompressed if its first bytes are those of gzip or zstd.
pub fn read(input: Input, format: Format, options: &ReadOptions) -> Result<DocumentReader, Error> {
    let inner: Box<dyn ReadDocument> = match format {
        Format::Jsonl => Box::new(JsonLines::read_input(input, options)?),
        Format::Parquet => open_parquet(input, options)?,
        Format::Csv => Box::new(csv::Table::open(input, b',', options)?),
        Format::Tsv => Box::new(csv::Table::open(input, b'\t', options)?),
        Format::Warc => Box::new(warc::Pages::open(input, options)?),
        Format::Text => Box::new(text::Texts::open(input, options)?),
    };
    Ok(DocumentReader { inner, guard: Guard::new(options) })
}

#[cfg(feature = "parquet")]
fn open_parquet(input: Input, options: &ReadOptions) -> Result<Box<dyn ReadDocument>, Error> {
    Ok(Box::new(parquet::Rows::open(input, options)?))
}

#[cfg(not(feature = "parquet"))]
fn open_parquet(input: Input, _: &ReadOptions) -> Result<Box<dyn ReadDocument>, Error> {
    Err(no_parquet(&input))
}

#[cfg(not(feature = "parquet"))]
fn no_parquet(input: &Input) -> Error {
    let problem = "this smolt was built without Parquet; build it with the feature `parquet`";
    Error::damaged(&input.name, crate::error::Place::File, problem)
}

/// Says that the text is not among the columns, and which there are.
fn no_text_column(text_key: &str, names: &[String]) -> String {
    let shown: Vec<&str> = names.iter().take(30).map(String::as_str).collect();
    format!("no column `{text_key}` for the text; name one of: {}", shown.join(", "))
}

/// A reader of one format. After a recoverable error it can be asked again, after any other it is not.
pub(crate) trait ReadDocument: Send {
    /// The next document, or `None` at the end.
    fn read(&mut self) -> Result<Option<Document>, Error>;
}

/// Ends a stream as the policy says.
pub(crate) struct Guard {
    on_damage: OnDamage,
    ended: bool,
}

impl Guard {
    fn new(options: &ReadOptions) -> Self {
        Self { on_damage: options.on_damage, ended: false }
    }

    fn pass<T>(&mut self, item: Result<Option<T>, Error>) -> Option<Result<T, Error>> {
        self.ended = match &item {
            Ok(Some(_)) => false,
            Ok(None) => true,
            Err(error) => self.on_damage == OnDamage::Stop || !error.is_recoverable(),
        };
        item.transpose()
    }
}

#[cfg(test)]
mod tests;
