//! The op on the tape.

use super::{Args, Routes, Routing, Saved, Stats};
use crate::tape::{DType, Frame, Node, ParamId, Tape, Uses, Var};

/// What a router reads besides logits.
#[derive(Clone, Copy, Debug, Default)]
pub struct RouteInputs {
    /// Weight of this batch in its global batch, `[1]` fp32; without it there are no auxiliary gradients.
    pub scale_aux: Option<Var>,
    /// Rows sent to each expert per token in the global batch, `[E]` fp32 (MOE-08); else of this batch.
    pub fractions: Option<Var>,
    /// Selection bias `[E]` (MOE-07), a parameter only in that checkpoints hold it: its gradient is zero, and it must not
    /// decay.
    pub bias: Option<ParamId>,
}

/// Where each token goes.
#[derive(Clone, Copy, Debug)]
pub struct Routed {
    /// Gate weights in order of rank, `[n, k]` fp32.
    pub weights: Var,
    /// Experts in order of rank, `[n, k]` u32.
    pub experts: Var,
    /// token·k + slot of each row, sorted by expert and then token, `[n·k]` u32.
    pub order: Var,
    /// The rows of expert e are `offsets[e]..offsets[e + 1]`, `[E + 1]` u32.
    pub offsets: Var,
    /// The row of each token·k + slot, `[n·k]` u32.
    pub places: Var,
    /// Rows per expert, `[E]` u32, kept (MOE-09).
    pub counts: Var,
    /// Losses and entropy, `[3]` fp64, kept (see [`Routed::stats`]).
    pub stats: Var,
}

impl Routed {
    /// Losses and entropy of the last run of `program`.
    pub fn stats(&self, program: &crate::tape::Program) -> Stats {
        let [aux_loss, z_loss, entropy] = *program.output::<f64>(self.stats) else {
            unreachable!("stats has three elements")
        };
        Stats { aux_loss, z_loss, entropy }
    }
}

struct Route {
    routing: Routing,
    inputs: RouteInputs,
    logits: Var,
    out: Routed,
}

impl Tape {
    /// Sends each row of `logits` `[n, E]` fp32 to k of E experts (MOE-01, MOE-06..09).
    ///
    /// # Panics
    /// When settings and shapes disagree (a recording bug).
    pub fn moe_route(&mut self, logits: Var, routing: Routing, inputs: RouteInputs) -> Routed {
        routing.check();
        let info = self.info(logits);
        assert!(info.cols == routing.experts && info.dtype == DType::F32, "moe_route: logits [n, E] fp32");
        let (n, e, k) = (info.rows, routing.experts, routing.top_k);
        let out = Routed {
            weights: self.computed(n, k, DType::F32),
            experts: self.computed(n, k, DType::U32),
            order: self.computed(n * k, 1, DType::U32),
            offsets: self.computed(e + 1, 1, DType::U32),
            places: self.computed(n * k, 1, DType::U32),
            counts: self.computed(e, 1, DType::U32),
            stats: self.computed(3, 1, DType::F64),
        };
        self.keep(out.counts);
        self.keep(out.stats);
        self.push(Route { routing, inputs, logits, out });
        out
    }
}

impl Route {
    fn fractions<'a>(&self, f: &Frame<'a>) -> Option<&'a [f32]> {
        self.inputs.fractions.map(|var| f.read(var))
    }
}

impl Node for Route {
    fn name(&self) -> &'static str {
        "moe_route"
    }

    fn uses(&self) -> Uses {
        let Routed { weights, experts, order, offsets, places, counts, stats } = self.out;
        let mut uses = Uses {
            reads: vec![self.logits],
            writes: vec![weights, experts, order, offsets, places, counts, stats],
            saved: vec![self.logits, experts, counts],
            grads_in: vec![weights],
            grads_out: vec![self.logits],
            ..Uses::default()
        };
        let given = [self.inputs.scale_aux, self.inputs.fractions];
        uses.reads.extend(given.iter().flatten());
        uses.saved.extend(given.iter().flatten());
        uses.params.extend(self.inputs.bias);
        uses
    }

    fn forward(&self, f: &Frame<'_>) {
        let bias = self.inputs.bias.map(|id| f.param(id));
        let args = Args { logits: f.read(self.logits), bias, fractions: self.fractions(f) };
        let Ok(stats) = f.write::<f64>(self.out.stats).try_into() else {
            unreachable!("stats has three elements")
        };
        let routes = Routes {
            weights: f.write(self.out.weights),
            experts: f.write(self.out.experts),
            order: f.write(self.out.order),
            offsets: f.write(self.out.offsets),
            places: f.write(self.out.places),
            counts: f.write(self.out.counts),
            stats,
        };
        super::forward(f.cpu, &self.routing, args, routes);
    }

    fn backward(&self, f: &Frame<'_>) {
        if let Some(id) = self.inputs.bias {
            let accumulates = f.accumulates_param(id);
            let d_bias = f.param_grad(id);
            if !accumulates {
                d_bias.fill(0.0);
            }
        }
        let saved = Saved {
            logits: f.read(self.logits),
            experts: f.read(self.out.experts),
            counts: f.read(self.out.counts),
            fractions: self.fractions(f),
            scale_aux: self.inputs.scale_aux.map_or(0.0, |var| f.read::<f32>(var)[0]),
        };
        let (d_weights, accumulate) = (f.grad(self.out.weights), f.accumulates(self.logits));
        super::backward(f.cpu, &self.routing, saved, d_weights, f.grad_mut(self.logits), accumulate);
    }
}
