//! The order of a program's work: forward, back, and what is computed again on the way back.
//!
//! A value written in a range that [`Tape::recompute`](super::Tape::recompute) marked is not kept for backward. Before
//! backward first asks for one, the nodes of the range that lead to what backward reads run again, from the values at
//! its border, which are kept. The same nodes read the same bits in the same order, so they write the same bits.

use super::{Kind, Node, Uses, ValueInfo, Var};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Why a node runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Forward,
    /// Forward once more, for backward.
    Replay,
    Backward,
}

/// All steps of a run.
#[derive(Debug)]
pub(crate) struct Schedule {
    /// What runs, in order: why, and which node.
    pub steps: Vec<(Phase, usize)>,
    /// Per value: whether backward reads it as computed again.
    pub again: Vec<bool>,
}

impl Schedule {
    pub(crate) fn new(
        values: &[ValueInfo],
        nodes: &[Box<dyn Node>],
        ranges: &[Range<usize>],
        training: bool,
    ) -> Schedule {
        let steps = (0..nodes.len()).map(|i| (Phase::Forward, i)).collect();
        let mut schedule = Schedule { steps, again: vec![false; values.len()] };
        if !training {
            return schedule;
        }
        let uses: Vec<Uses> = nodes.iter().map(|node| node.uses()).collect();
        let mut replays = schedule.replays(values, &uses, ranges);
        for i in (0..nodes.len()).rev() {
            let before = replays.remove(&i).unwrap_or_default();
            schedule.steps.extend(before.into_iter().map(|node| (Phase::Replay, node)));
            schedule.steps.push((Phase::Backward, i));
        }
        schedule
    }

    /// Nodes to replay, by the node before whose backward they run.
    fn replays(
        &mut self,
        values: &[ValueInfo],
        uses: &[Uses],
        ranges: &[Range<usize>],
    ) -> BTreeMap<usize, Vec<usize>> {
        let mut replays: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        // Read by the replay of a later range, which runs before that of an earlier one.
        let mut kept: BTreeSet<Var> = BTreeSet::new();
        for range in ranges.iter().rev() {
            let written = range.clone().flat_map(|i| uses[i].writes.iter().copied());
            let own: BTreeSet<Var> =
                written.filter(|v| values[v.index()].kind == Kind::Computed && !kept.contains(v)).collect();
            own.iter().for_each(|v| self.again[v.index()] = true);
            let mut needed: BTreeSet<Var> =
                uses.iter().flat_map(|u| &u.saved).filter(|v| own.contains(v)).copied().collect();
            let mut replayed = BTreeSet::new();
            for i in range.clone().rev() {
                if uses[i].writes.iter().any(|v| needed.contains(v)) {
                    replayed.insert(i);
                    needed.extend(uses[i].reads.iter().filter(|v| own.contains(v)));
                    kept.extend(uses[i].reads.iter().filter(|v| !own.contains(v)));
                }
            }
            assert_repeatable(uses, range, &replayed, &own);
            let first = uses.iter().rposition(|u| u.saved.iter().any(|v| own.contains(v)));
            if let Some(first) = first {
                replays.entry(first).or_default().extend(replayed);
            }
        }
        replays
    }
}

/// Refuses records whose replay would find or leave other values than forward did: ops that work in place on what
/// crosses the border of their range.
fn assert_repeatable(uses: &[Uses], range: &Range<usize>, replayed: &BTreeSet<usize>, own: &BTreeSet<Var>) {
    let writers = |v: &Var| {
        let v = *v;
        (0..uses.len()).filter(move |&i| uses[i].writes.contains(&v))
    };
    let inside = own.iter().flat_map(writers).all(|i| range.contains(&i));
    assert!(inside, "recompute: a value is written both inside and outside the range");
    for &i in replayed {
        let outer = |vars: &[Var]| vars.iter().filter(|v| !own.contains(v)).copied().collect::<Vec<_>>();
        let unchanged = outer(&uses[i].reads).iter().flat_map(writers).all(|writer| writer < i);
        assert!(unchanged, "recompute: a value that the range reads is overwritten later");
        let restored = outer(&uses[i].writes).iter().flat_map(writers).all(|w| replayed.contains(&w));
        assert!(restored, "recompute: a kept value would be left half replayed");
    }
}
