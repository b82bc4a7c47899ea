//! Lifetimes → offsets: which values and gradients may share memory.
//!
//! Time counts the steps of the schedule. A block lives from its first write to its last read; blocks whose lives do
//! not meet may overlap in the slab. A value that is computed again has two lives, forward and from its replay on, and
//! a place for each.

use super::schedule::{Phase, Schedule};
use super::{Kind, Node, ParamId, Uses, ValueInfo, Var};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Range, RangeInclusive};

const ALIGN: usize = 64;

/// Offsets in bytes into the slab, and who writes a gradient first.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    places: BTreeMap<Block, usize>,
    /// (node, gradient class) pairs that find a gradient there already and must add to it.
    pub accumulate: BTreeSet<(usize, u32)>,
    /// The same for parameters.
    pub accumulate_param: BTreeSet<(usize, ParamId)>,
    /// Bytes of the slab.
    pub size: usize,
}

/// What lies in the slab, by index of the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Block {
    Value(usize),
    /// The second life of a value.
    Again(usize),
    Grad(usize),
}

type Lives = BTreeMap<Block, RangeInclusive<usize>>;

fn touch(lives: &mut Lives, block: Block, time: usize) {
    lives
        .entry(block)
        .and_modify(|life| *life = (*life.start()).min(time)..=(*life.end()).max(time))
        .or_insert(time..=time);
}

impl Plan {
    pub(crate) fn new(values: &[ValueInfo], nodes: &[Box<dyn Node>], schedule: &Schedule) -> Plan {
        let mut plan = Plan::default();
        let mut lives = Lives::new();
        let end = schedule.steps.len();
        for (i, value) in values.iter().enumerate() {
            match value.kind {
                Kind::Computed => continue,
                Kind::Input => touch(&mut lives, Block::Value(i), 0),
                Kind::Output => {}
            }
            touch(&mut lives, Block::Value(i), end);
        }
        let mut written = BTreeSet::new();
        let mut written_params = BTreeSet::new();
        for (time, &(phase, node)) in schedule.steps.iter().enumerate() {
            let uses = nodes[node].uses();
            for &var in values_of(&uses, phase) {
                let again = phase != Phase::Forward && schedule.again[var.index()];
                let block = if again { Block::Again } else { Block::Value };
                touch(&mut lives, block(var.index()), time);
            }
            if phase != Phase::Backward {
                continue;
            }
            let class = |var: Var| values[var.index()].grad_class;
            for &var in uses.grads_in.iter().chain(&uses.grads_out) {
                touch(&mut lives, Block::Grad(class(var) as usize), time);
            }
            for &var in &uses.grads_out {
                if !written.insert(class(var)) {
                    plan.accumulate.insert((node, class(var)));
                }
            }
            for &param in &uses.params {
                if !written_params.insert(param) {
                    plan.accumulate_param.insert((node, param));
                }
            }
        }
        plan.place(values, lives);
        plan
    }

    /// Where a value lies for a node that runs in `phase`; `None` where nothing ever touches it.
    pub(crate) fn value(&self, index: usize, phase: Phase) -> Option<usize> {
        let again = self.places.get(&Block::Again(index)).filter(|_| phase != Phase::Forward);
        again.or_else(|| self.places.get(&Block::Value(index))).copied()
    }

    /// Where the gradient of a class lies; `None` where no gradient flows.
    pub(crate) fn grad(&self, class: usize) -> Option<usize> {
        self.places.get(&Block::Grad(class)).copied()
    }

    /// Largest first, each at the lowest offset free during its whole life.
    fn place(&mut self, values: &[ValueInfo], lives: Lives) {
        let bytes = |block: Block| match block {
            Block::Value(i) | Block::Again(i) | Block::Grad(i) => values[i].bytes().next_multiple_of(ALIGN),
        };
        let mut blocks: Vec<(Block, RangeInclusive<usize>)> = lives.into_iter().collect();
        blocks.sort_by_key(|(block, life)| (Reverse(bytes(*block)), *life.start(), *block));
        let mut placed: Vec<(Range<usize>, RangeInclusive<usize>)> = Vec::with_capacity(blocks.len());
        for (block, life) in blocks {
            let mut taken: Vec<&Range<usize>> = placed
                .iter()
                .filter(|(_, other)| life.start() <= other.end() && other.start() <= life.end())
                .map(|(place, _)| place)
                .collect();
            taken.sort_unstable_by_key(|place| (place.start, place.end));
            let bytes = bytes(block);
            let mut offset = 0;
            for place in taken {
                if place.start >= offset + bytes {
                    break;
                }
                offset = offset.max(place.end);
            }
            self.size = self.size.max(offset + bytes);
            self.places.insert(block, offset);
            placed.push((offset..offset + bytes, life));
        }
    }
}

/// The values that a node touches in a phase.
fn values_of(uses: &Uses, phase: Phase) -> impl Iterator<Item = &Var> {
    let (first, second): (&[Var], &[Var]) = match phase {
        Phase::Forward | Phase::Replay => (&uses.reads, &uses.writes),
        Phase::Backward => (&uses.saved, &[]),
    };
    first.iter().chain(second)
}
