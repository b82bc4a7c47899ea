//! What a tensor may be stored as: fp32, or bf16 where the precision policy says so.

use super::Simd;
use crate::tape::DType;

/// A storage type. Arithmetic is always fp32; this only loads and stores.
pub trait Elem: Copy + Send + Sync + bytemuck::Pod + 'static {
    /// The dtype's name on the tape.
    const DTYPE: DType;
    /// Widens, exact.
    fn to_f32(self) -> f32;
    /// Narrows, to nearest even.
    fn from_f32(x: f32) -> Self;
    /// `S::LANES` elements as fp32.
    ///
    /// # Safety
    /// As [`Simd::load`].
    unsafe fn load<S: Simd>(p: *const Self) -> S::V;
    /// `S::LANES` fp32 lanes to storage.
    ///
    /// # Safety
    /// As [`Simd::store`].
    unsafe fn store<S: Simd>(p: *mut Self, v: S::V);
}

impl Elem for f32 {
    const DTYPE: DType = DType::F32;
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }
    #[inline(always)]
    fn from_f32(x: f32) -> f32 {
        x
    }
    #[inline(always)]
    unsafe fn load<S: Simd>(p: *const f32) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { S::load(p) }
    }
    #[inline(always)]
    unsafe fn store<S: Simd>(p: *mut f32, v: S::V) {
        // SAFETY: the caller's promise.
        unsafe { S::store(p, v) }
    }
}

impl Elem for half::bf16 {
    const DTYPE: DType = DType::Bf16;
    #[inline(always)]
    fn to_f32(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
    #[inline(always)]
    fn from_f32(x: f32) -> half::bf16 {
        half::bf16::from_f32(x)
    }
    #[inline(always)]
    unsafe fn load<S: Simd>(p: *const half::bf16) -> S::V {
        // SAFETY: the caller's promise; bf16 is transparent over u16.
        unsafe { S::load_bf16(p.cast()) }
    }
    #[inline(always)]
    unsafe fn store<S: Simd>(p: *mut half::bf16, v: S::V) {
        // SAFETY: as above.
        unsafe { S::store_bf16(p.cast(), v) }
    }
}
