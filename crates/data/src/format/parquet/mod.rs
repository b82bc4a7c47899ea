//! Parquet: rows of any row groups, a batch at a time.
//!
//! The decoder is a library that may panic on damaged files, so it runs under `catch_unwind`; and it believes the sizes
//! that a file gives, so [`pages`] checks them before a page is decoded. Strings are read as views of their pages:
//! a dictionary of a few long strings does not grow by being referred to.

mod pages;
mod value;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{DataType, Field, FieldRef, Fields, Schema};
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::file::metadata::RowGroupMetaData;
use serde_json::Value;

use super::json::metadata_key;
use super::source::{Body, Input};
use super::{ReadDocument, ReadOptions};
use crate::document::{Document, Metadata};
use crate::error::{Error, Fault, Place};
use pages::Pages;

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
    metadata: ArrowReaderMetadata,
    columns: Vec<Column>,
    max_record: usize,
    /// The current row group and the rows of it that were decoded.
    group: usize,
    decoded: u64,
    reader: Option<ParquetRecordBatchReader>,
    /// This group's rows are decoded one by one, because batches of them were too large.
    single: bool,
    batch: Option<RecordBatch>,
    next_in_batch: usize,
    /// Rows yielded so far, in the whole file.
    row: u64,
}

enum Column {
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
        let metadata = guarded(|| load(&pages)).and_then(|metadata| {
            let columns = columns(&metadata, text_key)?;
            Ok((metadata, columns))
        });
        let (metadata, columns) = metadata.map_err(|problem| Error::damaged(&path, Place::File, problem))?;
        Ok(Self {
            path,
            pages,
            metadata,
            columns,
            max_record: options.max_record(),
            group: 0,
            decoded: 0,
            reader: None,
            single: false,
            batch: None,
            next_in_batch: 0,
            row: 0,
        })
    }

    /// Decodes more rows; false at the end.
    fn next_batch(&mut self) -> Result<bool, String> {
        let metadata = Arc::clone(self.metadata.metadata());
        while let Some(group) = metadata.row_groups().get(self.group) {
            let mut reader = match self.reader.take() {
                Some(reader) => reader,
                None => self.start_group(group)?,
            };
            self.pages.start_batch();
            let batch = guarded(|| Ok(reader.next().transpose().map_err(|e| e.to_string())));
            match batch.and_then(|batch| batch) {
                Ok(Some(batch)) => {
                    self.decoded += batch.num_rows() as u64;
                    (self.batch, self.next_in_batch) = (Some(batch), 0);
                    self.reader = Some(reader);
                    return Ok(true);
                }
                Ok(None) => {
                    let expected = group.num_rows();
                    if u64::try_from(expected) != Ok(self.decoded) {
                        return Err(format!(
                            "row group {} has {} rows, not {expected}",
                            self.group, self.decoded
                        ));
                    }
                    (self.group, self.decoded, self.single) = (self.group + 1, 0, false);
                }
                Err(_) if self.pages.batch_was_too_large() && !self.single => self.single = true,
                Err(problem) => return Err(format!("row group {}: {problem}", self.group)),
            }
        }
        Ok(false)
    }

    /// A reader of the rest of the current row group.
    fn start_group(&self, group: &RowGroupMetaData) -> Result<ParquetRecordBatchReader, String> {
        let chunks = group.columns().iter().map(|column| {
            // The library takes negative places and lengths for its own mistake and panics.
            let start = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
            match start < 0 || column.compressed_size() < 0 {
                true => Err("a column lies at a negative place".to_owned()),
                false => guarded(|| Ok(column.byte_range())),
            }
        });
        self.pages.start_group(chunks.collect::<Result<_, _>>()?)?;
        let rows = if self.single { 1 } else { batch_rows(group) };
        let offset = usize::try_from(self.decoded).map_err(|e| e.to_string())?;
        guarded(|| {
            ParquetRecordBatchReaderBuilder::new_with_metadata(self.pages.clone(), self.metadata.clone())
                .with_row_groups(vec![self.group])
                .with_batch_size(rows)
                .with_offset(offset)
                .build()
                .map_err(|error| error.to_string())
        })
    }

    /// The document of a row of the batch.
    fn document(&self, batch: &RecordBatch, row: usize) -> Result<Document, (Fault, String)> {
        let mut document = Document::default();
        let too_long =
            || (Fault::TooLong, format!("row longer than {} bytes; split the document", self.max_record));
        let mut cells = value::Row { left: self.max_record };
        for (column, values) in self.columns.iter().zip(batch.columns()) {
            if matches!(column, Column::Text) {
                let text = value::text(values.as_ref(), row);
                let text = text.ok_or_else(|| (Fault::Fields, "its text is null".to_owned()))?;
                cells.left = cells.left.checked_sub(text.len()).ok_or_else(too_long)?;
                let text = std::str::from_utf8(text).map_err(|source| {
                    (Fault::NotUtf8, format!("not UTF-8 at byte {} of its text", source.valid_up_to()))
                })?;
                text.clone_into(&mut document.text);
                continue;
            }
            let value = cells.json(values.as_ref(), row).ok_or_else(too_long)?;
            let metadata = &mut document.metadata;
            match column {
                Column::Text => {}
                Column::Id => set(&mut document.id, metadata, "id", value),
                Column::Source => set(&mut document.source, metadata, "source", value),
                Column::Url => set(&mut document.url, metadata, "url", value),
                Column::Metadata => unpack(metadata, value)?,
                Column::Other(name) => drop(metadata.insert(name.clone(), value)),
            }
        }
        Ok(document)
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
fn unpack(metadata: &mut Metadata, value: Value) -> Result<(), (Fault, String)> {
    let bad = || (Fault::NotJson, "its metadata is no JSON object".to_owned());
    let Value::String(json) = value else { return if value.is_null() { Ok(()) } else { Err(bad()) } };
    let object: Metadata = serde_json::from_str(&json).map_err(|_| bad())?;
    metadata.extend(object.into_iter().map(|(key, value)| (metadata_key(key), value)));
    Ok(())
}

impl ReadDocument for Rows {
    fn read(&mut self) -> Result<Option<Document>, Error> {
        loop {
            if let Some(batch) = &self.batch
                && self.next_in_batch < batch.num_rows()
            {
                let document = self.document(batch, self.next_in_batch);
                self.next_in_batch += 1;
                self.row += 1;
                return document.map(Some).map_err(|(fault, problem)| {
                    Error::record(&self.path, Place::Row(self.row), fault, problem)
                });
            }
            self.batch = None;
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

/// The footer, with strings to be read as views.
fn load(pages: &Pages) -> Result<ArrowReaderMetadata, String> {
    // The schema that Arrow's writers add is not needed, and would be one thing more to trust.
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let plain = ArrowReaderMetadata::load(pages, options.clone()).map_err(|error| error.to_string())?;
    let leaves = plain.parquet_schema().num_columns();
    if leaves > MAX_COLUMNS {
        return Err(format!("{leaves} columns, more than {MAX_COLUMNS}"));
    }
    let schema = Schema::new(as_views(plain.schema().fields()));
    ArrowReaderMetadata::try_new(Arc::clone(plain.metadata()), options.with_schema(Arc::new(schema)))
        .map_err(|error| error.to_string())
}

fn as_views(fields: &Fields) -> Fields {
    fields.iter().map(as_view).collect()
}

fn as_view(field: &FieldRef) -> FieldRef {
    let kind = match field.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
        DataType::Binary | DataType::LargeBinary => DataType::BinaryView,
        DataType::List(item) => DataType::List(as_view(item)),
        DataType::LargeList(item) => DataType::LargeList(as_view(item)),
        DataType::Map(entries, sorted) => DataType::Map(as_view(entries), *sorted),
        DataType::Struct(fields) => DataType::Struct(as_views(fields)),
        _ => return Arc::clone(field),
    };
    Arc::new(Field::clone(field).with_data_type(kind))
}

/// What the columns are. Without a key of the text, none is a field of the document.
fn columns(metadata: &ArrowReaderMetadata, text_key: Option<&str>) -> Result<Vec<Column>, String> {
    let fields = metadata.schema().fields();
    let own = metadata.metadata().file_metadata().key_value_metadata();
    let marked = own
        .into_iter()
        .flatten()
        .any(|pair| (pair.key.as_str(), pair.value.as_deref().unwrap_or_default()) == METADATA_MARK);
    let is_string = |field: &Field| matches!(field.data_type(), DataType::Utf8View | DataType::BinaryView);
    let mut columns = Vec::new();
    let mut kept = std::collections::BTreeSet::new();
    for field in fields {
        let name = field.name().as_str();
        columns.push(match name {
            name if text_key.is_none() => Column::Other(name.to_owned()),
            name if Some(name) == text_key && is_string(field) => Column::Text,
            "id" => Column::Id,
            "source" => Column::Source,
            "url" => Column::Url,
            "metadata" if marked => Column::Metadata,
            name => Column::Other(metadata_key(name.to_owned())),
        });
        let key = if let Some(Column::Other(key)) = columns.last() { key.as_str() } else { name };
        if !kept.insert(key.to_owned()) {
            return Err(format!("two columns are called `{name}`; rename one"));
        }
    }
    if let Some(text_key) = text_key
        && !columns.iter().any(|column| matches!(column, Column::Text))
    {
        let strings = fields.iter().filter(|field| is_string(field)).map(|field| field.name().clone());
        return Err(super::no_text_column(text_key, &strings.collect::<Vec<_>>()));
    }
    Ok(columns)
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
mod tests;
