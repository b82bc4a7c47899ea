//! Kernels over some rows.

use super::Part;
use crate::simd::{Elem, for_lanes};
use crate::simd_kernel;

simd_kernel! {
    /// Rows of x, the groups of whose parts are normalised, → y; one inv_rms per group.
    pub(super) fn forward<S, E: Elem>(
        x: &[E], cols: usize, parts: [Part<'_>; 2], eps: f32, y: &mut [E], inv_rms: &mut [f32],
    ) {
        let mut inv_rms = inv_rms.iter_mut();
        for (x, y) in x.chunks_exact(cols).zip(y.chunks_exact_mut(cols)) {
            let mut at = 0;
            for part in parts {
                let (d, w) = (part.w.len(), part.w.as_ptr());
                for inv in inv_rms.by_ref().take(part.groups()) {
                    let (from, to) = (x[at..at + d].as_ptr(), y[at..at + d].as_mut_ptr());
                    // SAFETY: `i + n <= d`, the length of both slices and of w.
                    unsafe {
                        let mut squares = S::splat(0.0);
                        for_lanes!(S, d, |i, n| {
                            let v = E::load_n::<S>(from.add(i), n);
                            squares = S::fma(v, v, squares);
                        });
                        *inv = 1.0 / (S::reduce_add(squares) / d as f32 + eps).sqrt();
                        for_lanes!(S, d, |i, n| {
                            let v = S::mul(E::load_n::<S>(from.add(i), n), S::splat(*inv));
                            E::store_n::<S>(to.add(i), S::mul(v, f32::load_n::<S>(w.add(i), n)), n);
                        });
                    }
                    at += d;
                }
            }
            y[at..].copy_from_slice(&x[at..]);
        }
    }
}

simd_kernel! {
    /// One block of rows: dx, and this block's sum for the weights of each part.
    pub(super) fn backward<S, E: Elem>(
        x: &[E], cols: usize, parts: [Part<'_>; 2], inv_rms: &[f32], dy: &[E], dx: &mut [E], dw: [&mut [f32]; 2],
    ) {
        let mut dw = dw;
        dw.iter_mut().for_each(|dw| dw.fill(0.0));
        let mut inv_rms = inv_rms.iter();
        for ((x, dy), dx) in x.chunks_exact(cols).zip(dy.chunks_exact(cols)).zip(dx.chunks_exact_mut(cols)) {
            let mut at = 0;
            for (part, dw) in parts.iter().zip(&mut dw) {
                let d = part.w.len();
                let (w, dw) = (part.w.as_ptr(), dw[..d].as_mut_ptr());
                for &inv in inv_rms.by_ref().take(part.groups()) {
                    let group = at..at + d;
                    let (x, dy) = (x[group.clone()].as_ptr(), dy[group.clone()].as_ptr());
                    let dx = dx[group].as_mut_ptr();
                    // SAFETY: `i + n <= d`, the length of every group taken above and of w and dw.
                    unsafe {
                        let mut along = S::splat(0.0);
                        for_lanes!(S, d, |i, n| {
                            let g = S::mul(E::load_n::<S>(dy.add(i), n), f32::load_n::<S>(w.add(i), n));
                            along = S::fma(g, E::load_n::<S>(x.add(i), n), along);
                        });
                        // dx = inv·(g − x·inv²·⟨g, x⟩/d)
                        let pull = S::splat(-S::reduce_add(along) / d as f32 * inv * inv * inv);
                        let inv = S::splat(inv);
                        for_lanes!(S, d, |i, n| {
                            let (x, dy) = (E::load_n::<S>(x.add(i), n), S::mul(E::load_n::<S>(dy.add(i), n), inv));
                            let slope = S::fma(dy, f32::load_n::<S>(w.add(i), n), S::mul(x, pull));
                            E::store_n::<S>(dx.add(i), slope, n);
                            f32::store_n::<S>(dw.add(i), S::fma(dy, x, f32::load_n::<S>(dw.add(i), n)), n);
                        });
                    }
                    at += d;
                }
            }
            dx[at..].copy_from_slice(&dy[at..]);
        }
    }
}
