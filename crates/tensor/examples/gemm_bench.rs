//! Rates of matrix products on this machine: `cargo run --release -p smolt-tensor --example gemm_bench [threads]`.

use smolt_tensor::Cpu;
use smolt_tensor::gemm::Precision;
use smolt_tensor::gemm::bench::{Layout, measure};
use std::time::Duration;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let threads = std::env::args().nth(1).map_or(Ok(1), |x| x.parse())?;
    let cpu = Cpu::new(threads)?;
    println!("{} · {threads} thread(s)", cpu.isa);
    println!(
        "{:<22} {:<15} {:<5} {:>10} {:>9} {:>9} {:>6}",
        "m n k", "layout", "", "time", "GFLOP/s", "peak", "share"
    );
    // Those of a small model; the short ones escape a busy machine's time slices.
    let cases = [
        (Layout::Forward, (4096, 512, 256)),
        (Layout::Forward, (4096, 256, 256)),
        (Layout::Forward, (4096, 1408, 256)),
        (Layout::Forward, (4096, 256, 704)),
        (Layout::BackwardInput, (4096, 256, 512)),
        (Layout::BackwardInput, (4096, 256, 256)),
        (Layout::BackwardInput, (4096, 256, 1408)),
        (Layout::BackwardInput, (4096, 704, 256)),
        (Layout::BackwardWeight, (512, 256, 4096)),
        (Layout::BackwardWeight, (256, 256, 4096)),
        (Layout::BackwardWeight, (1408, 256, 4096)),
        (Layout::BackwardWeight, (256, 704, 4096)),
        (Layout::Forward, (1024, 4096, 256)),
        (Layout::BackwardInput, (1024, 256, 4096)),
        (Layout::BackwardWeight, (4096, 256, 1024)),
    ];
    for precision in [Precision::Fp32, Precision::Bf16] {
        for (layout, dims) in cases {
            let got = measure(&cpu, precision, layout, dims, Duration::from_millis(300));
            println!(
                "{:<22} {:<15} {:<5} {:>10.2?} {:>9.1} {:>9.1} {:>5.0}%",
                format!("{} {} {}", dims.0, dims.1, dims.2),
                format!("{layout:?}"),
                format!("{precision:?}").to_lowercase(),
                got.time,
                got.gflops,
                got.peak_gflops,
                100.0 * got.share()
            );
        }
    }
    Ok(())
}
