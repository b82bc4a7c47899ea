//! One folder per op: shapes and entry points in `mod.rs`, the f64 oracle, the CPU kernels.
