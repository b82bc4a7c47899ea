//! Matrix products (naive until the packed kernels arrive).

/// How operands enter a matrix product; accumulation is always fp32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Precision {
    /// fp32 operands.
    Fp32,
    /// bf16 operands.
    Bf16,
}
