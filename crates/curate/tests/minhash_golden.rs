//! Simplified texts, signatures, clusters and kept documents equal datatrove's (tests/golden/curate/minhash.py).

#![allow(clippy::unwrap_used)] // helpers of tests

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use smolt_curate::dedup::minhash::{self, MinhashConfig, Scratch, SignatureWriter, Signer};
use smolt_curate::dedup::removals::Removals;
use smolt_curate::dedup::shingle::{HashFunction, Precision, Span};
use smolt_curate::dedup::simplify::{Simplifier, TextNorm};
use smolt_curate::dedup::{Sources, Space};
use smolt_data::document::{Document, JsonLines};
use xxhash_rust::xxh3::xxh3_128;

struct Item {
    text: String,
    simplified: String,
    words: Vec<Span>,
}

#[derive(Deserialize)]
struct Expected {
    n_grams: u32,
    num_buckets: u32,
    hashes_per_bucket: u32,
    seed: u32,
    precision: Precision,
    hash_fc: HashFunction,
    signed: usize,
    first: Vec<String>,
    signatures: String,
    kept: Vec<u32>,
    clusters: Vec<Vec<u32>>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/curate/minhash")
}

fn items() -> Vec<Item> {
    let lines = JsonLines::<Document>::open(&folder().join("documents.jsonl.zst")).unwrap();
    let item = |document: Document| {
        let numbers: Vec<u32> = serde_json::from_value(document.metadata["words"].clone()).unwrap();
        Item {
            text: document.text,
            simplified: document.metadata["simplified"].as_str().unwrap().to_owned(),
            words: numbers.chunks(2).map(|pair| (pair[0], pair[0] + pair[1])).collect(),
        }
    };
    lines.map(|line| item(line.unwrap())).collect()
}

fn expected() -> BTreeMap<String, Expected> {
    serde_json::from_slice(&std::fs::read(folder().join("expected.json")).unwrap()).unwrap()
}

fn config(of: &Expected) -> MinhashConfig {
    MinhashConfig {
        n_grams: of.n_grams,
        num_buckets: of.num_buckets,
        hashes_per_bucket: of.hashes_per_bucket,
        seed: of.seed,
        precision: of.precision,
        hash_fc: of.hash_fc,
        norm: TextNorm::default(),
    }
}

#[test]
fn texts_are_simplified_alike() {
    let simplifier = Simplifier::new(TextNorm::default());
    let mut out = String::new();
    for item in items() {
        simplifier.simplify(&item.text, &mut out);
        assert_eq!(out, item.simplified, "{:?}", item.text);
    }
}

#[test]
fn signatures_are_the_same_numbers() {
    let items = items();
    for (name, expected) in expected() {
        let signer = Signer::new(config(&expected)).unwrap();
        let mut scratch = Scratch::default();
        let (mut bytes, mut signed) = (Vec::new(), 0);
        for item in &items {
            let words = |_: &str, spans: &mut Vec<Span>| spans.extend(&item.words);
            let Some(signature) = signer.signature(&item.text, &words, &mut scratch) else { continue };
            if signed == 0 {
                let first: Vec<_> = signature.iter().map(u64::to_string).collect();
                assert_eq!(first, expected.first, "{name}");
            }
            signed += 1;
            bytes.extend(signature.iter().flat_map(|value| value.to_le_bytes()));
        }
        assert_eq!(signed, expected.signed, "{name}");
        assert_eq!(format!("{:032x}", xxh3_128(&bytes)), expected.signatures, "{name}");
    }
}

/// The two files of the fixture as two shards through all phases: the clusters, and what is kept.
fn cluster(items: &[Item], config: MinhashConfig) -> (Vec<Vec<u32>>, Vec<u32>) {
    let folder = tempfile::tempdir().unwrap();
    let signer = Signer::new(config).unwrap();
    let scratch = RefCell::new(Scratch::default());
    let half = items.len() / 2;
    let shards = [&items[..half], &items[half..]];
    let mut paths = Vec::new();
    for (shard, items) in shards.iter().enumerate() {
        let path = folder.path().join(shard.to_string());
        let mut writer = SignatureWriter::create(&path, &config, "spacy", shard as u32).unwrap();
        for (position, item) in items.iter().enumerate() {
            let words = |_: &str, spans: &mut Vec<Span>| spans.extend(&item.words);
            if let Some(bands) = signer.bands(&item.text, &words, &mut scratch.borrow_mut()) {
                writer.push(position as u32, bands).unwrap();
            }
        }
        writer.finish(items.len() as u64).unwrap();
        paths.push(path);
    }
    let sources = Sources::new(vec!["one".into()], vec![0, 0]).unwrap();
    let space = Space { memory: 1 << 22, scratch: folder.path() };
    minhash::cluster(&paths, folder.path(), &sources, &space).unwrap();
    let mut clusters = BTreeMap::<u32, Vec<u32>>::new();
    let mut kept: Vec<u32> = (0..items.len() as u32).collect();
    for (shard, base) in [(0, 0), (1, half as u32)] {
        for removal in Removals::open(folder.path(), shard).unwrap() {
            let removal = removal.unwrap();
            let (document, first) =
                (base + removal.position, (removal.kept >> 32) as u32 * half as u32 + removal.kept as u32);
            clusters.entry(first).or_insert_with(|| vec![first]).push(document);
            kept.retain(|&other| other != document);
        }
    }
    (clusters.into_values().collect(), kept)
}

#[test]
fn clusters_and_kept_documents_are_the_same() {
    let items = items();
    for (name, expected) in expected() {
        let (clusters, kept) = cluster(&items, config(&expected));
        assert_eq!(clusters, expected.clusters, "{name}");
        // datatrove keeps the root of its union by size; in clusters of three and more that need not be the first.
        let first_of = |document: &u32| {
            let cluster =
                expected.clusters.iter().find(|cluster| cluster.len() > 2 && cluster.contains(document));
            cluster.map_or(*document, |cluster| cluster[0])
        };
        let mut theirs: Vec<_> = expected.kept.iter().map(first_of).collect();
        theirs.sort_unstable();
        assert_eq!(kept, theirs, "{name}");
        eprintln!("{name}: {} clusters, same documents kept: {}", clusters.len(), kept == expected.kept);
    }
}
