//! The op on the tape.

use crate::tape::{DType, Frame, Node, Tape, Uses, Var};

struct Softcap {
    x: Var,
    limit: f32,
}

impl Tape {
    /// `x ← cap·tanh(x / cap)` in place: x fp32 of any shape, which no earlier op may read again in backward.
    ///
    /// # Panics
    /// When x is not fp32 (a recording bug).
    pub fn softcap(&mut self, x: Var, cap: f32) {
        assert_eq!(self.info(x).dtype, DType::F32, "softcap: logits are fp32");
        self.push(Softcap { x, limit: cap });
    }
}

impl Node for Softcap {
    fn name(&self) -> &'static str {
        "softcap"
    }

    fn uses(&self) -> Uses {
        // In place: forward overwrites x, backward turns its gradient and reads what forward left.
        Uses { writes: vec![self.x], saved: vec![self.x], grads_in: vec![self.x], ..Uses::default() }
    }

    fn bytes(&self, f: &Frame<'_>) -> [u64; 2] {
        let once = f.info(self.x).bytes() as u64;
        [2 * once, 3 * once]
    }

    fn forward(&self, f: &Frame<'_>) {
        super::forward(f.cpu, self.limit, f.write(self.x));
    }

    fn backward(&self, f: &Frame<'_>) {
        super::backward(f.cpu, self.limit, f.read(self.x), f.grad_mut(self.x));
    }
}
