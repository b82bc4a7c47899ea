//! Per-thread scratch memory that grows to the largest request and is then reused: kernels take it
//! instead of allocating, so that a step after the first allocates nothing.

use crate::memory::Slab;
use std::cell::RefCell;

thread_local! {
    static FREE: RefCell<Vec<Slab>> = const { RefCell::new(Vec::new()) };
}

/// Runs `f` with `len` elements of this thread's scratch, 64-byte aligned, contents unspecified.
/// Nested calls get separate memory.
pub fn with<T: bytemuck::Pod, R>(len: usize, f: impl FnOnce(&mut [T]) -> R) -> R {
    let bytes = len * size_of::<T>();
    let mut slab = FREE.with_borrow_mut(|free| {
        // The smallest that fits, else the largest, grown: so the set of slabs settles after one step.
        let fit = (0..free.len()).filter(|&i| free[i].len() >= bytes).min_by_key(|&i| free[i].len());
        let pick = fit.or_else(|| (0..free.len()).max_by_key(|&i| free[i].len()));
        pick.map(|i| free.swap_remove(i)).unwrap_or_default()
    });
    if slab.len() < bytes {
        slab = Slab::new(bytes);
    }
    if cfg!(any(test, feature = "checks")) {
        // NaN in every storage type: a kernel that reads what it did not write fails its tests.
        slab.bytes_mut()[..bytes].fill(0xff);
    }
    let result = f(&mut bytemuck::cast_slice_mut(&mut slab.bytes_mut()[..bytes])[..len]);
    FREE.with_borrow_mut(|free| free.push(slab));
    result
}

#[cfg(test)]
mod tests {
    #[test]
    fn nested_scratch_is_separate_and_reused() {
        let first = super::with(100, |a: &mut [f32]| {
            a.fill(1.0);
            super::with(50, |b: &mut [f32]| b.fill(2.0));
            assert!(a.iter().all(|&x| x == 1.0));
            a.as_ptr() as usize
        });
        let second = super::with(90, |a: &mut [f32]| a.as_ptr() as usize);
        assert_eq!(first, second);
        assert_eq!(first % 64, 0);
    }
}
