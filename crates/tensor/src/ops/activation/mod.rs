//! Activations of the MLP, plain and gated (COR-02): `out = act(x)`, or `out = act(gate) ⊙ up` (Shazeer, GLU Variants
//! Improve Transformer, 2020). SwiGLU is gated SiLU.
//!
//! Gate and up lie side by side in one row, because one product makes both. Both passes cost about
//! 20 floating-point operations per output element, most of them in σ.

mod cpu;
mod math;
mod node;
#[cfg(test)]
pub(crate) mod oracle;
#[cfg(test)]
mod tests;

use crate::Cpu;
use crate::isa::Isa;
use crate::pool::Disjoint;
use crate::simd::Elem;

/// Rows per task.
const ROWS: usize = 16;

/// Elements per task where rows do not matter.
const TASK: usize = 1 << 13;

/// A function of one number, and how it gates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// x·σ(x); gated, SwiGLU (Llama).
    Silu,
    /// x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))/2 (GPT-2, Gemma's GeGLU).
    GeluTanh,
    /// x·Φ(x), Φ the normal distribution (Hendrycks & Gimpel, 2016).
    Gelu,
    /// max(x, 0).
    Relu,
    /// max(x, 0)² (So et al., Primer, 2021).
    Relu2,
    /// gpt-oss: `g·σ(1.702·g)·(u + 1)` with g = min(gate, limit) and u = up within ±limit. Only gated.
    Clamped {
        /// 7 there.
        limit: f32,
    },
}

/// Runs an expression with `$A` bound to the arithmetic of an activation.
macro_rules! with_shape {
    ($act:expr, |$A:ident, $limit:ident| $body:expr) => {{
        let $limit = if let Activation::Clamped { limit } = $act { limit } else { f32::INFINITY };
        match $act {
            Activation::Silu => {
                type $A = math::Silu;
                $body
            }
            Activation::GeluTanh => {
                type $A = math::GeluTanh;
                $body
            }
            Activation::Gelu => {
                type $A = math::Gelu;
                $body
            }
            Activation::Relu => {
                type $A = math::Relu;
                $body
            }
            Activation::Relu2 => {
                type $A = math::Relu2;
                $body
            }
            Activation::Clamped { .. } => {
                type $A = math::Clamped;
                $body
            }
        }
    }};
}

/// One task's rows, on the calling thread: gate_up `[rows, 2·intermediate]`, gate first → out `[rows, intermediate]`.
pub fn gated_rows<E: Elem>(isa: Isa, act: Activation, gate_up: &[E], intermediate: usize, out: &mut [E]) {
    check_gated(gate_up.len(), intermediate, out.len());
    with_shape!(act, |A, limit| cpu::gated::<A, E>(isa, gate_up, intermediate, limit, out));
}

/// One task's rows, on the calling thread: gate_up `[rows, 2·intermediate]`, d_out `[rows, intermediate]` → d_gate_up
/// `[rows, 2·intermediate]`, overwritten.
pub fn gated_rows_backward<E: Elem>(
    isa: Isa,
    act: Activation,
    gate_up: &[E],
    intermediate: usize,
    d_out: &[E],
    d_gate_up: &mut [E],
) {
    check_gated(gate_up.len(), intermediate, d_out.len());
    assert_eq!(gate_up.len(), d_gate_up.len(), "activation: gate_up and its gradient have one shape");
    with_shape!(act, |A, limit| {
        cpu::gated_backward::<A, E>(isa, gate_up, intermediate, limit, d_out, d_gate_up);
    });
}

/// gate_up `[n, 2·intermediate]`, gate first → out `[n, intermediate]`.
///
/// # Panics
/// When shapes disagree (a caller bug).
pub fn gated<E: Elem>(cpu: &Cpu, act: Activation, gate_up: &[E], intermediate: usize, out: &mut [E]) {
    check_gated(gate_up.len(), intermediate, out.len());
    let len = ROWS * intermediate;
    cpu.pool.for_each_chunk(out, len, |i, part| {
        gated_rows::<E>(cpu.isa, act, &gate_up[i * 2 * len..][..2 * part.len()], intermediate, part);
    });
}

/// gate_up `[n, 2·intermediate]`, d_out `[n, intermediate]` → d_gate_up `[n, 2·intermediate]`, overwritten.
///
/// # Panics
/// When shapes disagree (a caller bug).
pub fn gated_backward<E: Elem>(
    cpu: &Cpu,
    act: Activation,
    gate_up: &[E],
    intermediate: usize,
    d_out: &[E],
    d_gate_up: &mut [E],
) {
    check_gated(gate_up.len(), intermediate, d_out.len());
    assert_eq!(gate_up.len(), d_gate_up.len(), "activation: gate_up and its gradient have one shape");
    let rows = d_out.len() / intermediate;
    let d_gate_up = Disjoint::new(d_gate_up);
    cpu.pool.run(rows.div_ceil(ROWS), |i| {
        let (start, end) = (i * ROWS * intermediate, ((i + 1) * ROWS).min(rows) * intermediate);
        // SAFETY: these rows belong to task `i` alone.
        let part = unsafe { d_gate_up.slice(2 * start, 2 * end) };
        let gate_up = &gate_up[2 * start..2 * end];
        gated_rows_backward::<E>(cpu.isa, act, gate_up, intermediate, &d_out[start..end], part);
    });
}

/// x `[len]` → out `[len]`.
///
/// # Panics
/// When shapes disagree or the activation is only gated (caller bugs).
pub fn plain<E: Elem>(cpu: &Cpu, act: Activation, x: &[E], out: &mut [E]) {
    check_plain(act, x.len(), out.len());
    cpu.pool.for_each_chunk(out, TASK, |i, part| {
        let x = &x[i * TASK..][..part.len()];
        with_shape!(act, |A, _limit| cpu::plain::<A, E>(cpu.isa, x, part));
    });
}

/// x `[len]`, d_out `[len]` → d_x `[len]`, overwritten.
///
/// # Panics
/// As [`plain`].
pub fn plain_backward<E: Elem>(cpu: &Cpu, act: Activation, x: &[E], d_out: &[E], d_x: &mut [E]) {
    check_plain(act, x.len(), d_out.len());
    assert_eq!(x.len(), d_x.len(), "activation: x and its gradient have one shape");
    cpu.pool.for_each_chunk(d_x, TASK, |i, part| {
        let range = i * TASK..i * TASK + part.len();
        let (x, d_out) = (&x[range.clone()], &d_out[range]);
        with_shape!(act, |A, _limit| cpu::plain_backward::<A, E>(cpu.isa, x, d_out, part));
    });
}

fn check_gated(gate_up: usize, intermediate: usize, out: usize) {
    assert!(intermediate > 0 && out.is_multiple_of(intermediate), "activation: rows of {intermediate}");
    assert_eq!(gate_up, 2 * out, "activation: gate_up is twice as wide as out");
}

fn check_plain(act: Activation, x: usize, out: usize) {
    assert!(!matches!(act, Activation::Clamped { .. }), "activation: the clamped one is gated");
    assert_eq!(x, out, "activation: x and out have one shape");
}
