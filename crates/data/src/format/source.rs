//! Where the bytes of a file come from: a stream, or random access for the formats that need it.

use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use smolt_run::error::FileError;

use crate::error::{Error, Place};

/// Bytes that can be read from any place, such as a local file or an object in a store.
pub trait RandomAccess: Send + Sync {
    /// Bytes in all.
    fn size(&self) -> u64;

    /// Fills `buffer` with the bytes from `offset` on; fewer of them is an error.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

/// The bytes of one file.
pub enum Body {
    /// From its beginning to its end.
    Stream(Box<dyn Read + Send>),
    /// From any place; Parquet needs it.
    Random(Arc<dyn RandomAccess>),
}

/// One file of documents: its bytes, and its name for errors and for guessing its format.
pub struct Input {
    /// A path or a URL.
    pub name: PathBuf,
    /// The bytes.
    pub body: Body,
}

impl Input {
    /// A local file.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let reading = |source| FileError::reading(path, source);
        let file = File::open(path).map_err(reading)?;
        let metadata = file.metadata().map_err(reading)?;
        let body = if metadata.is_file() {
            Body::Random(Arc::new(LocalFile { size: metadata.len(), file: Mutex::new(file) }))
        } else {
            Body::Stream(Box::new(file))
        };
        Ok(Self { name: path.to_owned(), body })
    }

    /// Any stream under a name.
    pub fn stream(name: impl Into<PathBuf>, stream: impl Read + Send + 'static) -> Self {
        Self { name: name.into(), body: Body::Stream(Box::new(stream)) }
    }

    /// Bytes in memory under a name.
    pub fn bytes(name: impl Into<PathBuf>, bytes: Vec<u8>) -> Self {
        Self { name: name.into(), body: Body::Random(Arc::new(bytes)) }
    }

    /// The same input, which adds to `read` the bytes that are read of it: for progress.
    pub fn counted(self, read: Arc<AtomicU64>) -> Self {
        let body = match self.body {
            Body::Stream(inner) => Body::Stream(Box::new(Counted { inner, read })),
            Body::Random(inner) => Body::Random(Arc::new(Counted { inner, read })),
        };
        Self { body, ..self }
    }

    /// Name and stream, decompressed if it is an archive; see [`super::compress`].
    pub(crate) fn into_stream(self) -> Result<(PathBuf, Box<dyn Read + Send>), Error> {
        let raw: Box<dyn Read + Send> = match self.body {
            Body::Stream(stream) => stream,
            Body::Random(bytes) => Box::new(Sequential { bytes, at: 0 }),
        };
        let stream = super::compress::decompress(&self.name, Box::new(Uninterrupted(raw)))
            .map_err(|source| Error::stream(&self.name, Place::File, &source))?;
        Ok((self.name, stream))
    }
}

/// Bytes that are counted as they are read.
struct Counted<T> {
    inner: T,
    read: Arc<AtomicU64>,
}

impl Read for Counted<Box<dyn Read + Send>> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.read.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

impl RandomAccess for Counted<Arc<dyn RandomAccess>> {
    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.inner.read_at(offset, buffer)?;
        self.read.fetch_add(buffer.len() as u64, Ordering::Relaxed);
        Ok(())
    }
}

struct LocalFile {
    file: Mutex<File>,
    size: u64,
}

impl RandomAccess for LocalFile {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(buffer)
    }
}

impl RandomAccess for Vec<u8> {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut cursor = Cursor::new(self);
        cursor.set_position(offset);
        cursor.read_exact(buffer)
    }
}

/// Reads again where a signal interrupted reading.
struct Uninterrupted(Box<dyn Read + Send>);

impl Read for Uninterrupted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }
}

/// Random access read from the beginning to the end.
struct Sequential {
    bytes: Arc<dyn RandomAccess>,
    at: u64,
}

impl Read for Sequential {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.bytes.size().saturating_sub(self.at);
        let n = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        self.bytes.read_at(self.at, &mut buffer[..n])?;
        self.at += n as u64;
        Ok(n)
    }
}
