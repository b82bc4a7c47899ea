//! Parquet out: columns `id`, `text`, `source`, `url`, and the metadata as one column of JSON.
//!
//! Metadata is not spread over columns of its own, because they would have to be known before the first document.

use std::io;
use std::path::Path;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_array::builder::StringBuilder;
use arrow_schema::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use smolt_run::atomic::AtomicFile;

use crate::document::Document;
use crate::format::parquet::METADATA_MARK;

/// Bytes after which collected rows are encoded.
const BATCH_BYTES: usize = 4 << 20;

/// Encoded bytes after which a row group ends.
const GROUP_BYTES: usize = 64 << 20;

/// The largest text with its metadata; a page cannot hold 2 GiB.
const MAX_DOCUMENT: usize = 1 << 30;

const COLUMNS: [&str; 5] = ["id", "text", "source", "url", "metadata"];

/// A Parquet file that is being written.
pub(super) struct ParquetWriter {
    writer: ArrowWriter<AtomicFile>,
    schema: Arc<Schema>,
    columns: [StringBuilder; COLUMNS.len()],
    bytes: usize,
}

impl ParquetWriter {
    pub(super) fn new(file: AtomicFile) -> io::Result<Self> {
        let fields = COLUMNS.map(|name| Field::new(name, DataType::Utf8, name != "text"));
        let (key, value) = METADATA_MARK;
        let level = ZstdLevel::try_new(super::ZSTD_LEVEL).map_err(to_io)?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(level))
            // The least and greatest text of a page would be in its head, and is of no use to anyone.
            .set_statistics_enabled(EnabledStatistics::None)
            .set_column_dictionary_enabled("text".into(), false)
            .set_column_dictionary_enabled("metadata".into(), false)
            .set_write_batch_size(64)
            .set_key_value_metadata(Some(vec![KeyValue::new(key.to_owned(), value.to_owned())]))
            .build();
        let schema = Arc::new(Schema::new(fields.to_vec()));
        let writer = ArrowWriter::try_new(file, Arc::clone(&schema), Some(properties)).map_err(to_io)?;
        Ok(Self { writer, schema, columns: Default::default(), bytes: 0 })
    }

    pub(super) fn path(&self) -> &Path {
        self.writer.inner().path()
    }

    pub(super) fn write(&mut self, document: &Document) -> io::Result<()> {
        let json = match document.metadata.is_empty() {
            true => None,
            false => Some(serde_json::to_string(&document.metadata)?),
        };
        let size = document.text.len() + json.as_ref().map_or(0, String::len);
        if size > MAX_DOCUMENT {
            let problem =
                format!("a document of {size} bytes; one of a Parquet file has at most {MAX_DOCUMENT}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
        }
        let [id, text, source, url, metadata] = &mut self.columns;
        id.append_option(document.id.as_deref());
        text.append_value(&document.text);
        source.append_option(document.source.as_deref());
        url.append_option(document.url.as_deref());
        self.bytes += size + 64;
        metadata.append_option(json);
        if self.bytes >= BATCH_BYTES {
            self.encode()?;
            if self.writer.in_progress_size() >= GROUP_BYTES {
                self.writer.flush().map_err(to_io)?;
            }
        }
        Ok(())
    }

    fn encode(&mut self) -> io::Result<()> {
        self.bytes = 0;
        let arrays = self.columns.each_mut().map(|column| Arc::new(column.finish()) as _);
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), arrays.to_vec());
        let batch = batch.map_err(|error| to_io(error.into()))?;
        self.writer.write(&batch).map_err(to_io)
    }

    pub(super) fn finish(mut self) -> io::Result<AtomicFile> {
        self.encode()?;
        self.writer.into_inner().map_err(to_io)
    }
}

/// The error of the file under the writer, so that a full disk is told as such.
fn to_io(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(source) => match source.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(source) => io::Error::other(source),
        },
        other => io::Error::other(other),
    }
}
