//! `smolt bench train`

use crate::device::DeviceArgs;
use crate::{Outcome, output};
use clap::{Subcommand, ValueEnum};
use serde_json::json;
use smolt_arch::{ModelConfig, ModelType};
use smolt_model::folder::Loaded;
use smolt_model::llama::LossPass;
use smolt_run::error::Failure;
use smolt_run::random::Stream;
use smolt_tensor::Cpu;
use smolt_tensor::gemm::Precision;
use smolt_tensor::tape::Run;
use smolt_train::optimizer::AdamW;
use smolt_train::recipe::{Optimizer, Recompute};
use std::process::ExitCode;
use std::time::Instant;

#[derive(Subcommand)]
pub(crate) enum Action {
    /// Time a training step of a Llama-shaped model
    Train(TrainArgs),
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Dtype {
    Fp32,
    Bf16,
}

#[derive(clap::Args)]
pub(crate) struct TrainArgs {
    /// Width of the residual stream
    #[arg(long, default_value_t = 256)]
    dim: usize,
    #[arg(long, default_value_t = 6)]
    layers: usize,
    #[arg(long, default_value_t = 4096)]
    vocab: usize,
    /// Tokens per sequence
    #[arg(long, default_value_t = 256)]
    seq: usize,
    /// Sequences per step
    #[arg(long, default_value_t = 16)]
    batch: usize,
    /// Query heads; 0 = dim / 64, at least 4
    #[arg(long, default_value_t = 0)]
    heads: usize,
    /// Key and value heads; 0 = a third of the heads where that divides, else half
    #[arg(long, default_value_t = 0)]
    kv_heads: usize,
    /// Width of the MLP; 0 = 8/3 dim rounded up to 32
    #[arg(long, default_value_t = 0)]
    ffn: usize,
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

/// The shape that the peers' script gives the same flags.
fn config(a: &TrainArgs) -> Result<ModelConfig, Failure> {
    let heads = if a.heads > 0 { a.heads } else { (a.dim / 64).max(4) };
    let third = if heads.is_multiple_of(3) { heads / 3 } else { (heads / 2).max(1) };
    let mut config = ModelConfig {
        model_type: ModelType::Llama,
        hidden_size: a.dim,
        intermediate_size: if a.ffn > 0 { a.ffn } else { (a.dim * 8).div_ceil(3).next_multiple_of(32) },
        num_hidden_layers: a.layers,
        num_attention_heads: heads,
        num_key_value_heads: if a.kv_heads > 0 { a.kv_heads } else { third },
        head_dim: a.dim / heads,
        vocab_size: a.vocab,
        max_position_embeddings: a.seq,
        ..ModelConfig::default()
    };
    config.set_no_rope_layer_interval(0);
    config.validate().map_err(|e| Failure::bad_input(e.to_string()))?;
    Ok(config)
}

pub(crate) fn run(action: Action) -> Outcome {
    let Action::Train(args) = action;
    let cpu = args.device.cpu()?;
    let precision = if args.dtype == Dtype::Bf16 { Precision::Bf16 } else { Precision::Fp32 };
    let Loaded { model, mut weights } = Loaded::fresh(config(&args)?, 0);
    let n = args.batch * args.seq;
    let mut pass = model.training_pass(n, precision, 0.0, args.recompute);
    fill(&mut pass, &args);
    let settings: Optimizer = smolt_run::recipe::defaults()?;
    let mut optimizer = AdamW::new(settings, model.layout());
    let mut grads = smolt_tensor::memory::zeros(weights.len());
    let mut times = Vec::new();
    for step in 0..args.warmup + args.steps {
        if step == args.warmup && args.profile {
            pass.program.profile();
        }
        let start = Instant::now();
        let run = Run {
            cpu: &cpu,
            layout: model.layout(),
            weights: &weights,
            grads: Some(&mut grads),
            cache: None,
        };
        pass.program.run(run);
        optimizer.step(&cpu, &mut weights, &grads, 1e-3, step as u64 + 1);
        if step >= args.warmup {
            times.push(start.elapsed().as_secs_f64());
        }
    }
    times.sort_by(f64::total_cmp);
    let seconds = times.get(times.len() / 2).copied().unwrap_or(f64::NAN);
    let params = model.layout().count();
    let flops = (6 * params + 6 * args.layers * args.dim * args.seq) as f64 * n as f64;
    let result = json!({
        "peer": concat!("smolt ", env!("CARGO_PKG_VERSION")),
        "dtype": if precision == Precision::Bf16 { "bf16" } else { "fp32" },
        "isa": cpu.isa.to_string(),
        "params": params,
        "threads": cpu.pool.threads(),
        "tokens_per_s": (n as f64 / seconds * 10.0).round() / 10.0,
        "ms_per_step": (seconds * 1e4).round() / 10.0,
        "gflops": (flops / seconds / 1e8).round() / 10.0,
        "peak_rss_mib": smolt_run::resources::peak_rss_bytes().unwrap_or(0) >> 20,
    });
    if args.json {
        output::line(&result);
    } else {
        output::json(&result);
    }
    if args.profile {
        profile(&pass, seconds, &cpu);
    }
    Ok(ExitCode::SUCCESS)
}

fn fill(pass: &mut LossPass, args: &TrainArgs) {
    let mut stream = Stream::new(0, "bench", 0);
    let program = &mut pass.program;
    for var in [pass.tokens, pass.labels] {
        program.input_mut::<u32>(var).iter_mut().for_each(|t| *t = stream.below(args.vocab as u64) as u32);
    }
    for (row, segment) in program.input_mut::<u32>(pass.segments).iter_mut().enumerate() {
        *segment = (row / args.seq * args.seq) as u32;
    }
    for (row, position) in program.input_mut::<u32>(pass.positions).iter_mut().enumerate() {
        *position = (row % args.seq) as u32;
    }
    program.input_mut::<f32>(pass.scale)[0] = 1.0 / (args.batch * args.seq) as f32;
}

/// Time per kind of op, largest first.
fn profile(pass: &LossPass, step: f64, cpu: &Cpu) {
    let mut kinds: Vec<(&str, f64, f64, u64)> = Vec::new();
    for op in pass.program.times() {
        let calls = op.calls.max(1) as f64;
        let (forward, backward) = (op.forward.as_secs_f64() / calls, op.backward.as_secs_f64() / calls);
        match kinds.iter_mut().find(|k| k.0 == op.name) {
            Some(kind) => *kind = (kind.0, kind.1 + forward, kind.2 + backward, kind.3 + op.flops),
            None => kinds.push((op.name, forward, backward, op.flops)),
        }
    }
    kinds.sort_by(|a, b| (b.1 + b.2).total_cmp(&(a.1 + a.2)));
    let rows: Vec<Vec<String>> = kinds
        .iter()
        .map(|(name, forward, backward, _)| {
            let (ms, share) = (forward + backward, (forward + backward) / step);
            vec![
                (*name).to_string(),
                format!("{:.2}", forward * 1e3),
                format!("{:.2}", backward * 1e3),
                format!("{:.2}", ms * 1e3),
                format!("{:.1} %", share * 100.0),
            ]
        })
        .collect();
    eprintln!("{} on {} thread(s)", cpu.isa, cpu.pool.threads());
    eprintln!("{}", output::table(&["op", "forward ms", "backward ms", "ms", "of the step"], &rows));
}
