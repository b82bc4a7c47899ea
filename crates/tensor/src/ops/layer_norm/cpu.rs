//! Kernels over some rows.

use super::{Affine, STATS};
use crate::simd::{Elem, for_lanes};
use crate::simd_kernel;

simd_kernel! {
    /// Rows of x (+ delta → x_out, else empty) normalised into y; the statistics of each row.
    pub(super) fn forward<S, E: Elem>(
        x: &[f32], delta: Option<&[f32]>, affine: Affine<'_>, eps: f32, x_out: &mut [f32], y: &mut [E], stats: &mut [f32],
    ) {
        let d = affine.w.len();
        let (w, b) = (affine.w.as_ptr(), affine.b[..d].as_ptr());
        for (r, stats) in stats.chunks_exact_mut(STATS).enumerate() {
            let row = r * d..(r + 1) * d;
            let mut x = x[row.clone()].as_ptr();
            // SAFETY: `i + n <= d`, the length of every row taken below and of w and b.
            unsafe {
                let mut sums = S::splat(0.0);
                if let Some(delta) = delta {
                    let (delta, sum) = (delta[row.clone()].as_ptr(), x_out[row.clone()].as_mut_ptr());
                    for_lanes!(S, d, |i, n| {
                        let v = S::add(f32::load_n::<S>(x.add(i), n), f32::load_n::<S>(delta.add(i), n));
                        f32::store_n::<S>(sum.add(i), v, n);
                        sums = S::add(sums, v);
                    });
                    x = sum;
                } else {
                    for_lanes!(S, d, |i, n| sums = S::add(sums, f32::load_n::<S>(x.add(i), n)));
                }
                let mean = S::reduce_add(sums) / d as f32;
                let mut squares = S::splat(0.0);
                for_lanes!(S, d, |i, n| {
                    // Lanes beyond the end were loaded as zero, which is not the mean.
                    let mut v = S::sub(f32::load_n::<S>(x.add(i), n), S::splat(mean));
                    if n < S::LANES {
                        v = S::mul(v, S::load_partial(ONES.as_ptr(), n));
                    }
                    squares = S::fma(v, v, squares);
                });
                let inv = 1.0 / (S::reduce_add(squares) / d as f32 + eps).sqrt();
                stats.copy_from_slice(&[mean, inv]);
                let y = y[row].as_mut_ptr();
                for_lanes!(S, d, |i, n| {
                    let v = S::mul(S::sub(f32::load_n::<S>(x.add(i), n), S::splat(mean)), S::splat(inv));
                    let v = S::fma(v, f32::load_n::<S>(w.add(i), n), f32::load_n::<S>(b.add(i), n));
                    E::store_n::<S>(y.add(i), v, n);
                });
            }
        }
    }
}

/// As many as there are lanes on any path.
const ONES: [f32; 16] = [1.0; 16];

simd_kernel! {
    /// One block of rows: dx is added to or overwritten, dw and db are this block's sums.
    pub(super) fn backward<S, E: Elem>(
        x: &[f32], w: &[f32], stats: &[f32], dy: &[E], dx: &mut [f32], accumulate: bool, dw: &mut [f32], db: &mut [f32],
    ) {
        let d = w.len();
        dw.fill(0.0);
        db.fill(0.0);
        let (w, dw, db) = (w.as_ptr(), dw[..d].as_mut_ptr(), db[..d].as_mut_ptr());
        for (r, stats) in stats.chunks_exact(STATS).enumerate() {
            let row = r * d..(r + 1) * d;
            if !accumulate {
                // The row is written again before it leaves the first-level cache.
                dx[row.clone()].fill(0.0);
            }
            let (x, dy, dx) = (x[row.clone()].as_ptr(), dy[row.clone()].as_ptr(), dx[row].as_mut_ptr());
            let (mean, inv) = (stats[0], stats[1]);
            // SAFETY: `i + n <= d`, the length of every row taken above and of w, dw and db.
            unsafe {
                let (mut sum, mut along) = (S::splat(0.0), S::splat(0.0));
                for_lanes!(S, d, |i, n| {
                    // Lanes beyond the end are zero in g, so they count in neither sum.
                    let g = S::mul(E::load_n::<S>(dy.add(i), n), f32::load_n::<S>(w.add(i), n));
                    sum = S::add(sum, g);
                    along = S::fma(g, S::sub(f32::load_n::<S>(x.add(i), n), S::splat(mean)), along);
                });
                // dx = inv·(g − mean(g) − x̂·mean(g·x̂)), x̂ = (x − mean)·inv
                let level = S::splat(-S::reduce_add(sum) / d as f32 * inv);
                let pull = S::splat(-S::reduce_add(along) / d as f32 * inv * inv * inv);
                let (mean, inv) = (S::splat(mean), S::splat(inv));
                for_lanes!(S, d, |i, n| {
                    let (dy, apart) = (E::load_n::<S>(dy.add(i), n), S::sub(f32::load_n::<S>(x.add(i), n), mean));
                    let scaled = S::mul(dy, inv);
                    let held = S::add(f32::load_n::<S>(dx.add(i), n), S::fma(apart, pull, level));
                    f32::store_n::<S>(dx.add(i), S::fma(scaled, f32::load_n::<S>(w.add(i), n), held), n);
                    f32::store_n::<S>(dw.add(i), S::fma(scaled, apart, f32::load_n::<S>(dw.add(i), n)), n);
                    f32::store_n::<S>(db.add(i), S::add(dy, f32::load_n::<S>(db.add(i), n)), n);
                });
            }
        }
    }
}
