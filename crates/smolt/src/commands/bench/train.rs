//! `smolt bench train`

use super::profile::{self, Row, Whole};
use super::step::{Step, Times};
use super::{Dtype, Shape, rounded};
use crate::device::DeviceArgs;
use crate::{Outcome, output};
use serde_json::json;
use smolt_arch::count;
use smolt_run::error::Failure;
use smolt_tensor::bandwidth;
use smolt_tensor::gemm::bench::peak_gflops;
use smolt_train::recipe::Recompute;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    shape: Shape,
    #[arg(long, value_enum, default_value_t = Dtype::Bf16)]
    dtype: Dtype,
    /// What backward computes again to save memory: none, attention or block
    #[arg(long, default_value_t = Recompute::None)]
    recompute: Recompute,
    /// Timed steps
    #[arg(long, default_value_t = 8)]
    steps: usize,
    /// Steps before
    #[arg(long, default_value_t = 3)]
    warmup: usize,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
    /// Time every op
    #[arg(long)]
    profile: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

pub(super) fn run(args: Args) -> Outcome {
    if args.steps == 0 {
        return Err(Failure::bad_input("--steps must be at least 1"));
    }
    let precision = args.dtype.precision();
    let mut step =
        Step::new(args.shape.config()?, args.shape.batch(), precision, args.recompute, args.device.cpu()?)?;
    for _ in 0..args.warmup {
        step.run();
    }
    // Before and after, because the clock may change meanwhile.
    let before = peak_gflops(&step.cpu, precision);
    if args.profile {
        step.pass.program.profile();
    }
    let times: Vec<Times> = (0..args.steps).map(|_| step.run()).collect();
    let peak = peak_gflops(&step.cpu, precision).max(before);
    // Before the memory is measured, which takes some.
    let peak_rss = smolt_run::resources::peak_rss_bytes().unwrap_or(0);
    let memory_gbs = bandwidth::memory_gbs(&step.cpu);
    let whole = Whole { step: mean(&times, |t| t.whole.as_secs_f64()), peak_gflops: peak, memory_gbs };
    if !args.profile {
        // One more step, untimed, that only says what ops move.
        step.pass.program.profile();
        step.run();
    }
    let rows = rows(&step, &times, whole.step);
    let seconds = median(&times);
    let gbs = rows.iter().map(|row| row.bytes).sum::<u64>() as f64 / seconds / 1e9;
    let n = args.shape.tokens();
    let params = step.model.layout().count();
    let flops = count::flops_per_token(step.model.config(), args.shape.seq).total() * n as f64;
    let mut result = json!({
        "peer": concat!("smolt ", env!("CARGO_PKG_VERSION")),
        "dtype": args.dtype.name(),
        "compile": false,
        "isa": step.cpu.isa.to_string(),
        "params": params,
        "threads": step.cpu.pool.threads(),
        "tokens_per_s": rounded(n as f64 / seconds, 1),
        "ms_per_step": rounded(seconds * 1e3, 1),
        "gflops": rounded(flops / seconds / 1e9, 1),
        "peak_gflops": rounded(peak, 1),
        "peak_fraction": rounded(flops / seconds / 1e9 / peak, 3),
        "gb_per_s": rounded(gbs, 1),
        "memory_gb_per_s": rounded(memory_gbs, 1),
        "memory_fraction": rounded(gbs / memory_gbs, 3),
        "peak_rss_mib": peak_rss >> 20,
    });
    if args.json {
        if args.profile {
            result["ops"] = profile::json(&rows, &whole);
        }
        output::line(&result);
    } else {
        output::json(&result);
        if args.profile {
            output::line(profile::table(&rows, &whole));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The ops, the optimizer, and what is left of the mean step.
fn rows(step: &Step, times: &[Times], mean_step: f64) -> Vec<Row> {
    let mut rows = profile::by_kind(step.pass.program.times());
    let optimizer = mean(times, |t| t.optimizer.as_secs_f64());
    rows.push(Row {
        name: "optimizer".into(),
        seconds: [0.0, optimizer],
        flops: 0,
        bytes: step.optimizer_bytes(),
    });
    let inside: f64 = rows.iter().map(Row::total).sum();
    rows.push(Row { name: "outside ops".into(), seconds: [mean_step - inside, 0.0], flops: 0, bytes: 0 });
    rows
}

fn mean(times: &[Times], of: impl Fn(&Times) -> f64) -> f64 {
    times.iter().map(of).sum::<f64>() / times.len() as f64
}

fn median(times: &[Times]) -> f64 {
    let mut seconds: Vec<f64> = times.iter().map(|t| t.whole.as_secs_f64()).collect();
    seconds.sort_by(f64::total_cmp);
    let middle = seconds.len() / 2;
    if seconds.len() % 2 == 1 { seconds[middle] } else { (seconds[middle - 1] + seconds[middle]) / 2.0 }
}
