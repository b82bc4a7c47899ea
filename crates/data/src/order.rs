//! Which chunk is sample *i*: a pure function, so that opening is O(1) and only the next sample index is saved.
//!
//! Weights become a table of 65,536 slots by largest remainder (spec `DMX-02`). Samples come in blocks of 65,536; each
//! block visits every slot once, in an order that is a keyed permutation of the table. So a source's share is exact in
//! every block, and the number of its samples before sample *i* is (full blocks × slots) + (its samples earlier in this
//! block), the latter from a table of ranks computed once per block. Each epoch of a source is its own keyed
//! permutation of the source's chunks: chunks, not documents, are shuffled (spec `MYS-03`).

use std::sync::{Mutex, PoisonError};

use smolt_run::permutation::KeyedPermutation;
use smolt_run::random;

use crate::error::Error;

/// Slots in the table, and samples in a block.
pub const SLOTS: u64 = 1 << 16;

/// One source of the mixture, as the order sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceWeight {
    /// Unique; keys the source's shuffles, so adding another source does not reshuffle this one.
    pub name: String,
    /// Share of the tokens, relative to the other sources' weights; 0 is never drawn.
    pub weight: f64,
    /// Number of chunks in one epoch; at least 1 when the weight is positive.
    pub chunks: u64,
}

/// Where a sample comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SampleRef {
    /// Index of the source.
    pub source: usize,
    /// How often the source was seen in full before, from 0.
    pub epoch: u64,
    /// Index of the chunk in the source.
    pub chunk: u64,
}

/// How far a source was consumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Consumed {
    /// Samples drawn from the source.
    pub samples: u64,
    /// Whole epochs among them.
    pub epochs: u64,
}

struct Source {
    epoch_key: u64,
    chunks: u64,
    slots: u64,
}

/// The order of one block: slot and rank within its source for each sample.
struct Block {
    number: Option<u64>,
    slots: Vec<u16>,
    ranks: Vec<u16>,
    counts: Vec<u32>,
}

/// The order of a mixture of sources.
pub struct Mixture {
    seed: u64,
    sources: Vec<Source>,
    /// Of each slot.
    table: Vec<u16>,
    /// Even and odd blocks apart, so that readers on both sides of a block's edge do not evict each other.
    blocks: [Mutex<Block>; 2],
}

impl Mixture {
    /// Fills the table; refuses weights that cannot be honoured.
    pub fn new(weights: &[SourceWeight], seed: u64) -> Result<Self, Error> {
        let slots = allot(weights)?;
        let mut sources = Vec::with_capacity(weights.len());
        let mut table = Vec::with_capacity(SLOTS as usize);
        for (number, (weight, slots)) in weights.iter().zip(slots).enumerate() {
            if slots > 0 && weight.chunks == 0 {
                return Err(Error::Settings(format!(
                    "source \"{}\" has not one full chunk: add text, shorten the sequence length or set its weight to 0",
                    weight.name
                )));
            }
            if weights[..number].iter().any(|other| other.name == weight.name) {
                return Err(Error::Settings(format!(
                    "two sources are named \"{}\"; rename one",
                    weight.name
                )));
            }
            let epoch_key = random::key(random::key(seed, "data/epoch"), &weight.name);
            sources.push(Source { epoch_key, chunks: weight.chunks, slots });
            table.extend(std::iter::repeat_n(number as u16, slots as usize));
        }
        let block = || {
            let (slots, ranks) = (vec![0; SLOTS as usize], vec![0; SLOTS as usize]);
            Mutex::new(Block { number: None, slots, ranks, counts: vec![0; weights.len()] })
        };
        Ok(Self { seed, sources, table, blocks: [block(), block()] })
    }

    /// The slots of each source, [`SLOTS`] in all.
    pub fn slots(&self) -> Vec<u64> {
        self.sources.iter().map(|source| source.slots).collect()
    }

    /// Where sample `sample` comes from. Allocates nothing.
    pub fn sample(&self, sample: u64) -> SampleRef {
        let (number, offset) = (sample / SLOTS, (sample % SLOTS) as usize);
        let (slot, rank) = self.with_block(number, |block| (block.slots[offset], block.ranks[offset]));
        let source_number = usize::from(self.table[usize::from(slot)]);
        let source = &self.sources[source_number];
        let cursor = number * source.slots + u64::from(rank);
        let epoch = cursor / source.chunks;
        // A key of its own for each epoch, from integers only: no allocation on this path.
        let key = random::key(source.epoch_key.wrapping_add(epoch), "epoch");
        let chunk = KeyedPermutation::new(source.chunks, key).get(cursor % source.chunks);
        SampleRef { source: source_number, epoch, chunk }
    }

    /// How much of each source the samples before `next_sample` took.
    pub fn consumed(&self, next_sample: u64) -> Vec<Consumed> {
        let (number, offset) = (next_sample / SLOTS, (next_sample % SLOTS) as usize);
        let mut samples: Vec<u64> = self.sources.iter().map(|source| number * source.slots).collect();
        self.with_block(number, |block| {
            for &slot in &block.slots[..offset] {
                samples[usize::from(self.table[usize::from(slot)])] += 1;
            }
        });
        let consumed = |(samples, source): (u64, &Source)| Consumed {
            samples,
            epochs: samples.checked_div(source.chunks).unwrap_or(0),
        };
        samples.into_iter().zip(&self.sources).map(consumed).collect()
    }

    fn with_block<R>(&self, number: u64, read: impl FnOnce(&Block) -> R) -> R {
        // A poisoned block was left by a panic of another reader; it is rebuilt from nothing when it is not complete.
        let mut block = self.blocks[(number % 2) as usize].lock().unwrap_or_else(PoisonError::into_inner);
        if block.number != Some(number) {
            self.fill_block(&mut block, number);
        }
        read(&block)
    }

    fn fill_block(&self, block: &mut Block, number: u64) {
        block.number = None;
        block.counts.fill(0);
        let key = random::key(random::key(self.seed, "data/block").wrapping_add(number), "block");
        let permutation = KeyedPermutation::new(SLOTS, key);
        for offset in 0..SLOTS as usize {
            let slot = permutation.get(offset as u64) as usize;
            let count = &mut block.counts[usize::from(self.table[slot])];
            block.slots[offset] = slot as u16;
            // At most 65,535: the rank of the last of 65,536 samples.
            block.ranks[offset] = *count as u16;
            *count += 1;
        }
        block.number = Some(number);
    }
}

/// Slots by largest remainder, ties to the earlier source.
fn allot(weights: &[SourceWeight]) -> Result<Vec<u64>, Error> {
    if let Some(bad) = weights.iter().find(|source| !source.weight.is_finite() || source.weight < 0.0) {
        return Err(Error::Settings(format!(
            "source \"{}\" has weight {}; weights are finite and not negative",
            bad.name, bad.weight
        )));
    }
    let total: f64 = weights.iter().map(|source| source.weight).sum();
    if !(total > 0.0 && total.is_finite()) || weights.len() as u64 > SLOTS {
        return Err(Error::Settings("a mixture needs at least one source with a positive weight".into()));
    }
    let exact: Vec<f64> = weights.iter().map(|source| source.weight / total * SLOTS as f64).collect();
    let mut slots: Vec<u64> = exact.iter().map(|share| share.floor() as u64).collect();
    let mut by_remainder: Vec<usize> = (0..weights.len()).collect();
    by_remainder.sort_by(|&a, &b| exact[b].fract().total_cmp(&exact[a].fract()));
    let missing = SLOTS.saturating_sub(slots.iter().sum());
    for &source in by_remainder.iter().take(missing as usize) {
        slots[source] += 1;
    }
    match weights.iter().zip(&slots).find(|(source, slots)| source.weight > 0.0 && **slots == 0) {
        Some((source, _)) => Err(Error::Settings(format!(
            "source \"{}\" has weight {} of {total}, less than 1/{SLOTS}: raise it or set it to 0",
            source.name, source.weight
        ))),
        None => Ok(slots),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn mixture(weights: &[(f64, u64)], seed: u64) -> Mixture {
        let weights: Vec<_> = weights
            .iter()
            .enumerate()
            .map(|(i, &(weight, chunks))| SourceWeight { name: format!("s{i}"), weight, chunks })
            .collect();
        Mixture::new(&weights, seed).unwrap()
    }

    #[test]
    fn cursors_equal_a_brute_force_count() {
        let mixture = mixture(&[(5.0, 1000), (3.0, 7), (0.0, 0), (0.01, 3)], 3);
        let mut counts = [0u64; 4];
        for sample in 0..3 * SLOTS / 2 {
            if sample % 9973 == 0 {
                let consumed: Vec<_> = mixture.consumed(sample).iter().map(|c| c.samples).collect();
                assert_eq!(consumed, counts);
            }
            let at = mixture.sample(sample);
            let chunks = mixture.sources[at.source].chunks;
            assert_eq!(at.epoch, counts[at.source] / chunks);
            assert!(at.chunk < chunks);
            counts[at.source] += 1;
        }
        assert_eq!(counts[2], 0);
    }

    #[test]
    fn shares_are_exact_in_each_block() {
        let mixture = mixture(&[(0.7, 10), (0.2, 10), (0.1, 10)], 1);
        assert_eq!(mixture.slots(), [45_875, 13_107, 6_554]);
        for block in 0..2 {
            let mut counts = [0u64; 3];
            for sample in block * SLOTS..(block + 1) * SLOTS {
                counts[mixture.sample(sample).source] += 1;
            }
            assert_eq!(counts, [45_875, 13_107, 6_554]);
        }
    }

    #[test]
    fn each_epoch_visits_each_chunk_once_and_in_its_own_order() {
        let mixture = mixture(&[(1.0, 5000), (1.0, 11)], 2);
        let mut visits: Vec<Vec<(u64, u64)>> = vec![Vec::new(); 2];
        for sample in 0..2 * SLOTS {
            let at = mixture.sample(sample);
            visits[at.source].push((at.epoch, at.chunk));
        }
        for (source, chunks) in [(0, 5000), (1, 11)] {
            let epochs: Vec<Vec<u64>> = visits[source]
                .chunks_exact(chunks)
                .enumerate()
                .map(|(epoch, visits)| {
                    assert!(visits.iter().all(|visit| visit.0 == epoch as u64));
                    visits.iter().map(|visit| visit.1).collect()
                })
                .collect();
            for epoch in &epochs {
                assert_eq!(epoch.iter().collect::<BTreeSet<_>>().len(), chunks);
            }
            assert_ne!(epochs[0], epochs[1]);
            assert!(!epochs[0].is_sorted());
        }
    }

    #[test]
    fn a_far_sample_needs_no_history() {
        let weights = [(1.0, 1 << 40), (2.0, 12_345)];
        let far = u64::MAX / 2;
        assert_eq!(mixture(&weights, 9).sample(far), mixture(&weights, 9).sample(far));
        assert_ne!(mixture(&weights, 9).sample(far), mixture(&weights, 10).sample(far));
    }

    #[test]
    fn impossible_weights_are_refused() {
        let source = |name: &str, weight, chunks| SourceWeight { name: name.into(), weight, chunks };
        let message = |weights: &[SourceWeight]| Mixture::new(weights, 1).err().unwrap().to_string();
        assert!(message(&[]).contains("at least one source"));
        assert!(message(&[source("a", 0.0, 1)]).contains("at least one source"));
        assert!(message(&[source("a", f64::NAN, 1)]).contains("\"a\" has weight NaN"));
        assert!(message(&[source("a", -1.0, 1)]).contains("-1"));
        assert!(message(&[source("a", f64::MAX, 1), source("b", f64::MAX, 1)]).contains("source"));
        assert!(message(&[source("a", 1.0, 1), source("b", 1e-6, 1)]).contains("\"b\""));
        assert!(message(&[source("a", 1.0, 0)]).contains("full chunk"));
        assert!(message(&[source("a", 1.0, 1), source("a", 1.0, 1)]).contains("two sources"));
    }

    proptest! {
        #[test]
        fn tables_are_full_and_near_the_weights(weights in prop::collection::vec(0.01f64..100.0, 1..20)) {
            let weights: Vec<_> = weights.into_iter().map(|weight| (weight, 1)).collect();
            let slots = mixture(&weights, 0).slots();
            prop_assert_eq!(slots.iter().sum::<u64>(), SLOTS);
            let total: f64 = weights.iter().map(|weight| weight.0).sum();
            for (slots, (weight, _)) in slots.iter().zip(&weights) {
                prop_assert!((*slots as f64 - weight / total * SLOTS as f64).abs() <= 1.0);
            }
        }
    }
}
