//! How fast recipes train: in turn and in rounds, so that whatever else the machine does hits all alike.

use crate::commands::bench::step::{Batch, Step};
use crate::device::DeviceArgs;
use smolt_run::error::Failure;
use smolt_run::recipe;
use smolt_train::recipe::Train;
use std::path::PathBuf;

const ROUNDS: usize = 3;
const WARMUP: usize = 1;
const STEPS: usize = 3;

/// Tokens per second of a training step of each run (its folder), round by round.
pub(super) fn measure(runs: &[PathBuf], device: &DeviceArgs) -> Result<Vec<Vec<f64>>, Failure> {
    let mut speeds = vec![Vec::new(); runs.len()];
    for _ in 0..ROUNDS {
        for (run, speeds) in runs.iter().zip(&mut speeds) {
            speeds.push(tokens_per_second(run, device)?);
        }
    }
    Ok(speeds)
}

fn tokens_per_second(run: &std::path::Path, device: &DeviceArgs) -> Result<f64, Failure> {
    let cpu = device.cpu()?;
    let recipe: Train = recipe::load(&run.join("recipe.lock.toml"), &[])?;
    let config = recipe.model_config()?;
    let batch = Batch { sequences: recipe.train.micro_batch_size, length: recipe.train.sequence_length };
    let precision = recipe.train.precision.resolve(cpu.isa);
    let mut step = Step::new(config, batch, precision, recipe.train.recompute, cpu)?;
    for _ in 0..WARMUP {
        step.run();
    }
    let mut seconds: Vec<f64> = (0..STEPS).map(|_| step.run().whole.as_secs_f64()).collect();
    seconds.sort_by(f64::total_cmp);
    Ok(batch.tokens() as f64 / seconds[STEPS / 2])
}
