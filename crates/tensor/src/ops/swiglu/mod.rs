//! SwiGLU, the gated activation between the projections of the MLP (COR-02):
//! `out = silu(gate) ⊙ up`, `silu(g) = g·σ(g)` (Shazeer, GLU Variants Improve Transformer, 2020).
//!
//! Gate and up lie side by side in one row, because one product makes both. Both passes cost about
//! 20 floating-point operations per output element, most of them in σ.

mod cpu;
mod node;
#[cfg(test)]
mod oracle;

use crate::Cpu;
use crate::pool::Disjoint;
use crate::simd::Elem;

/// Rows per task.
const ROWS: usize = 16;

/// gate_up `[n, 2·intermediate]`, gate first → out `[n, intermediate]`.
///
/// # Panics
/// When shapes disagree (a caller bug).
pub fn forward<E: Elem>(cpu: &Cpu, gate_up: &[E], intermediate: usize, out: &mut [E]) {
    assert!(intermediate > 0 && out.len().is_multiple_of(intermediate), "swiglu: rows of {intermediate}");
    assert_eq!(gate_up.len(), 2 * out.len(), "swiglu: gate_up is twice as wide as out");
    let len = ROWS * intermediate;
    cpu.pool.for_each_chunk(out, len, |i, part| {
        cpu::forward::<E>(cpu.isa, &gate_up[i * 2 * len..][..2 * part.len()], intermediate, part);
    });
}

/// gate_up `[n, 2·intermediate]`, d_out `[n, intermediate]` → d_gate_up `[n, 2·intermediate]`, overwritten.
///
/// # Panics
/// When shapes disagree (a caller bug).
pub fn backward<E: Elem>(cpu: &Cpu, gate_up: &[E], intermediate: usize, d_out: &[E], d_gate_up: &mut [E]) {
    assert!(intermediate > 0 && d_out.len().is_multiple_of(intermediate), "swiglu: rows of {intermediate}");
    assert_eq!(gate_up.len(), 2 * d_out.len(), "swiglu: gate_up is twice as wide as d_out");
    assert_eq!(gate_up.len(), d_gate_up.len(), "swiglu: gate_up and its gradient have one shape");
    let rows = d_out.len() / intermediate;
    let d_gate_up = Disjoint::new(d_gate_up);
    cpu.pool.run(rows.div_ceil(ROWS), |i| {
        let (start, end) = (i * ROWS * intermediate, ((i + 1) * ROWS).min(rows) * intermediate);
        // SAFETY: these rows belong to task `i` alone.
        let part = unsafe { d_gate_up.slice(2 * start, 2 * end) };
        cpu::backward::<E>(cpu.isa, &gate_up[2 * start..2 * end], intermediate, &d_out[start..end], part);
    });
}

#[cfg(test)]
mod tests {
    use super::oracle;
    use crate::ops::testing::{assert_slope, dot, on_every_cpu, random, stored, tolerance, wide};
    use crate::simd::Elem;

    #[test]
    fn oracle_gradient_is_the_slope() {
        let (x, d_out) = (wide(&random(1, 3 * 10, 4.0)), wide(&random(2, 3 * 5, 1.0)));
        let gradient = oracle::backward(&x, 5, &d_out);
        assert_slope("gate_up", &x, &gradient, |x| dot(&oracle::forward(x, 5), &d_out));
    }

    fn compare<E: Elem>(n: usize, width: usize) {
        let (x, d_out) =
            (stored::<E>(&random(1, n * 2 * width, 8.0)), stored::<E>(&random(2, n * width, 1.0)));
        on_every_cpu(
            |cpu| {
                let mut out = vec![E::from_f32(0.0); n * width];
                let mut d_x = vec![E::from_f32(0.0); n * 2 * width];
                super::forward(cpu, &x, width, &mut out);
                super::backward(cpu, &x, width, &d_out, &mut d_x);
                vec![wide(&out), wide(&d_x)]
            },
            &[
                ("out", oracle::forward(&wide(&x), width), tolerance::<E>()),
                ("d_gate_up", oracle::backward(&wide(&x), width, &wide(&d_out)), tolerance::<E>()),
            ],
        );
    }

    #[test]
    fn every_path_matches_the_oracle() {
        for (n, width) in [(1, 1), (5, 21), (50, 64)] {
            compare::<f32>(n, width);
            compare::<half::bf16>(n, width);
        }
    }

    #[test]
    fn large_gates_saturate() {
        let x = [1e4, -1e4, 2.0, 2.0];
        on_every_cpu(
            |cpu| {
                let (mut out, mut d_x) = ([0.0f32; 2], [0.0f32; 4]);
                super::forward(cpu, &x, 2, &mut out);
                super::backward(cpu, &x, 2, &[1.0, 1.0], &mut d_x);
                vec![wide(&out), wide(&d_x)]
            },
            &[("out", vec![2e4, 0.0], 1e-6), ("d_gate_up", vec![2.0, 0.0, 1e4, 0.0], 1e-6)],
        );
    }
}
