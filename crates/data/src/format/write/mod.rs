//! Documents out: JSONL, plain or compressed, and Parquet, as the name of the file says.
//!
//! The same documents give the same bytes. A file appears whole, when it is finished, or not at all.

#[cfg(feature = "parquet")]
mod parquet;

use std::io::{self, BufWriter, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use smolt_run::atomic::AtomicFile;
use smolt_run::error::FileError;

use super::Format;
use crate::document::Document;
use crate::error::{Error, Place};

/// The level of gzip's own program.
const GZIP_LEVEL: u32 = 6;

/// The level of zstd's own program.
const ZSTD_LEVEL: i32 = 3;

/// Collects what a compressor would otherwise be handed in small pieces.
const CHUNK: usize = 1 << 17;

/// A file of documents that is being written.
pub struct DocumentWriter {
    sink: Sink,
}

enum Sink {
    Plain(BufWriter<AtomicFile>),
    Gzip(BufWriter<GzEncoder<AtomicFile>>),
    Zstd(BufWriter<zstd::Encoder<'static, AtomicFile>>),
    #[cfg(feature = "parquet")]
    Parquet(Box<parquet::ParquetWriter>),
}

impl DocumentWriter {
    /// Begins the file `path`: `.jsonl`, `.ndjson` or `.json`, with `.gz` or `.zst` behind it if wanted, or `.parquet`.
    ///
    /// Nothing is at `path` until [`DocumentWriter::finish`]; dropped before that, it leaves nothing.
    pub fn create(path: &Path) -> Result<Self, Error> {
        let archive = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        let archive = archive.to_ascii_lowercase();
        let file = || AtomicFile::create(path);
        let writing = |source| FileError::writing(path, source);
        let sink = match (Format::of_name(path), archive.as_str()) {
            (Some(Format::Jsonl), "gz") => {
                let encoder = GzEncoder::new(file()?, Compression::new(GZIP_LEVEL));
                Sink::Gzip(BufWriter::with_capacity(CHUNK, encoder))
            }
            (Some(Format::Jsonl), "zst") => {
                let mut encoder = zstd::Encoder::new(file()?, ZSTD_LEVEL).map_err(writing)?;
                encoder.include_checksum(true).map_err(writing)?;
                Sink::Zstd(BufWriter::with_capacity(CHUNK, encoder))
            }
            (Some(Format::Jsonl), _) => Sink::Plain(BufWriter::with_capacity(CHUNK, file()?)),
            #[cfg(feature = "parquet")]
            (Some(Format::Parquet), "parquet") => {
                Sink::Parquet(Box::new(parquet::ParquetWriter::new(file()?).map_err(writing)?))
            }
            _ => {
                let problem =
                    "documents are written as .jsonl, .jsonl.gz, .jsonl.zst or .parquet; rename the output";
                return Err(Error::damaged(path, Place::File, problem));
            }
        };
        Ok(Self { sink })
    }

    /// Adds a document.
    pub fn write(&mut self, document: &Document) -> Result<(), Error> {
        let written = match &mut self.sink {
            Sink::Plain(out) => write_line(out, document),
            Sink::Gzip(out) => write_line(out, document),
            Sink::Zstd(out) => write_line(out, document),
            #[cfg(feature = "parquet")]
            Sink::Parquet(writer) => writer.write(document),
        };
        written.map_err(|source| FileError::writing(self.path(), source).into())
    }

    /// Ends the file and gives it its name.
    pub fn finish(self) -> Result<(), Error> {
        let path = self.path().to_owned();
        let inner = |source| FileError::writing(&path, source);
        let file = match self.sink {
            Sink::Plain(out) => unwrap(out).map_err(inner)?,
            Sink::Gzip(out) => unwrap(out).and_then(GzEncoder::finish).map_err(inner)?,
            Sink::Zstd(out) => unwrap(out).and_then(zstd::Encoder::finish).map_err(inner)?,
            #[cfg(feature = "parquet")]
            Sink::Parquet(writer) => writer.finish().map_err(inner)?,
        };
        Ok(file.commit()?)
    }

    fn path(&self) -> &Path {
        match &self.sink {
            Sink::Plain(out) => out.get_ref().path(),
            Sink::Gzip(out) => out.get_ref().get_ref().path(),
            Sink::Zstd(out) => out.get_ref().get_ref().path(),
            #[cfg(feature = "parquet")]
            Sink::Parquet(writer) => writer.path(),
        }
    }
}

fn unwrap<W: Write>(out: BufWriter<W>) -> io::Result<W> {
    out.into_inner().map_err(io::IntoInnerError::into_error)
}

fn write_line(mut out: impl Write, document: &Document) -> io::Result<()> {
    serde_json::to_writer(&mut out, document)?;
    out.write_all(b"\n")
}

#[cfg(test)]
mod tests;
