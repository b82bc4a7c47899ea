//! The op on the tape.

use crate::tape::{DType, Frame, Node, Tape, Uses, Var};

struct Add {
    a: Var,
    b: Var,
    sum: Var,
}

impl Tape {
    /// `a + b`, all `[n, cols]` fp32: a branch joins the residual stream, and one gradient serves all three.
    pub fn add(&mut self, a: Var, b: Var) -> Var {
        let info = self.info(a);
        let sum = self.computed(info.rows, info.cols, DType::F32);
        self.share_gradient(&[a, b, sum]);
        self.push(Add { a, b, sum });
        sum
    }
}

impl Node for Add {
    fn name(&self) -> &'static str {
        "add"
    }

    fn uses(&self) -> Uses {
        Uses { reads: vec![self.a, self.b], writes: vec![self.sum], ..Uses::default() }
    }

    fn forward(&self, f: &Frame<'_>) {
        super::add(f.cpu, f.read(self.a), f.read(self.b), f.write(self.sum));
    }

    fn backward(&self, _: &Frame<'_>) {}
}
