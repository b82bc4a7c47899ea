//! Compiled passes: one that ends in a loss, with or without gradients, and one that decodes from a cache.

use super::attention::{Past, Rows};
use super::{Marks, Transformer};
use smolt_arch::memory::Recompute;
use smolt_arch::parameters::Slot;
use smolt_tensor::gemm::Precision;
use smolt_tensor::ops::linear_cross_entropy::Loss;
use smolt_tensor::ops::linear_log_probs::{self, Args, LogProb, Query};
use smolt_tensor::ops::moe_route::Routed;
use smolt_tensor::ops::{linear, select_rows, softcap};
use smolt_tensor::tape::{DType, Program, Tape, Var};
use smolt_tensor::{Cpu, scratch, with_elem};

/// A compiled pass that returns the loss of packed sequences, with gradients if trained.
pub struct LossPass {
    /// Run it after filling the inputs.
    pub program: Program,
    /// `[n]` token ids.
    pub tokens: Var,
    /// `[n]` token to predict, `u32::MAX` for none.
    pub labels: Var,
    /// `[n]` first row of each row's document.
    pub segments: Var,
    /// `[n]` positions.
    pub positions: Var,
    /// `[1]` factor on the summed loss whose gradient is taken: 1 / (label tokens of the global batch).
    pub scale: Var,
    /// `[1]` share of these rows in the global batch: the weight of the routers' own losses.
    pub share: Var,
    /// Where the loss is found after a run.
    pub loss: Loss,
    /// One per layer with experts, in order.
    pub routers: Vec<Router>,
}

/// What a layer with experts leaves behind and wants to know.
#[derive(Clone, Copy)]
pub struct Router {
    /// The layer, counted from 0.
    pub layer: usize,
    /// Counts and losses, after a run.
    pub routed: Routed,
    /// `[E]` rows per token that each expert is sent in the whole global batch, where the auxiliary loss looks at that
    /// (spec MOE-08).
    pub fractions: Option<Var>,
}

/// A compiled pass over `n` tokens of several sequences whose past lies in a cache. What it leaves is asked for logits or
/// log-probabilities of any of its rows.
pub struct DecodePass {
    /// Run it after filling the inputs.
    pub program: Program,
    /// `[n]` token ids.
    pub tokens: Var,
    /// `[n]` cache slot of each row, `u32::MAX` for padding.
    pub slots: Var,
    /// `[n]` position of each row in its sequence.
    pub positions: Var,
    hidden: Hidden,
    precision: Precision,
}

/// Outputs of the final norm, `[n, d]`, kept.
#[derive(Clone, Copy)]
pub(super) struct Hidden {
    var: Var,
    dtype: DType,
}

impl Hidden {
    /// Keeps what a recorded decoder puts out.
    pub(super) fn kept(t: &mut Tape, var: Var) -> Hidden {
        t.keep(var);
        Hidden { var, dtype: t.info(var).dtype }
    }

    /// Logits of `rows` of the last run of `program`: out `[rows, vocab]`.
    pub(super) fn logits(
        self,
        (cpu, precision): (&Cpu, Precision),
        program: &Program,
        (model, weights): (&Transformer, &[f32]),
        rows: &[u32],
        out: &mut [f32],
    ) {
        let (d, w) = (model.config.hidden_size, &weights[model.layout.range(model.head())]);
        with_elem!(self.dtype, E => scratch::with(rows.len() * d, |h: &mut [E]| {
            select_rows::forward(cpu, program.output::<E>(self.var), d, rows, h);
            linear::forward(cpu, precision, h, w, d, out);
        }));
        if let Some(cap) = model.config.final_logit_softcapping {
            softcap::forward(cpu, cap as f32, out);
        }
    }
}

impl Transformer {
    /// A pass over `n` packed tokens that ends in the loss; with gradients if `training`.
    pub fn loss_pass(&self, n: usize, precision: Precision, z_loss: f32, training: bool) -> LossPass {
        self.record_loss(n, precision, z_loss, training, Recompute::None)
    }

    /// The same with gradients, for which `recompute` is not kept: other memory and time, same bits.
    pub fn training_pass(
        &self,
        n: usize,
        precision: Precision,
        z_loss: f32,
        recompute: Recompute,
    ) -> LossPass {
        self.record_loss(n, precision, z_loss, true, recompute)
    }

    fn record_loss(
        &self,
        n: usize,
        precision: Precision,
        z_loss: f32,
        training: bool,
        recompute: Recompute,
    ) -> LossPass {
        let mut tape = Tape::new(precision);
        let t = &mut tape;
        let (tokens, labels) = (t.input_indices(n), t.input_indices(n));
        let (segments, positions) = (t.input_indices(n), t.input_indices(n));
        let (scale, share) = (t.input_scalars(1), t.input_scalars(1));
        let rows = Rows { tokens, positions, past: Past::Packed(segments), share: Some(share) };
        let mut marks = Marks::default();
        let h_nd = self.decoder(t, rows, recompute, &mut marks);
        let cap = self.config.final_logit_softcapping.map(|cap| cap as f32);
        let loss = t.linear_cross_entropy(h_nd, self.head(), labels, scale, z_loss, cap);
        let program = tape.compile(training);
        let routers = marks.routers;
        LossPass { program, tokens, labels, segments, positions, scale, share, loss, routers }
    }

    /// A pass over `n` tokens whose keys and values go to, and come from, a cache.
    pub fn decode_pass(&self, n: usize, precision: Precision) -> DecodePass {
        let mut tape = Tape::new(precision);
        let t = &mut tape;
        let (tokens, slots, positions) = (t.input_indices(n), t.input_indices(n), t.input_indices(n));
        let rows = Rows { tokens, positions, past: Past::Cached(slots), share: None };
        let h_nd = self.decoder(t, rows, Recompute::None, &mut Marks::default());
        let hidden = Hidden::kept(t, h_nd);
        DecodePass { program: tape.compile(false), tokens, slots, positions, hidden, precision }
    }

    /// The output head: `[vocab, d]`.
    fn head(&self) -> smolt_tensor::tape::ParamId {
        self.params.get(&Slot::Head).copied().unwrap_or_else(|| self.param(Slot::Embedding))
    }
}

impl DecodePass {
    /// Logits of `rows` of the last run: out `[rows, vocab]`.
    ///
    /// # Panics
    /// When out has another shape or a row is none of the pass (a caller bug).
    pub fn logits(&self, cpu: &Cpu, model: &Transformer, weights: &[f32], rows: &[u32], out: &mut [f32]) {
        self.hidden.logits((cpu, self.precision), &self.program, (model, weights), rows, out);
    }

    /// What rows of the last run say of tokens: out `[queries]`. Rows must not decrease; their answers do not depend on
    /// what else is asked.
    ///
    /// # Panics
    /// When out has another shape, or a row or token is none of the pass or the model (a caller bug).
    pub fn log_probs(
        &self,
        cpu: &Cpu,
        model: &Transformer,
        weights: &[f32],
        queries: &[Query],
        out: &mut [LogProb],
    ) {
        let softcap = model.config.final_logit_softcapping.map(|cap| cap as f32);
        let (d, w) = (model.config.hidden_size, &weights[model.layout.range(model.head())]);
        with_elem!(self.hidden.dtype, E => {
            let h = self.program.output::<E>(self.hidden.var);
            linear_log_probs::forward(cpu, self.precision, Args { h, d, w, softcap, queries }, out);
        });
    }
}
