//! The op on the tape.

use super::{Dispatch, Gradient, Gradients, Layer};
use crate::ops::activation::Activation;
use crate::ops::moe_route::Routed;
use crate::tape::{DType, Frame, Node, ParamId, Tape, Uses, Var};
use crate::with_elem;

/// Parameters and settings of a layer of experts.
#[derive(Clone, Copy, Debug)]
pub struct Experts {
    /// Features between the products, I.
    pub intermediate: usize,
    /// What happens between the products.
    pub activation: Activation,
    /// Gate and up weights, `[E, 2·I, d]`, gate rows before up rows.
    pub gate_up: ParamId,
    /// Down weights, `[E, d, I]`.
    pub down: ParamId,
    /// Biases of both, `[E, 2·I]` and `[E, d]`.
    pub biases: Option<[ParamId; 2]>,
}

struct MoeExperts {
    experts: Experts,
    routed: Routed,
    x: Var,
    hidden: Var,
    out: Var,
}

impl Tape {
    /// Each token's weighted sum over its experts (MOE-01): x `[n, d]` in the activation dtype → `[n, d]` fp32.
    ///
    /// # Panics
    /// When x is not of the rows that were routed (a recording bug).
    pub fn moe_experts(&mut self, x: Var, routed: &Routed, experts: Experts) -> Var {
        let (info, routes) = (self.info(x), self.info(routed.weights));
        assert_eq!(info.rows, routes.rows, "moe_experts: as many rows as were routed");
        let hidden = self.computed(routes.len(), 2 * experts.intermediate, info.dtype);
        let out = self.computed(info.rows, info.cols, DType::F32);
        self.push(MoeExperts { experts, routed: *routed, x, hidden, out });
        out
    }
}

impl MoeExperts {
    fn layer<'a>(&self, f: &Frame<'a>) -> Layer<'a> {
        Layer {
            d: f.info(self.x).cols,
            intermediate: self.experts.intermediate,
            top_k: f.info(self.routed.weights).cols,
            activation: self.experts.activation,
            gate_up: f.param(self.experts.gate_up),
            down: f.param(self.experts.down),
            biases: self.experts.biases.map(|biases| biases.map(|id| f.param(id))),
            dispatch: Dispatch {
                weights: f.read(self.routed.weights),
                order: f.read(self.routed.order),
                offsets: f.read(self.routed.offsets),
                places: f.read(self.routed.places),
            },
        }
    }
}

fn of_param<'a>(f: &Frame<'a>, id: ParamId) -> Gradient<'a, f32> {
    Gradient { to: f.param_grad(id), accumulate: f.accumulates_param(id) }
}

impl Node for MoeExperts {
    fn name(&self) -> &'static str {
        "moe_experts"
    }

    fn uses(&self) -> Uses {
        let Routed { weights, order, offsets, places, .. } = self.routed;
        let mut params = vec![self.experts.gate_up, self.experts.down];
        params.extend(self.experts.biases.iter().flatten());
        Uses {
            reads: vec![self.x, weights, order, offsets, places],
            writes: vec![self.hidden, self.out],
            saved: vec![self.x, self.hidden, weights, order, offsets, places],
            grads_in: vec![self.out],
            grads_out: vec![self.x, weights],
            params,
        }
    }

    fn flops(&self, f: &Frame<'_>) -> [u64; 2] {
        let rows = f.info(self.routed.weights).len();
        let once = super::flops(rows, f.info(self.x).cols, self.experts.intermediate);
        [once, 2 * once]
    }

    fn forward(&self, f: &Frame<'_>) {
        let layer = self.layer(f);
        with_elem!(f.dtype(self.x), E => {
            let (hidden, out) = (f.write(self.hidden), f.write(self.out));
            super::forward::<E>(f.cpu, f.precision, &layer, f.read(self.x), hidden, out);
        });
    }

    fn backward(&self, f: &Frame<'_>) {
        let layer = self.layer(f);
        let weights = self.routed.weights;
        with_elem!(f.dtype(self.x), E => {
            let gradients = Gradients {
                x: Gradient { to: f.grad_mut::<E>(self.x), accumulate: f.accumulates(self.x) },
                weights: Gradient { to: f.grad_mut(weights), accumulate: f.accumulates(weights) },
                gate_up: of_param(f, self.experts.gate_up),
                down: of_param(f, self.experts.down),
                biases: self.experts.biases.map(|biases| biases.map(|id| of_param(f, id))),
            };
            let kept = (f.read(self.x), f.read(self.hidden));
            super::backward::<E>(f.cpu, f.precision, &layer, kept, f.grad(self.out), gradients);
        });
    }
}
