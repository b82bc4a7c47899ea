//! Kernels over some rows.

use crate::simd::{Elem, for_lanes};
use crate::simd_kernel;

simd_kernel! {
    /// Rows of x (+ delta → x_out, else empty) normalised into y; one inv_rms per row.
    pub(super) fn forward<S, E: Elem, D: Elem>(
        x: &[f32], delta: Option<&[D]>, w: &[f32], eps: f32, x_out: &mut [f32], y: &mut [E], inv_rms: &mut [f32],
    ) {
        let d = w.len();
        let w = w.as_ptr();
        for (r, inv) in inv_rms.iter_mut().enumerate() {
            let row = r * d..(r + 1) * d;
            let mut x = x[row.clone()].as_ptr();
            // SAFETY: `i + n <= d`, the length of every row taken below.
            unsafe {
                let mut squares = S::splat(0.0);
                if let Some(delta) = delta {
                    let (delta, sum) = (delta[row.clone()].as_ptr(), x_out[row.clone()].as_mut_ptr());
                    for_lanes!(S, d, |i, n| {
                        let v = S::add(f32::load_n::<S>(x.add(i), n), D::load_n::<S>(delta.add(i), n));
                        f32::store_n::<S>(sum.add(i), v, n);
                        squares = S::fma(v, v, squares);
                    });
                    x = sum;
                } else {
                    for_lanes!(S, d, |i, n| {
                        let v = f32::load_n::<S>(x.add(i), n);
                        squares = S::fma(v, v, squares);
                    });
                }
                *inv = 1.0 / (S::reduce_add(squares) / d as f32 + eps).sqrt();
                let y = y[row].as_mut_ptr();
                for_lanes!(S, d, |i, n| {
                    let v = S::mul(f32::load_n::<S>(x.add(i), n), S::splat(*inv));
                    E::store_n::<S>(y.add(i), S::mul(v, f32::load_n::<S>(w.add(i), n)), n);
                });
            }
        }
    }
}

simd_kernel! {
    /// One block of rows: dx is added to or overwritten, dw is this block's sum.
    pub(super) fn backward<S, E: Elem>(
        x: &[f32], w: &[f32], inv_rms: &[f32], dy: &[E], dx: &mut [f32], accumulate: bool, dw: &mut [f32],
    ) {
        let d = w.len();
        dw.fill(0.0);
        let (w, dw) = (w.as_ptr(), dw[..d].as_mut_ptr());
        for (r, &inv) in inv_rms.iter().enumerate() {
            let row = r * d..(r + 1) * d;
            if !accumulate {
                // The row is written again before it leaves the first-level cache.
                dx[row.clone()].fill(0.0);
            }
            let (x, dy, dx) = (x[row.clone()].as_ptr(), dy[row.clone()].as_ptr(), dx[row].as_mut_ptr());
            // SAFETY: `i + n <= d`, the length of every row taken above and of w and dw.
            unsafe {
                let mut along = S::splat(0.0);
                for_lanes!(S, d, |i, n| {
                    let g = S::mul(E::load_n::<S>(dy.add(i), n), f32::load_n::<S>(w.add(i), n));
                    along = S::fma(g, f32::load_n::<S>(x.add(i), n), along);
                });
                // dx = inv·(g − x·inv²·⟨g, x⟩/d)
                let pull = S::splat(-S::reduce_add(along) / d as f32 * inv * inv * inv);
                let inv = S::splat(inv);
                for_lanes!(S, d, |i, n| {
                    let (x, dy) = (f32::load_n::<S>(x.add(i), n), S::mul(E::load_n::<S>(dy.add(i), n), inv));
                    let held = S::fma(x, pull, f32::load_n::<S>(dx.add(i), n));
                    f32::store_n::<S>(dx.add(i), S::fma(dy, f32::load_n::<S>(w.add(i), n), held), n);
                    f32::store_n::<S>(dw.add(i), S::fma(dy, x, f32::load_n::<S>(dw.add(i), n)), n);
                });
            }
        }
    }
}
