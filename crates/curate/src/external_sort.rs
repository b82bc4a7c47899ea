//! Sorting of more records than memory holds: fixed-width records, a budget in bytes, spilled runs and their merge.
//!
//! A record is `[u8; N]`, and its order is that of its bytes, all of them. So numbers go in big-endian, key first, then
//! the number that breaks ties; and since two records that compare equal are the same bytes, the output is one and the
//! same for any budget, number of threads and order of arrival (spec `CLN-06`).
//!
//! Runs lie in one temporary file that has no name: it is gone when the sorter is, however the process ends.

mod merge;
mod radix;
mod spill;

use std::path::{Path, PathBuf};

use smolt_run::error::{Exit, ExitKind, FileError};

use merge::Merge;
use spill::{Run, Spill};

/// The least budget of a sort, in bytes: below it, blocks are too small to merge with.
pub const MIN_MEMORY: u64 = 1 << 18;

/// The least bytes read at once from a run while merging.
const MIN_BLOCK: usize = 1 << 12;

/// The most bytes read at once: more gains nothing on any disk.
const MAX_BLOCK: usize = 1 << 20;

/// Why a sort fails.
#[derive(Debug, thiserror::Error)]
pub enum SortError {
    /// The temporary file cannot be made, written (a full disk) or read.
    #[error(transparent)]
    File(#[from] FileError),
    /// What was read back is not what was written.
    #[error("{folder}: a temporary file of the sort is damaged: {problem}; check the disk and run again")]
    Damaged {
        /// Where the temporary file lies.
        folder: PathBuf,
        /// What was found.
        problem: String,
    },
    /// The budget is too small, or the machine has not that much.
    #[error("sorting cannot use {given} bytes of memory: {problem}; set another --memory")]
    Memory {
        /// The budget in bytes.
        given: u64,
        /// What is wrong with it.
        problem: String,
    },
}

impl ExitKind for SortError {
    fn exit(&self) -> Exit {
        match self {
            Self::File(error) => error.exit(),
            Self::Damaged { .. } => Exit::Failed,
            Self::Memory { .. } => Exit::BadInput,
        }
    }
}

/// Takes records in any order and gives them back sorted.
pub struct Sorter<const N: usize> {
    folder: PathBuf,
    memory: usize,
    buffer: Vec<[u8; N]>,
    capacity: usize,
    spill: Option<Spill>,
    runs: Vec<Run>,
    records: u64,
}

impl<const N: usize> Sorter<N> {
    /// `folder` takes what does not fit in `memory` bytes, at least [`MIN_MEMORY`]. Nothing is written, and no memory
    /// touched, before it is needed.
    pub fn new(folder: &Path, memory: u64) -> Result<Self, SortError> {
        const { assert!(N > 0 && N <= 1024) };
        let refuse = |problem: String| SortError::Memory { given: memory, problem };
        if memory < MIN_MEMORY {
            return Err(refuse(format!("the least is {MIN_MEMORY}")));
        }
        let bytes =
            usize::try_from(memory).map_err(|_| refuse("more than this machine can address".into()))?;
        Ok(Self {
            folder: folder.to_owned(),
            // An eighth is for the lists of runs and of buckets.
            memory: bytes - bytes / 8,
            buffer: Vec::new(),
            capacity: (bytes - bytes / 8) / N,
            spill: None,
            runs: Vec::new(),
            records: 0,
        })
    }

    /// Adds a record; writes a sorted run when the budget is full.
    #[inline]
    pub fn push(&mut self, record: [u8; N]) -> Result<(), SortError> {
        if self.buffer.len() == self.buffer.capacity().min(self.capacity) {
            self.make_room()?;
        }
        self.buffer.push(record);
        self.records += 1;
        Ok(())
    }

    /// Records so far.
    pub fn len(&self) -> u64 {
        self.records
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    #[cold]
    fn make_room(&mut self) -> Result<(), SortError> {
        if !self.buffer.is_empty() {
            return self.spill();
        }
        // All at once: a buffer that grows is two buffers while it is copied, and pages count only when touched.
        self.buffer.try_reserve_exact(self.capacity).map_err(|_| SortError::Memory {
            given: self.memory as u64,
            problem: "the machine has not that much left".into(),
        })
    }

    fn spill(&mut self) -> Result<(), SortError> {
        radix::sort(&mut self.buffer);
        let spill = match &mut self.spill {
            Some(spill) => spill,
            none => none.insert(Spill::create(&self.folder)?),
        };
        self.runs.push(spill.write(&self.buffer)?);
        self.buffer.clear();
        Ok(())
    }

    /// All records in order. An error can come at any point of the iteration, so nothing that rests on it may be
    /// committed before its end.
    pub fn finish(mut self) -> Result<Sorted<N>, SortError> {
        if self.spill.is_none() {
            radix::sort(&mut self.buffer);
            return Ok(Sorted { left: self.records, source: Source::Memory(self.buffer.into_iter()) });
        }
        if !self.buffer.is_empty() {
            self.spill()?;
        }
        self.buffer = Vec::new();
        let Some(mut spill) = self.spill else { return Ok(Sorted { left: 0, source: Source::Ended }) };
        let mut runs = self.runs;
        let fan_in = (self.memory / (MIN_BLOCK.max(N) + Merge::<N>::OVERHEAD)).saturating_sub(1).max(2);
        while runs.len() > fan_in {
            (spill, runs) = merge_pass::<N>(spill, &runs, fan_in, self.memory)?;
        }
        let block = block_records::<N>(self.memory, runs.len());
        Ok(Sorted { left: self.records, source: Source::Merge(Box::new(Merge::new(spill, &runs, block)?)) })
    }
}

/// Records in the block of each of `runs` runs and of one output.
fn block_records<const N: usize>(memory: usize, runs: usize) -> usize {
    let share = memory / (runs + 1);
    (share.saturating_sub(Merge::<N>::OVERHEAD).min(MAX_BLOCK) / N).max(1)
}

/// Merges every `fan_in` runs into one, into another file.
fn merge_pass<const N: usize>(
    mut from: Spill,
    runs: &[Run],
    fan_in: usize,
    memory: usize,
) -> Result<(Spill, Vec<Run>), SortError> {
    let mut to = Spill::create(from.folder())?;
    let mut merged = Vec::new();
    for group in runs.chunks(fan_in) {
        let block = block_records::<N>(memory, group.len());
        let mut merge = Merge::<N>::new(from, group, block)?;
        let mut out = to.writer::<N>(block);
        while let Some(record) = merge.next()? {
            out.push(record)?;
        }
        merged.push(out.finish()?);
        from = merge.into_spill();
    }
    Ok((to, merged))
}

enum Source<const N: usize> {
    Memory(std::vec::IntoIter<[u8; N]>),
    Merge(Box<Merge<N>>),
    Ended,
}

/// The records of a [`Sorter`], in order.
pub struct Sorted<const N: usize> {
    left: u64,
    source: Source<N>,
}

impl<const N: usize> Sorted<N> {
    /// Records still to come.
    pub fn left(&self) -> u64 {
        self.left
    }
}

impl<const N: usize> Iterator for Sorted<N> {
    type Item = Result<[u8; N], SortError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let item = match &mut self.source {
            Source::Memory(records) => records.next().map(Ok),
            Source::Merge(merge) => merge.next().transpose(),
            Source::Ended => None,
        };
        match &item {
            Some(Ok(_)) => self.left -= 1,
            _ => self.source = Source::Ended,
        }
        item
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use smolt_run::random::Stream;

    fn sorted<const N: usize>(records: &[[u8; N]], memory: u64) -> Vec<[u8; N]> {
        let folder = tempfile::tempdir().unwrap();
        let mut sorter = Sorter::new(folder.path(), memory).unwrap();
        for record in records {
            sorter.push(*record).unwrap();
        }
        let sorted = sorter.finish().unwrap();
        assert_eq!(sorted.left(), records.len() as u64);
        let sorted = sorted.map(Result::unwrap).collect();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the temporary file has no name");
        sorted
    }

    fn random<const N: usize>(seed: u64, count: usize, distinct: u64) -> Vec<[u8; N]> {
        let mut stream = Stream::new(seed, "records", 0);
        let fill = |key: u64| {
            let mut bits = key;
            std::array::from_fn(|_| {
                bits = bits.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23);
                bits as u8
            })
        };
        (0..count).map(|_| fill(stream.below(distinct))).collect()
    }

    #[test]
    fn many_runs_in_several_passes_equal_one_sort() {
        for distinct in [1000, u64::MAX] {
            let mut records = random::<17>(distinct, 1_200_000, distinct);
            let found = sorted(&records, MIN_MEMORY);
            let large = sorted(&records, 1 << 30);
            records.sort_unstable();
            assert!(found == records && large == records);
        }
    }

    #[test]
    fn one_thread_or_three_give_the_same() {
        let records = random::<20>(4, 300_000, u64::MAX);
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| sorted(&records, 4 << 20))
        };
        assert!(with(1) == with(3));
    }

    #[test]
    fn budgets_that_cannot_be_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = Sorter::<8>::new(folder.path(), 100).err().unwrap().to_string();
        assert!(error.contains("100 bytes") && error.contains("--memory"), "{error}");
        let mut sorter = Sorter::<8>::new(&folder.path().join("missing"), MIN_MEMORY).unwrap();
        let error = (0..100_000u64).find_map(|n| sorter.push(n.to_be_bytes()).err()).unwrap().to_string();
        assert!(error.contains("missing"), "{error}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn any_records_come_out_sorted(
            bytes in prop::collection::vec(prop_oneof![Just(0u8), 250u8.., any::<u8>()], 0..4000),
            copies in 1usize..400,
        ) {
            let (chunks, _) = bytes.as_chunks::<3>();
            let mut records: Vec<[u8; 3]> = chunks.iter().cycle().take(chunks.len() * copies).copied().collect();
            let found = sorted(&records, MIN_MEMORY);
            records.sort_unstable();
            prop_assert!(found == records);
        }
    }
}
