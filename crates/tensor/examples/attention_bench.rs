//! Speed of attention: `cargo run --release -p smolt-tensor --example attention_bench [threads]`.
//!
//! GFLOP/s by the usual count (4·head_dim per visible pair and head forward, 10 backward, although the
//! backward pass computes 14: probabilities are computed for queries and for keys).

use half::bf16;
use smolt_tensor::Cpu;
use smolt_tensor::ops::attention::{Shape, backward, flops, forward};
use smolt_tensor::simd::Elem;
use std::time::{Duration, Instant};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let threads = std::env::args().nth(1).map_or(Ok(1), |x| x.parse())?;
    let cpu = Cpu::new(threads)?;
    println!("{} · {threads} thread(s)", cpu.isa);
    println!(
        "{:<24} {:<5} {:>10} {:>9} {:>10} {:>9}",
        "case", "dtype", "forward", "GFLOP/s", "backward", "GFLOP/s"
    );
    let small = Shape { heads: 4, kv_heads: 2, head_dim: 64 };
    let large = Shape { heads: 9, kv_heads: 3, head_dim: 64 };
    let narrow = Shape { heads: 4, kv_heads: 2, head_dim: 32 };
    for (name, shape, n, document) in [
        ("16x256 H4 K2 d64", small, 4096, 256),
        ("16x256 H4 K2 d32", narrow, 4096, 256),
        ("1x2048 H9 K3 d64", large, 2048, 2048),
        ("1x2048 H9 K3 d64 docs256", large, 2048, 256),
    ] {
        measure::<f32>(&cpu, name, shape, n, document);
        measure::<bf16>(&cpu, name, shape, n, document);
    }
    Ok(())
}

fn measure<E: Elem>(cpu: &Cpu, name: &str, shape: Shape, n: usize, document: usize) {
    let segments: Vec<u32> = (0..n).map(|row| (row / document * document) as u32).collect();
    let wave =
        |len: usize, step: f32| (0..len).map(|i| E::from_f32((i as f32 * step).sin())).collect::<Vec<E>>();
    let (qkv, d_out) = (wave(n * shape.qkv_width(), 0.37), wave(n * shape.out_width(), 0.73));
    let (mut out, mut lse, mut d_qkv) = (d_out.clone(), vec![0.0; n * shape.heads], qkv.clone());
    let scale = 1.0 / (shape.head_dim as f32).sqrt();
    let there = best(|| forward(cpu, shape, scale, &segments, &qkv, &mut out, &mut lse));
    let back = best(|| backward(cpu, shape, scale, &segments, &qkv, &out, &lse, &d_out, &mut d_qkv));
    let rate =
        |factor: f64, time: Duration| factor * flops(shape, &segments) as f64 / time.as_secs_f64() / 1e9;
    println!(
        "{name:<24} {:<5} {there:>10.2?} {:>9.1} {back:>10.2?} {:>9.1}",
        format!("{:?}", E::DTYPE).to_lowercase(),
        rate(1.0, there),
        rate(2.5, back)
    );
}

/// The shortest of the runs of half a second: other work on the machine only ever adds.
fn best(mut run: impl FnMut()) -> Duration {
    let start = Instant::now();
    let mut shortest = Duration::MAX;
    while start.elapsed() < Duration::from_millis(500) {
        let start = Instant::now();
        run();
        shortest = shortest.min(start.elapsed());
    }
    shortest
}
