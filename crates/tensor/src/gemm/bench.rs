//! Measures products against what the CPU can do at all (`HW-02`).

use super::kernel::Kernel;
use super::{Precision, View, gemm, with_kernel};
use crate::Cpu;
use crate::simd::Elem;
use half::bf16;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Length of one run of the register loop: long enough that starting the threads does not count.
const PEAK_RUN: Duration = Duration::from_millis(50);

/// Runs of the register loop, of which the fastest counts.
const PEAK_RUNS: usize = 4;

/// Rounds of the register loop between looks at the clock.
const ROUNDS: usize = 10_000;

/// Which operands lie transposed, as the products of a linear layer have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `y = x·wᵀ`: b transposed.
    Forward,
    /// `dx = dy·w`: neither.
    BackwardInput,
    /// `dw = dyᵀ·x`: a transposed.
    BackwardWeight,
}

/// The shortest time of one product within about `time`: other work on the machine only ever adds. Operands are
/// stored as the precision says, except weights and their gradients, which are fp32.
pub fn shortest(
    cpu: &Cpu,
    precision: Precision,
    layout: Layout,
    dims: (usize, usize, usize),
    time: Duration,
) -> Duration {
    match precision {
        Precision::Fp32 => shortest_as::<f32>(cpu, precision, layout, dims, time),
        Precision::Bf16 => shortest_as::<bf16>(cpu, precision, layout, dims, time),
    }
}

fn shortest_as<E: Elem>(
    cpu: &Cpu,
    precision: Precision,
    layout: Layout,
    (m, n, k): (usize, usize, usize),
    time: Duration,
) -> Duration {
    let numbers = |len: usize| (0..len).map(|i| ((i * 37 % 101) as f32 - 50.0) / 64.0);
    let stored = |len: usize| numbers(len).map(E::from_f32).collect::<Vec<E>>();
    let x = stored(m * k);
    let dims = (m, n, k);
    match layout {
        Layout::Forward | Layout::BackwardInput => {
            let (w, mut y) = (numbers(k * n).collect::<Vec<f32>>(), stored(m * n));
            let w = if layout == Layout::Forward { View::rows(&w, k).t() } else { View::rows(&w, n) };
            fastest_of(time, || gemm(cpu, precision, dims, View::rows(&x, k), w, &mut y, n, false))
        }
        Layout::BackwardWeight => {
            let (dy, mut dw) = (stored(k * n), vec![0.0f32; m * n]);
            let (x, dy) = (View::rows(&x, m).t(), View::rows(&dy, n));
            fastest_of(time, || gemm(cpu, precision, dims, x, dy, &mut dw, n, false))
        }
    }
}

fn fastest_of(time: Duration, mut product: impl FnMut()) -> Duration {
    let (start, mut shortest) = (Instant::now(), Duration::MAX);
    while shortest == Duration::MAX || start.elapsed() < time {
        let turn = Instant::now();
        product();
        shortest = shortest.min(turn.elapsed());
    }
    shortest
}

/// 10⁹ FLOPs per second of multiply–adds between registers on all threads at once: what no product exceeds. The
/// fastest of a few runs, about a quarter of a second in all.
pub fn peak_gflops(cpu: &Cpu, precision: Precision) -> f64 {
    (0..PEAK_RUNS).map(|_| with_kernel!(cpu.isa, precision, K => registers::<K>(cpu))).fold(0.0, f64::max)
}

fn registers<K: Kernel>(cpu: &Cpu) -> f64 {
    let flops = AtomicU64::new(0);
    let start = Instant::now();
    cpu.pool.run(cpu.pool.threads(), |_| {
        while start.elapsed() < PEAK_RUN {
            // SAFETY: the caller picks the kernel by the CPU's path.
            flops.fetch_add(unsafe { K::registers(ROUNDS) }, Ordering::Relaxed);
        }
    });
    flops.into_inner() as f64 / start.elapsed().as_secs_f64() / 1e9
}
