//! Parquet out: columns `id`, `text`, `source`, `url`, and the metadata as one column of JSON.
//!
//! Metadata is not spread over columns of its own, because they would have to be known before the first document.

use std::io;
use std::path::Path;
use std::sync::Arc;

use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use smolt_run::atomic::AtomicFile;

use crate::document::Document;
use crate::format::parquet::METADATA_MARK;

/// Bytes of documents after which a row group ends.
const GROUP_BYTES: usize = 128 << 20;

/// The largest text with its metadata; a page cannot hold 2 GiB.
const MAX_DOCUMENT: usize = 1 << 30;

const SCHEMA: &str = "message documents {
    optional binary id (STRING);
    required binary text (STRING);
    optional binary source (STRING);
    optional binary url (STRING);
    optional binary metadata (STRING);
}";

/// A Parquet file that is being written.
pub(super) struct ParquetWriter {
    writer: SerializedFileWriter<AtomicFile>,
    columns: [Strings; 5],
    bytes: usize,
}

/// The values of a column that are there, and for each row whether it has one.
#[derive(Default)]
struct Strings {
    values: Vec<ByteArray>,
    present: Vec<i16>,
}

impl Strings {
    fn push(&mut self, value: Option<String>) {
        self.present.push(i16::from(value.is_some()));
        self.values.extend(value.map(|value| ByteArray::from(value.into_bytes())));
    }
}

impl ParquetWriter {
    pub(super) fn new(file: AtomicFile) -> io::Result<Self> {
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
        let schema = parse_message_type(SCHEMA).map_err(to_io)?;
        let writer =
            SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties)).map_err(to_io)?;
        Ok(Self { writer, columns: Default::default(), bytes: 0 })
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
        id.push(document.id.clone());
        text.push(Some(document.text.clone()));
        source.push(document.source.clone());
        url.push(document.url.clone());
        metadata.push(json);
        self.bytes += size + 64;
        if self.bytes >= GROUP_BYTES { self.encode().map_err(to_io) } else { Ok(()) }
    }

    /// Writes the collected rows as a row group.
    fn encode(&mut self) -> Result<(), ParquetError> {
        self.bytes = 0;
        let mut group = self.writer.next_row_group()?;
        for column in &mut self.columns {
            let Strings { values, present } = std::mem::take(column);
            let Some(mut writer) = group.next_column()? else { break };
            writer.typed::<ByteArrayType>().write_batch(&values, Some(&present), None)?;
            writer.close()?;
        }
        group.close()?;
        Ok(())
    }

    pub(super) fn finish(mut self) -> io::Result<AtomicFile> {
        if self.bytes > 0 {
            self.encode().map_err(to_io)?;
        }
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
