//! Many products at once, as the experts of a mixture need them (MOE-01): the tasks of all share one fork–join, so
//! that neither many small products nor a few of unequal size leave threads idle.
//!
//! Each product has the bits that [`gemm`](super::gemm) gives it. Workspace is asked for by the sum of the shapes, so
//! that it does not grow when rows move from one product to another.

use super::blocked::{self, PackTasks, Packed, Sums};
use super::blocks::{NARROW, PACKED, most_rows, part, tasks, wanted};
use super::kernel::Kernel;
use super::pack::panel_len;
use super::{Output, Precision, Product, View, small, with_kernel};
use crate::Cpu;
use crate::pool::Disjoint;
use crate::scratch;
use crate::simd::Elem;

/// The most products of one fork–join.
const BATCH: usize = 64;

/// Padding along k of one packed operand, at most.
const PADDING: usize = 32;

/// One product of a group.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a, A, B> {
    /// m, n, k
    pub dims: (usize, usize, usize),
    /// `[m, k]`
    pub a: View<'a, A>,
    /// `[k, n]`
    pub b: View<'a, B>,
    /// The element of the group's c from which on `[m, n]` lies, row after row.
    pub c: usize,
}

/// For each of `count` jobs `c = a·b`, or `+=` when `accumulate`.
///
/// # Panics
/// When a view or c is too small for a shape, or parts of c are not one after another.
pub fn grouped<'a, A: Elem, B: Elem, C: Elem>(
    cpu: &Cpu,
    precision: Precision,
    count: usize,
    job: impl Fn(usize) -> Job<'a, A, B> + Sync,
    c: &mut [C],
    accumulate: bool,
) {
    check(count, &job, c.len());
    let round = precision == Precision::Bf16;
    let group = Group { cpu, count, job, round, accumulate, c: Disjoint::new(c) };
    (0..count).for_each(|i| group.without_packing(i));
    with_kernel!(cpu.isa, precision, K => group.packed::<K, A, B>());
}

fn check<'a, A: Elem, B: Elem>(count: usize, job: &impl Fn(usize) -> Job<'a, A, B>, len: usize) {
    let mut end = 0;
    for i in 0..count {
        let Job { dims: (m, n, _), c, .. } = job(i);
        assert!(end <= c, "gemm: parts of c overlap or are out of order");
        end = c + m * n;
        assert!(end <= len, "gemm: c [{m}, {n}] from {c} on in {len} elements");
    }
}

struct Group<'g, F, C> {
    cpu: &'g Cpu,
    count: usize,
    job: F,
    round: bool,
    accumulate: bool,
    c: Disjoint<'g, C>,
}

/// How one product of a batch is cut, and where its tasks begin among those of all.
#[derive(Clone, Copy, Default)]
struct Cut {
    job: usize,
    /// Where its packed b begins.
    at: usize,
    pack: PackTasks,
    first_pack: usize,
    row_tasks: usize,
    col_tasks: usize,
    first_task: usize,
}

/// Products whose b is packed at the same time.
struct Batch {
    cuts: [Cut; BATCH],
    len: usize,
    packs: usize,
    tasks: usize,
}

impl Batch {
    fn cuts(&self) -> &[Cut] {
        &self.cuts[..self.len]
    }
}

impl<'a, F, C: Elem> Group<'_, F, C> {
    fn product<A: Elem, B: Elem>(&self, i: usize) -> (Product<'a, A, B>, Output<'_, C>)
    where
        F: Fn(usize) -> Job<'a, A, B>,
    {
        let Job { dims, a, b, c } = (self.job)(i);
        let (m, n, k) = dims;
        // Every time, because a job may be another than it was.
        if m > 0 && n > 0 && k > 0 {
            a.check("a", m, k);
            b.check("b", k, n);
        }
        let data = self.c.part(c, c + m * n);
        (Product { dims, a, b, round: self.round }, Output { data, ld: n, accumulate: self.accumulate })
    }

    /// Does a product that needs no packing.
    fn without_packing<A: Elem, B: Elem>(&self, i: usize)
    where
        F: Fn(usize) -> Job<'a, A, B>,
    {
        let (product, c) = self.product(i);
        match product.dims {
            (0, ..) | (_, 0, _) => {}
            (.., 0) if self.accumulate => {}
            (.., 0) => {
                // SAFETY: this product's part of c, of which nothing else is handed out now.
                let part = unsafe { c.data.slice(0, c.data.len()) };
                self.cpu.pool.for_each_chunk(part, 1 << 16, |_, part| part.fill(C::from_f32(0.0)));
            }
            _ if small::suits(&product) => small::run(self.cpu, &product, &c),
            _ => {}
        }
    }

    /// Does all others, as many at a time as can be packed.
    fn packed<K: Kernel, A: Elem, B: Elem>(&self)
    where
        F: Fn(usize) -> Job<'a, A, B> + Sync,
    {
        let room: usize = (0..self.count).map(|i| most_packed::<K>((self.job)(i).dims)).sum();
        scratch::with(room.min(PACKED), |data: &mut [f32]| {
            let mut next = 0;
            while next < self.count {
                let (batch, after) = self.batch::<K, A, B>(next);
                match batch.len {
                    // Nothing to do, or what is too large to be packed at once.
                    0 if !skipped(&self.product(next).0) => {
                        let (product, c) = self.product(next);
                        blocked::run::<K, A, B, C>(self.cpu, &product, &c);
                    }
                    0 => {}
                    _ => self.run::<K, A, B>(&batch, data),
                }
                next = after;
            }
        });
    }

    /// Products from `next` on that can be packed together, and the first after them.
    fn batch<K: Kernel, A: Elem, B: Elem>(&self, next: usize) -> (Batch, usize)
    where
        F: Fn(usize) -> Job<'a, A, B>,
    {
        let mut batch = Batch { cuts: [Cut::default(); BATCH], len: 0, packs: 0, tasks: 0 };
        let (mut end, mut room, mut work) = (next, PACKED, 0);
        while end < self.count && batch.len < BATCH {
            let (product, _) = self.product(end);
            let most = most_packed::<K>(product.dims);
            let skipped = skipped(&product);
            if !skipped {
                if most > room {
                    break;
                }
                batch.cuts[batch.len] = Cut { job: end, at: PACKED - room, ..Cut::default() };
                batch.len += 1;
                room -= most;
                work += volume(product.dims);
            }
            end += 1;
        }
        let threads = self.cpu.pool.threads();
        for cut in &mut batch.cuts[..batch.len] {
            let dims = self.product(cut.job).0.dims;
            // Tasks in proportion to the work, twice as many as for one product, because they are less alike.
            let want = |all: usize| (all * volume(dims)).div_ceil(work.max(1)).max(1);
            cut.pack = whole_b(dims).cut::<K>(want(4 * threads));
            let most_rows = most_rows::<K>(K::K_BLOCK);
            (cut.row_tasks, cut.col_tasks) = tasks::<K>(dims.0, dims.1, most_rows, want(2 * wanted(threads)));
            if blocked::sums_aside::<K, C>(dims.2) {
                cut.col_tasks = cut.col_tasks.max(dims.1.div_ceil(NARROW));
            }
            (cut.first_pack, cut.first_task) = (batch.packs, batch.tasks);
            batch.packs += cut.pack.count();
            batch.tasks += cut.row_tasks * cut.col_tasks;
        }
        (batch, end.max(next + 1))
    }

    fn run<K: Kernel, A: Elem, B: Elem>(&self, batch: &Batch, data: &mut [f32])
    where
        F: Fn(usize) -> Job<'a, A, B> + Sync,
    {
        let to = Disjoint::new(data);
        self.cpu.pool.run(batch.packs, |task| {
            let cuts = batch.cuts();
            let cut = cuts[cuts.partition_point(|cut| cut.first_pack <= task) - 1];
            let (product, _) = self.product(cut.job);
            let to = to.part(cut.at, to.len());
            let packed = whole_b(product.dims);
            blocked::pack_task::<K, A, B>(self.cpu, &product, &packed, cut.pack, task - cut.first_pack, &to);
        });
        let data = &*data;
        self.cpu.pool.run(batch.tasks, |task| {
            let cuts = batch.cuts();
            let cut = cuts[cuts.partition_point(|cut| cut.first_task <= task) - 1];
            self.multiply::<K, A, B>(&cut, task - cut.first_task, &data[cut.at..]);
        });
    }

    /// One task of one product.
    fn multiply<K: Kernel, A: Elem, B: Elem>(&self, cut: &Cut, task: usize, data: &[f32])
    where
        F: Fn(usize) -> Job<'a, A, B>,
    {
        let (product, c) = self.product(cut.job);
        let (m, n, k) = product.dims;
        let packed = Packed { data, ..whole_b(product.dims) };
        let rows = part(&(0..m), K::ROWS, cut.row_tasks, task / cut.col_tasks);
        let cols = part(&(0..n), K::COLS, cut.col_tasks, task % cut.col_tasks);
        // As much as any task can need, lest the next one needs more.
        let most_rows = most_rows::<K>(K::K_BLOCK).next_multiple_of(K::ROWS);
        let room = panel_len::<K>(most_rows, K::K_BLOCK);
        let partial = blocked::sums_aside::<K, C>(k);
        let sums = if partial { most_rows * n.min(NARROW).next_multiple_of(K::COLS) } else { 0 };
        scratch::with(sums, |sums: &mut [f32]| {
            let data = Output { data: Disjoint::new(sums), ld: cols.len(), accumulate: false };
            let sums = Sums { data, first: (rows.start, cols.start) };
            let sums = partial.then_some(&sums);
            // SAFETY: this task's rows and columns are its own; they lie in c by the check at entry, and the sums
            // hold as many rows as a task has and as many columns as parts of NARROW or fewer have.
            unsafe {
                blocked::multiply_task::<K, A, B, C>(
                    self.cpu,
                    &product,
                    &packed,
                    (rows, cols),
                    room,
                    sums,
                    &c,
                );
            }
        });
    }
}

/// Whether a product is done without packing.
fn skipped<A: Elem, B: Elem>(product: &Product<'_, A, B>) -> bool {
    let (m, n, k) = product.dims;
    m == 0 || n == 0 || k == 0 || small::suits(product)
}

/// All of b as one packed part.
fn whole_b((_, n, k): (usize, usize, usize)) -> Packed<'static> {
    Packed { cols: 0..n, k: 0..k, data: &[] }
}

/// Elements that a packed b takes at most: a bound that is linear in k, so that the sum over products depends on the
/// sum of their k only.
fn most_packed<K: Kernel>((_, n, k): (usize, usize, usize)) -> usize {
    n.next_multiple_of(K::COLS) * (k + PADDING)
}

fn volume((m, n, k): (usize, usize, usize)) -> usize {
    m * n * k
}
