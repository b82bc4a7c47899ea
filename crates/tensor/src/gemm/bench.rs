//! Measures products against what the CPU can do at all (`HW-02`).

use super::kernel::Kernel;
use super::{Precision, View, gemm, with_kernel};
use crate::Cpu;
use crate::simd::Elem;
use half::bf16;
use std::time::{Duration, Instant};

/// Rates of one product.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// m, n, k
    pub dims: (usize, usize, usize),
    /// How operands entered.
    pub precision: Precision,
    /// Shortest time of one product.
    pub time: Duration,
    /// 10⁹ FLOPs per second in that time.
    pub gflops: f64,
    /// 10⁹ FLOPs per second of multiply–adds between registers, measured in turns with the product.
    pub peak_gflops: f64,
}

impl Figures {
    /// The product's share of the peak.
    pub fn share(&self) -> f64 {
        self.gflops / self.peak_gflops
    }
}

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

/// Measures one product for about `time`, in turns with the register loop. Operands are stored as the precision
/// says, except weights and their gradients, which are fp32.
pub fn measure(
    cpu: &Cpu,
    precision: Precision,
    layout: Layout,
    dims: (usize, usize, usize),
    time: Duration,
) -> Figures {
    match precision {
        Precision::Fp32 => measure_as::<f32>(cpu, precision, layout, dims, time),
        Precision::Bf16 => measure_as::<bf16>(cpu, precision, layout, dims, time),
    }
}

fn measure_as<E: Elem>(
    cpu: &Cpu,
    precision: Precision,
    layout: Layout,
    (m, n, k): (usize, usize, usize),
    time: Duration,
) -> Figures {
    let numbers = |len: usize| (0..len).map(|i| ((i * 37 % 101) as f32 - 50.0) / 64.0);
    let stored = |len: usize| numbers(len).map(E::from_f32).collect::<Vec<E>>();
    let (x, dy) = (stored(m * k), stored(k * n));
    let w: Vec<f32> = numbers(k * n).collect();
    let (mut y, mut dw) = (stored(m * n), vec![0.0f32; m * n]);
    let product = || match layout {
        Layout::Forward => {
            gemm(cpu, precision, (m, n, k), View::rows(&x, k), View::rows(&w, k).t(), &mut y, n, false);
        }
        Layout::BackwardInput => {
            gemm(cpu, precision, (m, n, k), View::rows(&x, k), View::rows(&w, n), &mut y, n, false);
        }
        Layout::BackwardWeight => {
            gemm(cpu, precision, (m, n, k), View::rows(&x, m).t(), View::rows(&dy, n), &mut dw, n, false);
        }
    };
    let (shortest, peak_gflops) = in_turns(cpu, precision, product, time);
    let gflops = 2.0 * m as f64 * n as f64 * k as f64 / shortest.as_secs_f64() / 1e9;
    Figures { dims: (m, n, k), precision, time: shortest, gflops, peak_gflops }
}

/// The shortest time of `product` and the highest rate of the register loop: other work on the machine only
/// ever adds time, and turns let both meet the same clock frequency.
fn in_turns(cpu: &Cpu, precision: Precision, mut product: impl FnMut(), time: Duration) -> (Duration, f64) {
    let start = Instant::now();
    let (mut shortest, mut peak) = (Duration::MAX, 0.0f64);
    loop {
        let turn = Instant::now();
        product();
        shortest = shortest.min(turn.elapsed());
        peak = peak.max(peak_gflops(cpu, precision));
        if start.elapsed() > time {
            return (shortest, peak);
        }
    }
}

/// 10⁹ FLOPs per second of multiply–adds between registers on all threads, in one run of about a millisecond.
pub fn peak_gflops(cpu: &Cpu, precision: Precision) -> f64 {
    with_kernel!(cpu.isa, precision, K => registers::<K>(cpu))
}

fn registers<K: Kernel>(cpu: &Cpu) -> f64 {
    const ROUNDS: usize = 100_000;
    let flops = std::sync::atomic::AtomicU64::new(0);
    let start = Instant::now();
    cpu.pool.run(cpu.pool.threads(), |_| {
        // SAFETY: the callers pick the kernel by the CPU's path.
        let done = unsafe { K::registers(ROUNDS) };
        flops.fetch_add(done, std::sync::atomic::Ordering::Relaxed);
    });
    flops.into_inner() as f64 / start.elapsed().as_secs_f64() / 1e9
}
