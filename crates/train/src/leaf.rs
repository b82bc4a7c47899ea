//! The leaf tree: gradients of micro-batches summed in one fixed order.
//!
//! A leaf is one micro-batch. Leaf gradients are added along the binary tree over leaf index, so the
//! sum has the same bits for any number of workers that own aligned subtrees.

use smolt_tensor::Cpu;
use smolt_tensor::memory::Slab;
use smolt_tensor::ops::add::add_assign;

/// Gradient buffers for the open subtrees, at most one per level: `log2(leaves) + 1` in all.
pub struct LeafTree {
    len: usize,
    buffers: Vec<Slab>,
    /// Level of each buffer in use, deepest subtree last.
    open: Vec<u32>,
}

impl LeafTree {
    /// A tree over gradients of `len` elements.
    pub fn new(len: usize) -> LeafTree {
        LeafTree { len, buffers: Vec::new(), open: Vec::new() }
    }

    /// Number of gradient buffers that `leaves` leaves need.
    pub fn buffers(leaves: usize) -> usize {
        leaves.max(1).ilog2() as usize + 1
    }

    /// The buffer for the next leaf's gradient, contents unspecified; call [`LeafTree::push`] when full.
    pub fn buffer(&mut self) -> &mut [f32] {
        if self.buffers.len() == self.open.len() {
            self.buffers.push(Slab::new(self.len * 4));
        }
        &mut self.buffers[self.open.len()].as_mut_slice()[..self.len]
    }

    /// Takes in the gradient just written and merges complete sibling subtrees.
    pub fn push(&mut self, cpu: &Cpu) {
        self.open.push(0);
        while let [.., a, b] = *self.open
            && a == b
        {
            self.merge(cpu);
        }
    }

    /// The sum over all leaves pushed. The tree is then empty; the slice stays valid until the next leaf.
    ///
    /// An incomplete tree is closed from its deepest subtree up.
    pub fn finish(&mut self, cpu: &Cpu) -> &mut [f32] {
        while self.open.len() > 1 {
            self.merge(cpu);
        }
        self.open.clear();
        self.buffer()
    }

    fn merge(&mut self, cpu: &Cpu) {
        self.open.pop();
        let top = self.open.len();
        if let Some(level) = self.open.last_mut() {
            *level += 1;
        }
        let (left, right) = self.buffers.split_at_mut(top);
        if let (Some(left), Some(right)) = (left.last_mut(), right.first()) {
            add_assign(cpu, &mut left.as_mut_slice()[..self.len], &right.as_slice()[..self.len]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values whose sums depend on the order of addition.
    fn leaf(i: usize) -> Vec<f32> {
        (0..37).map(|j| ((i * 37 + j) as f32 * 0.7).sin() * 10f32.powi((i % 7) as i32 - 3)).collect()
    }

    fn sum(cpu: &Cpu, leaves: std::ops::Range<usize>) -> Vec<f32> {
        let mut tree = LeafTree::new(37);
        for i in leaves {
            tree.buffer().copy_from_slice(&leaf(i));
            tree.push(cpu);
        }
        tree.finish(cpu).to_vec()
    }

    #[test]
    fn workers_that_own_aligned_subtrees_give_the_same_bits() {
        let cpu = Cpu::new(2).unwrap();
        let whole = sum(&cpu, 0..16);
        for workers in [1, 2, 4, 8] {
            let each = 16 / workers;
            let mut parts: Vec<Vec<f32>> =
                (0..workers).map(|w| sum(&cpu, w * each..(w + 1) * each)).collect();
            while parts.len() > 1 {
                parts =
                    parts.chunks(2).map(|p| p[0].iter().zip(&p[1]).map(|(a, b)| a + b).collect()).collect();
            }
            assert_eq!(parts[0], whole, "{workers} workers");
        }
        let running = (1..16).fold(leaf(0), |a, i| a.iter().zip(leaf(i)).map(|(a, b)| a + b).collect());
        assert_ne!(running, whole, "the test's values must be sensitive to order");
    }

    #[test]
    fn a_tree_of_any_size_sums_every_leaf_and_reuses_its_buffers() {
        let cpu = Cpu::new(1).unwrap();
        for leaves in 1..12 {
            let mut tree = LeafTree::new(37);
            for _ in 0..2 {
                for i in 0..leaves {
                    tree.buffer().copy_from_slice(&leaf(i));
                    tree.push(&cpu);
                }
                let got = tree.finish(&cpu).to_vec();
                for (j, got) in got.iter().enumerate() {
                    let want: f64 = (0..leaves).map(|i| f64::from(leaf(i)[j])).sum();
                    assert!((f64::from(*got) - want).abs() < 1e-3, "{leaves} leaves");
                }
            }
            assert_eq!(tree.buffers.len(), LeafTree::buffers(leaves), "{leaves} leaves");
        }
    }
}
