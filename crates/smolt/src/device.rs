//! What kernels run on, from the command line's `--threads`.

use smolt_run::error::Failure;
use smolt_run::resources;
use smolt_tensor::Cpu;

/// Flags of every command that computes.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct DeviceArgs {
    /// Threads to compute on; results do not depend on it [default, and 0: what the machine and its quota offer]
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
}

impl DeviceArgs {
    /// Threads to run on.
    pub(crate) fn threads(&self) -> usize {
        self.threads.filter(|&threads| threads > 0).unwrap_or_else(resources::available_threads).max(1)
    }

    /// The CPU at its best instruction-set path, or at `SMOLT_CPU`'s.
    pub(crate) fn cpu(&self) -> Result<Cpu, Failure> {
        Cpu::new(self.threads()).map_err(|e| Failure::bad_input(e.to_string()))
    }
}
