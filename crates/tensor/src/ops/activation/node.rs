//! The op on the tape.

use super::Activation;
use crate::tape::{Frame, Node, Tape, Uses, Var};
use crate::with_elem;

struct Activate {
    x: Var,
    act: Activation,
    gated: bool,
    out: Var,
}

impl Tape {
    /// `act(gate) ⊙ up`: gate_up `[n, 2·intermediate]`, gate first → `[n, intermediate]`, stored as gate_up is.
    pub fn gated(&mut self, gate_up: Var, act: Activation) -> Var {
        let info = self.info(gate_up);
        let out = self.computed(info.rows, info.cols / 2, info.dtype);
        self.push(Activate { x: gate_up, act, gated: true, out });
        out
    }

    /// `act(x)`: x `[n, intermediate]` → the same shape and storage.
    pub fn activate(&mut self, x: Var, act: Activation) -> Var {
        let info = self.info(x);
        let out = self.computed(info.rows, info.cols, info.dtype);
        self.push(Activate { x, act, gated: false, out });
        out
    }
}

impl Node for Activate {
    fn name(&self) -> &'static str {
        match self.act {
            Activation::Silu if self.gated => "swiglu",
            _ => "activation",
        }
    }

    fn uses(&self) -> Uses {
        Uses {
            reads: vec![self.x],
            writes: vec![self.out],
            saved: vec![self.x],
            grads_in: vec![self.out],
            grads_out: vec![self.x],
            ..Uses::default()
        }
    }

    fn forward(&self, f: &Frame<'_>) {
        let intermediate = f.info(self.out).cols;
        with_elem!(f.dtype(self.out), E => {
            let (x, out): (&[E], &mut [E]) = (f.read(self.x), f.write(self.out));
            match self.gated {
                true => super::gated(f.cpu, self.act, x, intermediate, out),
                false => super::plain(f.cpu, self.act, x, out),
            }
        });
    }

    fn backward(&self, f: &Frame<'_>) {
        let intermediate = f.info(self.out).cols;
        with_elem!(f.dtype(self.out), E => {
            let (x, d_out, d_x): (&[E], &[E], &mut [E]) = (f.read(self.x), f.grad(self.out), f.grad_mut(self.x));
            match self.gated {
                true => super::gated_backward(f.cpu, self.act, x, intermediate, d_out, d_x),
                false => super::plain_backward(f.cpu, self.act, x, d_out, d_x),
            }
        });
    }
}
