//! One folder per op: shapes and entry points in `mod.rs`, the f64 oracle, the CPU kernels.

pub mod activation;
pub mod adamw;
pub mod add;
pub mod attention;
pub mod embedding;
pub mod global_norm;
pub mod latent;
pub mod layer_norm;
pub mod linear;
pub mod linear_cross_entropy;
pub mod linear_log_probs;
pub mod moe_experts;
pub mod moe_route;
pub mod qk_norm;
pub mod rms_norm;
pub mod rope;
pub mod select_rows;
pub mod softcap;
pub mod split_columns;
#[cfg(test)]
pub(crate) mod testing;
