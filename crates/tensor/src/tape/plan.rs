//! Lifetimes → offsets: which values and gradients may share memory.
//!
//! Time runs `0..n` through the forward nodes and `n..2n` back through them. A block lives from its
//! first write to its last read; blocks whose lives do not meet may overlap in the slab.

use super::{Kind, Node, ParamId, ValueInfo};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

const ALIGN: usize = 64;

/// Offsets in bytes into the slab, and who writes a gradient first.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Per value; `None` where nothing ever touches it.
    pub values: Vec<Option<usize>>,
    /// Per gradient class; `None` where no gradient flows.
    pub grads: Vec<Option<usize>>,
    /// (node, gradient class) pairs that find a gradient there already and must add to it.
    pub accumulate: BTreeSet<(usize, u32)>,
    /// The same for parameters.
    pub accumulate_param: BTreeSet<(usize, ParamId)>,
    /// Bytes of the slab.
    pub size: usize,
}

#[derive(Clone, Debug)]
struct Block {
    bytes: usize,
    life: RangeInclusive<usize>,
}

fn touch(lives: &mut BTreeMap<usize, RangeInclusive<usize>>, key: usize, time: usize) {
    lives
        .entry(key)
        .and_modify(|life| *life = (*life.start()).min(time)..=(*life.end()).max(time))
        .or_insert(time..=time);
}

impl Plan {
    pub(crate) fn new(values: &[ValueInfo], nodes: &[Box<dyn Node>], training: bool) -> Plan {
        let mut plan =
            Plan { values: vec![None; values.len()], grads: vec![None; values.len()], ..Plan::default() };
        let end = 2 * nodes.len();
        let mut value_lives = BTreeMap::new();
        let mut grad_lives = BTreeMap::new();
        for (i, value) in values.iter().enumerate() {
            if value.kind == Kind::Input {
                value_lives.insert(i, 0..=end);
            }
        }
        let class = |var: super::Var| values[var.index()].grad_class;
        for (time, node) in nodes.iter().enumerate() {
            let uses = node.uses();
            for &var in uses.reads.iter().chain(&uses.writes) {
                touch(&mut value_lives, var.index(), time);
            }
            for &var in uses.saved.iter().filter(|_| training) {
                touch(&mut value_lives, var.index(), end - 1 - time);
            }
        }
        if training {
            let mut written = BTreeSet::new();
            let mut written_params = BTreeSet::new();
            for (i, node) in nodes.iter().enumerate().rev() {
                let time = end - 1 - i;
                let uses = node.uses();
                for &var in uses.grads_in.iter().chain(&uses.grads_out) {
                    touch(&mut grad_lives, class(var) as usize, time);
                }
                for &var in &uses.grads_out {
                    if !written.insert(class(var)) {
                        plan.accumulate.insert((i, class(var)));
                    }
                }
                for &param in &uses.params {
                    if !written_params.insert(param) {
                        plan.accumulate_param.insert((i, param));
                    }
                }
            }
        }
        for (i, value) in values.iter().enumerate() {
            if value.kind == Kind::Output {
                touch(&mut value_lives, i, end);
            }
        }
        let lives = value_lives.into_iter().map(|(i, life)| (i, false, life));
        let blocks: Vec<(usize, bool, Block)> = lives
            .chain(grad_lives.into_iter().map(|(i, life)| (i, true, life)))
            .map(|(i, grad, life)| {
                (i, grad, Block { bytes: values[i].bytes().next_multiple_of(ALIGN), life })
            })
            .collect();
        plan.place(blocks);
        plan
    }

    /// Largest first, each at the lowest offset free during its whole life.
    fn place(&mut self, mut blocks: Vec<(usize, bool, Block)>) {
        blocks.sort_by_key(|(i, grad, block)| (usize::MAX - block.bytes, *block.life.start(), *i, *grad));
        let mut placed: Vec<(usize, Block)> = Vec::with_capacity(blocks.len());
        for (i, grad, block) in blocks {
            let mut taken: Vec<(usize, usize)> = placed
                .iter()
                .filter(|(_, other)| {
                    block.life.start() <= other.life.end() && other.life.start() <= block.life.end()
                })
                .map(|(offset, other)| (*offset, offset + other.bytes))
                .collect();
            taken.sort_unstable();
            let mut offset = 0;
            for (from, to) in taken {
                if from >= offset + block.bytes {
                    break;
                }
                offset = offset.max(to);
            }
            self.size = self.size.max(offset + block.bytes);
            let slot = if grad { &mut self.grads[i] } else { &mut self.values[i] };
            *slot = Some(offset);
            placed.push((offset, block));
        }
    }
}
