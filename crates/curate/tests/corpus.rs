//! Replays the fuzz corpora of the readers: no input may panic.

#![allow(clippy::unwrap_used)] // helpers of tests

use std::path::Path;

fn replay(name: &str, read: fn(&[u8]), at_least: usize) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= at_least);
    for file in files {
        read(&std::fs::read(&file).unwrap());
    }
}

#[test]
fn dedup_records() {
    replay("dedup_records", smolt_curate::dedup::fuzz_dedup_records, 10);
}

#[test]
fn evaluation_sets() {
    replay("evaluation_set", smolt_curate::decontaminate::fuzz_evaluation_set, 8);
}
