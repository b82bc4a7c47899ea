//! One width-generic vector type, so that each kernel is written once.
//!
//! A kernel is a function over `S: Simd` wrapped by [`simd_kernel!`](crate::simd_kernel), which compiles
//! it once per instruction set and picks by [`Isa`](crate::isa::Isa).

use crate::isa::Path;

mod elem;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use elem::Elem;
#[cfg(target_arch = "aarch64")]
pub use neon::Neon;
pub use portable::Portable;
#[cfg(target_arch = "x86_64")]
pub use x86::{Avx2, Avx512};

/// A vector of fp32 lanes of one instruction set.
///
/// # Safety
/// Methods must be called only where the instruction set is enabled, which [`simd_kernel!`](crate::simd_kernel)
/// sees to; pointers must be valid for [`Simd::LANES`] elements (`n` for the partial forms).
#[allow(clippy::missing_safety_doc)]
pub trait Simd: Copy + Send + Sync + 'static {
    /// The register.
    type V: Copy;
    /// fp32 lanes per register.
    const LANES: usize;
    /// The path that computes with these; the one without bf16 products where two do.
    const PATH: Path;

    /// All lanes `x`.
    unsafe fn splat(x: f32) -> Self::V;
    /// Lanes from memory, unaligned.
    unsafe fn load(p: *const f32) -> Self::V;
    /// The first `n <= LANES` lanes from memory, the rest zero.
    unsafe fn load_partial(p: *const f32, n: usize) -> Self::V;
    /// Lanes to memory, unaligned.
    unsafe fn store(p: *mut f32, v: Self::V);
    /// The first `n <= LANES` lanes to memory.
    unsafe fn store_partial(p: *mut f32, v: Self::V, n: usize);
    /// Lanes from bf16 bits, exact.
    unsafe fn load_bf16(p: *const u16) -> Self::V;
    /// Lanes to bf16 bits, rounded to nearest even.
    unsafe fn store_bf16(p: *mut u16, v: Self::V);
    /// a + b
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    /// a − b
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    /// a · b
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    /// a / b
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    /// a · b + c, in one rounding where the hardware has FMA.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// Lane-wise maximum; where a is NaN: b, or NaN; where b is: NaN.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// Lane-wise minimum; where a is NaN: b, or NaN; where b is: NaN.
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    /// Square root.
    unsafe fn sqrt(a: Self::V) -> Self::V;
    /// Nearest integer, ties to even.
    unsafe fn round(a: Self::V) -> Self::V;
    /// 2^n for integral lanes n in −126..=127.
    unsafe fn pow2(n: Self::V) -> Self::V;
    /// The sum of all lanes, by halves.
    unsafe fn reduce_add(a: Self::V) -> f32;
    /// The largest lane.
    unsafe fn reduce_max(a: Self::V) -> f32;

    /// Asks for the line of memory at `p`, which need not be valid; nothing where the path has no such instruction.
    #[inline(always)]
    unsafe fn prefetch<T>(_p: *const T) {}

    /// Each lane rounded to the nearest bf16, ties to even.
    #[inline(always)]
    unsafe fn round_bf16(v: Self::V) -> Self::V {
        let mut bits = [0u16; elem::MAX_LANES];
        // SAFETY: the buffer holds the lanes of every path.
        unsafe {
            Self::store_bf16(bits.as_mut_ptr(), v);
            Self::load_bf16(bits.as_ptr())
        }
    }
    /// Two bf16 per lane, as bits: `low` rounded in the lower half, `high` in the upper.
    #[inline(always)]
    unsafe fn pair_bf16(low: Self::V, high: Self::V) -> Self::V {
        let mut bits = [[0u16; elem::MAX_LANES]; 2];
        // SAFETY: the buffers hold the lanes of every path.
        unsafe {
            Self::store_bf16(bits[0].as_mut_ptr(), low);
            Self::store_bf16(bits[1].as_mut_ptr(), high);
            let pairs: [f32; elem::MAX_LANES] =
                std::array::from_fn(|i| f32::from_bits(u32::from(bits[0][i]) | u32::from(bits[1][i]) << 16));
            Self::load(pairs.as_ptr())
        }
    }

    /// The first `n <= LANES` lanes from bf16 bits, the rest zero.
    #[inline(always)]
    unsafe fn load_bf16_partial(p: *const u16, n: usize) -> Self::V {
        let mut bits = [0u16; elem::MAX_LANES];
        // SAFETY: `n` elements by the caller's promise; the buffer holds the lanes of every path.
        unsafe {
            std::ptr::copy_nonoverlapping(p, bits.as_mut_ptr(), n);
            Self::load_bf16(bits.as_ptr())
        }
    }
    /// The first `n <= LANES` lanes to bf16 bits, rounded to nearest even.
    #[inline(always)]
    unsafe fn store_bf16_partial(p: *mut u16, v: Self::V, n: usize) {
        let mut bits = [0u16; elem::MAX_LANES];
        // SAFETY: as above.
        unsafe {
            Self::store_bf16(bits.as_mut_ptr(), v);
            std::ptr::copy_nonoverlapping(bits.as_ptr(), p, n);
        }
    }
    /// Two bf16 per lane, as bits: the first `n <= LANES` of `low` in the lower halves, of `high` in the upper.
    #[inline(always)]
    unsafe fn zip_bf16(low: *const u16, high: *const u16, n: usize) -> Self::V {
        let mut pairs = [0.0f32; elem::MAX_LANES];
        // SAFETY: `n` elements of both by the caller's promise.
        unsafe {
            for (i, pair) in pairs.iter_mut().enumerate().take(n) {
                *pair = f32::from_bits(u32::from(*low.add(i)) | u32::from(*high.add(i)) << 16);
            }
            Self::load(pairs.as_ptr())
        }
    }

    /// Transposes `rows <= LANES` rows of `LANES` values, `from_bytes` apart, into `LANES` rows of `lanes` values,
    /// `to_row` apart: `to[c·to_row + r] = from[r][c]`, zero where no row is.
    ///
    /// # Safety
    /// Both blocks must be valid; `from` need not be aligned.
    #[inline(always)]
    unsafe fn transpose(
        from: *const f32,
        from_bytes: usize,
        rows: usize,
        to: *mut f32,
        to_row: usize,
        lanes: usize,
    ) {
        for c in 0..Self::LANES {
            for r in 0..lanes {
                // SAFETY: the caller's promise.
                unsafe {
                    let x =
                        if r < rows { from.byte_add(r * from_bytes).add(c).read_unaligned() } else { 0.0 };
                    *to.add(c * to_row + r) = x;
                }
            }
        }
    }

    /// n and m of e^x = 2^n·(1 + m), n integral and m small: Cody–Waite reduction and a degree-6 polynomial.
    #[inline(always)]
    unsafe fn exp_parts(x: Self::V) -> (Self::V, Self::V) {
        // SAFETY: the caller's promise covers every call below.
        unsafe {
            let n = Self::round(Self::mul(x, Self::splat(std::f32::consts::LOG2_E)));
            let r = Self::fma(n, Self::splat(-0.693_359_4), x);
            let r = Self::fma(n, Self::splat(2.121_944_4e-4), r);
            let mut p = Self::splat(1.987_569_1e-4);
            for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5e-1] {
                p = Self::fma(p, r, Self::splat(c));
            }
            (n, Self::fma(Self::mul(r, r), p, r))
        }
    }

    /// e^x, within 2 ulp; of less than −87.3 that of −87.3 (1.2e-38), of more than 88.3 that of 88.3, NaN of NaN.
    #[inline(always)]
    unsafe fn exp(x: Self::V) -> Self::V {
        // SAFETY: the caller's promise covers every call below.
        unsafe {
            let lowest = Self::splat(-87.336_54);
            // In this order NaN is what remains of a NaN.
            let x = Self::min(Self::splat(88.376_26), Self::max(lowest, x));
            let (n, m) = Self::exp_parts(x);
            Self::mul(Self::add(m, Self::splat(1.0)), Self::pow2(Self::max(Self::splat(-126.0), n)))
        }
    }

    /// tanh x = m / (m + 2), m = e^2x − 1, which is exact near zero: within 1e-6 of itself everywhere; NaN of NaN.
    #[inline(always)]
    unsafe fn tanh(x: Self::V) -> Self::V {
        // SAFETY: the caller's promise covers every call below.
        unsafe {
            // ±1 to fp32 beyond; in this order NaN is what remains of a NaN.
            let x = Self::min(Self::splat(9.5), Self::max(Self::splat(-9.5), x));
            let x = Self::add(x, x);
            let (n, m) = Self::exp_parts(x);
            let power = Self::pow2(n);
            let m = Self::fma(m, power, Self::sub(power, Self::splat(1.0)));
            Self::div(m, Self::add(m, Self::splat(2.0)))
        }
    }

    /// 1 / (1 + e^−x)
    #[inline(always)]
    unsafe fn sigmoid(x: Self::V) -> Self::V {
        // SAFETY: the caller's promise covers every call below.
        unsafe {
            let one = Self::splat(1.0);
            Self::div(one, Self::add(one, Self::exp(Self::sub(Self::splat(0.0), x))))
        }
    }
}

/// Compiles a kernel once per instruction set.
///
/// ```ignore
/// simd_kernel! {
///     /// Sum of squares of a row.
///     pub fn sum_squares<S>(x: &[f32]) -> f32 { unsafe { … S::load(x.as_ptr()) … } }
/// }
/// let s = sum_squares(isa, &row);
/// ```
/// Further type parameters follow `S`: `fn store<S, E: Elem>(…)`. The body sees `S: Simd`; wrap it in
/// `unsafe` with its reason. The generated function takes the [`Isa`](crate::isa::Isa) first.
#[macro_export]
macro_rules! simd_kernel {
    ($(#[$meta:meta])* $vis:vis fn $name:ident<$s:ident $(, $g:ident: $bound:path)*>($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name<$($g: $bound),*>(isa: $crate::isa::Isa, $($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn body<$s: $crate::simd::Simd $(, $g: $bound)*>($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,bmi2")]
            #[allow(clippy::too_many_arguments)]
            fn avx512<$($g: $bound),*>($($arg: $ty),*) $(-> $ret)? {
                body::<$crate::simd::Avx512 $(, $g)*>($($arg),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c,bmi2")]
            #[allow(clippy::too_many_arguments)]
            fn avx2<$($g: $bound),*>($($arg: $ty),*) $(-> $ret)? {
                body::<$crate::simd::Avx2 $(, $g)*>($($arg),*)
            }
            match isa.path() {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: an `Isa` of this path exists only on a CPU that has these features.
                $crate::isa::Path::Avx512 | $crate::isa::Path::Avx512Bf16 => unsafe { avx512::<$($g),*>($($arg),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: as above.
                $crate::isa::Path::Avx2 => unsafe { avx2::<$($g),*>($($arg),*) },
                #[cfg(target_arch = "aarch64")]
                $crate::isa::Path::Neon => body::<$crate::simd::Neon $(, $g)*>($($arg),*),
                _ => body::<$crate::simd::Portable $(, $g)*>($($arg),*),
            }
        }
    };
}

/// Walks `0..len` by vectors inside a kernel: `for_lanes!(S, len, |i, n| …)` expands the body for whole
/// vectors (`n` is `S::LANES`, a constant) and once for the rest. Not a closure, because a closure is a
/// function of its own that would be compiled without the kernel's instruction set.
macro_rules! for_lanes {
    ($s:ident, $len:expr, |$i:ident, $n:ident| $body:expr) => {{
        let len: usize = $len;
        let whole = len - len % <$s as $crate::simd::Simd>::LANES;
        let mut $i = 0;
        while $i < whole {
            let $n = <$s as $crate::simd::Simd>::LANES;
            $body;
            $i += $n;
        }
        if $i < len {
            let $n = len - $i;
            $body;
        }
    }};
}
pub(crate) use for_lanes;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;

    simd_kernel! {
        fn exp_all<S>(x: &[f32], out: &mut [f32]) {
            assert!(x.len() == out.len());
            let mut i = 0;
            while i < x.len() {
                let n = S::LANES.min(x.len() - i);
                // SAFETY: `i + n` stays within both slices.
                unsafe { S::store_partial(out.as_mut_ptr().add(i), S::exp(S::load_partial(x.as_ptr().add(i), n)), n) };
                i += n;
            }
        }
    }

    simd_kernel! {
        fn tanh_all<S>(x: &[f32], out: &mut [f32]) {
            assert!(x.len() == out.len());
            // SAFETY: `i + n` stays within both slices.
            for_lanes!(S, x.len(), |i, n| unsafe {
                S::store_partial(out.as_mut_ptr().add(i), S::tanh(S::load_partial(x.as_ptr().add(i), n)), n)
            });
        }
    }

    #[test]
    fn tanh_is_close_on_every_path() {
        let sizes = (0..2000).map(|i| 1e-30 * 1.05_f32.powi(i)).chain((0..4000).map(|i| i as f32 * 3e-3));
        let x: Vec<f32> = sizes.filter(|x| x.is_finite()).flat_map(|x| [x, -x]).collect();
        for isa in Isa::available() {
            let mut y = vec![0.0; x.len()];
            tanh_all(isa, &x, &mut y);
            for (&x, &y) in x.iter().zip(&y) {
                let want = f64::from(x).tanh();
                assert!(
                    (f64::from(y) - want).abs() <= want.abs() * 1e-6,
                    "{isa}: tanh({x}) = {y}, want {want}"
                );
            }
            let (mut y, x) = ([0.0; 4], [f32::INFINITY, f32::NEG_INFINITY, 0.0, f32::NAN]);
            tanh_all(isa, &x, &mut y);
            assert!(y[..3] == [1.0, -1.0, 0.0] && y[3].is_nan(), "{isa}: {y:?}");
        }
    }

    simd_kernel! {
        fn round_trip<S, E: Elem>(x: &[f32], out: &mut [f32]) {
            assert!(x.len() == out.len() && x.len() == 16);
            let mut held = [E::from_f32(0.0); 16];
            for i in (0..16).step_by(S::LANES) {
                // SAFETY: 16 elements, LANES divides 16.
                unsafe {
                    E::store::<S>(held.as_mut_ptr().add(i), S::load(x.as_ptr().add(i)));
                    S::store(out.as_mut_ptr().add(i), E::load::<S>(held.as_ptr().add(i)));
                }
            }
        }
    }

    simd_kernel! {
        fn copy<S, A: Elem, B: Elem>(x: &[A], out: &mut [B]) {
            // SAFETY: `i + n` stays within both slices, which the caller makes equally long.
            for_lanes!(S, x.len(), |i, n| unsafe {
                B::store_n::<S>(out.as_mut_ptr().add(i), A::load_n::<S>(x.as_ptr().add(i), n), n)
            });
        }
    }

    #[test]
    fn odd_lengths_are_walked_and_nothing_beyond() {
        use half::bf16;
        for isa in Isa::available() {
            for len in 0..40usize {
                let x: Vec<bf16> = (0..len).map(|i| bf16::from_f32(i as f32 + 0.5)).collect();
                let mut wide = vec![-1.0f32; len + 1];
                copy::<bf16, f32>(isa, &x, &mut wide[..len]);
                let mut back = vec![bf16::NEG_ONE; len + 1];
                copy::<f32, bf16>(isa, &wide[..len], &mut back[..len]);
                assert_eq!(&back[..len], &x[..], "{isa}");
                assert_eq!((wide[len], back[len]), (-1.0, bf16::NEG_ONE), "{isa}");
            }
        }
    }

    #[test]
    fn exp_is_close_on_every_path() {
        let x: Vec<f32> = (-2000..2001).map(|i| i as f32 * 0.05).collect();
        for isa in Isa::available() {
            let mut y = vec![0.0; x.len()];
            exp_all(isa, &x, &mut y);
            for (&x, &y) in x.iter().zip(&y) {
                let want = f64::from(x.clamp(-87.336_54, 88.376_26)).exp();
                assert!(
                    (f64::from(y) - want).abs() <= want * 3e-7 + 1e-37,
                    "{isa}: exp({x}) = {y}, want {want}"
                );
            }
        }
    }

    simd_kernel! {
        fn transpose<S>(from: &[f32], rows: usize, to: &mut [f32], to_row: usize, lanes: usize) -> usize {
            assert!(from.len() >= rows * 20 && to.len() >= S::LANES * to_row);
            // SAFETY: both blocks fit by the assertion.
            unsafe { S::transpose(from.as_ptr(), 20 * 4, rows, to.as_mut_ptr(), to_row, lanes.min(S::LANES)) };
            S::LANES
        }
    }

    #[test]
    fn transpose_swaps_rows_and_columns_and_touches_nothing_else() {
        let from: Vec<f32> = (0..320).map(|i| i as f32).collect();
        for isa in Isa::available() {
            for (rows, lanes) in [(16, 16), (14, 14), (3, 14), (8, 8), (5, 6), (1, 1)] {
                let mut to = vec![-1.0; 17 * 16];
                let side = transpose(isa, &from, rows.min(8), &mut to, 17, lanes);
                for (i, &x) in to.iter().enumerate() {
                    let (c, r) = (i / 17, i % 17);
                    let want = match (c < side && r < lanes.min(side), r < rows.min(8)) {
                        (true, true) => (r * 20 + c) as f32,
                        (true, false) => 0.0,
                        _ => -1.0,
                    };
                    assert_eq!(x, want, "{isa} {rows} rows, {lanes} lanes, [{c}, {r}]");
                }
            }
        }
    }

    #[test]
    fn bf16_pairs_are_zipped_and_parts_stay_within_their_length() {
        simd_kernel! {
            fn zip<S>(low: &[u16], high: &[u16], out: &mut [f32; 16], n: usize) -> usize {
                // SAFETY: `n` elements of both, and no path has more than 16 lanes.
                unsafe { S::store(out.as_mut_ptr(), S::zip_bf16(low.as_ptr(), high.as_ptr(), n.min(S::LANES))) };
                n.min(S::LANES)
            }
        }
        let (low, high): (Vec<u16>, Vec<u16>) = (0..16).map(|i| (0x3f80 + i, 0xc000 + 3 * i)).unzip();
        for isa in Isa::available() {
            for n in 0..=16 {
                let mut out = [0.0; 16];
                let n = zip(isa, &low[..n], &high[..n], &mut out, n);
                for (i, x) in out.iter().enumerate() {
                    let want = if i < n { u32::from(low[i]) | u32::from(high[i]) << 16 } else { 0 };
                    assert_eq!(x.to_bits(), want, "{isa} {i} of {n}");
                }
            }
        }
    }

    #[test]
    fn bf16_rounds_to_nearest_even_on_every_path() {
        let x: [f32; 16] = std::array::from_fn(|i| (i as f32 - 7.3) * 1.2345e3_f32.powi(i as i32 - 8));
        for isa in Isa::available() {
            let mut y = [0.0; 16];
            round_trip::<half::bf16>(isa, &x, &mut y);
            let want: Vec<f32> = x.iter().map(|&v| half::bf16::from_f32(v).to_f32()).collect();
            assert_eq!(y.as_slice(), want.as_slice(), "{isa}");
            round_trip::<f32>(isa, &x, &mut y);
            assert_eq!(y, x, "{isa}");
        }
    }

    #[test]
    fn bf16_of_ties_denormals_infinities_and_nan_has_the_same_bits_on_every_path() {
        // Halfway from an even and from an odd bf16, and their neighbours.
        let x: [u32; 16] = [
            0x3f80_8000,
            0x3f81_8000,
            0x3f80_7fff,
            0x3f80_8001,
            0xbf80_8000,
            0xbf81_8000,
            0x0000_0001,
            0x0000_8001,
            0x0001_8000,
            0x8040_0000,
            0x7f7f_ffff,
            0xff7f_ffff,
            0x7f80_0000,
            0xff80_0000,
            0x7f80_0001,
            0xffff_ffff,
        ];
        let x = x.map(f32::from_bits);
        let want = x.map(|v| half::bf16::from_f32(v).to_f32().to_bits());
        for isa in Isa::available() {
            let mut y = [0.0; 16];
            round_trip::<half::bf16>(isa, &x, &mut y);
            assert_eq!(y.map(f32::to_bits), want, "{isa}");
        }
    }
}
