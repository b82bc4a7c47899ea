//! The op on the tape.

use crate::tape::{DType, Frame, Node, ParamId, Tape, Uses, Var};
use crate::with_elem;

struct Linear {
    x: Var,
    w: ParamId,
    y: Var,
}

impl Tape {
    /// `y = x·wᵀ`: x `[n, in]`, w `[out, in]` → y `[n, out]` stored as `dtype`.
    pub fn linear(&mut self, x: Var, w: ParamId, out: usize, dtype: DType) -> Var {
        let y = self.computed(self.info(x).rows, out, dtype);
        self.push(Linear { x, w, y });
        y
    }
}

impl Node for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn uses(&self) -> Uses {
        Uses {
            reads: vec![self.x],
            writes: vec![self.y],
            saved: vec![self.x],
            grads_in: vec![self.y],
            grads_out: vec![self.x],
            params: vec![self.w],
        }
    }

    fn flops(&self, f: &Frame<'_>) -> [u64; 2] {
        let once = super::flops(f.info(self.x).rows, f.info(self.x).cols, f.info(self.y).cols);
        [once, 2 * once]
    }

    fn forward(&self, f: &Frame<'_>) {
        let w = f.param(self.w);
        with_elem!(f.dtype(self.x), X => with_elem!(f.dtype(self.y), Y => {
            super::forward::<X, Y>(f.cpu, f.precision, f.read(self.x), w, f.info(self.x).cols, f.write(self.y));
        }));
    }

    fn backward(&self, f: &Frame<'_>) {
        let (n_in, accumulate) = (f.info(self.x).cols, f.accumulates_param(self.w));
        with_elem!(f.dtype(self.x), X => with_elem!(f.dtype(self.y), Y => {
            let dy: &[Y] = f.grad(self.y);
            super::backward_weight::<Y, X>(f.cpu, f.precision, dy, f.read(self.x), n_in, f.param_grad(self.w), accumulate);
            super::backward_input::<Y, X>(
                f.cpu, f.precision, dy, f.param(self.w), n_in, f.grad_mut(self.x), f.accumulates(self.x),
            );
        }));
    }
}
