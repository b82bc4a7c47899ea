//! Near duplicates by MinHash-LSH, over all sources; the first of a cluster is kept (spec `CLN-01`, `CLN-06`).

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use smolt_data::document::Document;

use super::removed::Removed;
use crate::analysis::Analysis;
use crate::dedup::minhash::{MinhashConfig, Scratch, SignatureWriter, Signer, cluster};
use crate::dedup::{Sources, Space};
use crate::engine::Error;
use crate::global::{Collector, GlobalStep, Judge};

smolt_run::recipe! {
    /// How alike documents must be. Two of Jaccard similarity s are joined with probability
    /// 1 − (1 − s^hashes_per_bucket)^num_buckets; names and defaults are datatrove's.
    pub struct MinhashDedupSettings {
        /// Words of a shingle; a document of fewer is kept.
        pub n_grams: u32 = 5,
        /// Buckets, also called bands.
        pub num_buckets: u32 = 14,
        /// Hash functions of each bucket, also called rows.
        pub hashes_per_bucket: u32 = 8,
        /// Chooses the hash functions.
        pub seed: u32 = 1,
    }
}

/// How words are found, part of what makes signatures comparable.
const WORDS: &str = "smolt 1";

/// Rejects what is like an earlier document as `near_duplicate`; the detail names the first by shard and position.
pub struct MinhashDedup(Signer);

impl MinhashDedup {
    /// The step with these settings.
    pub fn new(settings: &MinhashDedupSettings) -> Result<Self, Error> {
        let &MinhashDedupSettings { n_grams, num_buckets, hashes_per_bucket, seed } = settings;
        let config =
            MinhashConfig { n_grams, num_buckets, hashes_per_bucket, seed, ..MinhashConfig::default() };
        Ok(Self(Signer::new(config)?))
    }
}

thread_local! {
    /// Words are those of the simplified text, so the analysis of the document at hand does not serve.
    static ROOM: RefCell<(RefCell<Analysis>, Scratch)> = RefCell::default();
}

impl GlobalStep for MinhashDedup {
    fn keys(&self, document: &Document, keys: &mut Vec<u8>) {
        ROOM.with_borrow_mut(|(analysis, scratch)| {
            let words = |text: &str, spans: &mut Vec<(u32, u32)>| {
                let mut analysis = analysis.borrow_mut();
                analysis.text_changed();
                spans.extend_from_slice(analysis.words(text));
            };
            if let Some(bands) = self.0.bands(&document.text, &words, scratch) {
                keys.extend(bands.iter().flat_map(|band| band.to_le_bytes()));
            }
        });
    }

    fn collect(&self, path: &Path, shard: u32) -> Result<Box<dyn Collector>, Error> {
        let out = SignatureWriter::create(path, self.0.config(), WORDS, shard)?;
        Ok(Box::new(Signatures { out, bands: Vec::new() }))
    }

    fn decide(
        &self,
        records: &[PathBuf],
        folder: &Path,
        sources: &Sources,
        space: &Space<'_>,
    ) -> Result<Value, Error> {
        Ok(json!(cluster(records, folder, sources, space)?))
    }

    fn judge(&self, folder: &Path, shard: u32) -> Result<Box<dyn Judge>, Error> {
        Removed::open("near_duplicate", folder, shard)
    }
}

struct Signatures {
    out: SignatureWriter,
    bands: Vec<u64>,
}

impl Collector for Signatures {
    fn push(&mut self, position: u32, _: &Document, keys: &[u8]) -> Result<(), Error> {
        if keys.is_empty() {
            return Ok(());
        }
        self.bands.clear();
        let (bands, _) = keys.as_chunks::<8>();
        self.bands.extend(bands.iter().map(|band| u64::from_le_bytes(*band)));
        Ok(self.out.push(position, &self.bands)?)
    }

    fn finish(self: Box<Self>, documents: u64) -> Result<(), Error> {
        Ok(self.out.finish(documents)?)
    }
}
