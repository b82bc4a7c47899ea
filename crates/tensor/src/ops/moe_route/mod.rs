//! Routing of a mixture of experts: which k of E experts each token goes to, with which weights, and in which order
//! their rows lie (MOE-01, MOE-05..09).
//!
//! Per token, from fp32 logits `x_i` of a router whose product has fp32 operands in every run
//! ([`Tape::linear_fp32`](crate::tape::Tape::linear_fp32)):
//!
//! * the *affinity* `s_i` is by [`Gate`]: `softmax(x)_i`, `x_i` itself, or `σ(x_i)`;
//! * the k experts of highest `s_i + bias_i` are chosen, of equals the one of lower index; with [`Groups`] only experts
//!   of the best groups compete, where a group's score is the sum of its two highest `s_i + bias_i` (transformers lets
//!   the others compete with 0, which is the same unless fewer than k scores of the best groups are above it). The bias
//!   has no other effect and no gradient: it balances load without a loss (MOE-07);
//! * gate weights are the affinities of the chosen (of [`Gate::SoftmaxTopK`] the softmax over them), divided by
//!   their sum plus 1e-20 if `norm_topk_prob`, times `routed_scaling_factor`.
//!
//! Slots of a token are in order of rank. No token is dropped: its k rows are always computed, and every row of the
//! batch is a token, padding too.
//!
//! Two losses are added to the gradient, weighted by `scale_aux` (the weight of the leaf in its global batch):
//! * load balance (MOE-06), as `load_balancing_loss_func` of transformers has it per layer: `L = E·Σ_i f_i·P_i`, with
//!   `f_i` the rows sent to i per token (so that balance gives `L = k`) and `P_i` the mean over tokens of
//!   `softmax(x)_i`, or of `σ(x_i) / Σ_j σ(x_j)` for sigmoid gates. `f` is of this batch, or given, of the whole
//!   global batch (MOE-08); the gradient flows through P only. L is linear in P, so that leaves weighted by their
//!   tokens add up to the loss of the global batch if all are given its f;
//! * router z-loss: the mean over tokens of `log² Σ_i exp x_i`.
//!
//! Neither pass is bound by arithmetic: about 20·E operations per token, E being a few hundred at most.

mod cpu;
#[cfg(test)]
mod golden;
mod node;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;

pub use node::{RouteInputs, Routed};

use crate::Cpu;

/// How logits become affinities and weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Probabilities over all experts, of which the k highest are chosen (Mixtral, Qwen3-MoE).
    Softmax,
    /// The k highest logits, whose softmax are the weights (gpt-oss).
    SoftmaxTopK,
    /// Each logit's sigmoid (DeepSeek-V3).
    Sigmoid,
}

/// Experts in consecutive groups of equal size, of which a token may use the experts of some only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Groups {
    /// Number of groups, 64 at most.
    pub count: usize,
    /// Groups whose experts compete.
    pub chosen: usize,
}

/// Settings of a router.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Routing {
    /// Experts, E.
    pub experts: usize,
    /// Experts per token, k.
    pub top_k: usize,
    /// How logits become affinities and weights.
    pub gate: Gate,
    /// Whether weights are divided by their sum. Those of [`Gate::SoftmaxTopK`] sum to 1 anyway.
    pub norm_topk_prob: bool,
    /// What weights are multiplied by in the end.
    pub routed_scaling_factor: f32,
    /// Limits a token to the experts of some groups.
    pub groups: Option<Groups>,
    /// Weight of the load-balancing loss.
    pub aux_loss_coef: f32,
    /// Weight of the router z-loss.
    pub z_loss_coef: f32,
}

impl Routing {
    /// Asserts that the settings belong together.
    ///
    /// # Panics
    /// When they do not (a caller bug: configurations are checked when read).
    pub fn check(&self) {
        let Routing { experts, top_k, .. } = *self;
        assert!(0 < top_k && top_k <= experts, "moe_route: {top_k} of {experts} experts");
        if let Some(Groups { count, chosen }) = self.groups {
            assert!(0 < chosen && chosen <= count && count <= 64, "moe_route: {chosen} of {count} groups");
            assert!(experts.is_multiple_of(count), "moe_route: {experts} experts in {count} equal groups");
            assert!(top_k <= experts / count * chosen, "moe_route: fewer than {top_k} experts compete");
        }
    }
}

/// What forward reads.
#[derive(Clone, Copy, Debug)]
pub struct Args<'a> {
    /// `[n, E]`
    pub logits: &'a [f32],
    /// Selection bias, `[E]`.
    pub bias: Option<&'a [f32]>,
    /// Rows sent to each expert per token in the global batch, `[E]`; of this batch if not given.
    pub fractions: Option<&'a [f32]>,
}

/// What forward writes.
#[derive(Debug)]
pub struct Routes<'a> {
    /// Gate weights in order of rank, `[n, k]`.
    pub weights: &'a mut [f32],
    /// Experts in order of rank, `[n, k]`.
    pub experts: &'a mut [u32],
    /// The dispatch: token·k + slot of each row, sorted by expert and then token, `[n·k]`.
    pub order: &'a mut [u32],
    /// The rows of expert e are `offsets[e]..offsets[e + 1]`, `[E + 1]`.
    pub offsets: &'a mut [u32],
    /// The inverse of `order`: the row of each token·k + slot, `[n·k]`.
    pub places: &'a mut [u32],
    /// Rows per expert, `[E]`.
    pub counts: &'a mut [u32],
    /// See [`Stats`].
    pub stats: &'a mut [f64; 3],
}

/// Telemetry of one router (MOE-09), neither weighted nor scaled.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stats {
    /// Load-balancing loss, k when balanced.
    pub aux_loss: f64,
    /// Mean of log² Z.
    pub z_loss: f64,
    /// Mean over tokens of the entropy of the router's probabilities (those of P), in nats.
    pub entropy: f64,
}

/// Routes `n` tokens; n, E and k by the shapes of `routes`.
///
/// # Panics
/// When shapes disagree (a caller bug).
pub fn forward(cpu: &Cpu, routing: &Routing, args: Args<'_>, routes: Routes<'_>) {
    let n = rows(routing, args.logits.len());
    let (experts, slots) = (routing.experts, n * routing.top_k);
    assert!(
        [routes.weights.len(), routes.experts.len(), routes.order.len(), routes.places.len()] == [slots; 4],
        "moe_route: {} slots of {n} tokens",
        routing.top_k
    );
    assert!(
        (routes.counts.len(), routes.offsets.len()) == (experts, experts + 1),
        "moe_route: a count of each of {experts} experts"
    );
    for given in [args.bias, args.fractions].into_iter().flatten() {
        assert_eq!(given.len(), experts, "moe_route: bias and fractions have one element per expert");
    }
    cpu::forward(cpu, routing, args, routes);
}

/// What backward reads.
#[derive(Clone, Copy, Debug)]
pub struct Saved<'a> {
    /// `[n, E]`
    pub logits: &'a [f32],
    /// `[n, k]`
    pub experts: &'a [u32],
    /// Rows per expert, `[E]`.
    pub counts: &'a [u32],
    /// As in [`Args`].
    pub fractions: Option<&'a [f32]>,
    /// Weight of this batch in its global batch, which the auxiliary losses are multiplied by.
    pub scale_aux: f32,
}

/// Gradients of gate weights `[n, k]` → of logits `[n, E]`, with those of the auxiliary losses, overwritten, or added to
/// when `accumulate`.
///
/// # Panics
/// When shapes disagree (a caller bug).
pub fn backward(
    cpu: &Cpu,
    routing: &Routing,
    saved: Saved<'_>,
    d_weights: &[f32],
    d_logits: &mut [f32],
    accumulate: bool,
) {
    let n = rows(routing, saved.logits.len());
    assert_eq!(d_logits.len(), saved.logits.len(), "moe_route: logits and their gradient have one shape");
    assert!(
        saved.experts.len() == n * routing.top_k && d_weights.len() == n * routing.top_k,
        "moe_route: {} slots of {n} tokens",
        routing.top_k
    );
    cpu::backward(cpu, routing, saved, d_weights, d_logits, accumulate);
}

fn rows(routing: &Routing, logits: usize) -> usize {
    routing.check();
    assert!(logits.is_multiple_of(routing.experts), "moe_route: rows of {} logits", routing.experts);
    logits / routing.experts
}
