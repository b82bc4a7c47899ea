//! Bytes that an op cannot help moving, from what it says it touches.

use super::{Frame, Uses};

impl Frame<'_> {
    /// Bytes that forward and backward read and write at least: each value, gradient and parameter once, and
    /// twice a gradient that is added to.
    pub fn traffic(&self, uses: &Uses) -> [u64; 2] {
        let value = |var: &super::Var| self.info(*var).bytes();
        let grad = |var: &super::Var| self.values[self.info(*var).grad_class as usize].bytes();
        let param = |id: super::ParamId| 4 * self.layout.range(id).len();
        let passes = |adds: bool| if adds { 2 } else { 1 };
        let weights: usize = uses.params.iter().map(|&id| param(id)).sum();
        let forward = uses.reads.iter().chain(&uses.writes).map(value).sum::<usize>() + weights;
        let backward = uses.saved.iter().map(value).sum::<usize>()
            + uses.grads_in.iter().map(grad).sum::<usize>()
            + uses.grads_out.iter().map(|var| passes(self.accumulates(*var)) * grad(var)).sum::<usize>()
            + uses.params.iter().map(|&id| passes(self.accumulates_param(id)) * param(id)).sum::<usize>()
            + weights;
        [forward as u64, backward as u64]
    }
}
