//! `kind = "export"`: see `smolt export`.

use super::Context;
use crate::commands::export::export_hf;
use smolt_model::safetensors::Store;
use smolt_run::error::Failure;

smolt_run::recipe! {
    /// A model to write as a Hugging Face folder, `model/` of the step.
    pub(crate) struct ExportSettings {
        /// A model folder, or a run's folder for its newest checkpoint.
        model: String,
        /// Storage of the weights.
        dtype: Dtype = Dtype::Float32,
    }

    /// Storage of weights.
    pub(crate) enum Dtype {
        /// As trained.
        Float32 = "float32",
        /// Half the size.
        Bfloat16 = "bfloat16",
    }
}

pub(super) fn run(settings: &ExportSettings, context: &Context<'_>) -> Result<(), Failure> {
    let store = match settings.dtype {
        Dtype::Float32 => Store::F32,
        Dtype::Bfloat16 => Store::Bf16,
    };
    let out = context.folder.join("model");
    if out.exists() {
        std::fs::remove_dir_all(&out).map_err(|e| smolt_run::error::FileError::writing(&out, e))?;
    }
    export_hf(&context.path(&settings.model), &out, store, None)?;
    Ok(())
}
