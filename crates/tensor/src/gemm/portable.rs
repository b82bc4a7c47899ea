//! Plain Rust, tile 4 × 8.

super::kernel::fma_kernel! {
    /// fp32 on any CPU.
    Portable, crate::simd::Portable, 4, 1,
}
