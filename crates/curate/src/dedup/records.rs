//! Files of fixed-width records between the phases: keys of one shard's documents, and what is removed from it.
//!
//! 64 bytes of header, then the records, all little endian:
//!
//! | bytes | content |
//! |---|---|
//! | 0..8 | `smoltrec` |
//! | 8..12 | format version, 1 |
//! | 12..16 | kind |
//! | 16..20 | bytes of a record |
//! | 20..24 | shard |
//! | 24..32 | documents in the shard |
//! | 32..40 | records |
//! | 40..56 | first bytes of the BLAKE3 of the settings that made the keys |
//! | 56..64 | XXH3 of the bytes before, seeded with the XXH3 of the records |
//!
//! A file is written beside its place and renamed when it is whole; length and checksum are verified when it is read.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use smolt_run::atomic;
use smolt_run::error::FileError;
use tempfile::NamedTempFile;
use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed};

use super::DedupError;

const MAGIC: &[u8; 8] = b"smoltrec";
const FORMAT_VERSION: u32 = 1;
const HEADER: usize = 64;
const CHECKED: usize = 56;

/// The widest record in bytes.
pub const MAX_WIDTH: u32 = 4096;

/// Bytes of buffers of a reader and a writer together.
pub(super) const BUFFERS: u64 = 2 << 17;

/// What the records are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Position (u32), then one u64 per bucket of MinHash.
    Signatures = 1,
    /// Position (u32), then the 128-bit key of a document or URL.
    DocumentKeys = 2,
    /// Position (u32), line (u32), then the line's 128-bit key.
    LineKeys = 3,
    /// Position (u32), size of the cluster (u32), number of the document that is kept (u64).
    Removals = 4,
    /// Position (u32), line (u32).
    LineRemovals = 5,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Signatures => "MinHash signatures",
            Self::DocumentKeys => "keys of documents",
            Self::LineKeys => "keys of lines",
            Self::Removals => "removed documents",
            Self::LineRemovals => "removed lines",
        }
    }

    fn of(code: u32) -> Option<Self> {
        [Self::Signatures, Self::DocumentKeys, Self::LineKeys, Self::Removals, Self::LineRemovals]
            .into_iter()
            .find(|kind| *kind as u32 == code)
    }
}

/// What a file says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the records are.
    pub kind: Kind,
    /// Bytes of a record.
    pub width: u32,
    /// The shard whose documents these are.
    pub shard: u32,
    /// Documents in the shard, with records or without.
    pub documents: u64,
    /// Records.
    pub records: u64,
    /// Of the settings that made the keys; only equal ones can be compared.
    pub config: [u8; 16],
}

impl Header {
    fn bytes(&self, records_hash: u64) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&(self.kind as u32).to_le_bytes());
        bytes[16..20].copy_from_slice(&self.width.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.shard.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.documents.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.records.to_le_bytes());
        bytes[40..56].copy_from_slice(&self.config);
        let checksum = xxh3_64_with_seed(&bytes[..CHECKED], records_hash);
        bytes[CHECKED..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    fn parse(bytes: &[u8; HEADER]) -> Result<Self, String> {
        let word = |at: usize| u32_at(bytes, at);
        if &bytes[..8] != MAGIC {
            return Err("not a file of records".into());
        }
        if word(8) != FORMAT_VERSION {
            return Err(format!("format version {}; this smolt reads {FORMAT_VERSION}", word(8)));
        }
        let kind = Kind::of(word(12)).ok_or_else(|| format!("records of unknown kind {}", word(12)))?;
        let width = word(16);
        if width == 0 || width > MAX_WIDTH {
            return Err(format!("records of {width} bytes"));
        }
        let mut config = [0; 16];
        config.copy_from_slice(&bytes[40..56]);
        let header = Self {
            kind,
            width,
            shard: word(20),
            documents: u64_at(bytes, 24),
            records: u64_at(bytes, 32),
            config,
        };
        if header.documents > 1 << 32 {
            return Err(format!("{} documents in one shard; at most 2^32 can be", header.documents));
        }
        Ok(header)
    }
}

/// The little-endian number at a byte; 0 outside.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|part| part.try_into().ok()).map_or(0, u32::from_le_bytes)
}

/// The little-endian number at a byte; 0 outside.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|part| part.try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// A file being written.
pub struct RecordWriter {
    path: PathBuf,
    out: BufWriter<NamedTempFile>,
    header: Header,
    hasher: Xxh3,
}

impl RecordWriter {
    /// Starts the file that will be at `path`; until [`RecordWriter::finish`] there is only a temporary one beside it.
    pub fn create(
        path: &Path,
        kind: Kind,
        width: u32,
        shard: u32,
        config: [u8; 16],
    ) -> Result<Self, DedupError> {
        let header = Header { kind, width, shard, documents: 0, records: 0, config };
        let start = || {
            let file = atomic::temporary_files().tempfile_in(atomic::parent(path))?;
            let mut out = BufWriter::with_capacity(1 << 17, file);
            out.write_all(&[0; HEADER])?;
            io::Result::Ok(out)
        };
        let out = start().map_err(|source| FileError::writing(path, source))?;
        Ok(Self { path: path.to_owned(), out, header, hasher: Xxh3::new() })
    }

    /// Adds a record, of exactly the file's width.
    pub fn push(&mut self, record: &[u8]) -> Result<(), DedupError> {
        debug_assert_eq!(record.len(), self.header.width as usize);
        self.hasher.update(record);
        self.header.records += 1;
        self.out.write_all(record).map_err(|source| FileError::writing(&self.path, source).into())
    }

    /// Completes the file: `documents` is how many the shard has.
    pub fn finish(mut self, documents: u64) -> Result<(), DedupError> {
        self.header.documents = documents;
        let header = self.header.bytes(self.hasher.digest());
        let path = self.path;
        let out = self.out;
        let commit = || {
            let mut file = out.into_inner().map_err(|error| error.into_error())?;
            file.seek(SeekFrom::Start(0))?;
            file.write_all(&header)?;
            file.as_file().sync_all()?;
            file.persist(&path).map_err(|error| error.error)?;
            atomic::sync_dir(atomic::parent(&path))
        };
        commit().map_err(|source| FileError::writing(&path, source).into())
    }
}

/// A file being read.
pub struct RecordReader {
    path: PathBuf,
    input: Box<dyn Read + Send>,
    header: Header,
    head: [u8; HEADER],
    left: u64,
    hasher: Xxh3,
    record: Vec<u8>,
}

impl RecordReader {
    /// Opens a file of this kind; the header must agree with the file's length.
    pub fn open(path: &Path, kind: Kind) -> Result<Self, DedupError> {
        let reading = |source| FileError::reading(path, source);
        let file = File::open(path).map_err(reading)?;
        let length = file.metadata().map_err(reading)?.len();
        Self::new(path, kind, Box::new(BufReader::with_capacity(1 << 17, file)), length)
    }

    /// Reads `length` bytes from any source; `path` only names it in errors.
    pub fn new(
        path: &Path,
        kind: Kind,
        mut input: Box<dyn Read + Send>,
        length: u64,
    ) -> Result<Self, DedupError> {
        let damaged = |problem| DedupError::Damaged { path: path.to_owned(), problem };
        if length < HEADER as u64 {
            return Err(damaged(format!("{length} bytes are no file of records")));
        }
        let mut head = [0; HEADER];
        input.read_exact(&mut head).map_err(|source| FileError::reading(path, source))?;
        let header = Header::parse(&head).map_err(damaged)?;
        if header.kind != kind {
            return Err(damaged(format!("holds {}, not {}", header.kind.name(), kind.name())));
        }
        let expected = header
            .records
            .checked_mul(u64::from(header.width))
            .and_then(|bytes| bytes.checked_add(HEADER as u64));
        if expected != Some(length) {
            return Err(damaged(format!(
                "{length} bytes, but {} records of {} bytes are promised",
                header.records, header.width
            )));
        }
        let record = vec![0; header.width as usize];
        let left = header.records;
        Ok(Self { path: path.to_owned(), input, header, head, left, hasher: Xxh3::new(), record })
    }

    /// What the file says of itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// An error about this file.
    pub fn damaged(&self, problem: impl Into<String>) -> DedupError {
        DedupError::Damaged { path: self.path.clone(), problem: problem.into() }
    }

    /// Refuses another width than that of the file's kind.
    pub(super) fn expect_width(self, width: u32) -> Result<Self, DedupError> {
        match self.header.width {
            found if found == width => Ok(self),
            found => Err(self.damaged(format!("records of {found} bytes instead of {width}"))),
        }
    }

    /// The next record. The checksum is verified at the end, so nothing may be committed before it.
    pub fn read(&mut self) -> Result<Option<&[u8]>, DedupError> {
        if self.left == 0 {
            let stored = u64_at(&self.head, CHECKED);
            if xxh3_64_with_seed(&self.head[..CHECKED], self.hasher.digest()) != stored {
                return Err(self.damaged("the checksum is wrong"));
            }
            return Ok(None);
        }
        if let Err(source) = self.input.read_exact(&mut self.record) {
            return Err(FileError::reading(&self.path, source).into());
        }
        self.hasher.update(&self.record);
        self.left -= 1;
        Ok(Some(&self.record))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path) {
        let mut writer = RecordWriter::create(path, Kind::LineRemovals, 8, 3, [7; 16]).unwrap();
        for n in 0..100u64 {
            writer.push(&n.to_le_bytes()).unwrap();
        }
        writer.finish(200).unwrap();
    }

    fn read(path: &Path, kind: Kind) -> Result<u64, DedupError> {
        let mut reader = RecordReader::open(path, kind)?.expect_width(8)?;
        let mut sum = 0;
        while let Some(record) = reader.read()? {
            sum += u64_at(record, 0);
        }
        assert_eq!((reader.header().documents, reader.header().shard), (200, 3));
        Ok(sum)
    }

    #[test]
    fn whole_files_are_read_and_damaged_ones_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("00003.lines");
        write(&path);
        assert_eq!(read(&path, Kind::LineRemovals).unwrap(), 4950);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        let error = read(&path, Kind::Removals).unwrap_err().to_string();
        assert!(error.contains("00003.lines: holds removed lines"), "{error}");
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(&path, &bytes).unwrap();
            assert!(read(&path, Kind::LineRemovals).is_err(), "byte {at}");
            std::fs::write(&path, &whole[..at]).unwrap();
            assert!(read(&path, Kind::LineRemovals).is_err(), "{at} bytes");
        }
    }

    #[test]
    fn an_unfinished_file_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer =
            RecordWriter::create(&folder.path().join("x"), Kind::Signatures, 4, 0, [0; 16]).unwrap();
        writer.push(&[0; 4]).unwrap();
        drop(writer);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(RecordWriter::create(&folder.path().join("no/x"), Kind::Signatures, 4, 0, [0; 16]).is_err());
    }
}
