//! What an order draws from: the documents behind the chunks of each source.

use super::Adjacency;
use crate::batch::Loader;
use crate::order::{SLOTS, SampleRef};
use crate::shard::Shard;

/// All chunks that can be drawn, with the document of each.
pub struct Population<'a> {
    /// In the order of the sources.
    pub sources: Vec<SourcePopulation<'a>>,
}

/// The chunks of one source.
pub struct SourcePopulation<'a> {
    /// Its name.
    pub name: String,
    /// Its share of the samples, 0 to 1.
    pub share: f64,
    /// Its chunks.
    pub chunks: u64,
    shard: &'a Shard,
    chunk_length: u64,
    /// Chunks above which a document is long.
    batch_size: u64,
    /// Probability that two of its chunks, drawn without replacement, are of one document.
    same: f64,
    /// That three are, by cubes of shares.
    same_three: f64,
    /// Share of chunks in long documents.
    long: f64,
}

impl<'a> SourcePopulation<'a> {
    /// The chunks of `chunk_length` tokens of `shard`; a document of more chunks than `batch_size` is long.
    pub fn new(name: String, share: f64, shard: &'a Shard, chunk_length: u64, batch_size: u64) -> Self {
        let chunks = shard.n_tokens() / chunk_length;
        let mut source = Self {
            name,
            share,
            chunks,
            shard,
            chunk_length,
            batch_size,
            same: 0.0,
            same_three: 0.0,
            long: 0.0,
        };
        let all = chunks as f64;
        for document in 0..shard.n_documents() {
            let count = source.chunks_of(document) as f64;
            source.same += count * (count - 1.0) / (all * (all - 1.0).max(1.0));
            source.same_three += (count / all).powi(3);
            if count > batch_size as f64 {
                source.long += count / all;
            }
        }
        source
    }

    /// Chunks whose middle token is in a document.
    fn chunks_of(&self, document: u64) -> u64 {
        let range = self.shard.document(document);
        let middle = self.chunk_length / 2;
        // Middles are at middle + k · length: those below an end, at most all chunks.
        let below = |end: u64| (end + self.chunk_length - 1).saturating_sub(middle) / self.chunk_length;
        below(range.end).min(self.chunks) - below(range.start).min(self.chunks)
    }

    pub(super) fn document_share(&self, document: u64) -> f64 {
        self.chunks_of(document) as f64 / self.chunks.max(1) as f64
    }

    pub(super) fn is_long(&self, document: u64) -> bool {
        self.chunks_of(document) > self.batch_size
    }
}

impl<'a> Population<'a> {
    /// What `loader` draws from in stage `stage`.
    pub fn of(loader: &'a Loader, stage: usize, batch_size: u64) -> Self {
        let length = loader.layout().sequence_length as u64 + 1;
        let sources = loader.sources().iter().zip(loader.mixture().slots(stage)).map(|(source, &slots)| {
            let share = slots as f64 / SLOTS as f64;
            SourcePopulation::new(source.name.clone(), share, &source.shard, length, batch_size)
        });
        Self { sources: sources.collect() }
    }

    /// Chunks of the sources that are drawn.
    pub(super) fn chunks(&self) -> u64 {
        self.sources.iter().filter(|source| source.share > 0.0).map(|source| source.chunks).sum()
    }

    /// The document of a chunk.
    pub(super) fn document(&self, row: &SampleRef) -> u64 {
        let source = &self.sources[row.source];
        source.shard.document_at(row.chunk * source.chunk_length + source.chunk_length / 2)
    }

    /// The share of each source, then that of long documents.
    pub(super) fn shares(&self) -> impl Iterator<Item = f64> {
        let long: f64 = self.sources.iter().map(|source| source.share * source.long).sum();
        self.sources.iter().map(|source| source.share).chain([long])
    }

    /// The pairs found against those of random draws. The number of pairs of one document has variance
    /// P·e·(1 − e) + B(B − 1)(B − 2)·(Σp³ − e²): pairs that share a row are not independent.
    pub(super) fn adjacency(&self, batch_size: u64, batches: u64, found: u64) -> Adjacency {
        let (size, count) = (batch_size as f64, batches as f64);
        let pairs = size * (size - 1.0) / 2.0;
        let (mut expected, mut three) = (0.0, 0.0);
        for source in self.sources.iter().filter(|source| source.share > 0.0) {
            // Of n(n − 1)/2 pairs n − 1 follow one another, in the same document or not; counting both twice errs on
            // the side of passing.
            let next = 2.0 / (source.chunks as f64).max(2.0);
            expected += source.share.powi(2) * (source.same + next).min(1.0);
            three += source.share.powi(3) * source.same_three;
        }
        let triples = size * (size - 1.0) * (size - 2.0) * (three - expected * expected).max(0.0);
        let deviation = (count * (pairs * expected * (1.0 - expected) + triples)).max(1.0).sqrt();
        Adjacency {
            pairs: batches * batch_size * (batch_size - 1) / 2,
            found,
            expected: count * pairs * expected,
            z: (found as f64 - count * pairs * expected) / deviation,
        }
    }
}
