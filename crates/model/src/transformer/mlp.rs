//! The MLP of one layer: one for all tokens, or experts.

use super::attention::Rows;
use super::{Router, Transformer, project};
use smolt_arch::config::{Activation as Act, Balancing, BalancingScope, Gate as GateKind, Moe};
use smolt_arch::parameters::Part;
use smolt_tensor::ops::activation::Activation;
use smolt_tensor::ops::moe_experts::Experts;
use smolt_tensor::ops::moe_route::{Gate, Groups, RouteInputs, Routing};
use smolt_tensor::tape::{DType, ParamId, Tape, Var};

/// Projections of an MLP, with their biases.
struct Mlp {
    up: (ParamId, Option<ParamId>),
    down: (ParamId, Option<ParamId>),
    intermediate_size: usize,
}

impl Transformer {
    /// h `[n, d]` → `[n, d]`. With `cheap_again`, activations are computed again for backward.
    pub(super) fn mlp(
        &self,
        t: &mut Tape,
        l: usize,
        h_nd: Var,
        rows: Rows,
        cheap_again: bool,
        routers: &mut Vec<Router>,
    ) -> Var {
        match &self.config.moe {
            Some(moe) if self.config.is_sparse(l) => self.experts(t, l, h_nd, moe, rows, routers),
            _ => self.dense(t, h_nd, &self.mlp_of(l), cheap_again),
        }
    }

    fn mlp_of(&self, l: usize) -> Mlp {
        Mlp {
            up: (self.part(l, Part::Up), self.maybe(l, Part::UpBias)),
            down: (self.part(l, Part::Down), self.maybe(l, Part::DownBias)),
            intermediate_size: self.config.intermediate_size,
        }
    }

    /// COR-02: act(gate)⊙up or act(up), between two projections.
    fn dense(&self, t: &mut Tape, h_nd: Var, mlp: &Mlp, cheap_again: bool) -> Var {
        let (c, dtype) = (&self.config, t.activation);
        let width = if c.gated_mlp { 2 * mlp.intermediate_size } else { mlp.intermediate_size };
        let up = project(t, h_nd, mlp.up, width, dtype);
        let act = |t: &mut Tape| match c.gated_mlp {
            true => t.gated(up, self.activation()),
            false => t.activate(up, self.activation()),
        };
        let act_ni = if cheap_again { t.recompute(act) } else { act(t) };
        project(t, act_ni, mlp.down, c.hidden_size, DType::F32)
    }

    fn activation(&self) -> Activation {
        match (self.config.hidden_act, self.config.swiglu_limit) {
            (_, Some(limit)) => Activation::Clamped { limit: limit as f32 },
            (Act::Silu, None) => Activation::Silu,
            (Act::Gelu, None) => Activation::Gelu,
            (Act::GeluTanh, None) => Activation::GeluTanh,
            (Act::Relu, None) => Activation::Relu,
            (Act::Relu2, None) => Activation::Relu2,
        }
    }

    /// MOE-01: each token's experts, weighted, and those that serve every token.
    fn experts(
        &self,
        t: &mut Tape,
        l: usize,
        h_nd: Var,
        moe: &Moe,
        rows: Rows,
        routers: &mut Vec<Router>,
    ) -> Var {
        let logits_ne =
            t.linear_fp32(h_nd, self.part(l, Part::Router), self.maybe(l, Part::RouterBias), moe.num_experts);
        let whole_batch = moe.balancing == Balancing::AuxLoss
            && moe.balancing_scope == BalancingScope::GlobalBatch
            && rows.share.is_some();
        let fractions = whole_batch.then(|| t.input_scalars(moe.num_experts));
        let inputs =
            RouteInputs { scale_aux: rows.share, fractions, bias: self.maybe(l, Part::SelectionBias) };
        let routed = t.moe_route(logits_ne, routing(moe), inputs);
        routers.push(Router { layer: l, routed, fractions });
        let biases = [Part::ExpertsUpBias, Part::ExpertsDownBias].map(|part| self.maybe(l, part));
        let experts = Experts {
            intermediate: moe.moe_intermediate_size,
            activation: self.activation(),
            gate_up: self.part(l, Part::ExpertsUp),
            down: self.part(l, Part::ExpertsDown),
            biases: if let [Some(up), Some(down)] = biases { Some([up, down]) } else { None },
        };
        let routed_nd = t.moe_experts(h_nd, &routed, experts);
        if moe.n_shared_experts == 0 {
            return routed_nd;
        }
        let shared = Mlp {
            up: (self.part(l, Part::SharedUp), None),
            down: (self.part(l, Part::SharedDown), None),
            intermediate_size: moe.n_shared_experts * moe.moe_intermediate_size,
        };
        let shared_nd = self.dense(t, h_nd, &shared, false);
        t.add(routed_nd, shared_nd)
    }
}

fn routing(moe: &Moe) -> Routing {
    let balanced_by_loss = moe.balancing == Balancing::AuxLoss;
    Routing {
        experts: moe.num_experts,
        top_k: moe.num_experts_per_tok,
        gate: match moe.gate {
            GateKind::Softmax => Gate::Softmax,
            GateKind::SoftmaxTopK => Gate::SoftmaxTopK,
            GateKind::Sigmoid => Gate::Sigmoid,
        },
        norm_topk_prob: moe.norm_topk_prob,
        routed_scaling_factor: moe.routed_scaling_factor as f32,
        groups: (moe.n_group > 1).then_some(Groups { count: moe.n_group, chosen: moe.topk_group }),
        aux_loss_coef: if balanced_by_loss { moe.router_aux_loss_coef as f32 } else { 0.0 },
        z_loss_coef: moe.router_z_loss_coef as f32,
    }
}
