//! The global gradient norm and the clip factor from it (OPT-04), over flat fp32 buffers.

mod cpu;

use crate::Cpu;
use crate::order::SUM_BLOCK;
use crate::scratch;
use std::sync::atomic::{AtomicBool, Ordering};

/// Blocks per task.
const BLOCKS: usize = 16;

/// Σ x², x `[len]`: fp32 within blocks of [`SUM_BLOCK`] elements, f64 over blocks in order. Infinite
/// when an element beyond 1.8e19 overflows its square; NaN when an element is.
pub fn sum_squares(cpu: &Cpu, x: &[f32]) -> f64 {
    scratch::with(x.len().div_ceil(SUM_BLOCK), |sums: &mut [f64]| {
        cpu.pool.for_each_chunk(sums, BLOCKS, |i, sums| {
            for (sum, block) in sums.iter_mut().zip(x[i * BLOCKS * SUM_BLOCK..].chunks(SUM_BLOCK)) {
                *sum = f64::from(cpu::sum_squares(cpu.isa, block));
            }
        });
        sums.iter().sum()
    })
}

/// Whether no element of x `[len]` is infinite or NaN.
pub fn all_finite(cpu: &Cpu, x: &[f32]) -> bool {
    let finite = AtomicBool::new(true);
    const PART: usize = BLOCKS * SUM_BLOCK;
    cpu.pool.run(x.len().div_ceil(PART), |i| {
        if !cpu::all_finite(cpu.isa, &x[i * PART..((i + 1) * PART).min(x.len())]) {
            finite.store(false, Ordering::Relaxed);
        }
    });
    finite.into_inner()
}

/// What gradients of norm `norm` are multiplied by so that it does not exceed `max_norm`:
/// `min(1, max_norm / (norm + 1e-6))`, as `torch.nn.utils.clip_grad_norm_`. NaN stays NaN, so that a
/// broken gradient is not taken for a small one.
pub fn clip_scale(norm: f64, max_norm: f64) -> f32 {
    (max_norm / (norm + 1e-6)).clamp(0.0, 1.0) as f32
}

#[cfg(test)]
mod tests {
    use crate::ops::testing::{on_every_cpu, random, wide};

    #[test]
    fn the_norm_matches_f64_at_any_length() {
        for len in [0, 1, 31, 4096, 4097, 40 * 4096 + 5] {
            let x = random(1, len, 3.0);
            let want = wide(&x).iter().map(|v| v * v).sum();
            on_every_cpu(
                |cpu| vec![vec![super::sum_squares(cpu, &x)]],
                &[("sum of squares", vec![want], 1e-6)],
            );
        }
    }

    #[test]
    fn one_bad_element_anywhere_is_seen() {
        let mut x = random(1, 100_003, 3.0);
        for (at, bad) in [(0, f32::NAN), (65_536, f32::INFINITY), (100_002, f32::NEG_INFINITY)] {
            let good = std::mem::replace(&mut x[at], bad);
            on_every_cpu(
                |cpu| vec![vec![f64::from(super::all_finite(cpu, &x))]],
                &[("finite", vec![0.0], 0.0)],
            );
            x[at] = good;
        }
        x[7] = f32::MAX;
        on_every_cpu(|cpu| vec![vec![f64::from(super::all_finite(cpu, &x))]], &[("finite", vec![1.0], 0.0)]);
    }

    #[test]
    fn clipping_is_torchs() {
        assert_eq!(super::clip_scale(0.5, 1.0), 1.0);
        assert_eq!(super::clip_scale(4.0, 1.0), (1.0 / 4.000_001) as f32);
        assert_eq!(super::clip_scale(f64::INFINITY, 1.0), 0.0);
        assert!(super::clip_scale(f64::NAN, 1.0).is_nan());
    }
}
