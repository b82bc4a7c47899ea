//! The op on the tape.

use crate::tape::{Frame, Node, Tape, Uses, Var};
use crate::with_elem;

struct Swiglu {
    gate_up: Var,
    out: Var,
}

impl Tape {
    /// `silu(gate) ⊙ up`: gate_up `[n, 2·intermediate]` → `[n, intermediate]`.
    pub fn swiglu(&mut self, gate_up: Var) -> Var {
        let info = self.info(gate_up);
        let out = self.activation_like(info.rows, info.cols / 2);
        self.push(Swiglu { gate_up, out });
        out
    }
}

impl Node for Swiglu {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn uses(&self) -> Uses {
        Uses {
            reads: vec![self.gate_up],
            writes: vec![self.out],
            saved: vec![self.gate_up],
            grads_in: vec![self.out],
            grads_out: vec![self.gate_up],
            ..Uses::default()
        }
    }

    fn forward(&self, f: &Frame<'_>) {
        let intermediate = f.info(self.out).cols;
        with_elem!(f.dtype(self.out), E => {
            super::forward::<E>(f.cpu, f.read(self.gate_up), intermediate, f.write(self.out));
        });
    }

    fn backward(&self, f: &Frame<'_>) {
        let intermediate = f.info(self.out).cols;
        with_elem!(f.dtype(self.out), E => {
            super::backward::<E>(
                f.cpu, f.read(self.gate_up), intermediate, f.grad(self.out), f.grad_mut(self.gate_up),
            );
        });
    }
}
