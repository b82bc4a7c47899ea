//! What a tensor may be stored as: fp32, or bf16 where the precision policy says so.

use super::Simd;
use crate::tape::DType;

/// The most lanes of any path.
pub(super) const MAX_LANES: usize = 16;

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
    /// The first `n <= S::LANES` elements as fp32, the other lanes zero.
    ///
    /// # Safety
    /// As [`Simd::load_partial`].
    unsafe fn load_partial<S: Simd>(p: *const Self, n: usize) -> S::V;
    /// The first `n <= S::LANES` fp32 lanes to storage.
    ///
    /// # Safety
    /// As [`Simd::store_partial`].
    unsafe fn store_partial<S: Simd>(p: *mut Self, v: S::V, n: usize);

    /// Two bf16 per lane, as bits: the first `n <= S::LANES` elements of `low`, rounded, in the lower halves, those of
    /// `high` in the upper.
    ///
    /// # Safety
    /// As [`Elem::load_partial`], for both.
    unsafe fn zip_n<S: Simd>(low: *const Self, high: *const Self, n: usize) -> S::V;

    /// [`Elem::load`] when `n` is all lanes, else [`Elem::load_partial`]: for bodies of
    /// [`for_lanes!`](crate::simd::for_lanes), where `n` is a constant in the main loop.
    ///
    /// # Safety
    /// As [`Elem::load_partial`].
    #[inline(always)]
    unsafe fn load_n<S: Simd>(p: *const Self, n: usize) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { if n == S::LANES { Self::load::<S>(p) } else { Self::load_partial::<S>(p, n) } }
    }

    /// [`Elem::store`] when `n` is all lanes, else [`Elem::store_partial`].
    ///
    /// # Safety
    /// As [`Elem::store_partial`].
    #[inline(always)]
    unsafe fn store_n<S: Simd>(p: *mut Self, v: S::V, n: usize) {
        // SAFETY: the caller's promise.
        unsafe { if n == S::LANES { Self::store::<S>(p, v) } else { Self::store_partial::<S>(p, v, n) } }
    }
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
    #[inline(always)]
    unsafe fn load_partial<S: Simd>(p: *const f32, n: usize) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { S::load_partial(p, n) }
    }
    #[inline(always)]
    unsafe fn store_partial<S: Simd>(p: *mut f32, v: S::V, n: usize) {
        // SAFETY: the caller's promise.
        unsafe { S::store_partial(p, v, n) }
    }
    #[inline(always)]
    unsafe fn zip_n<S: Simd>(low: *const f32, high: *const f32, n: usize) -> S::V {
        // SAFETY: the caller's promise.
        unsafe { S::pair_bf16(Self::load_n::<S>(low, n), Self::load_n::<S>(high, n)) }
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
    #[inline(always)]
    unsafe fn load_partial<S: Simd>(p: *const half::bf16, n: usize) -> S::V {
        // SAFETY: as above.
        unsafe { S::load_bf16_partial(p.cast(), n) }
    }
    #[inline(always)]
    unsafe fn store_partial<S: Simd>(p: *mut half::bf16, v: S::V, n: usize) {
        // SAFETY: as above.
        unsafe { S::store_bf16_partial(p.cast(), v, n) }
    }
    #[inline(always)]
    unsafe fn zip_n<S: Simd>(low: *const half::bf16, high: *const half::bf16, n: usize) -> S::V {
        // SAFETY: as above.
        unsafe { S::zip_bf16(low.cast(), high.cast(), n) }
    }
}
