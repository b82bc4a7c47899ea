//! Batches made ahead, so that a training step does not wait for its data.
//!
//! One thread fills the global batch of the next step while this one is computed. Two buffers change hands: the order of
//! samples does not depend on when anything is read, so the bits are those of reading in place; nothing is allocated
//! after the start.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::batch::{Batch, IGNORE_LABEL, Loader};
use crate::error::Error;

/// The samples of one step, in micro-batches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GlobalBatch {
    /// Its first sample.
    pub first_sample: u64,
    /// Labels in all of it: what the summed loss is divided by.
    pub label_tokens: u64,
    /// Micro-batches, in order, of equal size.
    pub leaves: Vec<Batch>,
}

impl GlobalBatch {
    /// Room for `leaves` micro-batches of `rows` rows.
    pub fn new(leaves: usize, rows: usize, sequence_length: usize) -> Self {
        let leaves = (0..leaves).map(|_| Batch::new(rows, sequence_length)).collect();
        Self { first_sample: 0, label_tokens: 0, leaves }
    }

    /// Fills it with the samples from `first_sample` on; allocates nothing.
    pub fn fill(&mut self, loader: &Loader, first_sample: u64) -> Result<(), Error> {
        self.first_sample = first_sample;
        self.label_tokens = 0;
        let mut sample = first_sample;
        for leaf in &mut self.leaves {
            let rows = leaf.tokens.len() / loader.layout().sequence_length;
            loader.fill(sample, rows, leaf.as_mut())?;
            sample += rows as u64;
            self.label_tokens += leaf.labels.iter().filter(|&&label| label != IGNORE_LABEL).count() as u64;
        }
        Ok(())
    }
}

/// The buffer between the two, and whose turn it is.
struct State {
    /// What the thread made and the trainer has not taken.
    ready: Option<Result<(), Error>>,
    /// The thread ended: after its last step, on an error, or by a panic.
    ended: bool,
    /// The trainer was dropped.
    stop: bool,
    buffer: GlobalBatch,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Whoever panicked while holding the lock had only swapped buffers.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, as soon as `waits` no longer holds.
    fn when(&self, waits: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        self.changed.wait_while(self.lock(), |state| waits(state)).unwrap_or_else(PoisonError::into_inner)
    }
}

/// Global batches of consecutive steps, each read while the one before it is used.
pub struct Prefetcher {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    current: GlobalBatch,
}

impl Prefetcher {
    /// Starts to read: `steps` global batches of `leaves` micro-batches of `rows` rows, from `first_sample` on.
    pub fn start(
        loader: Arc<Loader>,
        leaves: usize,
        rows: usize,
        first_sample: u64,
        steps: u64,
    ) -> Result<Self, Error> {
        let length = loader.layout().sequence_length;
        let buffer = || GlobalBatch::new(leaves, rows, length);
        let state = State { ready: None, ended: false, stop: false, buffer: buffer() };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let (theirs, spare) = (Ended(Arc::clone(&shared)), buffer());
        let samples = (leaves * rows) as u64;
        let thread = std::thread::Builder::new()
            .name("smolt-data".into())
            .spawn(move || read_ahead(&theirs.0, &loader, spare, first_sample, samples, steps))
            .map_err(|error| Error::Settings(format!("cannot start a thread for the data: {error}")))?;
        Ok(Self { shared, thread: Some(thread), current: buffer() })
    }

    /// The next step's batch, and how long it was waited for. An error is that of the batch it stopped at.
    pub fn next_batch(&mut self) -> Result<(&GlobalBatch, Duration), Error> {
        let start = Instant::now();
        let mut state = self.shared.when(|state| state.ready.is_none() && !state.ended);
        match state.ready.take() {
            Some(Ok(())) => std::mem::swap(&mut state.buffer, &mut self.current),
            Some(Err(error)) => return Err(error),
            None => {
                return Err(Error::Settings(
                    "no batch is left: the thread that reads the data has ended".into(),
                ));
            }
        }
        drop(state);
        // Before the thread is woken: it may be given this processor for a moment, which is no wait for data.
        let waited = start.elapsed();
        self.shared.changed.notify_all();
        Ok((&self.current, waited))
    }
}

impl Drop for Prefetcher {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic there was already told as the end of the data.
            let _ = thread.join();
        }
    }
}

/// Tells the trainer when the thread is gone, however it went.
struct Ended(Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.changed.notify_all();
    }
}

fn read_ahead(
    shared: &Shared,
    loader: &Loader,
    mut spare: GlobalBatch,
    first_sample: u64,
    samples: u64,
    steps: u64,
) {
    for step in 0..steps {
        let filled = spare.fill(loader, first_sample + step * samples);
        // The last batch must be taken before it can be replaced.
        let mut state = shared.when(|state| state.ready.is_some() && !state.stop);
        if state.stop {
            return;
        }
        let failed = filled.is_err();
        std::mem::swap(&mut state.buffer, &mut spare);
        state.ready = Some(filled);
        drop(state);
        shared.changed.notify_all();
        if failed {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::tests::{layout, shard};
    use crate::batch::{Layout, Source};

    fn loader(layout: Layout) -> Arc<Loader> {
        let documents: Vec<Vec<u32>> = (1..60).map(|n| (0..n).collect()).collect();
        let source =
            |name: &str, weight| Source { name: name.into(), weight, shard: shard(&documents, None, None) };
        Arc::new(Loader::new(vec![source("a", 1.0), source("b", 0.5)], 1, layout).unwrap())
    }

    #[test]
    fn what_is_read_ahead_is_what_is_read_in_place() {
        let loader = loader(layout(8, true));
        let mut ahead = Prefetcher::start(Arc::clone(&loader), 3, 2, 12, 20).unwrap();
        let mut here = GlobalBatch::new(3, 2, 8);
        for step in 2..22 {
            here.fill(&loader, step * 6).unwrap();
            assert_eq!(*ahead.next_batch().unwrap().0, here);
            assert_eq!(here.label_tokens, loader.label_tokens(step * 6, 6));
        }
        assert!(ahead.next_batch().unwrap_err().to_string().contains("no batch is left"));
    }

    #[test]
    fn an_error_comes_with_its_batch_and_a_reader_that_leaves_ends_the_thread() {
        // Ids go up to 58, and the check on opening is passed over.
        let mut sound = loader(layout(8, true));
        Arc::get_mut(&mut sound).unwrap().set_vocab_size(40);
        let mut ahead = Prefetcher::start(sound, 3, 2, 0, 1000).unwrap();
        let error = (0..1000).find_map(|_| ahead.next_batch().map(|_| ()).err()).unwrap();
        assert!(matches!(error, Error::TokenOutOfRange { .. }), "{error}");
        assert!(ahead.next_batch().is_err());
        let mut ahead = Prefetcher::start(loader(layout(8, true)), 3, 2, 0, u64::MAX).unwrap();
        ahead.next_batch().unwrap();
        drop(ahead);
    }
}
