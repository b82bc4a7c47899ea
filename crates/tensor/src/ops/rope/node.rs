//! The op on the tape.

use super::{Heads, Tables};
use crate::tape::{Frame, Node, Tape, Uses, Var};
use crate::with_elem;
use std::sync::Arc;

struct Rope {
    positions: Var,
    x: Var,
    heads: Heads,
    tables: Arc<Tables>,
}

impl Tape {
    /// Rotates the first `heads` heads of each row of `x` `[n, …]` in place by `positions` `[n]`, half-split and whole.
    pub fn rope(&mut self, x: Var, positions: Var, heads: usize, head_dim: usize, tables: &Arc<Tables>) {
        assert_eq!(head_dim, tables.dim(), "rope: the tables are for another head_dim");
        self.rope_heads(x, positions, Heads::whole(heads, head_dim), tables);
    }

    /// Rotates features of `heads` of each row of `x` `[n, …]` in place by `positions` `[n]`.
    pub fn rope_heads(&mut self, x: Var, positions: Var, heads: Heads, tables: &Arc<Tables>) {
        self.push(Rope { positions, x, heads, tables: Arc::clone(tables) });
    }
}

impl Node for Rope {
    fn name(&self) -> &'static str {
        "rope"
    }

    fn uses(&self) -> Uses {
        // In place: forward overwrites x, backward turns its gradient back without reading x.
        Uses {
            reads: vec![self.positions],
            writes: vec![self.x],
            saved: vec![self.positions],
            grads_in: vec![self.x],
            ..Uses::default()
        }
    }

    fn bytes(&self, f: &Frame<'_>) -> [u64; 2] {
        // In place: what is written is read first.
        f.traffic(&self.uses()).map(|once| 2 * once)
    }

    fn forward(&self, f: &Frame<'_>) {
        let stride = f.info(self.x).cols;
        with_elem!(f.dtype(self.x), E => {
            let x: &mut [E] = f.write(self.x);
            super::forward(f.cpu, &self.tables, f.read(self.positions), x, stride, self.heads);
        });
    }

    fn backward(&self, f: &Frame<'_>) {
        let stride = f.info(self.x).cols;
        with_elem!(f.dtype(self.x), E => {
            let dx: &mut [E] = f.grad_mut(self.x);
            super::backward(f.cpu, &self.tables, f.read(self.positions), dx, stride, self.heads);
        });
    }
}
