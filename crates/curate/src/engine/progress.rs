//! How far a pass is: by bytes read, so that one large file moves too.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of input that a pass has done.
pub(super) struct PassProgress {
    /// Of shards that are done.
    finished: AtomicU64,
    workers: Vec<Worker>,
}

/// The shard that a worker is at.
#[derive(Default)]
struct Worker {
    /// Bytes read of its files.
    read: Arc<AtomicU64>,
    /// Bytes of its files; those that a pass left for the next have another size than the inputs.
    size: AtomicU64,
    /// Bytes of its inputs.
    worth: AtomicU64,
}

impl PassProgress {
    pub(super) fn new(workers: usize) -> Self {
        Self { finished: AtomicU64::new(0), workers: (0..workers).map(|_| Worker::default()).collect() }
    }

    /// A worker begins a shard of `worth` bytes of input, which lie in files of `size`; the counter for what it reads.
    pub(super) fn begin(&self, worker: usize, size: u64, worth: u64) -> Arc<AtomicU64> {
        let worker = &self.workers[worker];
        worker.size.store(size, Ordering::Relaxed);
        worker.worth.store(worth, Ordering::Relaxed);
        Arc::clone(&worker.read)
    }

    /// The worker is done with its shard.
    pub(super) fn finish(&self, worker: usize) {
        let worker = &self.workers[worker];
        let worth = worker.worth.swap(0, Ordering::Relaxed);
        worker.read.store(0, Ordering::Relaxed);
        self.finished.fetch_add(worth, Ordering::Relaxed);
    }

    /// Bytes of input done.
    pub(super) fn bytes(&self) -> u64 {
        let part = |worker: &Worker| {
            let [read, size, worth] =
                [&*worker.read, &worker.size, &worker.worth].map(|counter| counter.load(Ordering::Relaxed));
            // Columns of Parquet may be read twice.
            (worth as f64 * (read as f64 / size.max(1) as f64).min(1.0)) as u64
        };
        self.finished.load(Ordering::Relaxed) + self.workers.iter().map(part).sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_counts_while_it_is_read_and_in_full_when_done() {
        let progress = PassProgress::new(2);
        let read = progress.begin(1, 50, 100);
        read.store(25, Ordering::Relaxed);
        assert_eq!(progress.bytes(), 50);
        read.store(80, Ordering::Relaxed);
        assert_eq!(progress.bytes(), 100, "never more than there is");
        progress.finish(1);
        assert_eq!(progress.bytes(), 100);
        progress.begin(1, 10, 7);
        assert_eq!(progress.bytes(), 100);
    }
}
