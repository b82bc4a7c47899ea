//! The merge of sorted runs by a tree of losers (Knuth, volume 3, 5.4.1): one comparison per level and record.

use std::mem::size_of;

use super::SortError;
use super::spill::{Run, RunReader, Spill};

/// A merge in progress. Owns the file that its runs lie in.
pub(super) struct Merge<const N: usize> {
    spill: Spill,
    readers: Vec<RunReader<N>>,
    /// The next record of each run; `None` when it has ended.
    heads: Vec<Option<[u8; N]>>,
    /// `losers[0]` is the run with the least head; `losers[n]` the loser of the match at inner node `n`.
    losers: Vec<u32>,
}

impl<const N: usize> Merge<N> {
    /// Bytes held for each run beside its block.
    pub(super) const OVERHEAD: usize =
        size_of::<RunReader<N>>() + size_of::<Option<[u8; N]>>() + size_of::<u32>() * 3;

    /// Starts to merge `runs`, reading `block` records of each at a time.
    pub(super) fn new(spill: Spill, runs: &[Run], block: usize) -> Result<Self, SortError> {
        let mut readers = Vec::with_capacity(runs.len());
        let mut heads = Vec::with_capacity(runs.len());
        for &run in runs {
            let mut reader = RunReader::new(run, block);
            heads.push(reader.next(&spill)?);
            readers.push(reader);
        }
        let mut merge = Self { spill, readers, heads, losers: vec![0; runs.len().max(1)] };
        merge.play();
        Ok(merge)
    }

    /// Plays every match once, from the leaves up.
    fn play(&mut self) {
        let runs = self.heads.len();
        let mut winners = vec![0u32; 2 * runs];
        for (run, winner) in winners[runs..].iter_mut().enumerate() {
            *winner = run as u32;
        }
        for node in (1..runs).rev() {
            let (a, b) = (winners[2 * node], winners[2 * node + 1]);
            let (winner, loser) = if self.beats(a, b) { (a, b) } else { (b, a) };
            winners[node] = winner;
            self.losers[node] = loser;
        }
        self.losers[0] = winners.get(1).copied().unwrap_or(0);
    }

    #[inline]
    fn beats(&self, a: u32, b: u32) -> bool {
        match (&self.heads[a as usize], &self.heads[b as usize]) {
            (Some(left), Some(right)) => (left, a) < (right, b),
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => a < b,
        }
    }

    /// The least record left.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<[u8; N]>, SortError> {
        let mut winner = self.losers[0];
        let run = winner as usize;
        let Some(Some(record)) = self.heads.get(run).copied() else { return Ok(None) };
        self.heads[run] = self.readers[run].next(&self.spill)?;
        let mut node = (run + self.heads.len()) / 2;
        while node > 0 {
            if self.beats(self.losers[node], winner) {
                std::mem::swap(&mut self.losers[node], &mut winner);
            }
            node /= 2;
        }
        self.losers[0] = winner;
        Ok(Some(record))
    }

    /// The file back, for the next group of runs.
    pub(super) fn into_spill(self) -> Spill {
        self.spill
    }
}
