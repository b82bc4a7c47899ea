//! The documents behind an address.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use smolt_data::format::{self, Body, Format, OnDamage, RandomAccess, ReadOptions, TextUnit};
use smolt_store::{ReadAt, Store};

use super::error::Error;
use super::plan::Input;
use super::shard::Documents;
use crate::recipe::{FileFormat, Source, Unit};

/// Reads an input to its end or its damage; `read` counts its bytes.
pub(super) fn documents(
    store: &Store,
    source: &Source,
    input: &Input,
    read: Arc<AtomicU64>,
) -> Documents<'static> {
    match open(store, source, input, read) {
        Ok(documents) => documents,
        Err(problem) => Box::new(std::iter::once(Err(problem))),
    }
}

fn open(
    store: &Store,
    source: &Source,
    input: &Input,
    read: Arc<AtomicU64>,
) -> Result<Documents<'static>, Error> {
    let name = input.address.shown();
    let format = source.format.map(FileFormat::format).or_else(|| Format::of_name(Path::new(&name)));
    let format = format.unwrap_or(Format::Text);
    let unit = match source.unit {
        Unit::File => TextUnit::File,
        Unit::Line => TextUnit::Line,
        Unit::Paragraph => TextUnit::Paragraph,
    };
    let text_key = source.text_key.clone();
    let options = ReadOptions { text_key, unit, on_damage: OnDamage::Continue, ..ReadOptions::default() };
    if let Some(path) = input.address.as_local() {
        let file = format::Input::open(path)?.counted(read);
        return Ok(Box::new(format::read(file, format, &options)?.map(|item| item.map_err(Error::Data))));
    }
    let failed = Arc::new(AtomicBool::new(false));
    let body = match format {
        Format::Parquet => Body::Random(Arc::new(Remote {
            inner: store.open_at(&input.address)?,
            failed: Arc::clone(&failed),
        })),
        _ => {
            Body::Stream(Box::new(Remote { inner: store.open(&input.address)?, failed: Arc::clone(&failed) }))
        }
    };
    let remote = format::Input { name: name.into(), body }.counted(read);
    let reader = format::read(remote, format, &options)?;
    // A network that fails is no damage of the file: nothing may be passed over for it.
    Ok(Box::new(reader.map(move |item| {
        item.map_err(|problem| match failed.load(Ordering::Relaxed) {
            true => Error::Unreachable(problem.to_string()),
            false => Error::Data(problem),
        })
    })))
}

/// Bytes from elsewhere, which remember that they could not be had.
struct Remote<T> {
    inner: T,
    failed: Arc<AtomicBool>,
}

impl io::Read for Remote<Box<dyn io::Read + Send>> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.inner.read(out).inspect_err(|_| self.failed.store(true, Ordering::Relaxed))
    }
}

impl RandomAccess for Remote<Box<dyn ReadAt>> {
    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.inner.read_at(offset, buffer).map_err(|problem| {
            self.failed.store(true, Ordering::Relaxed);
            problem.into()
        })
    }
}

impl FileFormat {
    fn format(self) -> Format {
        match self {
            Self::Jsonl => Format::Jsonl,
            Self::Parquet => Format::Parquet,
            Self::Csv => Format::Csv,
            Self::Tsv => Format::Tsv,
            Self::Warc => Format::Warc,
            Self::Text => Format::Text,
        }
    }
}
