//! Near-duplicates by MinHash and locality-sensitive hashing (Broder, 1997), with the options and the arithmetic of
//! datatrove 0.10.1: given the same words, the signatures are the same numbers.
//!
//! A document is the set of its shingles (n consecutive words, hashed). Each of `num_buckets · hashes_per_bucket` hash
//! functions takes its least value over the set; two documents of Jaccard similarity s agree in one of them with
//! probability s. They are joined when all hashes of any bucket agree: 1 − (1 − s^hashes)^buckets, with the defaults
//! 1 − (1 − s⁸)¹⁴, about one half at 0.7 and 92 % at 0.8 (spec `CLN-01`).
//!
//! A bucket's hashes are kept as one 64-bit hash of them. Among n documents it joins two that differ with a probability
//! of about `num_buckets · n² / 2^65`: one in 100,000 for 5 million documents.

mod kernel;
mod permutation;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::clusters::{Shards, left, sets, write_removals};
use super::records::{Kind, RecordWriter, u64_at};
use super::report::{Report, Sources};
use super::shingle::{HashFunction, Precision, Span, Words, for_each_ngram, hash};
use super::simplify::{Simplifier, TextNorm};
use super::{DedupError, Space};
use crate::external_sort::Sorter;
use crate::union_find::UnionFind;
use kernel::Permutations;

/// The most hash functions.
pub const MAX_HASHES: u32 = 4096;

/// Bucket, hash of the bucket, index of the document.
const SORTED: usize = 1 + 8 + 4;

/// Names and defaults are those of datatrove's `MinhashConfig`, its `HashConfig` included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MinhashConfig {
    /// Words of a shingle. A document of fewer has no signature and is kept.
    pub n_grams: u32,
    /// Buckets, also called bands: 1 to 255.
    pub num_buckets: u32,
    /// Hash functions of each bucket, also called rows.
    pub hashes_per_bucket: u32,
    /// Chooses the hash functions.
    pub seed: u32,
    /// Bits of a hash: 32 or 64.
    pub precision: Precision,
    /// The hash of a shingle.
    pub hash_fc: HashFunction,
    /// What is done to a text before its words are found.
    pub norm: TextNorm,
}

impl Default for MinhashConfig {
    fn default() -> Self {
        Self {
            n_grams: 5,
            num_buckets: 14,
            hashes_per_bucket: 8,
            seed: 1,
            precision: Precision::default(),
            hash_fc: HashFunction::default(),
            norm: TextNorm::default(),
        }
    }
}

impl MinhashConfig {
    /// The probability that two documents of Jaccard similarity `s` are joined.
    pub fn probability(&self, s: f64) -> f64 {
        1.0 - (1.0 - s.powi(self.hashes_per_bucket as i32)).powi(self.num_buckets as i32)
    }

    fn check(&self) -> Result<(), DedupError> {
        let refuse = |problem: String| Err(DedupError::Settings(problem));
        if !(1..=256).contains(&self.n_grams) {
            return refuse(format!("n_grams = {} must be from 1 to 256", self.n_grams));
        }
        if !(1..=255).contains(&self.num_buckets) {
            return refuse(format!("num_buckets = {} must be from 1 to 255", self.num_buckets));
        }
        let hashes = u64::from(self.num_buckets) * u64::from(self.hashes_per_bucket);
        if hashes == 0 || hashes > u64::from(MAX_HASHES) {
            return refuse(format!(
                "num_buckets · hashes_per_bucket = {hashes} must be from 1 to {MAX_HASHES}"
            ));
        }
        Ok(())
    }

    /// Identifies signatures that can be compared. `words` names how words were found.
    fn key(&self, words: &str) -> [u8; 16] {
        let text = format!("minhash 1 {self:?} {words}");
        let mut key = [0; 16];
        key.copy_from_slice(&blake3::hash(text.as_bytes()).as_bytes()[..16]);
        key
    }

    fn width(&self) -> u32 {
        4 + 8 * self.num_buckets
    }
}

/// Makes signatures; shared by all threads.
pub struct Signer {
    config: MinhashConfig,
    simplifier: Simplifier,
    permutations: Permutations,
}

/// Workspace of one thread.
#[derive(Default)]
pub struct Scratch {
    simplified: String,
    words: Vec<Span>,
    joined: String,
    shingles: Vec<u64>,
    signature: Vec<u64>,
    bands: Vec<u64>,
    bytes: Vec<u8>,
}

impl Signer {
    /// Checks the settings.
    pub fn new(config: MinhashConfig) -> Result<Self, DedupError> {
        config.check()?;
        let count = (config.num_buckets * config.hashes_per_bucket) as usize;
        let mask = match config.precision {
            Precision::Bits32 => u64::from(u32::MAX),
            Precision::Bits64 => u64::MAX,
        };
        Ok(Self {
            config,
            simplifier: Simplifier::new(config.norm),
            permutations: Permutations::new(config.seed, count, mask),
        })
    }

    /// The settings.
    pub fn config(&self) -> &MinhashConfig {
        &self.config
    }

    /// The minima of all hash functions, bucket by bucket; `None` for a text of fewer words than a shingle. `words` is
    /// asked for the words of the simplified text.
    pub fn signature<'s>(&self, text: &str, words: Words<'_>, scratch: &'s mut Scratch) -> Option<&'s [u64]> {
        self.sign(text, words, scratch).then_some(&scratch.signature)
    }

    fn sign(&self, text: &str, words: Words<'_>, scratch: &mut Scratch) -> bool {
        let Scratch { simplified, words: spans, joined, shingles, signature, .. } = scratch;
        self.simplifier.simplify(text, simplified);
        spans.clear();
        words(simplified, spans);
        shingles.clear();
        let (function, precision) = (self.config.hash_fc, self.config.precision);
        for_each_ngram(simplified, spans, self.config.n_grams as usize, joined, |ngram| {
            shingles.push(hash(ngram, function, precision));
        });
        if shingles.is_empty() {
            return false;
        }
        self.permutations.minima(shingles, signature);
        true
    }

    /// One hash per bucket; `None` as for [`Signer::signature`].
    pub fn bands<'s>(&self, text: &str, words: Words<'_>, scratch: &'s mut Scratch) -> Option<&'s [u64]> {
        if !self.sign(text, words, scratch) {
            return None;
        }
        scratch.bands.clear();
        for bucket in scratch.signature.chunks(self.config.hashes_per_bucket as usize) {
            scratch.bytes.clear();
            scratch.bytes.extend(bucket.iter().flat_map(|minimum| minimum.to_le_bytes()));
            scratch.bands.push(xxh3_64(&scratch.bytes));
        }
        Some(&scratch.bands)
    }
}

/// First phase: the signatures of one shard.
pub struct SignatureWriter {
    out: RecordWriter,
    record: Vec<u8>,
}

impl SignatureWriter {
    /// Starts the file of `shard` at `path`. `words` names how words are found, such as the segmenter's name and
    /// version: files with different ones are not compared.
    pub fn create(path: &Path, config: &MinhashConfig, words: &str, shard: u32) -> Result<Self, DedupError> {
        config.check()?;
        let out = RecordWriter::create(path, Kind::Signatures, config.width(), shard, config.key(words))?;
        Ok(Self { out, record: Vec::with_capacity(config.width() as usize) })
    }

    /// Adds the [`Signer::bands`] of the document at `position`. Documents without any are left out.
    pub fn push(&mut self, position: u32, bands: &[u64]) -> Result<(), DedupError> {
        self.record.clear();
        self.record.extend(position.to_le_bytes());
        self.record.extend(bands.iter().flat_map(|band| band.to_le_bytes()));
        self.out.push(&self.record)
    }

    /// Completes the file; `documents` is how many the shard has, with signatures or without.
    pub fn finish(self, documents: u64) -> Result<(), DedupError> {
        self.out.finish(documents)
    }
}

/// Second phase: joins the documents of all shards that agree in a bucket, and writes each shard's
/// [`Removals`](super::removals::Removals) into `folder`.
pub fn cluster(
    signatures: &[PathBuf],
    folder: &Path,
    sources: &Sources,
    space: &Space<'_>,
) -> Result<Report, DedupError> {
    let shards = Shards::open(signatures, Kind::Signatures, None)?;
    let mut sets = sets(&shards, space)?;
    let memory = left(space, UnionFind::bytes(shards.documents()));
    let mut sorter = Sorter::<SORTED>::new(space.scratch, memory)?;
    let buckets = (shards.width().saturating_sub(4) / 8).min(255) as u8;
    shards.for_each(|index, record| {
        for bucket in 0..buckets {
            let hash = u64_at(record, 4 + 8 * usize::from(bucket));
            let mut sorted = [bucket; SORTED];
            sorted[1..9].copy_from_slice(&hash.to_be_bytes());
            sorted[9..].copy_from_slice(&index.to_be_bytes());
            sorter.push(sorted)?;
        }
        Ok(())
    })?;
    super::clusters::join_equal::<SORTED, 9>(sorter, &mut sets)?;
    write_removals(&shards, sets, folder, sources)
}

#[cfg(test)]
mod tests {
    use super::super::shingle::split_at_spaces;
    use super::*;

    #[test]
    fn settings_that_cannot_be_are_refused() {
        let with = |change: fn(&mut MinhashConfig)| {
            let mut config = MinhashConfig::default();
            change(&mut config);
            Signer::new(config).err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert_eq!(with(|_| ()), "");
        assert!(with(|config| config.n_grams = 0).contains("n_grams = 0"));
        assert!(with(|config| config.num_buckets = 256).contains("num_buckets = 256"));
        assert!(with(|config| config.hashes_per_bucket = 0).contains("= 0 must"));
        assert!(with(|config| config.hashes_per_bucket = u32::MAX).contains("4096"));
        let parsed = serde_json::from_str::<MinhashConfig>(r#"{"precision": 16}"#);
        assert!(parsed.unwrap_err().to_string().contains("16 bits"));
        assert_eq!(serde_json::from_str::<MinhashConfig>("{}").unwrap(), MinhashConfig::default());
    }

    #[test]
    fn short_texts_have_no_signature_and_equal_ones_the_same() {
        let signer = Signer::new(MinhashConfig::default()).unwrap();
        let mut scratch = Scratch::default();
        assert!(signer.bands("one two, three four!", &split_at_spaces, &mut scratch).is_none());
        let one = signer.bands("One two, three 4 five", &split_at_spaces, &mut scratch).unwrap().to_vec();
        let two = signer.bands("one TWO three 17.5 five.", &split_at_spaces, &mut scratch).unwrap();
        assert_eq!((one.len(), &one[..]), (14, two));
        assert_ne!(one, signer.bands("one two three six five", &split_at_spaces, &mut scratch).unwrap());
    }

    #[test]
    fn the_curve() {
        let config = MinhashConfig::default();
        assert!((config.probability(0.8) - 0.924).abs() < 1e-3);
        assert_eq!((config.probability(0.0), config.probability(1.0)), (0.0, 1.0));
    }
}
