//! MinHash through all three phases: recall follows the theoretical curve, nothing else is removed, and neither threads,
//! budget nor the order of the shards change a byte.

#![allow(clippy::unwrap_used)] // helpers of tests

mod planted;

use std::path::{Path, PathBuf};

use planted::{LEVELS, Planted};
use smolt_curate::dedup::minhash::{self, MinhashConfig, Scratch, SignatureWriter, Signer};
use smolt_curate::dedup::removals::{self, Removals};
use smolt_curate::dedup::shingle::split_at_spaces;
use smolt_curate::dedup::{Report, Sources, Space, number};

fn sign(text: &Planted, signer: &Signer, folder: &Path, shard: u32) -> PathBuf {
    let path = folder.join(format!("{shard}.signatures"));
    let mut writer = SignatureWriter::create(&path, signer.config(), "spaces", shard).unwrap();
    let (mut scratch, mut document) = (Scratch::default(), String::new());
    for position in 0..text.documents {
        text.document(shard, position, &mut document);
        let bands = signer.bands(&document, &split_at_spaces, &mut scratch).unwrap();
        writer.push(position, bands).unwrap();
    }
    writer.finish(u64::from(text.documents)).unwrap();
    path
}

fn run(text: &Planted, order: &[u32], threads: usize, memory: u64, folder: &Path) -> Report {
    let signer = Signer::new(MinhashConfig::default()).unwrap();
    let paths: Vec<_> = order.iter().map(|&shard| sign(text, &signer, folder, shard)).collect();
    let of_shard = (0..text.shards).map(|shard| u32::from(shard >= text.shards / 2)).collect();
    let sources = Sources::new(vec!["first".into(), "second".into()], of_shard).unwrap();
    let space = Space { memory, scratch: folder };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| minhash::cluster(&paths, folder, &sources, &space)).unwrap()
}

#[test]
fn recall_follows_the_curve_and_nothing_else_is_removed() {
    let text = Planted::new(7, 8, 1000, 1, 60..160);
    let folder = tempfile::tempdir().unwrap();
    let report = run(&text, &[0, 1, 2, 3, 4, 5, 6, 7], 2, 1 << 30, folder.path());
    let config = MinhashConfig::default();
    let mut found = [0.0; LEVELS.len()];
    let mut expected = [(0.0, 0.0); LEVELS.len()];
    for shard in 0..text.shards {
        let mut removals = Removals::open(folder.path(), shard).unwrap();
        for position in 0..text.documents {
            let removal = removals.at(position).unwrap();
            let Some(pair) = text.pair(shard, position) else {
                assert_eq!(removal, None, "{shard} {position} is like no earlier document");
                continue;
            };
            let p = config.probability(pair.similarity);
            expected[pair.level].0 += p;
            expected[pair.level].1 += p * (1.0 - p);
            if let Some(removal) = removal {
                found[pair.level] += 1.0;
                assert_eq!((removal.kept, removal.size), (number(shard - 4, position), 2));
            }
        }
        removals.finish(u64::from(text.documents)).unwrap();
    }
    for (level, (found, (mean, variance))) in found.into_iter().zip(expected).enumerate() {
        // Four and a half standard deviations: one failure in 15,000 if the curve holds; the seed is fixed besides.
        let bound = 4.5 * f64::sqrt(variance) + 0.5;
        assert!((found - mean).abs() <= bound, "s = {}: {found}, expected {mean} ± {bound}", LEVELS[level]);
    }
    let all = found.iter().sum::<f64>() as u64;
    assert_eq!((report.documents, report.compared, report.removed, report.clusters), (8000, 8000, all, all));
    assert_eq!(report.sources[1].first_seen_in, [all, 0]);
    assert_eq!(report.sources[0].removed, 0);
}

#[test]
fn threads_budget_and_order_change_no_byte() {
    let text = Planted::new(9, 6, 1000, 2, 30..60);
    let files = |order: &[u32], threads, memory| {
        let folder = tempfile::tempdir().unwrap();
        let report = run(&text, order, threads, memory, folder.path());
        let read = |shard| std::fs::read(removals::path(folder.path(), shard)).unwrap();
        (report, (0..text.shards).map(read).collect::<Vec<_>>())
    };
    let one = files(&[0, 1, 2, 3, 4, 5], 1, 1 << 30);
    let other = files(&[5, 0, 3, 1, 4, 2], 3, 600 << 10);
    assert!(one == other && one.0.removed > 500);
}
