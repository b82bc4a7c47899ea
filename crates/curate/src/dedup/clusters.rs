//! Joining the documents of equal keys, and writing what is to be removed from each shard.

use std::path::{Path, PathBuf};

use super::records::{BUFFERS, Header, Kind, RecordReader};
use super::removals::RemovalWriter;
use super::report::{Report, Sources};
use super::{DedupError, Space, number};
use crate::external_sort::Sorter;
use crate::union_find::UnionFind;

/// The key files of one comparison, in the order of their shards. Documents of all shards are indexed without gaps.
pub(super) struct Shards {
    kind: Kind,
    width: u32,
    shards: Vec<(PathBuf, Header)>,
    /// The index of each shard's first document.
    bases: Vec<u64>,
    documents: u64,
}

impl Shards {
    /// Reads the headers: one kind, one configuration, no shard twice.
    pub(super) fn open(paths: &[PathBuf], kind: Kind, width: Option<u32>) -> Result<Self, DedupError> {
        let mut shards = Vec::with_capacity(paths.len());
        for path in paths {
            shards.push((path.clone(), *RecordReader::open(path, kind)?.header()));
        }
        shards.sort_by_key(|(_, header)| header.shard);
        let first = shards.first().map(|(_, header)| *header);
        let width = width.or(first.map(|header| header.width)).unwrap_or(0);
        for (path, header) in &shards {
            let damaged = |problem: String| Err(DedupError::Damaged { path: path.clone(), problem });
            if header.width != width {
                return damaged(format!("records of {} bytes instead of {width}", header.width));
            }
            if first.is_some_and(|first| first.config != header.config) {
                return damaged("made with other settings than the first shard".into());
            }
        }
        if let Some(pair) = shards.windows(2).find(|pair| pair[0].1.shard == pair[1].1.shard) {
            let (a, b) = (pair[0].0.display(), pair[1].0.display());
            return Err(DedupError::Settings(format!("{a} and {b} are both of shard {}", pair[0].1.shard)));
        }
        let mut documents = 0;
        let bases = shards.iter().map(|(_, header)| {
            documents += header.documents;
            documents - header.documents
        });
        Ok(Self { kind, width, bases: bases.collect(), documents, shards })
    }

    pub(super) fn width(&self) -> u32 {
        self.width
    }

    pub(super) fn config(&self) -> [u8; 16] {
        self.shards.first().map_or([0; 16], |(_, header)| header.config)
    }

    pub(super) fn headers(&self) -> impl Iterator<Item = &Header> {
        self.shards.iter().map(|(_, header)| header)
    }

    pub(super) fn documents(&self) -> u64 {
        self.documents
    }

    /// Calls `each` with the index of the document and the record, shard by shard.
    pub(super) fn for_each(
        &self,
        mut each: impl FnMut(u32, &[u8]) -> Result<(), DedupError>,
    ) -> Result<(), DedupError> {
        for ((path, header), base) in self.shards.iter().zip(&self.bases) {
            let mut reader = RecordReader::open(path, self.kind)?.expect_width(self.width)?;
            if reader.header() != header {
                return Err(reader.damaged("it changed while it was read"));
            }
            while let Some(record) = reader.read()? {
                let position = super::records::u32_at(record, 0);
                if u64::from(position) >= header.documents {
                    let documents = header.documents;
                    return Err(reader.damaged(format!("document {position} of {documents}")));
                }
                // The budget for the union–find was granted, so the index is below 2^31.
                each((base + u64::from(position)) as u32, record)?;
            }
        }
        Ok(())
    }

    /// The shard (its place here) and position of the document with this index.
    pub(super) fn place(&self, index: u32) -> (usize, u32) {
        let index = u64::from(index);
        let shard = self.bases.partition_point(|&base| base <= index).saturating_sub(1);
        // Empty shards share their base with the next one, and partition_point skips them.
        (shard, (index - self.bases.get(shard).copied().unwrap_or(0)) as u32)
    }

    /// Each shard's source.
    pub(super) fn sources(&self, sources: &Sources) -> Result<Vec<usize>, DedupError> {
        self.headers().map(|header| sources.of(header.shard)).collect()
    }
}

/// The budget that is left to a sort beside `taken` bytes.
pub(super) fn left(space: &Space<'_>, taken: u64) -> u64 {
    space.memory.saturating_sub(taken).saturating_sub(BUFFERS)
}

/// The sets of documents that are the same.
pub(super) fn sets(shards: &Shards, space: &Space<'_>) -> Result<UnionFind, DedupError> {
    Ok(UnionFind::new(shards.documents(), left(space, crate::external_sort::MIN_MEMORY))?)
}

/// Writes the removals of every shard into `folder`: all but the first document of each set.
pub(super) fn write_removals(
    shards: &Shards,
    mut sets: UnionFind,
    folder: &Path,
    sources: &Sources,
) -> Result<Report, DedupError> {
    let of_shard = shards.sources(sources)?;
    let mut report = Report::new(sources);
    for (place, header) in shards.headers().enumerate() {
        let source = of_shard[place];
        report.add_shard(source, header.documents, header.records);
        let mut out = RemovalWriter::create(folder, header.shard, shards.config())?;
        for position in 0..header.documents as u32 {
            let index = (shards.bases[place] + u64::from(position)) as u32;
            let root = sets.root(index);
            let size = sets.size(root);
            if root != index {
                let (kept_place, kept_position) = shards.place(root);
                let kept = number(shards.shards[kept_place].1.shard, kept_position);
                out.push(position, size, kept)?;
                report.add_removed(source, of_shard[kept_place]);
            } else if size > 1 {
                report.add_cluster(size);
            }
        }
        out.finish(header.documents)?;
    }
    Ok(report)
}

/// Joins the documents of records with the same first `KEY` bytes; the last four are the document's index, big endian.
pub(super) fn join_equal<const N: usize, const KEY: usize>(
    sorter: Sorter<N>,
    sets: &mut UnionFind,
) -> Result<(), DedupError> {
    const { assert!(KEY + 4 == N) };
    let mut first: Option<([u8; N], u32)> = None;
    for record in sorter.finish()? {
        let record = record?;
        let mut index = [0; 4];
        index.copy_from_slice(&record[KEY..]);
        let index = u32::from_be_bytes(index);
        match &first {
            Some((key, first)) if key[..KEY] == record[..KEY] => sets.join(*first, index),
            _ => first = Some((record, index)),
        }
    }
    Ok(())
}
