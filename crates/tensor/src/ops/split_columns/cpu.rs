//! Kernel over one row.

use crate::simd::{Elem, Simd, for_lanes};
use crate::simd_kernel;

/// `to = from`, or `+=` where `add`.
#[inline(always)]
pub(crate) fn put_lanes<S: Simd, E: Elem>(from: &[E], to: &mut [E], add: bool) {
    if !add {
        return to.copy_from_slice(from);
    }
    let len = from.len().min(to.len());
    let (from, to) = (from.as_ptr(), to.as_mut_ptr());
    // SAFETY: `i + n <= len`, which both slices reach.
    for_lanes!(S, len, |i, n| unsafe {
        let sum = S::add(E::load_n::<S>(to.add(i), n), E::load_n::<S>(from.add(i), n));
        E::store_n::<S>(to.add(i), sum, n);
    });
}

simd_kernel! {
    /// `to = from`, or `+=` where `add`.
    pub(super) fn put<S, E: Elem>(from: &[E], to: &mut [E], add: bool) {
        put_lanes::<S, E>(from, to, add);
    }
}
