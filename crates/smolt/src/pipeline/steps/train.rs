//! `kind = "train"`: see `smolt train`.

use super::Context;
use crate::commands::train::Bar;
use smolt_run::error::Failure;
use smolt_tensor::Cpu;
use smolt_train::recipe::Train;
use smolt_train::session::{self, Options};

pub(super) fn run(settings: &Train, context: &Context<'_>) -> Result<(), Failure> {
    let mut recipe = settings.clone();
    let resolve = |path: &mut String| *path = context.path(path).display().to_string();
    recipe.data.map_paths(resolve);
    if let Some(from) = &mut recipe.model.from {
        *from = crate::model_folder::resolve(&context.path(from))?.display().to_string();
    }
    let cpu = Cpu::new(context.threads).map_err(|e| Failure::bad_input(e.to_string()))?;
    let args: Vec<String> = std::env::args().collect();
    let options = Options {
        out: context.folder,
        resume: true,
        change_stages: false,
        cpu,
        version: env!("CARGO_PKG_VERSION"),
        args: &args,
    };
    let mut bar = Bar::new(context.quiet);
    let summary = session::run(recipe, options, &mut bar)?;
    bar.finish(&summary);
    match summary.stopped {
        // The command sees the signal and says how to go on.
        Some(signal) => Err(Failure::failed(format!("stopped by {}", signal.name()))),
        None => Ok(()),
    }
}
