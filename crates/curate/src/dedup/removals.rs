//! Which documents of a shard go: written by the second phase, read along with the shard by the third.

use std::path::{Path, PathBuf};

use super::DedupError;
use super::records::{Kind, RecordReader, RecordWriter, u32_at, u64_at};

const WIDTH: u32 = 16;

/// One document that goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removal {
    /// Its position in the shard.
    pub position: u32,
    /// Documents in its cluster, itself and the one that is kept among them.
    pub size: u32,
    /// The [`number`](super::number) of the document that is kept; it names the cluster.
    pub kept: u64,
}

/// The file of a shard's removals in the folder that the second phase wrote.
pub fn path(folder: &Path, shard: u32) -> PathBuf {
    folder.join(format!("{shard:05}.removals"))
}

pub(super) struct RemovalWriter(RecordWriter);

impl RemovalWriter {
    pub(super) fn create(folder: &Path, shard: u32, config: [u8; 16]) -> Result<Self, DedupError> {
        Ok(Self(RecordWriter::create(&path(folder, shard), Kind::Removals, WIDTH, shard, config)?))
    }

    pub(super) fn push(&mut self, position: u32, size: u32, kept: u64) -> Result<(), DedupError> {
        let mut record = [0; WIDTH as usize];
        record[..4].copy_from_slice(&position.to_le_bytes());
        record[4..8].copy_from_slice(&size.to_le_bytes());
        record[8..].copy_from_slice(&kept.to_le_bytes());
        self.0.push(&record)
    }

    pub(super) fn finish(self, documents: u64) -> Result<(), DedupError> {
        self.0.finish(documents)
    }
}

/// A shard's removals, in the order of positions.
pub struct Removals {
    reader: RecordReader,
    next: Option<Removal>,
}

impl Removals {
    /// Opens the removals of `shard`.
    pub fn open(folder: &Path, shard: u32) -> Result<Self, DedupError> {
        Self::new(RecordReader::open(&path(folder, shard), Kind::Removals)?)
    }

    pub(super) fn new(reader: RecordReader) -> Result<Self, DedupError> {
        let mut removals = Self { reader: reader.expect_width(WIDTH)?, next: None };
        removals.advance()?;
        Ok(removals)
    }

    fn advance(&mut self) -> Result<(), DedupError> {
        let before = self.next.take().map(|removal| removal.position);
        let documents = self.reader.header().documents;
        let Some(record) = self.reader.read()? else { return Ok(()) };
        let next = Removal { position: u32_at(record, 0), size: u32_at(record, 4), kept: u64_at(record, 8) };
        if before >= Some(next.position) || u64::from(next.position) >= documents {
            return Err(self
                .reader
                .damaged(format!("document {} of {documents} out of order", next.position)));
        }
        self.next = Some(next);
        Ok(())
    }

    /// Whether the document at `position` goes, and with what. Positions are to be asked in rising order.
    pub fn at(&mut self, position: u32) -> Result<Option<Removal>, DedupError> {
        while let Some(next) = self.next.filter(|next| next.position <= position) {
            self.advance()?;
            if next.position == position {
                return Ok(Some(next));
            }
        }
        Ok(None)
    }

    /// To be called after the shard's last document: verifies the rest of the file, and that it was made for a shard
    /// of as many documents as there were.
    pub fn finish(mut self, documents: u64) -> Result<(), DedupError> {
        while self.next.is_some() {
            self.advance()?;
        }
        match self.reader.header().documents {
            expected if expected == documents => Ok(()),
            expected => Err(self
                .reader
                .damaged(format!("made for {expected} documents, but the shard has {documents}"))),
        }
    }
}

impl Iterator for Removals {
    type Item = Result<Removal, DedupError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next?;
        match self.advance() {
            Ok(()) => Some(Ok(next)),
            Err(error) => Some(Err(error)), // `next` is empty now, so the iteration ends
        }
    }
}
