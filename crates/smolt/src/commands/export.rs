//! `smolt export`

use crate::{Outcome, model_folder, output};
use clap::ValueEnum;
use smolt_arch::config::ModelType;
use smolt_model::folder::{self, Loaded};
use smolt_model::pairing::paired;
use smolt_model::safetensors::Store;
use smolt_run::error::{Failure, FileError};
use smolt_tensor::ops::rope::Pairing;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A Hugging Face folder, or a run's folder for its newest checkpoint
    model: PathBuf,
    /// Where to write
    #[arg(long)]
    out: PathBuf,
    /// What to write
    #[arg(long, value_enum, default_value_t = Format::Hf)]
    format: Format,
    /// Storage of the weights
    #[arg(long, value_enum, default_value_t = Dtype::Float32)]
    dtype: Dtype,
    /// Order of the rotary features: a model trained with pairs of neighbours becomes one of the families that transformers
    /// and llama.cpp know as half-split
    #[arg(long, value_enum)]
    rope: Option<Rope>,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Rope {
    /// Pair k is features k and k + half
    HalfSplit,
    /// Pair k is features 2k and 2k + 1
    Interleaved,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Format {
    /// A folder that transformers and vLLM load
    Hf,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Dtype {
    /// As trained
    Float32,
    /// Half the size
    Bfloat16,
}

/// Files of a model folder that go along as they are.
const COMPANIONS: [&str; 5] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "generation_config.json",
];

/// Where a model is written before it takes its place.
const PARTIAL: &str = ".partial";

pub(crate) fn run(args: Args) -> Outcome {
    let Format::Hf = args.format;
    let store = match args.dtype {
        Dtype::Float32 => Store::F32,
        Dtype::Bfloat16 => Store::Bf16,
    };
    let pairing = args.rope.map(|rope| match rope {
        Rope::HalfSplit => Pairing::HalfSplit,
        Rope::Interleaved => Pairing::Interleaved,
    });
    let model_type = export_hf(&args.model, &args.out, store, pairing)?;
    let readers = match model_type {
        ModelType::Smolt => "smolt alone: no other program knows this combination of settings".to_owned(),
        known => format!("transformers and vLLM, as `{known}`"),
    };
    output::line(format_args!("{} holds the model for {readers}", args.out.display()));
    Ok(ExitCode::SUCCESS)
}

/// Moves the files of `partial` into `out`, the configuration last: without it a folder is no model.
fn move_up(partial: &Path, out: &Path) -> std::io::Result<()> {
    let mut names =
        partial.read_dir()?.map(|entry| Ok(entry?.file_name())).collect::<std::io::Result<Vec<_>>>()?;
    names.sort_by_key(|name| name == "config.json");
    for name in names {
        std::fs::rename(partial.join(&name), out.join(&name))?;
    }
    std::fs::remove_dir(partial)?;
    smolt_run::atomic::sync_dir(out)
}

/// Writes the model at `from` as a Hugging Face folder `out`, which must be empty or absent; as what type.
pub(crate) fn export_hf(
    from: &Path,
    out: &Path,
    store: Store,
    pairing: Option<Pairing>,
) -> Result<ModelType, Failure> {
    let from = model_folder::resolve(from)?;
    let partial = out.join(PARTIAL);
    let cut_short = partial.exists();
    if !cut_short && out.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Failure::bad_input(format!("{} is not empty; choose another --out", out.display())));
    }
    let mut loaded = Loaded::load(&from).map_err(|e| Failure::bad_input(e.to_string()))?;
    if let Some(pairing) = pairing {
        loaded = paired(loaded, pairing).map_err(|problem| {
            Failure::bad_input(format!("{} keeps its order of rotary features: {problem}", from.display()))
        })?;
    }
    // Not in its place before it is whole: what a kill leaves must not look like a model, nor be in the way.
    if cut_short {
        std::fs::remove_dir_all(&partial).map_err(|e| FileError::writing(&partial, e))?;
    }
    std::fs::create_dir_all(&partial).map_err(|e| FileError::writing(&partial, e))?;
    folder::save(&partial, &loaded.model, &loaded.weights, store)
        .map_err(|e| Failure::failed(e.to_string()))?;
    for name in COMPANIONS {
        let source = from.join(name);
        if source.exists() {
            let bytes = std::fs::read(&source).map_err(|e| FileError::reading(&source, e))?;
            smolt_run::atomic::write(&partial.join(name), &bytes)?;
        }
    }
    move_up(&partial, out).map_err(|e| FileError::writing(out, e))?;
    Ok(loaded.model.config().model_type)
}
