//! What the tests of the ops share.

use crate::Cpu;
use crate::isa::Isa;
use crate::simd::Elem;
use proptest::test_runner::{Config, RngSeed};

/// `len` numbers spread evenly over `−size..size`, the same for the same seed.
pub(crate) fn random(seed: u64, len: usize, size: f32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next() * size).collect()
}

/// Rounded to a storage type.
pub(crate) fn stored<E: Elem>(x: &[f32]) -> Vec<E> {
    x.iter().map(|&v| E::from_f32(v)).collect()
}

/// Widened for the oracle.
pub(crate) fn wide<E: Elem>(x: &[E]) -> Vec<f64> {
    x.iter().map(|v| f64::from(v.to_f32())).collect()
}

/// Relative error allowed for outputs stored as `E`.
pub(crate) fn tolerance<E: Elem>() -> f64 {
    if size_of::<E>() == 2 { 1.0 / 128.0 } else { 1e-5 }
}

/// Asserts `|got − want| ≤ tolerance · (|want| + rms(want))` throughout.
pub(crate) fn assert_close(what: &str, got: &[f64], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{what}: length");
    let rms = (want.iter().map(|w| w * w).sum::<f64>() / want.len().max(1) as f64).sqrt();
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        let error = (g - w).abs();
        assert!(
            error <= tolerance * (w.abs() + rms) + 1e-30,
            "{what}[{i}] = {g}, want {w} (off by {error:e})"
        );
    }
}

/// Random shapes: few enough for every build, since each runs on every path and three numbers of threads, and the same ones
/// each time, since sooner or later chance finds a sum that cancels and no relative error bounds.
pub(crate) fn random_shapes() -> Config {
    Config { cases: 24, failure_persistence: None, rng_seed: RngSeed::Fixed(1), ..Config::default() }
}

/// Runs an op on every path of this machine: outputs must equal the oracle's within their tolerances,
/// and be the same bits on one, two and three threads.
pub(crate) fn on_every_cpu(run: impl Fn(&Cpu) -> Vec<Vec<f64>>, want: &[(&str, Vec<f64>, f64)]) {
    for isa in Isa::available() {
        let one = run(&Cpu::with_isa(isa, 1));
        assert_eq!(one.len(), want.len(), "outputs");
        for (got, (name, want, tolerance)) in one.iter().zip(want) {
            assert_close(&format!("{isa}: {name}"), got, want, *tolerance);
        }
        for threads in [2, 3] {
            let more = run(&Cpu::with_isa(isa, threads));
            for (a, b) in one.iter().flatten().zip(more.iter().flatten()) {
                assert_eq!(a.to_bits(), b.to_bits(), "{isa}: {threads} threads give other bits");
            }
        }
    }
}

/// Asserts that `gradient` is the slope of `f` at `x`, by central differences.
pub(crate) fn assert_slope(what: &str, x: &[f64], gradient: &[f64], f: impl Fn(&[f64]) -> f64) {
    const STEP: f64 = 1e-5;
    let mut at = x.to_vec();
    let mut slopes = Vec::with_capacity(x.len());
    for i in 0..x.len() {
        at[i] = x[i] + STEP;
        let above = f(&at);
        at[i] = x[i] - STEP;
        let below = f(&at);
        at[i] = x[i];
        slopes.push((above - below) / (2.0 * STEP));
    }
    assert_close(what, gradient, &slopes, 1e-6);
}

/// Σ aᵢ·bᵢ: turns an output and its gradient into the scalar whose slope the backward pass gives.
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
