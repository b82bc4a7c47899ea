//! Sorting and clustering keep inside their budget, by a counting allocator.

#![allow(clippy::unwrap_used)] // helpers of tests

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use smolt_curate::dedup::minhash::{self, MinhashConfig, SignatureWriter};
use smolt_curate::dedup::{Sources, Space};
use smolt_curate::external_sort::Sorter;
use smolt_run::random::Stream;

struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn add(bytes: usize) {
    let held = HELD.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK.fetch_max(held, Ordering::Relaxed);
}

// SAFETY: every call is the system allocator's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, block: Layout) -> *mut u8 {
        add(block.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc(block) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, block: Layout) {
        HELD.fetch_sub(block.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, block) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// The most bytes held at once above what was held before.
fn peak_of(work: impl FnOnce()) -> usize {
    let before = HELD.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    work();
    PEAK.load(Ordering::Relaxed) - before
}

/// One test, as the counters are the process's.
#[test]
fn budgets_hold() {
    let folder = tempfile::tempdir().unwrap();
    rayon::broadcast(|_| ()); // the pool's own memory is nobody's budget
    for budget in [1 << 18, 1 << 20, 8 << 20] {
        let mut sum = 0u64;
        let peak = peak_of(|| {
            let mut sorter = Sorter::<16>::new(folder.path(), budget).unwrap();
            let mut stream = Stream::new(1, "records", budget);
            for n in 0..1_000_000u64 {
                let mut record = [0; 16];
                record[..8].copy_from_slice(&stream.next_u64().to_be_bytes());
                record[8..].copy_from_slice(&n.to_be_bytes());
                sorter.push(record).unwrap();
            }
            let mut before = [0; 16];
            for record in sorter.finish().unwrap() {
                let record = record.unwrap();
                assert!(before <= record);
                before = record;
                sum += u64::from_be_bytes(record[8..].try_into().unwrap());
            }
        });
        assert_eq!(sum, 999_999 * 500_000);
        assert!(peak as u64 <= budget, "{peak} bytes held, {budget} allowed");
    }

    let config = MinhashConfig::default();
    let path = folder.path().join("0.signatures");
    let mut writer = SignatureWriter::create(&path, &config, "none", 0).unwrap();
    let mut stream = Stream::new(2, "bands", 0);
    let documents = 100_000;
    for position in 0..documents {
        let bands: Vec<_> = (0..14).map(|_| stream.below(1_000_000)).collect();
        writer.push(position, &bands).unwrap();
    }
    writer.finish(u64::from(documents)).unwrap();
    let sources = Sources::new(vec!["one".into()], vec![0]).unwrap();
    for budget in [1 << 20, 4 << 20] {
        let space = Space { memory: budget, scratch: folder.path() };
        let peak = peak_of(|| {
            let report =
                minhash::cluster(std::slice::from_ref(&path), folder.path(), &sources, &space).unwrap();
            assert!(report.removed > 50_000);
        });
        assert!(peak as u64 <= budget, "{peak} bytes held, {budget} allowed");
    }
}
