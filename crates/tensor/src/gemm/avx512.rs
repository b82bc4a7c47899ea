//! AVX-512, tile 14 × 32: 28 accumulators.

super::kernel::fma_kernel! {
    /// fp32 on AVX-512.
    Avx512, crate::simd::Avx512, 14, 2, #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
}
