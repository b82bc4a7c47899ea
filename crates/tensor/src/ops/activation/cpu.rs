//! Kernels over some rows, written once over [`Shape`]: the arithmetic of one activation.

use super::math::Shape;
use crate::simd::{Elem, for_lanes};
use crate::simd_kernel;

simd_kernel! {
    /// gate_up `[rows, 2·width]` → out `[rows, width]`.
    pub(super) fn gated<S, A: Shape, E: Elem>(gate_up: &[E], width: usize, limit: f32, out: &mut [E]) {
        for (from, to) in gate_up.chunks_exact(2 * width).zip(out.chunks_exact_mut(width)) {
            let (gate, to) = (from.as_ptr(), to.as_mut_ptr());
            // SAFETY: `i + n <= width`; a row of gate_up holds two widths, one of out holds one.
            for_lanes!(S, width, |i, n| unsafe {
                let (g, u) = (E::load_n::<S>(gate.add(i), n), E::load_n::<S>(gate.add(width + i), n));
                E::store_n::<S>(to.add(i), A::gated::<S>(g, u, limit), n);
            });
        }
    }
}

simd_kernel! {
    /// gate_up `[rows, 2·width]`, d_out `[rows, width]` → d_gate_up `[rows, 2·width]`.
    pub(super) fn gated_backward<S, A: Shape, E: Elem>(
        gate_up: &[E], width: usize, limit: f32, d_out: &[E], d_gate_up: &mut [E],
    ) {
        let rows = gate_up.chunks_exact(2 * width).zip(d_out.chunks_exact(width));
        for ((from, d), to) in rows.zip(d_gate_up.chunks_exact_mut(2 * width)) {
            let (gate, d, to) = (from.as_ptr(), d.as_ptr(), to.as_mut_ptr());
            // SAFETY: as in `gated`.
            for_lanes!(S, width, |i, n| unsafe {
                let (g, u) = (E::load_n::<S>(gate.add(i), n), E::load_n::<S>(gate.add(width + i), n));
                let (d_gate, d_up) = A::gated_slopes::<S>(g, u, E::load_n::<S>(d.add(i), n), limit);
                E::store_n::<S>(to.add(i), d_gate, n);
                E::store_n::<S>(to.add(width + i), d_up, n);
            });
        }
    }
}

simd_kernel! {
    /// x `[len]` → out `[len]`.
    pub(super) fn plain<S, A: Shape, E: Elem>(x: &[E], out: &mut [E]) {
        let len = x.len().min(out.len());
        let (from, to) = (x.as_ptr(), out.as_mut_ptr());
        // SAFETY: `i + n <= len`, which both slices reach.
        for_lanes!(S, len, |i, n| unsafe {
            E::store_n::<S>(to.add(i), A::value::<S>(E::load_n::<S>(from.add(i), n)), n);
        });
    }
}

simd_kernel! {
    /// x `[len]`, d_out `[len]` → d_x `[len]`.
    pub(super) fn plain_backward<S, A: Shape, E: Elem>(x: &[E], d_out: &[E], d_x: &mut [E]) {
        let len = x.len().min(d_out.len()).min(d_x.len());
        let (from, d, to) = (x.as_ptr(), d_out.as_ptr(), d_x.as_mut_ptr());
        // SAFETY: `i + n <= len`, which all three slices reach.
        for_lanes!(S, len, |i, n| unsafe {
            let (_, slope) = A::value_and_slope::<S>(E::load_n::<S>(from.add(i), n));
            E::store_n::<S>(to.add(i), S::mul(E::load_n::<S>(d.add(i), n), slope), n);
        });
    }
}
