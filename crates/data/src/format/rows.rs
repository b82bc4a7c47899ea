//! Rows of a dataset's file as JSON objects with all their columns, as test sets and tables of questions need them.
//!
//! JSONL, a JSON list of objects, Parquet, CSV and TSV, plain or compressed. No column is special: none has to be the
//! text, and none is renamed. Limits, damage and its recovery are those of documents.

use std::fmt;
use std::io::{self, Cursor, Read};

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::map::Entry;
use serde_json::{Map, Value};

use super::jsonl::{BYTE_ORDER_MARK, JsonLines, Record};
use super::list::List;
use super::source::Input;
use super::{Format, Guard, ReadOptions, csv};
use crate::error::{Error, Place};

/// How much white space may come before a JSON list.
const MAX_INDENT: usize = 1 << 16;

/// One row: the names of its columns in the order of the file, and their values.
///
/// Fields of CSV and TSV are strings. Cells of Parquet are what JSON has for them: truth values, numbers, strings, lists and
/// objects as such; times in ISO 8601, decimals and bytes as strings; null where nothing is or JSON has no word (NaN).
pub type Row = Map<String, Value>;

/// The rows of one file.
pub struct Rows {
    inner: Box<dyn ReadRow>,
    guard: Guard,
}

impl Iterator for Rows {
    type Item = Result<Row, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.guard.ended {
            return None;
        }
        let item = self.inner.read_row();
        self.guard.pass(item)
    }
}

/// Reads the rows of one file, decompressed if its first bytes are those of gzip or zstd.
///
/// [`Format::Jsonl`] is also a JSON list: a file whose first character is `[`. Its items are read one at a time, so the
/// limit of [`ReadOptions::max_record`] is one of an item, not of the file. [`ReadOptions::text_key`] and
/// [`ReadOptions::unit`] have no meaning here.
///
/// # Errors
/// A file that cannot be opened as what it is said to be, or holds no rows: web pages and plain text. Damaged rows are
/// errors of the iterator, under [`ReadOptions::on_damage`].
pub fn rows(input: Input, format: Format, options: &ReadOptions) -> Result<Rows, Error> {
    let inner: Box<dyn ReadRow> = match format {
        Format::Jsonl => json(input, options)?,
        Format::Parquet => parquet(input, options)?,
        Format::Csv => Box::new(csv::Table::open_all(input, b',', options)?),
        Format::Tsv => Box::new(csv::Table::open_all(input, b'\t', options)?),
        Format::Warc | Format::Text => {
            let problem = "it has no rows; give JSONL, a JSON list, Parquet, CSV or TSV";
            return Err(Error::damaged(&input.name, Place::File, problem));
        }
    };
    Ok(Rows { inner, guard: Guard::new(options) })
}

/// A reader of rows. After a recoverable error it can be asked again, after any other it is not.
pub(super) trait ReadRow: Send {
    /// The next row, or `None` at the end.
    fn read_row(&mut self) -> Result<Option<Row>, Error>;
}

impl ReadRow for JsonLines<Row> {
    fn read_row(&mut self) -> Result<Option<Row>, Error> {
        self.read_record()
    }
}

/// A list or lines, told by the first character.
fn json(input: Input, options: &ReadOptions) -> Result<Box<dyn ReadRow>, Error> {
    let (name, mut stream) = input.into_stream()?;
    let head = head(&mut stream).map_err(|source| Error::stream(&name, Place::File, &source))?;
    let is_list = first_character(&head) == Some(b'[');
    let whole = Cursor::new(head).chain(stream);
    Ok(if is_list {
        Box::new(List::new(name, Box::new(whole), options.max_record()))
    } else {
        Box::new(JsonLines::<Row>::from_stream(name, Box::new(whole), options))
    })
}

/// The bytes up to the first that is not white space, and whatever came with it.
fn head(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut chunk = [0; 512];
    while first_character(&head).is_none() && head.len() < MAX_INDENT {
        match stream.read(&mut chunk)? {
            0 => break,
            read => head.extend_from_slice(&chunk[..read]),
        }
    }
    Ok(head)
}

fn first_character(head: &[u8]) -> Option<u8> {
    // A part of the mark is no character yet.
    if head.len() < BYTE_ORDER_MARK.len() && BYTE_ORDER_MARK.starts_with(head) {
        return None;
    }
    let head = head.strip_prefix(BYTE_ORDER_MARK).unwrap_or(head);
    head.iter().copied().find(|byte| !byte.is_ascii_whitespace())
}

#[cfg(feature = "parquet")]
fn parquet(input: Input, options: &ReadOptions) -> Result<Box<dyn ReadRow>, Error> {
    Ok(Box::new(super::parquet::Rows::open_all(input, options)?))
}

#[cfg(not(feature = "parquet"))]
fn parquet(input: Input, _: &ReadOptions) -> Result<Box<dyn ReadRow>, Error> {
    Err(super::no_parquet(&input))
}

impl Record for Row {
    const SHAPE: &'static str = r#"{"column": value, …}"#;

    fn parse(line: &[u8], _: &ReadOptions) -> serde_json::Result<Self> {
        let mut deserializer = serde_json::Deserializer::from_slice(line);
        let row = UniqueKeys.deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok(row)
    }
}

/// Reads an object that has no key twice: which value was meant could only be guessed.
struct UniqueKeys;

impl<'de> DeserializeSeed<'de> for UniqueKeys {
    type Value = Row;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Row, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for UniqueKeys {
    type Value = Row;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Row, A::Error> {
        let mut row = Row::new();
        while let Some(key) = map.next_key::<String>()? {
            match row.entry(key) {
                Entry::Vacant(entry) => drop(entry.insert(map.next_value()?)),
                Entry::Occupied(entry) => {
                    return Err(A::Error::custom(format_args!("duplicate field `{}`", entry.key())));
                }
            }
        }
        Ok(row)
    }
}

#[cfg(test)]
mod tests;
