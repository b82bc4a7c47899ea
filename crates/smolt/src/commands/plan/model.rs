//! `smolt plan model` (spec ABL-07, ATT-02, ATT-03, ATT-06, EMB-02, COR-05, MOE-03, MOE-04, SCP-06)

use crate::Outcome;
use crate::device::DeviceArgs;
use crate::output::{self, bytes, thousands};
use serde_json::json;
use smolt_arch::count::{self, GRANULARITY_ALPHA, Parameters};
use smolt_arch::memory::{self, Recompute, Training};
use smolt_arch::{ModelConfig, lint};
use smolt_run::error::Failure;
use smolt_tensor::gemm::Precision;
use smolt_tensor::isa::Isa;
use std::path::PathBuf;
use std::process::ExitCode;

/// Contexts of the key–value cache's table: from this one on in powers of two, and the model's longest.
const FIRST_CONTEXT: usize = 1024;
/// Bytes of a cached number and of a weight in decoding: both are counted in bf16.
const CACHED: usize = 2;
/// Parts that tables have only where a model has them.
const RARE: [&str; 2] = ["experts", "routers"];

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
    /// Devices that share every layer: warn of sizes that do not divide among them
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    tensor_parallel: u16,
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
    /// Of a recipe: a folder does not say what it was trained on.
    data: Option<lint::Data>,
    tensor_parallel: usize,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let isa = super::detect()?;
    let mut planned =
        if super::is_recipe(&args.model) { of_recipe(args, isa)? } else { of_folder(args, isa)? };
    let t = &mut planned.training;
    t.sequence_length = args.sequence_length.unwrap_or(t.sequence_length);
    t.micro_batch_size = args.micro_batch_size.unwrap_or(t.micro_batch_size);
    if t.sequence_length == 0 || t.micro_batch_size == 0 {
        return Err(Failure::bad_input("--sequence-length and --micro-batch-size must be positive"));
    }
    if args.json {
        planned.print_json();
    } else {
        planned.print_tables();
    }
    Ok(ExitCode::SUCCESS)
}

fn of_recipe(args: &Args, isa: Isa) -> Result<Planned, Failure> {
    let recipe = super::resolved(&args.model, &args.set, isa)?;
    let config = recipe.model_config()?;
    Ok(Planned {
        config,
        training: recipe.memory(args.device.threads())?,
        data: Some(lint::Data {
            sources: recipe.data.sources.len(),
            document_masking: recipe.data.intra_document_masking,
        }),
        tensor_parallel: args.tensor_parallel.into(),
    })
}

fn of_folder(args: &Args, isa: Isa) -> Result<Planned, Failure> {
    let config = super::of_folder(&args.model, &args.set)?;
    let training = Training {
        micro_batch_size: 1,
        global_batch_size: 1,
        sequence_length: config.max_position_embeddings.min(4096),
        bf16: Precision::auto(isa) == Precision::Bf16,
        recompute: Recompute::None,
        gradient_buffers: 1,
        threads: args.device.threads(),
    };
    Ok(Planned { config, training, data: None, tensor_parallel: args.tensor_parallel.into() })
}

/// A context, and the bytes of its cache and of all that a token decoded behind it reads.
struct Decoding {
    context: usize,
    cache: u64,
    read: u64,
}

fn share(n: u64, of: u64) -> f64 {
    n as f64 / of.max(1) as f64
}

fn percent(n: u64, of: u64) -> String {
    format!("{:.1} %", 100.0 * share(n, of))
}

impl Planned {
    fn decoding(&self) -> Vec<Decoding> {
        let longest = self.config.max_position_embeddings;
        let powers = std::iter::successors(Some(FIRST_CONTEXT), |context| context.checked_mul(2));
        let contexts = powers.take_while(|&context| context < longest).chain([longest]);
        contexts
            .map(|context| Decoding {
                context,
                cache: count::kv_cache_bytes(&self.config, context, CACHED),
                read: count::decode_bytes(&self.config, context, CACHED),
            })
            .collect()
    }

    /// What will not work.
    fn errors(&self) -> Vec<String> {
        lint::out_of_range(&self.config, self.training.sequence_length).into_iter().collect()
    }

    /// What works, but worse or slower than it could.
    fn warnings(&self) -> Vec<String> {
        let attention = lint::attention(&self.config, self.training.sequence_length);
        let shape = lint::shape(&self.config).into_iter().chain(attention);
        let parallel = lint::tensor_parallel(&self.config, self.tensor_parallel);
        let data = self.data.iter().flat_map(|data| lint::training(&self.config, &self.training, data));
        shape.chain(parallel).chain(data).chain(count::embedding_warning(&self.config)).collect()
    }

    /// Share of the embedding, and of embedding and head if they were not one matrix.
    fn embedding(&self, counted: &Parameters) -> (f64, f64) {
        let matrix = (self.config.vocab_size * self.config.hidden_size) as u64;
        let untied = counted.total() + if self.config.tie_word_embeddings { matrix } else { 0 };
        (share(counted.embedding + counted.head, counted.total()), share(2 * matrix, untied))
    }

    fn print_json(&self) {
        let Planned { config, training, .. } = self;
        let counted = count::parameters(config);
        let mut parameters: serde_json::Map<String, serde_json::Value> =
            counted.parts().into_iter().map(|(part, n)| (part.to_owned(), n.into())).collect();
        parameters.insert("total".into(), counted.total().into());
        parameters.insert("active".into(), counted.active.into());
        let flops = count::flops_per_token(config, training.sequence_length);
        let memory = memory::training(config, training);
        let row =
            |row: &Decoding| json!({"context": row.context, "bytes": row.cache, "decode_bytes": row.read});
        let (now, untied) = self.embedding(&counted);
        output::json(&json!({
            "model_type": config.model_type.as_str(),
            "parameters": parameters,
            "embedding": {"tied": config.tie_word_embeddings, "share": now, "share_if_untied": untied},
            "experts": count::sparsity(config).map(|s| json!({
                "experts": s.experts,
                "active_experts": s.active_experts,
                "sparsity": s.sparsity,
                "granularity": s.granularity,
                "granularity_alpha": GRANULARITY_ALPHA,
            })),
            "attention": {
                "query_heads": config.num_attention_heads,
                "key_value_heads": config.num_key_value_heads,
                "query_heads_per_key_value_head": config.num_attention_heads / config.num_key_value_heads,
                "cached_numbers_per_token_and_layer": count::cached_per_token(config),
                "cached_key_value_heads": count::cached_heads(config),
            },
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
            "kv_cache": self.decoding().iter().map(row).collect::<Vec<_>>(),
            "errors": self.errors(),
            "warnings": self.warnings(),
            "notes": lint::notes(config),
        }));
    }

    fn print_tables(&self) {
        self.print_parameters();
        self.print_training();
        self.print_decoding();
        for (level, found) in
            [("error", self.errors()), ("warning", self.warnings()), ("note", lint::notes(&self.config))]
        {
            for text in found {
                output::line(format_args!("\n{level}: {text}"));
            }
        }
    }

    fn print_parameters(&self) {
        let counted = count::parameters(&self.config);
        let total = counted.total();
        let parts = counted.parts().into_iter().filter(|(part, n)| *n > 0 || !RARE.contains(part));
        let mut rows: Vec<Vec<String>> =
            parts.map(|(part, n)| vec![part.to_owned(), thousands(n), percent(n, total)]).collect();
        let sparsity = count::sparsity(&self.config);
        if sparsity.is_some() {
            rows.push(vec!["total".into(), thousands(total), String::new()]);
            rows.push(vec!["active".into(), thousands(counted.active), percent(counted.active, total)]);
        } else {
            rows.push(vec!["total, all active".into(), thousands(total), String::new()]);
        }
        output::line(output::table(&["part", "parameters", "share"], &rows));
        let (now, untied) = self.embedding(&counted);
        let tied = if self.config.tie_word_embeddings {
            format!("embedding: {:.1} % of the model, tied; untied {:.1} %", 100.0 * now, 100.0 * untied)
        } else {
            let saved = percent(counted.head, total);
            format!("embedding and head: {:.1} % of the model, untied; tying saves {saved}", 100.0 * now)
        };
        output::line(format_args!("\n{tied}"));
        if let (Some(s), Some(moe)) = (sparsity, &self.config.moe) {
            output::line(format_args!(
                "experts: {} of {} serve a token{}, sparsity {:.2}; granularity {}·{}/{} = {:.2}",
                s.active_experts,
                s.experts,
                if moe.n_shared_experts > 0 {
                    format!(", {} of them shared", moe.n_shared_experts)
                } else {
                    String::new()
                },
                s.sparsity,
                GRANULARITY_ALPHA,
                self.config.hidden_size,
                moe.moe_intermediate_size,
                s.granularity
            ));
        }
        output::line(self.heads());
    }

    /// Heads, with both things that "groups" is used for (spec ATT-06).
    fn heads(&self) -> String {
        let (h, k) = (self.config.num_attention_heads, self.config.num_key_value_heads);
        match &self.config.latent {
            Some(latent) => format!(
                "attention: {h} heads from a latent of {} and a rotary key of {}, which a cache holds in the space of \
                 {:.2} key–value heads",
                latent.kv_lora_rank,
                latent.qk_rope_head_dim,
                count::cached_heads(&self.config)
            ),
            None => format!(
                "attention: {h} query heads on {k} key–value heads; \"groups\": {k} if key–value heads are meant, {} if \
                 the query heads of each",
                h / k
            ),
        }
    }

    fn print_training(&self) {
        let Planned { config, training, .. } = self;
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
            .map(|(part, n)| vec![part.to_owned(), bytes(n), percent(n, memory.total())])
            .collect();
        rows.push(vec!["total".into(), bytes(memory.total()), String::new()]);
        output::line(output::table(&["part", "memory", "share"], &rows));
    }

    fn print_decoding(&self) {
        output::line(
            "\nkey–value cache of one sequence, bf16, and what its next token reads, weights included:",
        );
        let row = |row: &Decoding| {
            let (context, cache) = (thousands(row.context as u64), bytes(row.cache));
            vec![context, cache, bytes(row.read), percent(row.cache, row.read)]
        };
        let rows: Vec<Vec<String>> = self.decoding().iter().map(row).collect();
        output::line(output::table(&["context", "cache", "read", "cache's share"], &rows));
    }
}
