//! Which chunk is sample *i*: a pure function, so that opening is O(1) and only the next sample index is saved.
//!
//! Weights become a table of 65,536 slots by largest remainder (spec `DMX-02`). Samples come in blocks of 65,536; each
//! block visits every slot once, in an order that is a keyed permutation of the table. So a source's share is exact in
//! every block, and the number of its samples before sample *i* is (full blocks × slots) + (its samples earlier in this
//! block), the latter from a table of ranks computed once per block. Each epoch of a source is its own keyed
//! permutation of the source's chunks: chunks, not documents, are shuffled (spec `MYS-03`).
//!
//! A *stage* (spec `DMX-06`) is a table of its own from an exact sample on. What each source gave before the stage is
//! counted once, on opening, so a source goes on where it was: nothing is rewound, nothing is skipped.

mod plan;
mod table;

use std::sync::{Mutex, PoisonError};

use smolt_run::permutation::KeyedPermutation;
use smolt_run::random;

use crate::error::Error;

pub use plan::{
    MANY_EPOCHS, Plan, PlannedSource, PlannedStage, TOO_MANY_EPOCHS, Unevenness, effective_epochs,
};
use table::Table;

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

/// A mixture from some sample on, until the next stage (spec `DMX-06`).
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// In logs and messages.
    pub name: String,
    /// Its first sample; the first stage's is 0.
    pub first_sample: u64,
    /// A weight for each source, in the order of the sources.
    pub weights: Vec<f64>,
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
}

/// A stage with what decides its order.
struct Span {
    stage: Stage,
    table: Table,
    /// Samples of each source before the stage.
    before: Vec<u64>,
    /// Blocks of earlier stages, begun ones counted whole, so that no two blocks of a run have the same key.
    first_block: u64,
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
    names: Vec<String>,
    sources: Vec<Source>,
    /// At least one.
    spans: Vec<Span>,
    /// Even and odd blocks apart, so that readers on both sides of a block's edge do not evict each other.
    blocks: [Mutex<Block>; 2],
}

impl Mixture {
    /// One mixture for the whole run; refuses weights that cannot be honoured.
    pub fn new(weights: &[SourceWeight], seed: u64) -> Result<Self, Error> {
        let stage = Stage {
            name: "all".into(),
            first_sample: 0,
            weights: weights.iter().map(|source| source.weight).collect(),
        };
        let chunks: Vec<(String, u64)> =
            weights.iter().map(|source| (source.name.clone(), source.chunks)).collect();
        Self::staged(&chunks, vec![stage], seed)
    }

    /// A mixture that changes from stage to stage. `sources` are names and chunks per epoch.
    pub fn staged(sources: &[(String, u64)], stages: Vec<Stage>, seed: u64) -> Result<Self, Error> {
        for (number, (name, _)) in sources.iter().enumerate() {
            if sources[..number].iter().any(|other| other.0 == *name) {
                return Err(Error::Settings(format!("two sources are named \"{name}\"; rename one")));
            }
        }
        check_stages(sources, &stages)?;
        let block = || {
            let (slots, ranks) = (vec![0; SLOTS as usize], vec![0; SLOTS as usize]);
            Mutex::new(Block { number: None, slots, ranks, counts: vec![0; sources.len()] })
        };
        let epoch_key = |name: &str| random::key(random::key(seed, "data/epoch"), name);
        let mut mixture = Self {
            seed,
            names: sources.iter().map(|(name, _)| name.clone()).collect(),
            sources: sources
                .iter()
                .map(|&(ref n, chunks)| Source { epoch_key: epoch_key(n), chunks })
                .collect(),
            spans: Vec::with_capacity(stages.len()),
            blocks: [block(), block()],
        };
        let several = stages.len() > 1;
        for stage in stages {
            let name = stage.name.clone();
            mixture.push(stage).map_err(|error| match several {
                true => Error::Settings(format!("stage \"{name}\": {error}")),
                false => error,
            })?;
        }
        Ok(mixture)
    }

    /// Adds a stage behind the others.
    fn push(&mut self, stage: Stage) -> Result<(), Error> {
        let table = Table::new(&self.names, &stage.weights)?;
        let chunkless = |&source: &usize| table.slots[source] > 0 && self.sources[source].chunks == 0;
        if let Some(source) = (0..self.sources.len()).find(chunkless) {
            return Err(Error::Settings(format!(
                "source \"{}\" has not one full chunk: add text, shorten the sequence length or set its weight to 0",
                self.names[source]
            )));
        }
        let (before, first_block) = match self.spans.last() {
            None => (vec![0; self.sources.len()], 0),
            Some(last) => {
                let length = stage.first_sample - last.stage.first_sample;
                (self.counts(stage.first_sample), last.first_block + length.div_ceil(SLOTS))
            }
        };
        self.spans.push(Span { stage, table, before, first_block });
        Ok(())
    }

    /// The stages, in order; at least one.
    pub fn stages(&self) -> impl ExactSizeIterator<Item = &Stage> {
        self.spans.iter().map(|span| &span.stage)
    }

    /// The stage that sample `sample` belongs to, counted from 0.
    pub fn stage_of(&self, sample: u64) -> usize {
        self.spans.partition_point(|span| span.stage.first_sample <= sample).saturating_sub(1)
    }

    /// The slots of each source in a stage, [`SLOTS`] in all; empty beyond the last stage.
    pub fn slots(&self, stage: usize) -> &[u64] {
        self.spans.get(stage).map_or(&[], |span| &span.table.slots)
    }

    /// Where sample `sample` comes from. Allocates nothing.
    pub fn sample(&self, sample: u64) -> SampleRef {
        let span = &self.spans[self.stage_of(sample)];
        let local = sample - span.stage.first_sample;
        let (number, offset) = (local / SLOTS, (local % SLOTS) as usize);
        let (slot, rank) = self.with_block(span, number, |block| (block.slots[offset], block.ranks[offset]));
        let source = span.table.source(slot);
        self.nth(source, span.before[source] + number * span.table.slots[source] + u64::from(rank))
    }

    /// The chunk that source `number` gives after `cursor` others.
    pub(crate) fn nth(&self, number: usize, cursor: u64) -> SampleRef {
        let source = &self.sources[number];
        let epoch = cursor / source.chunks;
        // A key of its own for each epoch, from integers only: no allocation on this path.
        let key = random::key(source.epoch_key.wrapping_add(epoch), "epoch");
        let chunk = KeyedPermutation::new(source.chunks, key).get(cursor % source.chunks);
        SampleRef { source: number, epoch, chunk }
    }

    /// How much of each source the samples before `next_sample` took.
    pub fn consumed(&self, next_sample: u64) -> Vec<Consumed> {
        let consumed = |(samples, source): (u64, &Source)| Consumed {
            samples,
            epochs: samples.checked_div(source.chunks).unwrap_or(0),
        };
        self.counts(next_sample).into_iter().zip(&self.sources).map(consumed).collect()
    }

    /// Samples of each source before `next_sample`.
    fn counts(&self, next_sample: u64) -> Vec<u64> {
        let span = &self.spans[self.stage_of(next_sample)];
        let local = next_sample - span.stage.first_sample;
        let (number, offset) = (local / SLOTS, (local % SLOTS) as usize);
        let mut samples: Vec<u64> = span
            .before
            .iter()
            .zip(&span.table.slots)
            .map(|(before, slots)| before + number * slots)
            .collect();
        // At a block's edge there is nothing to count; and where a stage ends there, that block is the next stage's.
        if offset > 0 {
            self.with_block(span, number, |block| {
                for &slot in &block.slots[..offset] {
                    samples[span.table.source(slot)] += 1;
                }
            });
        }
        samples
    }

    fn with_block<R>(&self, span: &Span, number: u64, read: impl FnOnce(&Block) -> R) -> R {
        let number = span.first_block + number;
        // A poisoned block was left by a panic of another reader; it is rebuilt from nothing when it is not complete.
        let mut block = self.blocks[(number % 2) as usize].lock().unwrap_or_else(PoisonError::into_inner);
        if block.number != Some(number) {
            self.fill_block(&span.table, &mut block, number);
        }
        read(&block)
    }

    fn fill_block(&self, table: &Table, block: &mut Block, number: u64) {
        block.number = None;
        block.counts.fill(0);
        let key = random::key(random::key(self.seed, "data/block").wrapping_add(number), "block");
        let permutation = KeyedPermutation::new(SLOTS, key);
        for offset in 0..SLOTS as usize {
            let slot = permutation.get(offset as u64) as u16;
            let count = &mut block.counts[table.source(slot)];
            block.slots[offset] = slot;
            // At most 65,535: the rank of the last of 65,536 samples.
            block.ranks[offset] = *count as u16;
            *count += 1;
        }
        block.number = Some(number);
    }
}

fn check_stages(sources: &[(String, u64)], stages: &[Stage]) -> Result<(), Error> {
    let Some(first) = stages.first() else {
        return Err(Error::Settings("a mixture needs at least one stage".into()));
    };
    if first.first_sample != 0 {
        return Err(Error::Settings(format!(
            "stage \"{}\" is the first and begins at sample {}; it must begin at 0",
            first.name, first.first_sample
        )));
    }
    for pair in stages.windows(2) {
        if pair[1].first_sample <= pair[0].first_sample {
            return Err(Error::Settings(format!(
                "stage \"{}\" begins at sample {}, not after stage \"{}\" ({}); put stages in order",
                pair[1].name, pair[1].first_sample, pair[0].name, pair[0].first_sample
            )));
        }
    }
    match stages.iter().find(|stage| stage.weights.len() != sources.len()) {
        Some(stage) => Err(Error::Settings(format!(
            "stage \"{}\" has {} weights for {} sources; give each source one",
            stage.name,
            stage.weights.len(),
            sources.len()
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
