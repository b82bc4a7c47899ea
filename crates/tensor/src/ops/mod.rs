//! One folder per op: shapes and entry points in `mod.rs`, the f64 oracle, the CPU kernels.

pub mod adamw;
pub mod add;
pub mod attention;
pub mod embedding;
pub mod global_norm;
pub mod linear;
pub mod linear_cross_entropy;
pub mod rms_norm;
pub mod rope;
pub mod select_rows;
pub mod swiglu;
#[cfg(test)]
pub(crate) mod testing;
