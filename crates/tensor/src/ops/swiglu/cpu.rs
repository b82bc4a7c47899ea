//! Kernels over some rows.

use crate::simd::{Elem, for_lanes};
use crate::simd_kernel;

simd_kernel! {
    /// gate_up `[rows, 2·width]` → out `[rows, width]`.
    pub(super) fn forward<S, E: Elem>(gate_up: &[E], width: usize, out: &mut [E]) {
        for (from, to) in gate_up.chunks_exact(2 * width).zip(out.chunks_exact_mut(width)) {
            let (gate, to) = (from.as_ptr(), to.as_mut_ptr());
            // SAFETY: `i + n <= width`; a row of gate_up holds two widths, one of out holds one.
            for_lanes!(S, width, |i, n| unsafe {
                let (g, u) = (E::load_n::<S>(gate.add(i), n), E::load_n::<S>(gate.add(width + i), n));
                E::store_n::<S>(to.add(i), S::mul(S::mul(g, S::sigmoid(g)), u), n);
            });
        }
    }
}

simd_kernel! {
    /// gate_up `[rows, 2·width]`, d_out `[rows, width]` → d_gate_up `[rows, 2·width]`.
    pub(super) fn backward<S, E: Elem>(gate_up: &[E], width: usize, d_out: &[E], d_gate_up: &mut [E]) {
        let rows = gate_up.chunks_exact(2 * width).zip(d_out.chunks_exact(width));
        for ((from, d), to) in rows.zip(d_gate_up.chunks_exact_mut(2 * width)) {
            let (gate, d, to) = (from.as_ptr(), d.as_ptr(), to.as_mut_ptr());
            // SAFETY: as in `forward`.
            for_lanes!(S, width, |i, n| unsafe {
                let (g, u) = (E::load_n::<S>(gate.add(i), n), E::load_n::<S>(gate.add(width + i), n));
                let (d, s) = (E::load_n::<S>(d.add(i), n), S::sigmoid(g));
                let silu = S::mul(g, s);
                // silu' = s + g·s·(1 − s)
                let slope = S::fma(silu, S::sub(S::splat(1.0), s), s);
                E::store_n::<S>(to.add(i), S::mul(S::mul(d, u), slope), n);
                E::store_n::<S>(to.add(width + i), S::mul(d, silu), n);
            });
        }
    }
}
