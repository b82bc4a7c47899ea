//! `smolt bench ops`

use super::profile::{self, Row, Whole};
use super::step::Step;
use super::{Dtype, Shape, rounded};
use crate::device::DeviceArgs;
use crate::{Outcome, output};
use serde_json::json;
use smolt_run::error::Failure;
use smolt_tensor::bandwidth;
use smolt_tensor::gemm::bench::peak_gflops;
use smolt_tensor::tape::OpTime;
use smolt_train::recipe::Recompute;
use std::process::ExitCode;
use std::time::Duration;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    shape: Shape,
    #[arg(long, value_enum, default_value_t = Dtype::Bf16)]
    dtype: Dtype,
    /// Steps, of which each op's fastest counts
    #[arg(long, default_value_t = 8)]
    steps: usize,
    /// Also time attention when every sequence is packed from documents of N tokens that do not see each other
    #[arg(long, value_name = "N")]
    documents: Option<usize>,
    /// Each op of each layer, too
    #[arg(long)]
    profile: bool,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

pub(super) fn run(args: Args) -> Outcome {
    if args.steps == 0 || args.documents == Some(0) {
        return Err(Failure::bad_input("--steps and --documents must be at least 1"));
    }
    let precision = args.dtype.precision();
    let mut step = Step::new(
        args.shape.config()?,
        args.shape.batch(),
        args.dtype.precision(),
        Recompute::None,
        args.device.cpu()?,
    )?;
    let before = peak_gflops(&step.cpu, precision);
    let (times, optimizer) = fastest(&mut step, args.steps);
    let mut rows = profile::by_kind(&times);
    let (seconds, bytes) = ([0.0, optimizer.as_secs_f64()], step.optimizer_bytes());
    rows.push(Row { name: "optimizer".into(), seconds, flops: 0, bytes });
    let masked = args.documents.map(|length| {
        step.cut(length);
        profile::by_kind(&fastest(&mut step, args.steps).0)
    });
    let peak = peak_gflops(&step.cpu, precision).max(before);
    // Before the memory is measured, which takes some.
    let peak_rss = smolt_run::resources::peak_rss_bytes().unwrap_or(0);
    let memory_gbs = bandwidth::memory_gbs(&step.cpu);
    let step_seconds: f64 = rows.iter().map(Row::total).sum();
    let whole = Whole { step: step_seconds, peak_gflops: peak, memory_gbs };
    let attention =
        |rows: &[Row]| rows.iter().find(|row| row.name == "attention").map_or(f64::NAN, Row::total) * 1e3;
    let documents =
        args.documents.zip(masked).map(|(length, masked)| (length, attention(&rows), attention(&masked)));
    let mut result = json!({
        "peer": concat!("smolt ", env!("CARGO_PKG_VERSION")),
        "dtype": args.dtype.name(),
        "isa": step.cpu.isa.to_string(),
        "params": step.model.layout().count(),
        "threads": step.cpu.pool.threads(),
        // Of a step in which every op is at its fastest.
        "tokens_per_s": rounded(args.shape.tokens() as f64 / step_seconds, 1),
        "peak_gflops": rounded(peak, 1),
        "memory_gb_per_s": rounded(memory_gbs, 1),
        "peak_rss_mib": peak_rss >> 20,
    });
    if let Some((length, without, with)) = documents {
        result["documents"] = json!({
            "tokens": length,
            "attention_ms": rounded(without, 3),
            "masked_attention_ms": rounded(with, 3),
            "ratio": rounded(with / without, 4),
        });
    }
    let each = if args.profile { profile::one_by_one(&times) } else { Vec::new() };
    if args.json {
        result["ops"] = profile::json(&rows, &whole);
        if args.profile {
            result["each"] = profile::json(&each, &whole);
        }
        output::line(&result);
    } else {
        output::json(&result);
        output::line(profile::table(&rows, &whole));
        if args.profile {
            output::line(profile::table(&each, &whole));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Each op's fastest run of several steps, and the optimizer's: other work on the machine only ever adds.
fn fastest(step: &mut Step, steps: usize) -> (Vec<OpTime>, Duration) {
    step.run();
    let mut best: Vec<OpTime> = Vec::new();
    let mut optimizer = Duration::MAX;
    for _ in 0..steps {
        step.pass.program.profile();
        optimizer = optimizer.min(step.run().optimizer);
        let times = step.pass.program.times();
        if best.is_empty() {
            best = times.to_vec();
        }
        for (best, now) in best.iter_mut().zip(times) {
            best.forward = best.forward.min(now.forward);
            best.backward = best.backward.min(now.backward);
        }
    }
    (best, optimizer)
}
