//! Per-thread scratch memory that grows to the largest request and is then reused: kernels take it
//! instead of allocating, so that a step after the first allocates nothing.

use crate::memory::Slab;
use crate::pool::{self, Pool};
use std::cell::RefCell;
use std::sync::{Mutex, PoisonError};

/// What one thread has, and what it has been asked for.
#[derive(Default)]
struct Memory {
    free: Vec<Slab>,
    /// By tasks of regions, which any thread may be given next time.
    tasks: Uses,
    /// By what runs on this thread alone.
    own: Uses,
}

/// Bytes of what is in use at one time, largest first.
#[derive(Default)]
struct Uses {
    now: Vec<usize>,
    /// The largest ever, the second largest ever at the same time as a larger one, …
    most: Vec<usize>,
}

impl Uses {
    fn begin(&mut self, bytes: usize) {
        self.now.insert(self.now.partition_point(|&other| other >= bytes), bytes);
        raise(&mut self.most, &self.now);
    }

    fn end(&mut self, bytes: usize) {
        if let Some(place) = self.now.iter().position(|&other| other == bytes) {
            self.now.remove(place);
        }
    }
}

/// Raises `most` to `now`, one by one. Slabs of these sizes serve whatever was in use at one time, since a request takes the
/// smallest that fits.
fn raise(most: &mut Vec<usize>, now: &[usize]) {
    most.resize(most.len().max(now.len()), 0);
    most.iter_mut().zip(now).for_each(|(most, &now)| *most = now.max(*most));
}

impl Memory {
    fn uses(&mut self) -> &mut Uses {
        if pool::inside() { &mut self.tasks } else { &mut self.own }
    }

    fn take(&mut self, bytes: usize) -> Slab {
        self.uses().begin(bytes);
        // The smallest that fits, else the largest, grown: so the set of slabs settles after one step.
        let free = &self.free;
        let fit = (0..free.len()).filter(|&i| free[i].len() >= bytes).min_by_key(|&i| free[i].len());
        let pick = fit.or_else(|| (0..free.len()).max_by_key(|&i| free[i].len()));
        let slab = pick.map(|i| self.free.swap_remove(i)).unwrap_or_default();
        if slab.len() < bytes { Slab::new(bytes) } else { slab }
    }

    /// Has room for its own uses and for tasks that use `tasks` at one time.
    fn reserve(&mut self, tasks: &[usize]) {
        raise(&mut self.tasks.most, tasks);
        self.tasks.now.reserve(tasks.len());
        let mut sizes = [&self.own.most[..], tasks].concat();
        sizes.sort_unstable_by_key(|&bytes| std::cmp::Reverse(bytes));
        self.free.sort_unstable_by_key(|slab| std::cmp::Reverse(slab.len()));
        self.free.resize_with(self.free.len().max(sizes.len()), Slab::default);
        for (slab, bytes) in self.free.iter_mut().zip(sizes).filter(|(slab, bytes)| slab.len() < *bytes) {
            *slab = Slab::new(bytes);
        }
    }
}

thread_local! {
    static MEMORY: RefCell<Memory> = RefCell::default();
}

/// Runs `f` with `len` elements of this thread's scratch, 64-byte aligned, contents unspecified.
/// Nested calls get separate memory.
pub fn with<T: bytemuck::Pod, R>(len: usize, f: impl FnOnce(&mut [T]) -> R) -> R {
    let bytes = len * size_of::<T>();
    let mut slab = MEMORY.with_borrow_mut(|memory| memory.take(bytes));
    if cfg!(any(test, feature = "checks")) {
        // NaN in every storage type: a kernel that reads what it did not write fails its tests.
        slab.bytes_mut()[..bytes].fill(0xff);
    }
    let result = f(&mut bytemuck::cast_slice_mut(&mut slab.bytes_mut()[..bytes])[..len]);
    MEMORY.with_borrow_mut(|memory| {
        memory.uses().end(bytes);
        memory.free.push(slab);
    });
    result
}

/// Gives each thread of the pool what any of them needed for a task so far: which thread meets which task is chance, and
/// without this a thread would allocate when it first meets one, steps later.
pub fn level(pool: &Pool) {
    let most = Mutex::new(Vec::new());
    let locked = || most.lock().unwrap_or_else(PoisonError::into_inner);
    pool.on_every_thread(|| MEMORY.with_borrow(|memory| raise(&mut locked(), &memory.tasks.most)));
    pool.on_every_thread(|| MEMORY.with_borrow_mut(|memory| memory.reserve(&locked())));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_scratch_is_separate_and_reused() {
        let first = with(100, |a: &mut [f32]| {
            a.fill(1.0);
            with(50, |b: &mut [f32]| b.fill(2.0));
            assert!(a.iter().all(|&x| x == 1.0));
            a.as_ptr() as usize
        });
        let second = with(90, |a: &mut [f32]| a.as_ptr() as usize);
        assert_eq!(first, second);
        assert_eq!(first % 64, 0);
    }

    /// What one thread met, others have room for: slabs of all sizes nested, in either order, beside what the caller holds.
    #[test]
    fn threads_have_room_for_each_others_tasks() {
        let pool = Pool::new(3);
        let meet = |outer: usize, inner: usize| with(outer, |_: &mut [u8]| with(inner, |_: &mut [u8]| ()));
        let tasks: [&(dyn Fn() + Sync); 3] = [&|| meet(1000, 70), &|| meet(64, 4000), &|| meet(500, 500)];
        with(1 << 20, |_: &mut [u8]| pool.run(3, |i| tasks[i]()));
        level(&pool);
        let lengths = |memory: &Memory| memory.free.iter().map(Slab::len).collect::<Vec<_>>();
        with(1 << 20, |_: &mut [u8]| {
            pool.on_every_thread(|| {
                let sorted = || {
                    let mut lengths = MEMORY.with_borrow(lengths);
                    lengths.sort_unstable();
                    lengths
                };
                let before = sorted();
                tasks.iter().for_each(|task| task());
                assert_eq!(sorted(), before, "a task grew a slab");
            });
        });
    }
}
