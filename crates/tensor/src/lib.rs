//! The engine: dtypes, memory, threads, SIMD, one folder per fused op, the tape that replays them, and
//! the optimiser kernels. It knows no model.

pub mod bandwidth;
pub mod gemm;
pub mod isa;
pub mod memory;
pub mod ops;
pub mod order;
pub mod pool;
pub mod scratch;
pub mod simd;
pub mod tape;

use isa::{Isa, UnknownIsa};
use pool::Pool;

/// What kernels run on: an instruction-set path and a thread pool.
pub struct Cpu {
    /// The instruction-set path.
    pub isa: Isa,
    /// The threads.
    pub pool: Pool,
}

impl Cpu {
    /// The best path of this machine (or `SMOLT_CPU`'s) on `threads` threads.
    pub fn new(threads: usize) -> Result<Cpu, UnknownIsa> {
        Ok(Cpu { isa: Isa::detect()?, pool: Pool::new(threads) })
    }

    /// A given path on `threads` threads, for tests that compare paths.
    pub fn with_isa(isa: Isa, threads: usize) -> Cpu {
        Cpu { isa, pool: Pool::new(threads) }
    }
}
