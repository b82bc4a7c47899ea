//! The op on the tape.

use super::{Affine, AffineGrads, STATS};
use crate::tape::{DType, Frame, Node, ParamId, Tape, Uses, Var};
use crate::with_elem;

struct LayerNorm {
    x: Var,
    /// A branch output that joins the residual stream, and the sum.
    residual: Option<(Var, Var)>,
    w: ParamId,
    b: ParamId,
    eps: f32,
    y: Var,
    stats: Var,
}

impl Tape {
    /// `layer_norm(x) ⊙ w + b`: x `[n, hidden]` fp32 → `[n, hidden]` in the activation dtype.
    pub fn layer_norm(&mut self, x: Var, w: ParamId, b: ParamId, eps: f32) -> Var {
        self.layer_norm_to(x, w, b, eps, self.activation)
    }

    /// The same stored as `dtype`.
    pub fn layer_norm_to(&mut self, x: Var, w: ParamId, b: ParamId, eps: f32, dtype: DType) -> Var {
        let info = self.info(x);
        let y = self.computed(info.rows, info.cols, dtype);
        let stats = self.computed(info.rows, STATS, DType::F32);
        self.push(LayerNorm { x, residual: None, w, b, eps, y, stats });
        y
    }

    /// Joins a branch to the residual stream, then normalises: `(x + delta, layer_norm(x + delta) ⊙ w + b)`.
    pub fn add_layer_norm(&mut self, x: Var, delta: Var, w: ParamId, b: ParamId, eps: f32) -> (Var, Var) {
        let info = self.info(x);
        let sum = self.computed(info.rows, info.cols, DType::F32);
        // The gradient of a sum is the gradient of each term: one buffer carries the stream's.
        self.share_gradient(&[x, delta, sum]);
        let y = self.activation_like(info.rows, info.cols);
        let stats = self.computed(info.rows, STATS, DType::F32);
        self.push(LayerNorm { x, residual: Some((delta, sum)), w, b, eps, y, stats });
        (sum, y)
    }
}

impl Node for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn uses(&self) -> Uses {
        let normalised = self.residual.map_or(self.x, |(_, sum)| sum);
        let mut uses = Uses {
            reads: vec![self.x],
            writes: vec![self.y, self.stats],
            saved: vec![normalised, self.stats],
            grads_in: vec![self.y],
            grads_out: vec![normalised],
            params: vec![self.w, self.b],
        };
        if let Some((delta, sum)) = self.residual {
            uses.reads.push(delta);
            uses.writes.push(sum);
        }
        uses
    }

    fn forward(&self, f: &Frame<'_>) {
        let (x, stats) = (f.read(self.x), f.write(self.stats));
        let affine = Affine { w: f.param(self.w), b: f.param(self.b) };
        let (delta, sum) = match self.residual {
            None => (None, None),
            Some((delta, sum)) => (Some(f.read(delta)), Some(f.write(sum))),
        };
        with_elem!(f.dtype(self.y), E => {
            super::forward::<E>(f.cpu, x, delta, affine, self.eps, sum, f.write(self.y), stats);
        });
    }

    fn backward(&self, f: &Frame<'_>) {
        let normalised = self.residual.map_or(self.x, |(_, sum)| sum);
        let (x, w, stats) = (f.read(normalised), f.param(self.w), f.read(self.stats));
        let (dx, adds) = (f.grad_mut(normalised), f.accumulates(normalised));
        let grads = AffineGrads {
            dw: f.param_grad(self.w),
            accumulate_dw: f.accumulates_param(self.w),
            db: f.param_grad(self.b),
            accumulate_db: f.accumulates_param(self.b),
        };
        with_elem!(f.dtype(self.y), E => {
            super::backward::<E>(f.cpu, x, w, stats, f.grad(self.y), dx, adds, grads);
        });
    }
}
