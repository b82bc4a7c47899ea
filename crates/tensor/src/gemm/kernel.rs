//! What a microkernel is, and the fp32 one that every width shares.

use crate::simd::{Elem, Simd};

/// Bytes of a cache line.
pub(super) const LINE: usize = 64;

/// Multiplies a packed panel of `ROWS` rows of a by a packed panel of `COLS` columns of b.
///
/// A panel is a sequence of *units* along k: unit `u` holds 32 bits for each of its lanes (rows of a, columns
/// of b). A unit is one fp32 value, or two consecutive bf16 values where `PAIRS`.
pub(super) trait Kernel: 'static {
    /// Rows of a tile of c.
    const ROWS: usize;
    /// Columns of a tile of c.
    const COLS: usize;
    /// Whether a unit is two bf16.
    const PAIRS: bool;
    /// Inner dimension per pass.
    const K_BLOCK: usize;
    /// Vectors of its path.
    type Lanes: Simd;

    /// `c[r, j] = Σ a[u·ROWS + r] · b[u·COLS + j]` over `units`, from zero and in order, and then added to `before[r, j]`,
    /// where that is given; it may be c.
    ///
    /// # Safety
    /// The CPU has the kernel's instruction set; all operands are valid for what the formula touches.
    unsafe fn tile<C: Elem, B: Elem>(
        units: usize,
        a: *const f32,
        b: *const f32,
        c: Place<*mut C>,
        before: Option<Place<*const B>>,
    );

    /// Multiply–adds between registers only, `rounds` times on all accumulators of a tile: the rate no
    /// product can exceed. Returns the FLOPs done.
    ///
    /// # Safety
    /// The CPU has the kernel's instruction set.
    unsafe fn registers(rounds: usize) -> u64;
}

/// A tile in memory: its first element, and the distance from row to row.
#[derive(Clone, Copy)]
pub(super) struct Place<P> {
    pub(super) start: P,
    pub(super) ld: usize,
}

impl<C> Place<*mut C> {
    /// Asks for a tile's memory: c is not touched before the last unit, time enough to bring it near.
    ///
    /// # Safety
    /// The instruction set is enabled.
    #[inline(always)]
    pub(super) unsafe fn fetch<S: Simd>(self, rows: usize, cols: usize) {
        for r in 0..rows {
            for j in (0..cols).step_by(LINE / size_of::<C>()) {
                // SAFETY: the caller's promise.
                unsafe { S::prefetch(self.start.wrapping_add(r * self.ld + j)) };
            }
        }
    }
}

/// The lanes of a panel.
pub(super) trait Side<K: Kernel>: 'static {
    const LANES: usize;
}

/// Panels of a.
pub(super) struct Rows;
/// Panels of b.
pub(super) struct Cols;

impl<K: Kernel> Side<K> for Rows {
    const LANES: usize = K::ROWS;
}
impl<K: Kernel> Side<K> for Cols {
    const LANES: usize = K::COLS;
}

/// The fp32 tile of `M` rows and `N` vectors.
///
/// # Safety
/// As [`Kernel::tile`].
#[inline(always)]
pub(super) unsafe fn fma_tile<S: Simd, C: Elem, B: Elem, const M: usize, const N: usize>(
    units: usize,
    mut a: *const f32,
    mut b: *const f32,
    c: Place<*mut C>,
    before: Option<Place<*const B>>,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[S::splat(0.0); N]; M];
        c.fetch::<S>(M, N * S::LANES);
        for _ in 0..units {
            let mut columns = [S::splat(0.0); N];
            for (j, column) in columns.iter_mut().enumerate() {
                *column = S::load(b.add(j * S::LANES));
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let row = S::splat(*a.add(r));
                for (sum, &column) in sums.iter_mut().zip(&columns) {
                    *sum = S::fma(row, column, *sum);
                }
            }
            a = a.add(M);
            b = b.add(N * S::LANES);
        }
        for (r, sums) in sums.iter().enumerate() {
            for (j, &sum) in sums.iter().enumerate() {
                let sum = match before {
                    Some(before) => S::add(B::load::<S>(before.start.add(r * before.ld + j * S::LANES)), sum),
                    None => sum,
                };
                C::store::<S>(c.start.add(r * c.ld + j * S::LANES), sum);
            }
        }
    }
}

/// [`Kernel::registers`] of [`fma_tile`].
///
/// # Safety
/// The instruction set is enabled.
#[inline(always)]
pub(super) unsafe fn fma_registers<S: Simd, const M: usize, const N: usize>(rounds: usize) -> u64 {
    // SAFETY: no memory is touched but locals.
    unsafe {
        let (x, y) = (S::splat(std::hint::black_box(0.5)), S::splat(std::hint::black_box(0.25)));
        let mut sums = [[S::splat(0.0); N]; M];
        for _ in 0..rounds {
            // Nested, because the compiler keeps no flattened array in registers.
            for sums in &mut sums {
                for sum in sums {
                    *sum = S::fma(x, y, *sum);
                }
            }
        }
        let mut total = S::splat(0.0);
        for sums in &sums {
            for &sum in sums {
                total = S::add(total, sum);
            }
        }
        std::hint::black_box(S::reduce_add(total));
    }
    (2 * rounds * M * N * S::LANES) as u64
}

/// The fp32 kernel `$name` of a path: tiles of `$rows` rows and `$vectors` vectors of `$lanes`, compiled with the given
/// target features.
macro_rules! fma_kernel {
    ($(#[$meta:meta])* $name:ident, $lanes:ty, $rows:literal, $vectors:literal, $(#[$feature:meta])?) => {
        $(#[$meta])*
        pub(super) struct $name;

        impl $crate::gemm::kernel::Kernel for $name {
            const ROWS: usize = $rows;
            const COLS: usize = $vectors * <$lanes as $crate::simd::Simd>::LANES;
            const PAIRS: bool = false;
            const K_BLOCK: usize = $crate::order::GEMM_K_FP32;
            type Lanes = $lanes;

            unsafe fn tile<C: $crate::simd::Elem, B: $crate::simd::Elem>(
                units: usize,
                a: *const f32,
                b: *const f32,
                c: $crate::gemm::kernel::Place<*mut C>,
                before: Option<$crate::gemm::kernel::Place<*const B>>,
            ) {
                $(#[$feature])?
                unsafe fn body<C: $crate::simd::Elem, B: $crate::simd::Elem>(
                    units: usize,
                    a: *const f32,
                    b: *const f32,
                    c: $crate::gemm::kernel::Place<*mut C>,
                    before: Option<$crate::gemm::kernel::Place<*const B>>,
                ) {
                    // SAFETY: the caller's promise.
                    unsafe { $crate::gemm::kernel::fma_tile::<$lanes, C, B, $rows, $vectors>(units, a, b, c, before) }
                }
                // SAFETY: the caller's promise.
                unsafe { body(units, a, b, c, before) }
            }

            unsafe fn registers(rounds: usize) -> u64 {
                $(#[$feature])?
                unsafe fn body(rounds: usize) -> u64 {
                    // SAFETY: the caller's promise.
                    unsafe { $crate::gemm::kernel::fma_registers::<$lanes, $rows, $vectors>(rounds) }
                }
                // SAFETY: the caller's promise.
                unsafe { body(rounds) }
            }
        }
    };
}
pub(super) use fma_kernel;
