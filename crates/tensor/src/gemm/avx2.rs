//! AVX2 + FMA, tile 6 × 16: 12 accumulators.

super::kernel::fma_kernel! {
    /// fp32 on AVX2.
    Avx2, crate::simd::Avx2, 6, 2, #[target_feature(enable = "avx2,fma")]
}
