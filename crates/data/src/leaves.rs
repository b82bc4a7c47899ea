//! Which samples belong to which micro-batch of which worker.
//!
//! A *leaf* is one micro-batch. The samples of a global batch are its leaves in order, whatever the number of workers,
//! and gradients are summed along the binary tree over the leaf index; workers own aligned subtrees, so changing their
//! number changes neither the samples nor the order of any sum.

use std::ops::Range;

use crate::error::Error;

/// The shape of a global batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaves {
    global_batch: u64,
    micro_batch: u64,
}

impl Leaves {
    /// `global_batch` samples per step in micro-batches of `micro_batch`, which must divide it.
    pub fn new(global_batch: u64, micro_batch: u64) -> Result<Self, Error> {
        if micro_batch == 0 || global_batch == 0 || !global_batch.is_multiple_of(micro_batch) {
            return Err(Error::Settings(format!(
                "global batch of {global_batch} samples in micro-batches of {micro_batch}: both must be positive, the second dividing the first"
            )));
        }
        Ok(Self { global_batch, micro_batch })
    }

    /// Micro-batches per step; at least 1.
    pub fn count(&self) -> u64 {
        self.global_batch / self.micro_batch
    }

    /// The samples of `leaf` (below [`Leaves::count`]) of `step` (from 0).
    pub fn samples(&self, step: u64, leaf: u64) -> Range<u64> {
        let first = step * self.global_batch + leaf * self.micro_batch;
        first..first + self.micro_batch
    }

    /// All samples of `step`: [`crate::batch::Loader::label_tokens`] of them normalises the loss.
    pub fn global(&self, step: u64) -> Range<u64> {
        step * self.global_batch..(step + 1) * self.global_batch
    }

    /// The leaves that `worker` of `workers` computes: an aligned subtree, so with more than one worker a power of two.
    pub fn owned(&self, worker: u64, workers: u64) -> Result<Range<u64>, Error> {
        let count = self.count();
        let each = count.checked_div(workers).unwrap_or(0);
        if worker >= workers || each * workers != count || (workers > 1 && !each.is_power_of_two()) {
            return Err(Error::Settings(format!(
                "worker {worker} of {workers}: {count} micro-batches per step do not split into equal powers of two; change the number of workers or the micro-batch"
            )));
        }
        Ok(worker * each..(worker + 1) * each)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_workers_covers_the_same_samples_in_order() {
        for (global, micro) in [(16, 2), (24, 2), (5, 5), (12, 1)] {
            let leaves = Leaves::new(global, micro).unwrap();
            for workers in 1..=leaves.count() {
                let owned: Result<Vec<_>, _> =
                    (0..workers).map(|worker| leaves.owned(worker, workers)).collect();
                let Ok(owned) = owned else { continue };
                let samples: Vec<u64> =
                    owned.into_iter().flatten().flat_map(|leaf| leaves.samples(7, leaf)).collect();
                assert_eq!(samples, leaves.global(7).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn steps_join_without_gap() {
        let leaves = Leaves::new(6, 3).unwrap();
        assert_eq!(leaves.samples(0, 1), 3..6);
        assert_eq!(leaves.samples(1, 0), 6..9);
    }

    #[test]
    fn impossible_splits_are_refused() {
        assert!(Leaves::new(5, 2).is_err() && Leaves::new(0, 1).is_err() && Leaves::new(4, 0).is_err());
        let leaves = Leaves::new(12, 1).unwrap();
        assert_eq!(leaves.owned(0, 1).unwrap(), 0..12);
        assert_eq!(leaves.owned(2, 3).unwrap(), 8..12);
        assert!(leaves.owned(0, 2).is_err(), "6 is not a power of two");
        assert!(leaves.owned(0, 0).is_err() && leaves.owned(3, 3).is_err() && leaves.owned(0, 5).is_err());
    }
}
