//! Which two features of a head make a pair, as a number and as a type.

use crate::simd::{Elem, Simd};

/// Which two of a head's rotated features turn together.
///
/// Weights trained with one are not interchangeable with the other; [`convert_rows`](super::convert_rows)
/// turns a projection of one into one of the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Pairing {
    /// Pair `k` is features `k` and `k + dim/2`: Hugging Face's Llama and all that follow it.
    #[default]
    HalfSplit,
    /// Pair `k` is features `2k` and `2k + 1`: RoFormer, GPT-J, DeepSeek (`rope_interleave`), GLM.
    Interleaved,
}

impl Pairing {
    /// The two features of pair `k` of `half` pairs.
    pub fn features(self, k: usize, half: usize) -> [usize; 2] {
        match self {
            Pairing::HalfSplit => [k, k + half],
            Pairing::Interleaved => [2 * k, 2 * k + 1],
        }
    }
}

/// A [`Pairing`] that is known when a kernel is compiled.
pub(crate) trait Pairs: Copy + Send + Sync + 'static {
    /// Both features of the pairs `k..k + n`, `n <= S::LANES`.
    ///
    /// # Safety
    /// `x` must be valid for the `2·half` features of a head, and `k + n <= half`.
    unsafe fn load<S: Simd, E: Elem>(x: *const E, half: usize, k: usize, n: usize) -> (S::V, S::V);

    /// Stores what [`Pairs::load`] loads.
    ///
    /// # Safety
    /// As there.
    unsafe fn store<S: Simd, E: Elem>(x: *mut E, half: usize, k: usize, n: usize, pair: (S::V, S::V));
}

#[derive(Clone, Copy)]
pub(crate) struct HalfSplit;

impl Pairs for HalfSplit {
    #[inline(always)]
    unsafe fn load<S: Simd, E: Elem>(x: *const E, half: usize, k: usize, n: usize) -> (S::V, S::V) {
        // SAFETY: both runs lie in the head, by the caller's promise.
        unsafe { (E::load_n::<S>(x.add(k), n), E::load_n::<S>(x.add(half + k), n)) }
    }

    #[inline(always)]
    unsafe fn store<S: Simd, E: Elem>(x: *mut E, half: usize, k: usize, n: usize, pair: (S::V, S::V)) {
        // SAFETY: as above.
        unsafe {
            E::store_n::<S>(x.add(k), pair.0, n);
            E::store_n::<S>(x.add(half + k), pair.1, n);
        }
    }
}

/// Sorts through a buffer of storage elements, whose copies become shuffles; arithmetic is on the same
/// lanes as with [`HalfSplit`], so it gives the same bits.
#[derive(Clone, Copy)]
pub(crate) struct Interleaved;

/// The most lanes of any path.
const LANES: usize = 16;

impl Pairs for Interleaved {
    #[inline(always)]
    unsafe fn load<S: Simd, E: Elem>(x: *const E, _: usize, k: usize, n: usize) -> (S::V, S::V) {
        let (mut first, mut second) = ([E::zeroed(); LANES], [E::zeroed(); LANES]);
        // SAFETY: features `2k..2(k + n)` lie in the head, by the caller's promise; no path has more lanes.
        unsafe {
            for i in 0..n {
                *first.get_unchecked_mut(i) = *x.add(2 * (k + i));
                *second.get_unchecked_mut(i) = *x.add(2 * (k + i) + 1);
            }
            (E::load::<S>(first.as_ptr()), E::load::<S>(second.as_ptr()))
        }
    }

    #[inline(always)]
    unsafe fn store<S: Simd, E: Elem>(x: *mut E, _: usize, k: usize, n: usize, pair: (S::V, S::V)) {
        let (mut first, mut second) = ([E::zeroed(); LANES], [E::zeroed(); LANES]);
        // SAFETY: as above.
        unsafe {
            E::store::<S>(first.as_mut_ptr(), pair.0);
            E::store::<S>(second.as_mut_ptr(), pair.1);
            for i in 0..n {
                *x.add(2 * (k + i)) = *first.get_unchecked(i);
                *x.add(2 * (k + i) + 1) = *second.get_unchecked(i);
            }
        }
    }
}

/// Evaluates an expression with the type that a [`Pairing`] calls for.
macro_rules! with_pairs {
    ($pairing:expr, $P:ident => $body:expr) => {
        match $pairing {
            $crate::ops::rope::Pairing::HalfSplit => {
                type $P = $crate::ops::rope::pairing::HalfSplit;
                $body
            }
            $crate::ops::rope::Pairing::Interleaved => {
                type $P = $crate::ops::rope::pairing::Interleaved;
                $body
            }
        }
    };
}
pub(crate) use with_pairs;
