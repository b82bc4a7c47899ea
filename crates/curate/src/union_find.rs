//! Which documents belong together: union–find over `0..n` in four bytes each (Tarjan, 1975).
//!
//! The least member of a set is its root, so what the sets are and which member stands for each depends on the edges
//! alone, not on their order.

use smolt_run::error::{Exit, ExitKind};

/// In a root's slot, which then holds the size of its set; other slots hold a parent.
const ROOT: u32 = 1 << 31;

/// The most members: a slot's top bit is taken.
pub const MAX_MEMBERS: u64 = (ROOT - 1) as u64;

/// More members than the budget or the numbers can hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{members} documents need {needed} bytes of memory to be joined into clusters, and {given} are given; {fix}"
)]
pub struct TooManyMembers {
    /// Documents.
    pub members: u64,
    /// Bytes that they need.
    pub needed: u64,
    /// The budget in bytes.
    pub given: u64,
    fix: &'static str,
}

impl ExitKind for TooManyMembers {
    fn exit(&self) -> Exit {
        Exit::BadInput
    }
}

/// Disjoint sets of `0..n`, at first each on its own.
pub struct UnionFind {
    slots: Vec<u32>,
}

impl UnionFind {
    /// Bytes for `members` members.
    pub fn bytes(members: u64) -> u64 {
        members.saturating_mul(size_of::<u32>() as u64)
    }

    /// `members` sets of one, in at most `memory` bytes.
    pub fn new(members: u64, memory: u64) -> Result<Self, TooManyMembers> {
        let needed = Self::bytes(members);
        let refuse = |fix| TooManyMembers { members, needed, given: memory, fix };
        if members > MAX_MEMBERS {
            return Err(refuse("split the corpus: at most 2147483647 documents can be compared at once"));
        }
        if needed > memory {
            return Err(refuse("set a larger --memory"));
        }
        let mut slots = Vec::new();
        slots
            .try_reserve_exact(members as usize)
            .map_err(|_| refuse("the machine has not that much left"))?;
        slots.resize(members as usize, ROOT | 1);
        Ok(Self { slots })
    }

    /// The least member of the set of `member`, which must be below `n`.
    pub fn root(&mut self, member: u32) -> u32 {
        let mut at = member;
        loop {
            let parent = self.slots[at as usize];
            if parent & ROOT != 0 {
                return at;
            }
            let above = self.slots[parent as usize];
            if above & ROOT != 0 {
                return parent;
            }
            // Path halving: each visit brings the nodes on the way closer to the root.
            self.slots[at as usize] = above;
            at = above;
        }
    }

    /// Joins the sets of two members, both below `n`.
    pub fn join(&mut self, a: u32, b: u32) {
        let (a, b) = (self.root(a), self.root(b));
        if a == b {
            return;
        }
        let (low, high) = (a.min(b), a.max(b));
        let size = self.slots[high as usize] & !ROOT;
        self.slots[low as usize] += size;
        self.slots[high as usize] = low;
    }

    /// How many members the set of `root` has; 0 for a member that is no root.
    pub fn size(&self, root: u32) -> u32 {
        match self.slots[root as usize] {
            slot if slot & ROOT != 0 => slot & !ROOT,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_does_not_fit_is_refused_with_its_size() {
        let error = UnionFind::new(1000, 3999).err().unwrap().to_string();
        assert!(error.contains("4000 bytes") && error.contains("--memory"), "{error}");
        assert!(UnionFind::new(1000, 4000).is_ok());
        let error = UnionFind::new(1 << 31, u64::MAX).err().unwrap().to_string();
        assert!(error.contains("split the corpus"), "{error}");
        assert!(UnionFind::new(u64::MAX, u64::MAX).is_err());
    }

    #[test]
    fn a_long_chain_is_one_set() {
        let n = 200_000;
        let mut sets = UnionFind::new(u64::from(n), 1 << 20).unwrap();
        for member in (1..n).rev() {
            sets.join(member, member - 1);
        }
        assert_eq!((sets.root(n - 1), sets.size(0), sets.size(7)), (0, n, 0));
    }

    proptest! {
        #[test]
        fn equals_repeated_relabelling(edges in prop::collection::vec((0u32..40, 0u32..40), 0..60), rotate in 0usize..60) {
            let mut labels: Vec<u32> = (0..40).collect();
            for &(a, b) in &edges {
                let (from, to) = (labels[a as usize].max(labels[b as usize]), labels[a as usize].min(labels[b as usize]));
                for label in labels.iter_mut().filter(|label| **label == from) {
                    *label = to;
                }
            }
            let mut edges = edges;
            let middle = rotate.min(edges.len());
            edges.rotate_left(middle);
            let mut sets = UnionFind::new(40, 160).unwrap();
            for (a, b) in edges {
                sets.join(b, a);
            }
            for member in 0..40 {
                let root = labels[member as usize];
                prop_assert_eq!(sets.root(member), root);
                let size = labels.iter().filter(|label| **label == root).count();
                prop_assert_eq!(sets.size(root) as usize, size);
            }
        }
    }
}
