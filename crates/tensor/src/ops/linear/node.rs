//! The op on the tape.

use crate::gemm::Precision;
use crate::tape::{DType, Frame, Node, ParamId, Tape, Uses, Var};
use crate::with_elem;

struct Linear {
    x: Var,
    w: ParamId,
    bias: Option<ParamId>,
    y: Var,
    precision: Precision,
}

impl Tape {
    /// `y = x·wᵀ`: x `[n, in]`, w `[out, in]` → y `[n, out]` stored as `dtype`.
    pub fn linear(&mut self, x: Var, w: ParamId, out: usize, dtype: DType) -> Var {
        self.product(x, w, None, (out, dtype), self.precision)
    }

    /// `y = x·wᵀ + bias`: x `[n, in]`, w `[out, in]`, bias `[out]` → y `[n, out]` stored as `dtype`.
    pub fn linear_bias(&mut self, x: Var, w: ParamId, bias: ParamId, out: usize, dtype: DType) -> Var {
        self.product(x, w, Some(bias), (out, dtype), self.precision)
    }

    /// `y = x·wᵀ (+ bias)` with fp32 operands under every precision policy, y `[n, out]` fp32: for routers, whose
    /// choice among experts a rounded logit would turn.
    pub fn linear_fp32(&mut self, x: Var, w: ParamId, bias: Option<ParamId>, out: usize) -> Var {
        self.product(x, w, bias, (out, DType::F32), Precision::Fp32)
    }

    fn product(
        &mut self,
        x: Var,
        w: ParamId,
        bias: Option<ParamId>,
        (out, dtype): (usize, DType),
        precision: Precision,
    ) -> Var {
        let y = self.computed(self.info(x).rows, out, dtype);
        self.push(Linear { x, w, bias, y, precision });
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
            params: std::iter::once(self.w).chain(self.bias).collect(),
        }
    }

    fn flops(&self, f: &Frame<'_>) -> [u64; 2] {
        let once = super::flops(f.info(self.x).rows, f.info(self.x).cols, f.info(self.y).cols);
        [once, 2 * once]
    }

    fn forward(&self, f: &Frame<'_>) {
        let (w, n_in) = (f.param(self.w), f.info(self.x).cols);
        with_elem!(f.dtype(self.x), X => with_elem!(f.dtype(self.y), Y => {
            let (x, y): (&[X], &mut [Y]) = (f.read(self.x), f.write(self.y));
            match self.bias {
                None => super::forward(f.cpu, self.precision, x, w, n_in, y),
                Some(bias) => super::forward_bias(f.cpu, self.precision, x, w, f.param(bias), n_in, y),
            }
        }));
    }

    fn backward(&self, f: &Frame<'_>) {
        let (n_in, accumulate) = (f.info(self.x).cols, f.accumulates_param(self.w));
        let (w, dw, precision) = (f.param(self.w), f.param_grad(self.w), self.precision);
        with_elem!(f.dtype(self.x), X => with_elem!(f.dtype(self.y), Y => {
            let dy: &[Y] = f.grad(self.y);
            super::backward_weight::<Y, X>(f.cpu, precision, dy, f.read(self.x), n_in, dw, accumulate);
            if let Some(bias) = self.bias {
                super::backward_bias(f.cpu, dy, f.param_grad(bias), f.accumulates_param(bias));
            }
            super::backward_input::<Y, X>(
                f.cpu, precision, dy, w, n_in, f.grad_mut(self.x), f.accumulates(self.x),
            );
        }));
    }
}
