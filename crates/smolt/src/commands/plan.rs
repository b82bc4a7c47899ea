//! `smolt plan model` (spec ABL-07, ATT-02, EMB-02, COR-05)

use super::train::load_recipe;
use crate::device::DeviceArgs;
use crate::output::{self, bytes, thousands};
use crate::{Outcome, model_folder};
use clap::Subcommand;
use serde_json::json;
use smolt_arch::memory::{self, Recompute, Training};
use smolt_arch::{ModelConfig, count, lint};
use smolt_run::error::Failure;
use smolt_tensor::gemm::Precision;
use smolt_tensor::isa::Isa;
use smolt_text::tokenizer::Tokenizer;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Contexts of the key–value cache's table: from this one on in powers of two, and the model's longest.
const FIRST_CONTEXT: usize = 1024;
/// Bytes of a cached number: caches are counted in bf16.
const CACHED: usize = 2;

#[derive(Subcommand)]
pub(crate) enum Action {
    /// Count a model: parameters, FLOPs, memory of training, key–value cache
    Model(Args),
}

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A recipe (TOML), a Hugging Face folder, or a run's folder for its newest checkpoint
    #[arg(value_name = "RECIPE_OR_FOLDER")]
    model: PathBuf,
    /// Override a setting of the recipe, e.g. --set model.num_hidden_layers=12
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Tokens per sequence in training [default: the recipe's; of a folder the model's longest, 4,096 at most]
    #[arg(long)]
    sequence_length: Option<usize>,
    /// Sequences in a leaf [default: the recipe's; of a folder 1]
    #[arg(long)]
    micro_batch_size: Option<usize>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

/// A model and how it would be trained.
struct Planned {
    config: ModelConfig,
    training: Training,
}

pub(crate) fn run(action: Action) -> Outcome {
    let Action::Model(args) = action;
    let isa = Isa::detect().map_err(|e| Failure::bad_input(e.to_string()))?;
    let is_recipe = args.model.extension().is_some_and(|extension| extension == "toml");
    let mut planned = if is_recipe { of_recipe(&args, isa)? } else { of_folder(&args, isa)? };
    let t = &mut planned.training;
    t.sequence_length = args.sequence_length.unwrap_or(t.sequence_length);
    t.micro_batch_size = args.micro_batch_size.unwrap_or(t.micro_batch_size);
    if t.sequence_length == 0 || t.micro_batch_size == 0 {
        return Err(Failure::bad_input("--sequence-length and --micro-batch-size must be positive"));
    }
    if args.json {
        print_json(&planned)
    } else {
        print_tables(&planned)
    }
    Ok(ExitCode::SUCCESS)
}

fn of_recipe(args: &Args, isa: Isa) -> Result<Planned, Failure> {
    let mut recipe = load_recipe(&args.model, &args.set)?;
    let vocab_size = match (&recipe.model.from, recipe.model.vocab_size) {
        (None, None) => {
            Tokenizer::load(&Path::new(&recipe.data.tokenizer).join("tokenizer.json"))?.vocab_size()
        }
        _ => 0,
    };
    recipe.resolve(isa, vocab_size);
    let config = recipe.model_config()?;
    Ok(Planned { config, training: recipe.memory(args.device.threads())? })
}

fn of_folder(args: &Args, isa: Isa) -> Result<Planned, Failure> {
    if !args.set.is_empty() {
        return Err(Failure::bad_input(
            "--set changes a recipe, and a folder has none; give a recipe (.toml)",
        ));
    }
    let config = load(&args.model)?;
    let training = Training {
        micro_batch_size: 1,
        sequence_length: config.max_position_embeddings.min(4096),
        bf16: Precision::auto(isa) == Precision::Bf16,
        recompute: Recompute::None,
        gradient_buffers: 1,
        threads: args.device.threads(),
    };
    Ok(Planned { config, training })
}

fn load(folder: &Path) -> Result<ModelConfig, Failure> {
    Ok(ModelConfig::load(&model_folder::resolve(folder)?.join("config.json"))?)
}

impl Planned {
    /// Parts of the model and their parameters.
    fn parts(&self) -> [(&'static str, u64); 5] {
        let p = count::parameters(&self.config);
        [
            ("embedding", p.embedding),
            ("attention", p.attention),
            ("mlp", p.mlp),
            ("norms", p.norms),
            ("head", p.head),
        ]
    }

    /// Tokens in the cache, and its bytes.
    fn caches(&self) -> Vec<(usize, u64)> {
        let longest = self.config.max_position_embeddings;
        let powers = std::iter::successors(Some(FIRST_CONTEXT), |context| context.checked_mul(2));
        let contexts = powers.take_while(|&context| context < longest).chain([longest]);
        let each = count::kv_cache_bytes_per_token(&self.config, CACHED);
        contexts.map(|context| (context, each.saturating_mul(context as u64))).collect()
    }

    fn warnings(&self) -> Vec<String> {
        lint::shape(&self.config).into_iter().chain(count::embedding_warning(&self.config)).collect()
    }
}

fn print_json(planned: &Planned) {
    let Planned { config, training } = planned;
    let total = count::parameters(config).total();
    let mut parameters: serde_json::Map<String, serde_json::Value> =
        planned.parts().into_iter().map(|(part, n)| (part.to_owned(), n.into())).collect();
    parameters.insert("total".into(), total.into());
    parameters.insert("active".into(), total.into());
    let flops = count::flops_per_token(config, training.sequence_length);
    let memory = memory::training(config, training);
    let cache = |&(context, bytes): &(usize, u64)| json!({"context": context, "bytes": bytes});
    output::json(&json!({
        "model_type": config.model_type.as_str(),
        "parameters": parameters,
        "flops_per_token": {
            "sequence_length": training.sequence_length,
            "forward": flops.forward,
            "backward": flops.backward,
            "total": flops.total(),
        },
        "training_memory": {
            "micro_batch_size": training.micro_batch_size,
            "precision": if training.bf16 { "bf16" } else { "fp32" },
            "recompute": training.recompute.to_string(),
            "bytes": memory,
            "total": memory.total(),
        },
        "kv_cache": planned.caches().iter().map(cache).collect::<Vec<_>>(),
        "warnings": planned.warnings(),
    }));
}

fn print_tables(planned: &Planned) {
    let Planned { config, training } = planned;
    let total = count::parameters(config).total();
    let share = |n: u64, of: u64| format!("{:.1} %", 100.0 * n as f64 / of.max(1) as f64);
    let mut rows: Vec<Vec<String>> = planned
        .parts()
        .into_iter()
        .map(|(part, n)| vec![part.to_owned(), thousands(n), share(n, total)])
        .collect();
    rows.push(vec!["total, all active".into(), thousands(total), String::new()]);
    output::line(output::table(&["part", "parameters", "share"], &rows));

    let flops = count::flops_per_token(config, training.sequence_length);
    let mega = |flops: f64| format!("{:.2}", flops / 1e6);
    output::line(format_args!(
        "\nMFLOPs per token of sequences of {}:",
        thousands(training.sequence_length as u64)
    ));
    let row = vec![mega(flops.forward), mega(flops.backward), mega(flops.total())];
    output::line(output::table(&["forward", "backward", "both"], &[row]));

    let memory = memory::training(config, training);
    output::line(format_args!(
        "\npeak memory of training, {} × {} tokens a leaf, {}, recompute {}:",
        training.micro_batch_size,
        training.sequence_length,
        if training.bf16 { "bf16" } else { "fp32" },
        training.recompute
    ));
    let mut rows: Vec<Vec<String>> = memory
        .parts()
        .into_iter()
        .map(|(part, n)| vec![part.to_owned(), bytes(n), share(n, memory.total())])
        .collect();
    rows.push(vec!["total".into(), bytes(memory.total()), String::new()]);
    output::line(output::table(&["part", "memory", "share"], &rows));

    output::line("\nkey–value cache of one sequence, bf16:");
    let row = |&(context, n): &(usize, u64)| vec![thousands(context as u64), bytes(n)];
    output::line(output::table(&["context", "cache"], &planned.caches().iter().map(row).collect::<Vec<_>>()));
    for warning in planned.warnings() {
        output::line(format_args!("\nwarning: {warning}"));
    }
}
