//! Lines that an earlier document already has: they go, and with them documents of which too little is left.
//!
//! datatrove's sentence deduplication does this to spans of sentences; here the unit is the line, as in CCNet
//! (Wenzek et al., 2020). Repetitions within one document are left to the repetition filters.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::clusters::{Shards, left};
use super::exact::{Keyer, Same, key_of};
use super::records::{Kind, RecordReader, RecordWriter, u32_at};
use super::report::Sources;
use super::{DedupError, Space};
use crate::external_sort::{Sorted, Sorter};

const WIDTH: u32 = 4 + 4 + 16;
const REMOVAL: u32 = 4 + 4;

/// Key, index of the document, line.
const SORTED: usize = 16 + 4 + 4;

/// Index of the document, line.
const REMOVED: usize = 4 + 4;

/// Which lines count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LineSettings {
    /// When two lines are the same. Whitespace at their ends never counts.
    pub same: Same,
    /// A line of fewer characters is never removed, so that braces and headings stay.
    pub min_line_chars: u32,
    /// A document that lost lines is removed when it has fewer characters left, whitespace not counted.
    pub min_left_chars: u32,
}

impl Default for LineSettings {
    fn default() -> Self {
        Self { same: Same::Raw, min_line_chars: 30, min_left_chars: 100 }
    }
}

/// First phase: the keys of one shard's lines.
pub struct LineKeyWriter {
    out: RecordWriter,
    keyer: Keyer,
    min_chars: usize,
    workspace: String,
}

impl LineKeyWriter {
    /// Starts the file of `shard` at `path`.
    pub fn create(path: &Path, settings: &LineSettings, shard: u32) -> Result<Self, DedupError> {
        let config = key_of(format!("lines 1 {:?} {}", settings.same, settings.min_line_chars).as_bytes());
        Ok(Self {
            out: RecordWriter::create(path, Kind::LineKeys, WIDTH, shard, config)?,
            keyer: Keyer::new(settings.same),
            min_chars: settings.min_line_chars as usize,
            workspace: String::new(),
        })
    }

    /// Adds the lines of the document at `position`.
    pub fn push(&mut self, position: u32, text: &str) -> Result<(), DedupError> {
        for (number, line) in text.split('\n').enumerate() {
            let line = line.trim();
            // Bytes first: they are known, and no fewer than characters.
            if line.len() < self.min_chars || line.chars().take(self.min_chars).count() < self.min_chars {
                continue;
            }
            let Some(key) = self.keyer.key(line, &mut self.workspace) else { continue };
            let mut record = [0; WIDTH as usize];
            record[..4].copy_from_slice(&position.to_le_bytes());
            record[4..8].copy_from_slice(&(number as u32).to_le_bytes());
            record[8..].copy_from_slice(&key);
            self.out.push(&record)?;
        }
        Ok(())
    }

    /// Completes the file; `documents` is how many the shard has.
    pub fn finish(self, documents: u64) -> Result<(), DedupError> {
        self.out.finish(documents)
    }
}

/// What was found among lines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineReport {
    /// Of this report.
    pub format_version: u32,
    /// Lines long enough to count.
    pub lines: u64,
    /// Those removed.
    pub removed: u64,
    /// By source.
    pub sources: Vec<LineSource>,
}

/// One source's share of a [`LineReport`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineSource {
    /// The source.
    pub name: String,
    /// Lines removed from its documents, by the source that had them first, in the order of the sources.
    pub first_seen_in: Vec<u64>,
}

/// The file of a shard's removed lines in the folder that the second phase wrote.
pub fn path(folder: &Path, shard: u32) -> PathBuf {
    folder.join(format!("{shard:05}.lines"))
}

/// Second phase: of equal lines those in the first document that has them are kept; writes each shard's
/// [`LineRemovals`] into `folder`.
pub fn cluster(
    keys: &[PathBuf],
    folder: &Path,
    sources: &Sources,
    space: &Space<'_>,
) -> Result<LineReport, DedupError> {
    let shards = Shards::open(keys, Kind::LineKeys, Some(WIDTH))?;
    if shards.documents() > u64::from(u32::MAX) {
        let documents = shards.documents();
        return Err(DedupError::Settings(format!(
            "{documents} documents; at most 2^32 can be compared at once"
        )));
    }
    let half = left(space, 0) / 2;
    let mut sorter = Sorter::<SORTED>::new(space.scratch, half)?;
    shards.for_each(|index, record| {
        let mut sorted = [0; SORTED];
        sorted[..16].copy_from_slice(&record[8..]);
        sorted[16..20].copy_from_slice(&index.to_be_bytes());
        sorted[20..].copy_from_slice(&u32_at(record, 4).to_be_bytes());
        Ok(sorter.push(sorted)?)
    })?;
    let of_shard = shards.sources(sources)?;
    let mut report = empty_report(sources);
    let mut removed = Sorter::<REMOVED>::new(space.scratch, half)?;
    let mut first = [0; SORTED];
    for (at, record) in sorter.finish()?.enumerate() {
        let record = record?;
        report.lines += 1;
        if at == 0 || record[..16] != first[..16] {
            first = record;
        } else if record[16..20] != first[16..20] {
            let mut removal = [0; REMOVED];
            removal.copy_from_slice(&record[16..]);
            removed.push(removal)?;
            let source = |record: &[u8; SORTED]| of_shard[shards.place(big_endian(&record[16..20])).0];
            report.removed += 1;
            report.sources[source(&record)].first_seen_in[source(&first)] += 1;
        }
    }
    write(&shards, removed.finish()?, folder)?;
    Ok(report)
}

fn empty_report(sources: &Sources) -> LineReport {
    let count = sources.names().len();
    let of = |name: &String| LineSource { name: name.clone(), first_seen_in: vec![0; count] };
    LineReport { format_version: 1, lines: 0, removed: 0, sources: sources.names().iter().map(of).collect() }
}

fn big_endian(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |sum, &byte| sum << 8 | u32::from(byte))
}

fn write(shards: &Shards, mut removed: Sorted<REMOVED>, folder: &Path) -> Result<(), DedupError> {
    let mut next = removed.next().transpose()?;
    for (place, header) in shards.headers().enumerate() {
        let path = path(folder, header.shard);
        let mut out =
            RecordWriter::create(&path, Kind::LineRemovals, REMOVAL, header.shard, shards.config())?;
        while let Some(record) = next {
            let (of, position) = shards.place(big_endian(&record[..4]));
            if of != place {
                break;
            }
            let mut removal = [0; REMOVAL as usize];
            removal[..4].copy_from_slice(&position.to_le_bytes());
            removal[4..].copy_from_slice(&big_endian(&record[4..]).to_le_bytes());
            out.push(&removal)?;
            next = removed.next().transpose()?;
        }
        out.finish(header.documents)?;
    }
    Ok(())
}

/// What became of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It lost nothing.
    Whole,
    /// It lost this many lines.
    Trimmed(u32),
    /// It lost so many that too little is left; the text is what is left.
    TooLittleLeft(u32),
}

/// A shard's removed lines, in order.
pub struct LineRemovals {
    reader: RecordReader,
    next: Option<(u32, u32)>,
    lines: Vec<u32>,
}

impl LineRemovals {
    /// Opens the removed lines of `shard`.
    pub fn open(folder: &Path, shard: u32) -> Result<Self, DedupError> {
        Self::new(RecordReader::open(&path(folder, shard), Kind::LineRemovals)?)
    }

    pub(super) fn new(reader: RecordReader) -> Result<Self, DedupError> {
        let mut removals = Self { reader: reader.expect_width(REMOVAL)?, next: None, lines: Vec::new() };
        removals.advance()?;
        Ok(removals)
    }

    fn advance(&mut self) -> Result<(), DedupError> {
        let before = self.next.take();
        let documents = self.reader.header().documents;
        let Some(record) = self.reader.read()? else { return Ok(()) };
        let next = (u32_at(record, 0), u32_at(record, 4));
        if before >= Some(next) || u64::from(next.0) >= documents {
            let (document, line) = next;
            return Err(self.reader.damaged(format!("document {document} line {line} out of order")));
        }
        self.next = Some(next);
        Ok(())
    }

    /// The lines of the document at `position` that go, rising, counted from 0. Positions are to be asked in rising
    /// order.
    pub fn at(&mut self, position: u32) -> Result<&[u32], DedupError> {
        self.lines.clear();
        while let Some((document, line)) = self.next.filter(|next| next.0 <= position) {
            if document == position {
                self.lines.push(line);
            }
            self.advance()?;
        }
        Ok(&self.lines)
    }

    /// Takes the lines that go out of the document at `position`.
    pub fn apply(
        &mut self,
        position: u32,
        text: &mut String,
        settings: &LineSettings,
    ) -> Result<Outcome, DedupError> {
        let lines = self.at(position)?;
        if lines.is_empty() {
            return Ok(Outcome::Whole);
        }
        let count = lines.len() as u32;
        let mut rest = lines.iter().copied().peekable();
        let mut left = Vec::new();
        for (number, line) in text.split('\n').enumerate() {
            if rest.next_if_eq(&(number as u32)).is_none() {
                left.push(line);
            }
        }
        let left = left.join("\n");
        let beyond = rest.peek().copied();
        if let Some(line) = beyond {
            return Err(self.reader.damaged(format!("document {position} has no line {line}")));
        }
        *text = left;
        let wanted = settings.min_left_chars as usize;
        let enough = text.chars().filter(|c| !c.is_whitespace()).take(wanted).count() == wanted;
        Ok(if enough { Outcome::Trimmed(count) } else { Outcome::TooLittleLeft(count) })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn run(
        shards: &[Vec<String>],
        settings: &LineSettings,
        memory: u64,
    ) -> (Vec<Vec<(String, Outcome)>>, LineReport) {
        let folder = tempfile::tempdir().unwrap();
        let mut paths = Vec::new();
        for (shard, texts) in shards.iter().enumerate().rev() {
            let path = folder.path().join(format!("{shard}.keys"));
            let mut writer = LineKeyWriter::create(&path, settings, shard as u32).unwrap();
            for (position, text) in texts.iter().enumerate() {
                writer.push(position as u32, text).unwrap();
            }
            writer.finish(texts.len() as u64).unwrap();
            paths.push(path);
        }
        let names: Vec<_> = (0..shards.len()).map(|shard| format!("s{shard}")).collect();
        let sources = Sources::new(names, (0..shards.len() as u32).collect()).unwrap();
        let space = Space { memory, scratch: folder.path() };
        let report = cluster(&paths, folder.path(), &sources, &space).unwrap();
        let read = shards.iter().enumerate().map(|(shard, texts)| {
            let mut removals = LineRemovals::open(folder.path(), shard as u32).unwrap();
            let apply = |(position, text): (usize, &String)| {
                let mut text = text.clone();
                let outcome = removals.apply(position as u32, &mut text, settings).unwrap();
                (text, outcome)
            };
            let read = texts.iter().enumerate().map(apply).collect();
            removals.finish(texts.len() as u64).unwrap();
            read
        });
        (read.collect(), report)
    }

    #[test]
    fn a_line_of_an_earlier_document_goes() {
        let settings = LineSettings { min_line_chars: 4, min_left_chars: 5, ..LineSettings::default() };
        let text = |text: &str| text.to_owned();
        let shards = [
            vec![text("menu\nfirst story\nmenu\n}"), text("second story\n menu \n}")],
            vec![text("menu\nfirst story\nabcd"), text("MENU\nthird story")],
        ];
        let (read, report) = run(&shards, &settings, 1 << 20);
        assert_eq!(read[0][0], (text("menu\nfirst story\nmenu\n}"), Outcome::Whole));
        assert_eq!(read[0][1], (text("second story\n}"), Outcome::Trimmed(1)));
        assert_eq!(read[1][0], (text("abcd"), Outcome::TooLittleLeft(2)));
        assert_eq!(read[1][1].1, Outcome::Whole);
        assert_eq!((report.lines, report.removed), (10, 3));
        assert_eq!(report.sources[0].first_seen_in, [1, 0]);
        assert_eq!(report.sources[1].first_seen_in, [2, 0]);
        let simplified = LineSettings { same: Same::Simplified, ..settings };
        assert_eq!(run(&shards, &simplified, 1 << 20).0[1][1], (text("third story"), Outcome::Trimmed(1)));
    }

    #[test]
    fn the_budget_changes_nothing() {
        let line = |n: usize| format!("this is line number {} of them all", n * 7919 % 4001);
        let texts = |from: usize| {
            (0..200)
                .map(|at| (0..50).map(|n| line(from + at * 50 + n)).collect::<Vec<_>>().join("\n"))
                .collect()
        };
        let shards = [texts(0), texts(3), texts(12345)];
        let settings = LineSettings::default();
        let small = run(&shards, &settings, 800 << 10);
        let large = run(&shards, &settings, 1 << 28);
        assert!(small == large && small.1.removed > 20_000);
    }
}
