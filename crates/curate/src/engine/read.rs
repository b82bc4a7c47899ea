//! The documents behind an address.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use smolt_data::document::Document;
use smolt_data::format::{self, Body, DocumentReader, Format, OnDamage, RandomAccess, ReadOptions, TextUnit};
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
    let failed = Arc::new(AtomicBool::new(false));
    let body = match (input.address.as_local(), format) {
        (Some(path), _) => match format::Input::open(path)?.body {
            Body::Stream(inner) => Body::Stream(Box::new(Watched { inner, failed: Arc::clone(&failed) })),
            Body::Random(inner) => Body::Random(Arc::new(Watched { inner, failed: Arc::clone(&failed) })),
        },
        (None, Format::Parquet) => {
            let inner = store.open_at(&input.address)?;
            Body::Random(Arc::new(Watched { inner, failed: Arc::clone(&failed) }))
        }
        (None, _) => {
            let inner = store.open(&input.address)?;
            Body::Stream(Box::new(Watched { inner, failed: Arc::clone(&failed) }))
        }
    };
    let watched = format::Input { name: name.into(), body }.counted(read);
    Ok(Box::new(settled(format::read(watched, format, &options), failed)?))
}

/// A disk or network that fails is no damage of the file: nothing may be passed over for it.
fn settled(
    reader: Result<DocumentReader, smolt_data::Error>,
    failed: Arc<AtomicBool>,
) -> Result<impl Iterator<Item = Result<Document, Error>>, Error> {
    let told = move |problem: smolt_data::Error| match failed.load(Ordering::Relaxed) {
        true => Error::Unreachable(problem.to_string()),
        false => Error::Data(problem),
    };
    let reader = reader.map_err(&told)?;
    Ok(reader.map(move |item| item.map_err(&told)))
}

/// Bytes which remember that they could not be had.
struct Watched<T> {
    inner: T,
    failed: Arc<AtomicBool>,
}

impl<T> Watched<T> {
    /// `harmless` is no failure.
    fn note(&self, problem: &io::Error, harmless: io::ErrorKind) {
        if problem.kind() != harmless {
            self.failed.store(true, Ordering::Relaxed);
        }
    }
}

impl io::Read for Watched<Box<dyn io::Read + Send>> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        // What a signal interrupts is read again.
        self.inner.read(out).inspect_err(|problem| self.note(problem, io::ErrorKind::Interrupted))
    }
}

impl RandomAccess for Watched<Box<dyn ReadAt>> {
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

impl RandomAccess for Watched<Arc<dyn RandomAccess>> {
    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        // A local file that ends early is damaged.
        self.inner
            .read_at(offset, buffer)
            .inspect_err(|problem| self.note(problem, io::ErrorKind::UnexpectedEof))
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

#[cfg(test)]
mod tests {
    use super::*;

    struct Disk(io::ErrorKind);

    impl RandomAccess for Disk {
        fn size(&self) -> u64 {
            1 << 20
        }

        fn read_at(&self, _: u64, _: &mut [u8]) -> io::Result<()> {
            Err(self.0.into())
        }
    }

    #[test]
    fn a_disk_that_fails_is_no_damage() {
        let fails = |kind| {
            let failed = Arc::new(AtomicBool::new(false));
            let inner: Arc<dyn RandomAccess> = Arc::new(Disk(kind));
            let body = Body::Random(Arc::new(Watched { inner, failed: Arc::clone(&failed) }));
            let input = format::Input { name: "a.jsonl".into(), body };
            let reader = format::read(input, Format::Jsonl, &ReadOptions::default());
            match settled(reader, failed) {
                Ok(mut documents) => documents.next().unwrap().unwrap_err(),
                Err(problem) => problem,
            }
        };
        assert!(matches!(fails(io::ErrorKind::StaleNetworkFileHandle), Error::Unreachable(_)));
        assert!(matches!(fails(io::ErrorKind::PermissionDenied), Error::Unreachable(_)));
        assert!(matches!(fails(io::ErrorKind::UnexpectedEof), Error::Data(_)));
    }
}
