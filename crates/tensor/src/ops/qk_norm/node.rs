//! The op on the tape.

use super::Part;
use crate::ops::rms_norm::{Gain, with_offset};
use crate::tape::{DType, Frame, Node, Tape, Uses, Var};
use crate::with_elem;

/// How the columns q|k|rest are normalised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Widths {
    /// Columns of all query heads.
    pub q: usize,
    /// Columns of all key heads.
    pub k: usize,
    /// Columns of a head, each normalised alone; `None` where all heads are normalised as one.
    pub head: Option<usize>,
}

struct QkNorm {
    x: Var,
    widths: Widths,
    q: Gain,
    k: Gain,
    eps: f32,
    y: Var,
    inv_rms: Var,
}

impl Tape {
    /// qkv `[n, q + k + rest]` → the same shape and storage, q and k normalised, the rest copied. Weights are `[head]`
    /// each, or `[q]` and `[k]` where heads are normalised as one. Goes before [`Tape::rope`].
    ///
    /// # Panics
    /// When heads do not divide the widths (a recording bug).
    pub fn qk_norm(
        &mut self,
        qkv: Var,
        widths: Widths,
        q: impl Into<Gain>,
        k: impl Into<Gain>,
        eps: f32,
    ) -> Var {
        let (info, Widths { q: q_width, k: k_width, head }) = (self.info(qkv), widths);
        let groups = head.map_or(2, |head| (q_width + k_width) / head);
        let y = self.computed(info.rows, info.cols, info.dtype);
        let inv_rms = self.computed(info.rows, groups, DType::F32);
        self.push(QkNorm { x: qkv, widths, q: q.into(), k: k.into(), eps, y, inv_rms });
        y
    }
}

impl QkNorm {
    /// Calls `f` with both parts and their weights.
    fn with_parts(&self, f: &Frame<'_>, run: impl FnOnce([Part<'_>; 2])) {
        let Widths { q, k, .. } = self.widths;
        with_offset(f.param(self.q.w), self.q.offset, |w_q| {
            with_offset(f.param(self.k.w), self.k.offset, |w_k| {
                run([Part { width: q, w: w_q }, Part { width: k, w: w_k }]);
            });
        });
    }
}

impl Node for QkNorm {
    fn name(&self) -> &'static str {
        "qk_norm"
    }

    fn uses(&self) -> Uses {
        Uses {
            reads: vec![self.x],
            writes: vec![self.y, self.inv_rms],
            saved: vec![self.x, self.inv_rms],
            grads_in: vec![self.y],
            grads_out: vec![self.x],
            params: vec![self.q.w, self.k.w],
        }
    }

    fn forward(&self, f: &Frame<'_>) {
        let cols = f.info(self.x).cols;
        self.with_parts(f, |parts| {
            with_elem!(f.dtype(self.x), E => {
                let y: &mut [E] = f.write(self.y);
                super::forward::<E>(f.cpu, f.read(self.x), cols, parts, self.eps, y, f.write(self.inv_rms));
            });
        });
    }

    fn backward(&self, f: &Frame<'_>) {
        assert!(!f.accumulates(self.x), "qk_norm: queries and keys have another reader");
        let (cols, inv_rms) = (f.info(self.x).cols, f.read(self.inv_rms));
        let dw = [self.q.w, self.k.w].map(|w| (f.param_grad(w), f.accumulates_param(w)));
        self.with_parts(f, |parts| {
            with_elem!(f.dtype(self.x), E => {
                let (x, dy, dx): (&[E], &[E], &mut [E]) = (f.read(self.x), f.grad(self.y), f.grad_mut(self.x));
                super::backward::<E>(f.cpu, x, cols, parts, inv_rms, dy, dx, dw);
            });
        });
    }
}
