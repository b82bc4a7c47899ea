//! The op on the tape.

use super::{Args, Totals};
use crate::tape::{DType, Frame, Node, ParamId, Tape, Uses, Var};
use crate::with_elem;

struct LinearCrossEntropy {
    h: Var,
    w: ParamId,
    labels: Var,
    scale: Var,
    z_loss: f32,
    softcap: Option<f32>,
    out: Loss,
}

/// What the loss leaves behind for the caller.
#[derive(Clone, Copy, Debug)]
pub struct Loss {
    /// Negative log-likelihood per row, 0 where the row has no label: `[n]` fp32.
    pub per_token: Var,
    /// Sums over the rows: nll, log Z, log²Z, labels, correct: `[5]` fp64 (see [`Loss::totals`]).
    pub totals: Var,
}

impl Loss {
    /// The sums of the last run of `program`.
    pub fn totals(&self, program: &crate::tape::Program) -> Totals {
        let [nll_sum, log_z_sum, z_sum, label_tokens, correct] = *program.output::<f64>(self.totals) else {
            unreachable!("totals has five elements")
        };
        Totals { nll_sum, log_z_sum, z_sum, label_tokens: label_tokens as u64, correct: correct as u64 }
    }
}

impl Tape {
    /// Cross-entropy of `softmax(h·wᵀ)` against `labels` `[n]` (`u32::MAX` = none), h `[n, hidden]`,
    /// w `[vocab, hidden]`; logits are capped by `softcap` if given ([`softcap`](crate::ops::softcap)). Its gradient is that of `scale[0] · Σ (nll + z_loss·log²Z)`.
    pub fn linear_cross_entropy(
        &mut self,
        h: Var,
        w: ParamId,
        labels: Var,
        scale: Var,
        z_loss: f32,
        softcap: Option<f32>,
    ) -> Loss {
        let out = Loss {
            per_token: self.computed(self.info(h).rows, 1, DType::F32),
            totals: self.computed(5, 1, DType::F64),
        };
        self.keep(out.per_token);
        self.keep(out.totals);
        self.push(LinearCrossEntropy { h, w, labels, scale, z_loss, softcap, out });
        out
    }
}

impl Node for LinearCrossEntropy {
    fn name(&self) -> &'static str {
        "linear_cross_entropy"
    }

    fn uses(&self) -> Uses {
        Uses {
            reads: vec![self.h, self.labels, self.scale],
            writes: vec![self.out.per_token, self.out.totals],
            saved: vec![self.h, self.labels, self.scale, self.out.per_token, self.out.totals],
            grads_in: Vec::new(),
            grads_out: vec![self.h],
            params: vec![self.w],
        }
    }

    fn flops(&self, f: &Frame<'_>) -> [u64; 2] {
        let h = f.info(self.h);
        let once = 2 * h.len() as u64 * (f.param(self.w).len() / h.cols) as u64;
        if f.training { [0, 3 * once] } else { [once, 0] }
    }

    fn bytes(&self, f: &Frame<'_>) -> [u64; 2] {
        let [forward, backward] = f.traffic(&self.uses());
        if f.training { [0, backward] } else { [forward, 0] }
    }

    /// A training program computes loss and gradients in one pass over the logits, in `backward`.
    fn forward(&self, f: &Frame<'_>) {
        if f.training {
            return;
        }
        let per_token = f.write(self.out.per_token);
        let totals = with_elem!(f.dtype(self.h), E => {
            let args = Args { h: f.read::<E>(self.h), w: f.param(self.w), labels: f.read(self.labels), scale: 1.0, z_loss: self.z_loss, softcap: self.softcap };
            super::forward(f.cpu, f.precision, args, per_token)
        });
        self.report(f, &totals);
    }

    fn backward(&self, f: &Frame<'_>) {
        let per_token = f.write(self.out.per_token);
        let scale = f.read::<f32>(self.scale)[0];
        let (dw, accumulate) = (f.param_grad(self.w), f.accumulates_param(self.w));
        let totals = with_elem!(f.dtype(self.h), E => {
            let args = Args { h: f.read::<E>(self.h), w: f.param(self.w), labels: f.read(self.labels), scale, z_loss: self.z_loss, softcap: self.softcap };
            super::forward_backward(f.cpu, f.precision, args, f.grad_mut(self.h), dw, accumulate, per_token)
        });
        self.report(f, &totals);
    }
}

impl LinearCrossEntropy {
    fn report(&self, f: &Frame<'_>, totals: &Totals) {
        let Totals { nll_sum, log_z_sum, z_sum, label_tokens, correct } = *totals;
        let sums = [nll_sum, log_z_sum, z_sum, label_tokens as f64, correct as f64];
        f.write::<f64>(self.out.totals).copy_from_slice(&sums);
    }
}
