//! The experts of a mixture, dropless (MOE-01, MOE-05): each is a gated MLP over the rows that
//! [`moe_route`](super::moe_route) sends to it, and a token's output is the weighted sum of its rows.
//!
//! With row r of expert e holding slot s of token t, and weight `w_ts`:
//!
//! ```text
//! h_r = G_e·x_t (+ b_e)          gate_up G [E, 2·I, d], gate rows before up rows
//! a_r = activation(h_r)          [I]
//! y_r = D_e·a_r (+ c_e)          down D [E, d, I]
//! out_t = Σ_s w_ts·y_r           in order of s
//! ```
//!
//! and back, with `g_r = D_eᵀ·dout_t`: `dw_ts = ⟨g_r, a_r⟩ (+ ⟨dout_t, c_e⟩)`, which is `⟨dout_t, y_r⟩` without y;
//! `da_r = w_ts·g_r`; `dD_e = Σ_r dout_t·(w_ts·a_r)ᵀ`; `dG_e = Σ_r dh_r·x_tᵀ`; `dx_t = Σ_s G_eᵀ·dh_r`. Experts
//! without rows get zero gradients.
//!
//! Only `h`, `[n·k, 2·I]` as stored activations, is kept for backward, besides x and the routes. Rows of x and of dout
//! are gathered again, a is computed again, y is never needed. Workspace, which all layers share: forward
//! n·k rows of `I` activations and `d` fp32, backward n·k rows of `2·I + I + d` activations and `I` fp32, or of `2·I`
//! activations and `d` fp32.
//!
//! Operands of products are rounded as the precision says; weights, their gradients and all sums are fp32. Each of the
//! three products is 2·n·k·I·d FLOPs (gate and up counting for one each), twice that backward; the products of all
//! experts share one fork–join ([`grouped`](crate::gemm::grouped())).
//! Shared experts (MOE-05) are dense MLPs that the caller adds.

mod backward;
mod cpu;
mod forward;
mod node;
#[cfg(test)]
mod oracle;
mod products;
#[cfg(test)]
mod program;
#[cfg(test)]
mod tests;

pub use node::Experts;

use crate::Cpu;
use crate::gemm::Precision;
use crate::ops::activation::Activation;
use crate::simd::Elem;
use std::ops::Range;

/// FLOPs of forward: three products over `rows` rows.
pub const fn flops(rows: usize, d: usize, intermediate: usize) -> u64 {
    6 * rows as u64 * d as u64 * intermediate as u64
}

/// Where rows come from and go to, as [`moe_route`](super::moe_route) leaves it.
#[derive(Clone, Copy, Debug)]
pub struct Dispatch<'a> {
    /// Gate weights, `[n, k]`.
    pub weights: &'a [f32],
    /// token·k + slot of each row, `[n·k]`.
    pub order: &'a [u32],
    /// The rows of expert e are `offsets[e]..offsets[e + 1]`, `[E + 1]`.
    pub offsets: &'a [u32],
    /// The row of each token·k + slot, `[n·k]`.
    pub places: &'a [u32],
}

impl Dispatch<'_> {
    /// Number of experts.
    fn experts(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Rows of an expert.
    fn rows(&self, expert: usize) -> Range<usize> {
        self.offsets[expert] as usize..self.offsets[expert + 1] as usize
    }

    /// The expert of a row.
    fn expert_of(&self, row: usize) -> usize {
        // Of experts that begin at the same row, the last one has it.
        self.offsets.partition_point(|&first| first as usize <= row) - 1
    }
}

/// One layer of experts.
#[derive(Clone, Copy, Debug)]
pub struct Layer<'a> {
    /// Features of a token.
    pub d: usize,
    /// Features between the products, I.
    pub intermediate: usize,
    /// Experts per token, k.
    pub top_k: usize,
    /// What happens between the products.
    pub activation: Activation,
    /// Gate and up weights, `[E, 2·I, d]`.
    pub gate_up: &'a [f32],
    /// Down weights, `[E, d, I]`.
    pub down: &'a [f32],
    /// Biases of both, `[E, 2·I]` and `[E, d]`.
    pub biases: Option<[&'a [f32]; 2]>,
    /// The routes.
    pub dispatch: Dispatch<'a>,
}

impl Layer<'_> {
    /// Rows of all experts.
    fn rows(&self) -> usize {
        self.dispatch.order.len()
    }

    fn check(&self, x: usize, hidden: usize, out: usize) {
        let Layer { d, intermediate, top_k, .. } = *self;
        let Dispatch { weights, order, offsets, places } = self.dispatch;
        assert!(d > 0 && intermediate > 0 && top_k > 0, "moe_experts: no shape is zero");
        assert!(x.is_multiple_of(d) && out == x, "moe_experts: x and out are [n, {d}]");
        let rows = x / d * top_k;
        assert!(
            [weights.len(), order.len(), places.len()] == [rows; 3],
            "moe_experts: {top_k} rows per token, {rows} in all"
        );
        assert_eq!(hidden, rows * 2 * intermediate, "moe_experts: gate and up of {rows} rows");
        let ends = (offsets.first().copied(), offsets.last().copied());
        assert!(
            ends == (Some(0), Some(rows as u32)) && offsets.is_sorted(),
            "moe_experts: offsets of {rows} rows"
        );
        let undone =
            |(row, &slot): (usize, &u32)| places.get(slot as usize).is_some_and(|&at| at as usize == row);
        assert!(
            order.iter().enumerate().all(undone),
            "moe_experts: places are not where order puts {rows} rows"
        );
        let experts = self.dispatch.experts();
        assert!(
            self.gate_up.len() == experts * 2 * intermediate * d
                && self.down.len() == experts * d * intermediate,
            "moe_experts: weights of {experts} experts"
        );
        let biases = self.biases.map_or([experts * 2 * intermediate, experts * d], |b| b.map(<[f32]>::len));
        assert!(
            biases == [experts * 2 * intermediate, experts * d],
            "moe_experts: biases of {experts} experts"
        );
    }
}

/// x `[n, d]` → hidden `[n·k, 2·I]`, kept for backward, and out `[n, d]`.
///
/// # Panics
/// When shapes disagree (a caller bug).
pub fn forward<E: Elem>(
    cpu: &Cpu,
    precision: Precision,
    layer: &Layer<'_>,
    x: &[E],
    hidden: &mut [E],
    out: &mut [f32],
) {
    layer.check(x.len(), hidden.len(), out.len());
    forward::run(cpu, precision, layer, x, hidden, out);
}

/// A gradient to write: overwritten, or added to when `accumulate`.
#[derive(Debug)]
pub struct Gradient<'a, E> {
    /// Where it lies.
    pub to: &'a mut [E],
    /// Whether it holds something already.
    pub accumulate: bool,
}

/// All gradients.
#[derive(Debug)]
pub struct Gradients<'a, E> {
    /// Of x, `[n, d]`.
    pub x: Gradient<'a, E>,
    /// Of gate weights, `[n, k]`.
    pub weights: Gradient<'a, f32>,
    /// Of gate and up weights, `[E, 2·I, d]`.
    pub gate_up: Gradient<'a, f32>,
    /// Of down weights, `[E, d, I]`.
    pub down: Gradient<'a, f32>,
    /// Of biases, where the layer has them, `[E, 2·I]` and `[E, d]`.
    pub biases: Option<[Gradient<'a, f32>; 2]>,
}

/// d_out `[n, d]`, and x and hidden as forward had them → all gradients.
///
/// # Panics
/// When shapes disagree (a caller bug).
pub fn backward<E: Elem>(
    cpu: &Cpu,
    precision: Precision,
    layer: &Layer<'_>,
    (x, hidden): (&[E], &[E]),
    d_out: &[f32],
    gradients: Gradients<'_, E>,
) {
    layer.check(x.len(), hidden.len(), d_out.len());
    let Gradients { x: dx, weights, gate_up, down, biases } = &gradients;
    let same = dx.to.len() == x.len()
        && weights.to.len() == layer.dispatch.weights.len()
        && gate_up.to.len() == layer.gate_up.len()
        && down.to.len() == layer.down.len()
        && biases.as_ref().map(|b| [b[0].to.len(), b[1].to.len()])
            == layer.biases.map(|b| [b[0].len(), b[1].len()]);
    assert!(same, "moe_experts: everything has the shape of its gradient");
    backward::run(cpu, precision, layer, (x, hidden), d_out, gradients);
}
