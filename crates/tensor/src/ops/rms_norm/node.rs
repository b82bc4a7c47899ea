//! The op on the tape.

use crate::scratch;
use crate::tape::{DType, Frame, Node, ParamId, Tape, Uses, Var};
use crate::with_elem;

/// What a norm multiplies by: its weights, or one plus them, which then start at zero (Gemma).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gain {
    /// The weights.
    pub w: ParamId,
    /// Whether one is added to them.
    pub offset: bool,
}

impl From<ParamId> for Gain {
    fn from(w: ParamId) -> Gain {
        Gain { w, offset: false }
    }
}

/// Calls `f` with the weights, or with one plus them, which are one sum per column and not per element.
pub(crate) fn with_offset<R>(w: &[f32], offset: bool, f: impl FnOnce(&[f32]) -> R) -> R {
    if !offset {
        return f(w);
    }
    scratch::with(w.len(), |sums: &mut [f32]| {
        sums.iter_mut().zip(w).for_each(|(sum, w)| *sum = 1.0 + w);
        f(sums)
    })
}

struct RmsNorm {
    x: Var,
    /// A branch output that joins the residual stream, and the sum.
    residual: Option<(Var, Var)>,
    gain: Gain,
    eps: f32,
    y: Var,
    inv_rms: Var,
}

impl Tape {
    /// `rms_norm(x) ⊙ gain`: x `[n, hidden]` fp32 → `[n, hidden]` in the activation dtype.
    pub fn rms_norm(&mut self, x: Var, gain: impl Into<Gain>, eps: f32) -> Var {
        self.rms_norm_to(x, gain, eps, self.activation)
    }

    /// The same stored as `dtype`: fp32 where the norm follows a branch and its output joins the residual stream, by
    /// [`Tape::add`] or the next norm's (`x + norm(branch)`: OLMo 2, Gemma 2).
    pub fn rms_norm_to(&mut self, x: Var, gain: impl Into<Gain>, eps: f32, dtype: DType) -> Var {
        self.norm(x, None, gain.into(), eps, dtype)
    }

    /// Joins a branch to the residual stream, then normalises: `(x + delta, rms_norm(x + delta) ⊙ gain)`.
    pub fn add_rms_norm(&mut self, x: Var, delta: Var, gain: impl Into<Gain>, eps: f32) -> (Var, Var) {
        let info = self.info(x);
        let sum = self.computed(info.rows, info.cols, DType::F32);
        // The gradient of a sum is the gradient of each term: one buffer carries the stream's.
        self.share_gradient(&[x, delta, sum]);
        (sum, self.norm(x, Some((delta, sum)), gain.into(), eps, self.activation))
    }

    fn norm(&mut self, x: Var, residual: Option<(Var, Var)>, gain: Gain, eps: f32, dtype: DType) -> Var {
        let info = self.info(x);
        let y = self.computed(info.rows, info.cols, dtype);
        let inv_rms = self.computed(info.rows, 1, DType::F32);
        self.push(RmsNorm { x, residual, gain, eps, y, inv_rms });
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
            params: vec![self.gain.w],
        };
        if let Some((delta, sum)) = self.residual {
            uses.reads.push(delta);
            uses.writes.push(sum);
        }
        uses
    }

    fn forward(&self, f: &Frame<'_>) {
        let (x, inv_rms) = (f.read(self.x), f.write(self.inv_rms));
        with_offset(f.param(self.gain.w), self.gain.offset, |w| {
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
        });
    }

    fn backward(&self, f: &Frame<'_>) {
        let normalised = self.residual.map_or(self.x, |(_, sum)| sum);
        let (dx, adds) = (f.grad_mut(normalised), f.accumulates(normalised));
        let (x, inv_rms) = (f.read(normalised), f.read(self.inv_rms));
        let (dw, adds_dw) = (f.param_grad(self.gain.w), f.accumulates_param(self.gain.w));
        with_offset(f.param(self.gain.w), self.gain.offset, |w| {
            with_elem!(f.dtype(self.y), E => {
                super::backward::<E>(f.cpu, x, w, inv_rms, f.grad(self.y), dx, adds, dw, adds_dw);
            });
        });
    }
}
