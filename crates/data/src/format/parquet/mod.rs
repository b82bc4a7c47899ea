//! Parquet: rows of any row groups, a batch at a time.
//!
//! The library decodes columns; what they make up is put together here ([`schema`], [`cells`]), because its own rows copy
//! strings without bound, and its Arrow readers, which do not, take as long to compile as smolt's engine. The decoder may
//! panic on damaged files, so it runs under `catch_unwind`; and it believes what a file says of its sizes, so [`footer`]
//! and [`pages`] look at them first. Strings are slices of their pages: a dictionary of a few long strings does not grow
//! by being referred to.

mod cells;
mod column;
mod footer;
mod pages;
mod schema;
mod thrift;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use parquet::basic::Type as Physical;
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::reader::FileReader;
use parquet::file::serialized_reader::SerializedFileReader;
use serde_json::Value;

use super::json::metadata_key;
use super::source::{Body, Input};
use super::{ReadDocument, ReadOptions};
use crate::document::{Document, Metadata};
use crate::error::{Error, Fault, Place};
use cells::Stop;
use column::Column;
use pages::Pages;
use schema::{Kind, Node, Scalar};

/// Mean bytes of a batch of rows.
const BATCH_BYTES: u64 = 16 << 20;

/// The most rows of a batch.
const BATCH_ROWS: u64 = 1024;

/// The most leaf columns of a file.
const MAX_COLUMNS: usize = 1 << 12;

/// A key of the file's own metadata: its column `metadata` holds the metadata of documents as JSON.
pub(super) const METADATA_MARK: (&str, &str) = ("smolt.metadata", "json");

/// The rows of a file.
pub(crate) struct Rows {
    path: PathBuf,
    pages: Pages,
    file: SerializedFileReader<Pages>,
    fields: Vec<(Field, Node)>,
    max_record: usize,
    /// The current row group and the rows of it that were decoded.
    group: usize,
    decoded: u64,
    /// The leaf columns of the row group, once it has begun.
    columns: Option<Vec<Column>>,
    /// This group's rows are decoded one by one, because batches of them were too large.
    single: bool,
    /// Rows of the batch that were not yielded yet.
    left_in_batch: usize,
    /// Rows yielded so far, in the whole file.
    row: u64,
}

/// What a column is to a document.
enum Field {
    Text,
    Id,
    Source,
    Url,
    /// The whole metadata as JSON, as smolt writes it.
    Metadata,
    Other(String),
}

impl Rows {
    /// Reads the footer. The text must be one of the columns.
    pub(crate) fn open(input: Input, options: &ReadOptions) -> Result<Self, Error> {
        Self::with_text(input, options, Some(&options.text_key))
    }

    /// Reads the footer. Every column, whatever its name, becomes metadata under that name: see `rows.rs`.
    pub(crate) fn open_all(input: Input, options: &ReadOptions) -> Result<Self, Error> {
        Self::with_text(input, options, None)
    }

    fn with_text(input: Input, options: &ReadOptions, text_key: Option<&str>) -> Result<Self, Error> {
        let Input { name: path, body } = input;
        let Body::Random(bytes) = body else {
            let problem = "Parquet is read from its end; it cannot come from a stream";
            return Err(Error::damaged(&path, Place::File, problem));
        };
        let pages = Pages::new(bytes);
        let opened = pages.check_footer().and_then(|()| {
            guarded(|| {
                let file = SerializedFileReader::new(pages.clone()).map_err(|error| error.to_string())?;
                let fields = fields(file.metadata(), text_key)?;
                Ok((file, fields))
            })
        });
        let (file, fields) = opened.map_err(|problem| Error::damaged(&path, Place::File, problem))?;
        Ok(Self {
            path,
            pages,
            file,
            fields,
            max_record: options.max_record(),
            group: 0,
            decoded: 0,
            columns: None,
            single: false,
            left_in_batch: 0,
            row: 0,
        })
    }

    /// Decodes more rows; false at the end.
    fn next_batch(&mut self) -> Result<bool, String> {
        while let Some(group) = self.file.metadata().row_groups().get(self.group) {
            let expected = group.num_rows();
            let rows = if self.single { 1 } else { batch_rows(group) };
            match self.decode(rows) {
                Ok((_, 0)) => {
                    if u64::try_from(expected) != Ok(self.decoded) {
                        return Err(format!(
                            "row group {} has {} rows, not {expected}",
                            self.group, self.decoded
                        ));
                    }
                    (self.group, self.decoded, self.single) = (self.group + 1, 0, false);
                }
                Ok((columns, rows)) => {
                    self.decoded += rows as u64;
                    (self.columns, self.left_in_batch) = (Some(columns), rows);
                    return Ok(true);
                }
                Err(_) if self.pages.batch_was_too_large() && !self.single => self.single = true,
                Err(problem) => return Err(format!("row group {}: {problem}", self.group)),
            }
        }
        Ok(false)
    }

    /// The next rows of the current row group, and how many they are.
    fn decode(&mut self, rows: usize) -> Result<(Vec<Column>, usize), String> {
        let mut columns = match self.columns.take() {
            Some(columns) => columns,
            None => self.start_group()?,
        };
        self.pages.start_batch();
        let decoded =
            guarded(|| columns.iter_mut().map(|column| column.fill(rows)).collect::<Result<Vec<_>, _>>());
        let decoded = decoded?;
        match decoded.as_slice() {
            [] => Ok((columns, 0)),
            [first, others @ ..] if others.iter().all(|other| other == first) => Ok((columns, *first)),
            _ => Err("its columns end after different rows".to_owned()),
        }
    }

    /// The columns of the current row group, past the rows that were decoded.
    fn start_group(&self) -> Result<Vec<Column>, String> {
        let group = self.file.metadata().row_group(self.group);
        let chunks = group.columns().iter().map(|column| {
            // The library takes negative places and lengths for its own mistake and panics.
            let start = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
            match start < 0 || column.compressed_size() < 0 {
                true => Err("a column lies at a negative place".to_owned()),
                false => guarded(|| Ok((column.byte_range(), column.column_descr().max_rep_level() > 0))),
            }
        });
        self.pages.start_group(chunks.collect::<Result<_, _>>()?)?;
        let decoded = usize::try_from(self.decoded).map_err(|e| e.to_string())?;
        guarded(|| {
            let reader = self.file.get_row_group(self.group).map_err(|error| error.to_string())?;
            let columns = group.columns().iter().enumerate().map(|(at, column)| {
                let chunk = reader.get_column_reader(at).map_err(|error| error.to_string())?;
                let mut column = Column::new(column.column_descr(), chunk);
                column.skip(decoded)?;
                Ok(column)
            });
            columns.collect()
        })
    }

    /// The next row of the batch as a document.
    fn document(&mut self) -> Result<Document, Problem> {
        let columns = self.columns.as_deref_mut().unwrap_or_default();
        let max_record = self.max_record;
        let stopped = |stop| Problem::of(stop, max_record);
        columns.iter_mut().try_for_each(Column::start_row).map_err(|error| stopped(error.into()))?;
        let mut document = Document::default();
        let mut row = cells::Row { columns, left: max_record };
        for (field, node) in &self.fields {
            if matches!(field, Field::Text) {
                let text = row.text(node).map_err(stopped)?;
                let text =
                    text.ok_or_else(|| Problem::Record(Fault::Fields, "its text is null".to_owned()))?;
                let text = std::str::from_utf8(text).map_err(|source| {
                    let problem = format!("not UTF-8 at byte {} of its text", source.valid_up_to());
                    Problem::Record(Fault::NotUtf8, problem)
                })?;
                text.clone_into(&mut document.text);
                continue;
            }
            let value = row.json(node).map_err(stopped)?;
            let metadata = &mut document.metadata;
            match field {
                Field::Text => {}
                Field::Id => set(&mut document.id, metadata, "id", value),
                Field::Source => set(&mut document.source, metadata, "source", value),
                Field::Url => set(&mut document.url, metadata, "url", value),
                Field::Metadata => unpack(metadata, value)?,
                Field::Other(name) => drop(metadata.insert(name.clone(), value)),
            }
        }
        match row.columns.iter().all(Column::row_is_done) {
            true => Ok(document),
            false => Err(stopped(Stop::Disagree)),
        }
    }
}

/// Why a row is no document.
enum Problem {
    /// The next one may be.
    Record(Fault, String),
    /// The file is damaged.
    File(String),
}

impl Problem {
    fn of(stop: Stop, max_record: usize) -> Self {
        match stop {
            Stop::TooLong => {
                let problem = format!("row longer than {max_record} bytes; split the document");
                Self::Record(Fault::TooLong, problem)
            }
            Stop::Disagree => Self::File("the columns of a row do not fit together".to_owned()),
        }
    }
}

/// The field's value if it is a string or a number; anything else is metadata.
fn set(field: &mut Option<String>, metadata: &mut Metadata, name: &str, value: Value) {
    match value {
        Value::Null => {}
        Value::String(text) => *field = Some(text),
        Value::Number(number) => *field = Some(number.to_string()),
        other => {
            metadata.insert(metadata_key(name.to_owned()), other);
        }
    }
}

/// Metadata that smolt wrote.
fn unpack(metadata: &mut Metadata, value: Value) -> Result<(), Problem> {
    let bad = || Problem::Record(Fault::NotJson, "its metadata is no JSON object".to_owned());
    let Value::String(json) = value else { return if value.is_null() { Ok(()) } else { Err(bad()) } };
    let object: Metadata = serde_json::from_str(&json).map_err(|_| bad())?;
    metadata.extend(object.into_iter().map(|(key, value)| (metadata_key(key), value)));
    Ok(())
}

impl ReadDocument for Rows {
    fn read(&mut self) -> Result<Option<Document>, Error> {
        loop {
            if self.left_in_batch > 0 {
                self.left_in_batch -= 1;
                self.row += 1;
                let place = Place::Row(self.row);
                return self.document().map(Some).map_err(|problem| match problem {
                    Problem::Record(fault, problem) => Error::record(&self.path, place, fault, problem),
                    Problem::File(problem) => Error::damaged(&self.path, place, problem),
                });
            }
            let more = self.next_batch();
            let place = Place::Row(self.row + 1);
            if !more.map_err(|problem| Error::damaged(&self.path, place, problem))? {
                return Ok(None);
            }
        }
    }
}

impl super::rows::ReadRow for Rows {
    fn read_row(&mut self) -> Result<Option<super::rows::Row>, Error> {
        Ok(self.read()?.map(|document| document.metadata))
    }
}

/// Runs the decoder; a panic of it is an error like any other.
fn guarded<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    let result = catch_unwind(AssertUnwindSafe(work));
    result.unwrap_or_else(|_| Err("the file is damaged, its decoder gave up".to_owned()))
}

/// What the columns are. Without a key of the text, none is a field of the document.
fn fields(metadata: &ParquetMetaData, text_key: Option<&str>) -> Result<Vec<(Field, Node)>, String> {
    let schema = metadata.file_metadata().schema_descr();
    if schema.num_columns() > MAX_COLUMNS {
        return Err(format!("{} columns, more than {MAX_COLUMNS}", schema.num_columns()));
    }
    let own = metadata.file_metadata().key_value_metadata();
    let marked = own
        .into_iter()
        .flatten()
        .any(|pair| (pair.key.as_str(), pair.value.as_deref().unwrap_or_default()) == METADATA_MARK);
    let is_string = |node: &Node| {
        matches!(node.kind, Kind::Leaf(Scalar::Text))
            && schema.column(node.leaves.start).physical_type() == Physical::BYTE_ARRAY
    };
    let nodes = schema::columns(schema.root_schema())?;
    let strings: Vec<String> =
        nodes.iter().filter(|node| is_string(node)).map(|node| node.name.clone()).collect();
    let mut fields = Vec::new();
    let mut kept = std::collections::BTreeSet::new();
    for node in nodes {
        let field = match node.name.as_str() {
            name if text_key.is_none() => Field::Other(name.to_owned()),
            name if Some(name) == text_key && is_string(&node) => Field::Text,
            "id" => Field::Id,
            "source" => Field::Source,
            "url" => Field::Url,
            "metadata" if marked => Field::Metadata,
            name => Field::Other(metadata_key(name.to_owned())),
        };
        let key = if let Field::Other(key) = &field { key.as_str() } else { node.name.as_str() };
        if !kept.insert(key.to_owned()) {
            return Err(format!("two columns are called `{}`; rename one", node.name));
        }
        fields.push((field, node));
    }
    match text_key {
        Some(key) if !fields.iter().any(|(field, _)| matches!(field, Field::Text)) => {
            Err(super::no_text_column(key, &strings))
        }
        _ => Ok(fields),
    }
}

/// Rows of a batch, by what the footer says of their mean size.
fn batch_rows(group: &RowGroupMetaData) -> usize {
    let size = |size: i64| u64::try_from(size).unwrap_or(0);
    let bytes: u64 =
        group.columns().iter().fold(0, |sum, column| sum.saturating_add(size(column.uncompressed_size())));
    let mean = bytes / size(group.num_rows()).max(1);
    (BATCH_BYTES / mean.max(1)).clamp(1, BATCH_ROWS) as usize
}

#[cfg(test)]
pub(super) mod fixture;
#[cfg(test)]
mod tests;
