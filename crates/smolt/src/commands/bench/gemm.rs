//! `smolt bench gemm`

use super::{Dtype, Shape, rounded};
use crate::device::DeviceArgs;
use crate::{Outcome, output};
use serde_json::json;
use smolt_arch::ModelConfig;
use smolt_tensor::Cpu;
use smolt_tensor::bandwidth;
use smolt_tensor::gemm::bench::{Layout, peak_gflops, shortest};
use smolt_tensor::order::loss_rows;
use std::process::ExitCode;
use std::time::Duration;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    shape: Shape,
    /// One precision instead of both
    #[arg(long, value_enum)]
    dtype: Option<Dtype>,
    /// Milliseconds per product
    #[arg(long, default_value_t = 300)]
    time: u64,
    /// What of the memory's bandwidth a product would take if its operands came from memory, too
    #[arg(long)]
    profile: bool,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

/// One product of the step.
struct Product {
    layer: &'static str,
    direction: &'static str,
    layout: Layout,
    /// m, n, k
    dims: (usize, usize, usize),
}

/// What it reached.
struct Figures {
    product: Product,
    dtype: Dtype,
    time: Duration,
    gflops: f64,
    peak_gflops: f64,
}

/// The three products of every linear layer and of the output head, which takes few rows at a time.
fn products(config: &ModelConfig, tokens: usize) -> Vec<Product> {
    let (d, i) = (config.hidden_size, config.intermediate_size);
    let q = config.num_attention_heads * config.head_dim;
    let kv = config.num_key_value_heads * config.head_dim;
    let layers = [
        ("qkv_proj", tokens, d, q + 2 * kv),
        ("o_proj", tokens, q, d),
        ("gate_up_proj", tokens, d, 2 * i),
        ("down_proj", tokens, i, d),
        ("lm_head", tokens.min(loss_rows(config.vocab_size)), d, config.vocab_size),
    ];
    layers
        .into_iter()
        .flat_map(|(layer, n, n_in, n_out)| {
            [
                ("forward", Layout::Forward, (n, n_out, n_in)),
                ("input gradient", Layout::BackwardInput, (n, n_in, n_out)),
                ("weight gradient", Layout::BackwardWeight, (n_out, n_in, n)),
            ]
            .map(|(direction, layout, dims)| Product { layer, direction, layout, dims })
        })
        .collect()
}

pub(super) fn run(args: Args) -> Outcome {
    let (config, cpu) = (args.shape.config()?, args.device.cpu()?);
    let time = Duration::from_millis(args.time);
    let dtypes = args.dtype.map_or(vec![Dtype::Fp32, Dtype::Bf16], |one| vec![one]);
    let mut all = Vec::new();
    for dtype in dtypes {
        all.extend(measure(&cpu, dtype, products(&config, args.shape.tokens()), time));
    }
    // Before the memory is measured, which takes some.
    let peak_rss = smolt_run::resources::peak_rss_bytes().unwrap_or(0);
    let memory_gbs = args.profile.then(|| bandwidth::memory_gbs(&cpu));
    if args.json {
        let mut result = json!({
            "peer": concat!("smolt ", env!("CARGO_PKG_VERSION")),
            "isa": cpu.isa.to_string(),
            "threads": cpu.pool.threads(),
            "peak_rss_mib": peak_rss >> 20,
            "products": all.iter().map(|f| to_json(f, memory_gbs)).collect::<Vec<_>>(),
        });
        if let Some(gbs) = memory_gbs {
            result["memory_gb_per_s"] = json!(rounded(gbs, 1));
        }
        output::line(result);
    } else {
        print(&cpu, &all, memory_gbs);
    }
    Ok(ExitCode::SUCCESS)
}

impl Figures {
    /// 10⁹ bytes per second, each operand and the result once. Weights and their gradients are fp32.
    fn gbs(&self) -> f64 {
        let (m, n, k) = self.product.dims;
        let stored = if self.dtype == Dtype::Bf16 { 2 } else { 4 };
        let bytes = match self.product.layout {
            Layout::Forward | Layout::BackwardInput => (m * k + m * n) * stored + k * n * 4,
            Layout::BackwardWeight => (m * k + k * n) * stored + m * n * 4,
        };
        bytes as f64 / self.time.as_secs_f64() / 1e9
    }
}

fn measure(cpu: &Cpu, dtype: Dtype, products: Vec<Product>, time: Duration) -> Vec<Figures> {
    let precision = dtype.precision();
    let before = peak_gflops(cpu, precision);
    let times: Vec<Duration> =
        products.iter().map(|p| shortest(cpu, precision, p.layout, p.dims, time)).collect();
    let peak_gflops = peak_gflops(cpu, precision).max(before);
    let figures = |(product, time): (Product, Duration)| {
        let (m, n, k) = product.dims;
        let gflops = 2.0 * m as f64 * n as f64 * k as f64 / time.as_secs_f64() / 1e9;
        Figures { product, dtype, time, gflops, peak_gflops }
    };
    products.into_iter().zip(times).map(figures).collect()
}

fn to_json(f: &Figures, memory_gbs: Option<f64>) -> serde_json::Value {
    let (m, n, k) = f.product.dims;
    let mut json = json!({
        "layer": f.product.layer,
        "direction": f.product.direction,
        "dtype": f.dtype.name(),
        "m": m, "n": n, "k": k,
        "ms": rounded(f.time.as_secs_f64() * 1e3, 4),
        "gflops": rounded(f.gflops, 1),
        "peak_gflops": rounded(f.peak_gflops, 1),
        "peak_fraction": rounded(f.gflops / f.peak_gflops, 3),
    });
    if let Some(memory_gbs) = memory_gbs {
        json["gb_per_s"] = json!(rounded(f.gbs(), 1));
        json["memory_fraction"] = json!(rounded(f.gbs() / memory_gbs, 3));
    }
    json
}

fn print(cpu: &Cpu, all: &[Figures], memory_gbs: Option<f64>) {
    let row = |f: &Figures| {
        let (m, n, k) = f.product.dims;
        let mut cells = vec![
            f.product.layer.to_string(),
            f.product.direction.to_string(),
            format!("{m} {n} {k}"),
            f.dtype.name().to_string(),
            format!("{:.3}", f.time.as_secs_f64() * 1e3),
            format!("{:.1}", f.gflops),
            format!("{:.1}", f.peak_gflops),
            format!("{:.0} %", 100.0 * f.gflops / f.peak_gflops),
        ];
        if let Some(memory_gbs) = memory_gbs {
            cells.extend([format!("{:.1}", f.gbs()), format!("{:.0} %", 100.0 * f.gbs() / memory_gbs)]);
        }
        cells
    };
    let mut header = vec!["layer", "product", "m n k", "dtype", "ms", "GFLOP/s", "peak", "of peak"];
    if memory_gbs.is_some() {
        header.extend(["GB/s", "of memory"]);
    }
    output::line(format_args!("{} on {} thread(s)", cpu.isa, cpu.pool.threads()));
    output::line(output::table(&header, &all.iter().map(row).collect::<Vec<_>>()));
}
