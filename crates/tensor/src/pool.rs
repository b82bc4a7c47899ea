//! Fork–join over a fixed set of threads: regions of microseconds, results independent of the count.
//!
//! A region hands out task numbers from one counter. Tasks write disjoint outputs and never combine
//! results across tasks in arrival order, so the number of threads cannot change a bit.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long an idle worker spins before it parks.
const SPIN: Duration = Duration::from_micros(60);

type Task<'a> = &'a (dyn Fn(usize) + Sync);

struct Shared {
    /// Held by the thread whose region is open.
    region: Mutex<()>,
    /// Increases by one per region; a worker that sees a new value joins that region.
    epoch: AtomicUsize,
    /// The region's closure. Written before `epoch` is raised, read only while the region is open.
    job: Mutex<Option<(Task<'static>, usize)>>,
    next: AtomicUsize,
    working: AtomicUsize,
    stop: AtomicBool,
    panic: Mutex<Option<Box<dyn std::any::Any + Send>>>,
}

/// A fixed set of worker threads; the calling thread works too.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

impl Pool {
    /// A pool that runs regions on `threads` threads, the caller's among them (at least 1).
    pub fn new(threads: usize) -> Pool {
        let shared = Arc::new(Shared {
            region: Mutex::new(()),
            epoch: AtomicUsize::new(0),
            job: Mutex::new(None),
            next: AtomicUsize::new(0),
            working: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            panic: Mutex::new(None),
        });
        let workers = (1..threads.max(1))
            .filter_map(|i| {
                let shared = Arc::clone(&shared);
                // A machine that refuses more threads still computes, only on fewer.
                thread::Builder::new().name(format!("smolt-{i}")).spawn(move || work(&shared)).ok()
            })
            .collect();
        Pool { shared, workers }
    }

    /// Number of threads a region runs on.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `task(i)` once for every `i` in `0..tasks`, in no particular order, and waits for all.
    ///
    /// A region opened inside a task, or while another thread's is open, runs on its own thread alone. A panic in a task
    /// is re-raised here after the region has ended.
    pub fn run(&self, tasks: usize, task: impl Fn(usize) + Sync) {
        if tasks <= 1 || self.workers.is_empty() || INSIDE.get() {
            (0..tasks).for_each(task);
            return;
        }
        let region = match self.shared.region.try_lock() {
            Ok(region) => region,
            Err(TryLockError::Poisoned(region)) => region.into_inner(),
            Err(TryLockError::WouldBlock) => {
                (0..tasks).for_each(task);
                return;
            }
        };
        self.open(region, tasks, &task);
    }

    /// Calls `task` once on each thread, on all at the same time, and waits for them. Inside a task: on its own thread.
    pub(crate) fn on_every_thread(&self, task: impl Fn() + Sync) {
        if self.workers.is_empty() || INSIDE.get() {
            return task();
        }
        let here = AtomicUsize::new(0);
        self.open(lock(&self.shared.region), self.threads(), &|_| {
            // Who has one task waits in it until every thread has one.
            here.fetch_add(1, Ordering::Relaxed);
            while here.load(Ordering::Relaxed) < self.threads() {
                thread::yield_now();
            }
            task();
        });
    }

    /// Opens the region that `region` stands for.
    fn open(&self, region: MutexGuard<'_, ()>, tasks: usize, task: Task<'_>) {
        // SAFETY: the closure outlives every use: this call returns only once `working` is back to
        // zero, and workers take the job only between the raising of `epoch` and that moment. `region` sees to it that
        // job and counters are this call's until then.
        let task: Task<'static> = unsafe { std::mem::transmute::<Task<'_>, Task<'static>>(task) };
        let shared = &*self.shared;
        *lock(&shared.job) = Some((task, tasks));
        shared.next.store(0, Ordering::Relaxed);
        shared.working.store(self.workers.len(), Ordering::Relaxed);
        shared.epoch.fetch_add(1, Ordering::Release);
        self.workers.iter().for_each(|worker| worker.thread().unpark());
        drain(shared, task, tasks);
        let mut spins = 0u32;
        while shared.working.load(Ordering::Acquire) != 0 {
            spins += 1;
            if spins < 10_000 { std::hint::spin_loop() } else { thread::yield_now() }
        }
        *lock(&shared.job) = None;
        // Before the next region of another thread may leave its own.
        let panic = lock(&shared.panic).take();
        drop(region);
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
    }

    /// Splits `data` into chunks of `len` elements (the last may be shorter) and calls
    /// `task(chunk index, chunk)` for each.
    pub fn for_each_chunk<T: Send>(&self, data: &mut [T], len: usize, task: impl Fn(usize, &mut [T]) + Sync) {
        let len = len.max(1);
        let shared = Disjoint::new(data);
        self.run(shared.len().div_ceil(len), |i| {
            let end = ((i + 1) * len).min(shared.len());
            // SAFETY: chunk `i` belongs to task `i` alone.
            task(i, unsafe { shared.slice(i * len, end) });
        });
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            let _ = worker.join();
        }
    }
}

/// A mutable slice shared by tasks that each write their own part.
pub struct Disjoint<'a, T> {
    pointer: *mut T,
    len: usize,
    _borrow: std::marker::PhantomData<&'a mut [T]>,
}

// SAFETY: parts are handed out by `slice`, whose contract makes them disjoint between threads.
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    /// Borrows `data` for tasks that write disjoint parts of it.
    pub fn new(data: &'a mut [T]) -> Self {
        Disjoint { pointer: data.as_mut_ptr(), len: data.len(), _borrow: std::marker::PhantomData }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first element's address, for kernels that write strided tiles.
    pub fn as_ptr(&self) -> *mut T {
        self.pointer
    }

    /// The elements `start..end`, to be cut further.
    pub fn part(&self, start: usize, end: usize) -> Disjoint<'_, T> {
        assert!(start <= end && end <= self.len, "part {start}..{end} of {}", self.len);
        // SAFETY: in bounds by the assertion.
        let pointer = unsafe { self.pointer.add(start) };
        Disjoint { pointer, len: end - start, _borrow: std::marker::PhantomData }
    }

    /// The elements `start..end`.
    ///
    /// # Safety
    /// No two live slices may overlap.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn slice(&self, start: usize, end: usize) -> &mut [T] {
        assert!(start <= end && end <= self.len, "part {start}..{end} of {}", self.len);
        // SAFETY: in bounds by the assertion; disjoint by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.pointer.add(start), end - start) }
    }
}

/// Whether this thread is at a task of a region.
pub(crate) fn inside() -> bool {
    INSIDE.get()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn drain(shared: &Shared, task: Task<'_>, tasks: usize) {
    INSIDE.set(true);
    let result = catch_unwind(AssertUnwindSafe(|| {
        loop {
            let i = shared.next.fetch_add(1, Ordering::Relaxed);
            if i >= tasks {
                break;
            }
            task(i);
        }
    }));
    INSIDE.set(false);
    if let Err(payload) = result {
        shared.next.store(tasks, Ordering::Relaxed);
        *lock(&shared.panic) = Some(payload);
    }
}

fn work(shared: &Shared) {
    let mut seen = 0;
    loop {
        let idle = Instant::now();
        while shared.epoch.load(Ordering::Acquire) == seen {
            if shared.stop.load(Ordering::Acquire) {
                return;
            }
            if idle.elapsed() < SPIN { std::hint::spin_loop() } else { thread::park() }
        }
        seen += 1;
        let job = *lock(&shared.job);
        if let Some((task, tasks)) = job {
            drain(shared, task, tasks);
        }
        shared.working.fetch_sub(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once_on_any_thread_count() {
        for threads in [1, 2, 5] {
            let pool = Pool::new(threads);
            for round in 0..200 {
                let counts: Vec<AtomicUsize> = (0..round).map(|_| AtomicUsize::new(0)).collect();
                pool.run(round, |i| {
                    counts[i].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn every_thread_is_met_once() {
        let pool = Pool::new(4);
        for _ in 0..50 {
            let met = Mutex::new(std::collections::HashSet::new());
            pool.on_every_thread(|| assert!(lock(&met).insert(thread::current().id())));
            assert_eq!(lock(&met).len(), 4);
        }
    }

    #[test]
    fn a_panic_is_carried_over_and_the_pool_lives_on() {
        let pool = Pool::new(3);
        let result = catch_unwind(AssertUnwindSafe(|| pool.run(8, |i| assert!(i != 5, "task five"))));
        assert!(result.is_err());
        let sum = AtomicUsize::new(0);
        pool.run(10, |i| {
            sum.fetch_add(i, Ordering::Relaxed);
        });
        assert_eq!(sum.into_inner(), 45);
    }

    #[test]
    fn threads_that_share_a_pool_do_not_mix_their_regions() {
        let pool = Pool::new(3);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for round in 0..500 {
                        let sum = AtomicUsize::new(0);
                        pool.run(round % 17, |i| {
                            sum.fetch_add(i + 1, Ordering::Relaxed);
                        });
                        assert_eq!(sum.into_inner(), (round % 17) * (round % 17 + 1) / 2);
                    }
                });
            }
        });
    }

    #[test]
    fn a_nested_region_runs_inline() {
        let pool = Pool::new(2);
        let sum = AtomicUsize::new(0);
        pool.run(4, |_| {
            pool.run(4, |i| {
                sum.fetch_add(i, Ordering::Relaxed);
            });
        });
        assert_eq!(sum.into_inner(), 24);
    }

    #[test]
    fn chunks_cover_the_slice() {
        let pool = Pool::new(2);
        let mut data = vec![0usize; 103];
        pool.for_each_chunk(&mut data, 10, |i, chunk| chunk.fill(i));
        assert!(data.iter().enumerate().all(|(at, &i)| i == at / 10));
    }
}
