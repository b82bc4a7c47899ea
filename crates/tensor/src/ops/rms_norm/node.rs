//! The op on the tape.

use crate::tape::{DType, Frame, Node, ParamId, Tape, Uses, Var};
use crate::with_elem;

struct RmsNorm {
    x: Var,
    /// A branch output that joins the residual stream, and the sum.
    residual: Option<(Var, Var)>,
    w: ParamId,
    eps: f32,
    y: Var,
    inv_rms: Var,
}

impl Tape {
    /// `rms_norm(x)·w`: x `[n, hidden]` fp32 → `[n, hidden]` in the activation dtype.
    pub fn rms_norm(&mut self, x: Var, w: ParamId, eps: f32) -> Var {
        self.norm(x, None, w, eps)
    }

    /// Joins a branch to the residual stream, then normalises: `(x + delta, rms_norm(x + delta)·w)`.
    pub fn add_rms_norm(&mut self, x: Var, delta: Var, w: ParamId, eps: f32) -> (Var, Var) {
        let info = self.info(x);
        let sum = self.computed(info.rows, info.cols, DType::F32);
        // The gradient of a sum is the gradient of each term: one buffer carries the stream's.
        self.share_gradient(&[x, delta, sum]);
        (sum, self.norm(x, Some((delta, sum)), w, eps))
    }

    fn norm(&mut self, x: Var, residual: Option<(Var, Var)>, w: ParamId, eps: f32) -> Var {
        let info = self.info(x);
        let y = self.activation_like(info.rows, info.cols);
        let inv_rms = self.computed(info.rows, 1, DType::F32);
        self.push(RmsNorm { x, residual, w, eps, y, inv_rms });
        y
    }
}

impl Node for RmsNorm {
    fn name(&self) -> &'static str {
        "rms_norm"
    }

    fn uses(&self) -> Uses {
        let normalised = self.residual.map_or(self.x, |(_, sum)| sum);
        let mut uses = Uses {
            reads: vec![self.x],
            writes: vec![self.y, self.inv_rms],
            saved: vec![normalised, self.inv_rms],
            grads_in: vec![self.y],
            grads_out: vec![normalised],
            params: vec![self.w],
        };
        if let Some((delta, sum)) = self.residual {
            uses.reads.push(delta);
            uses.writes.push(sum);
        }
        uses
    }

    fn forward(&self, f: &Frame<'_>) {
        let (x, w, inv_rms) = (f.read(self.x), f.param(self.w), f.write(self.inv_rms));
        with_elem!(f.dtype(self.y), E => {
            let y: &mut [E] = f.write(self.y);
            match self.residual {
                None => super::forward::<E, f32>(f.cpu, x, None, w, self.eps, None, y, inv_rms),
                Some((delta, sum)) => {
                    let (delta, sum) = (Some(f.read::<f32>(delta)), Some(f.write(sum)));
                    super::forward::<E, f32>(f.cpu, x, delta, w, self.eps, sum, y, inv_rms);
                }
            }
        });
    }

    fn backward(&self, f: &Frame<'_>) {
        let normalised = self.residual.map_or(self.x, |(_, sum)| sum);
        let dx: &mut [f32] = f.grad_mut(normalised);
        if !f.accumulates(normalised) {
            f.cpu.pool.for_each_chunk(dx, 1 << 16, |_, part| part.fill(0.0));
        }
        let (x, w, inv_rms) = (f.read(normalised), f.param(self.w), f.read(self.inv_rms));
        let (dw, accumulate) = (f.param_grad(self.w), f.accumulates_param(self.w));
        with_elem!(f.dtype(self.y), E => {
            super::backward::<E>(f.cpu, x, w, inv_rms, f.grad(self.y), dx, dw, accumulate);
        });
    }
}
