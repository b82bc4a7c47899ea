//! The blocked product: b is packed once by all threads, then tasks own tiles of c.

use super::blocks::{Blocks, part, steps};
use super::kernel::{Cols, Kernel, LINE, Place, Rows};
use super::pack::{pack, panel_len};
use super::{Output, Product};
use crate::Cpu;
use crate::pool::Disjoint;
use crate::scratch;
use crate::simd::{Elem, Simd, for_lanes};
use crate::simd_kernel;
use crate::tape::DType;
use std::ops::Range;

/// Elements of the largest tile of any kernel.
const MAX_TILE: usize = 14 * 32;

#[repr(align(64))]
struct Tile([f32; MAX_TILE]);

/// The part of b that is packed at one time.
pub(super) struct Packed<'a> {
    pub(super) cols: Range<usize>,
    pub(super) k: Range<usize>,
    pub(super) data: &'a [f32],
}

impl Packed<'_> {
    /// Columns with their padding.
    fn width<K: Kernel>(&self) -> usize {
        self.cols.len().next_multiple_of(K::COLS)
    }

    /// Where the panels of the K-block that starts at `k` begin: blocks before it are whole.
    fn block<K: Kernel>(&self, k: usize) -> usize {
        panel_len::<K>(self.width::<K>(), k - self.k.start)
    }

    /// How packing is cut, if `want` tasks should come about.
    pub(super) fn cut<K: Kernel>(&self, want: usize) -> PackTasks {
        let panels = self.cols.len().div_ceil(K::COLS);
        let k_blocks = self.k.len().div_ceil(K::K_BLOCK);
        let group = (panels * k_blocks).div_ceil(want).clamp(1, 8);
        PackTasks { k_blocks, group, groups: panels.div_ceil(group) }
    }
}

/// Packing as tasks: groups of panels of each K-block.
#[derive(Clone, Copy, Default)]
pub(super) struct PackTasks {
    k_blocks: usize,
    /// Panels per task.
    group: usize,
    groups: usize,
}

impl PackTasks {
    pub(super) fn count(self) -> usize {
        self.k_blocks * self.groups
    }
}

/// Where tiles are summed if c is narrower and takes several passes: `first` of c lies at their start.
pub(super) struct Sums<'a> {
    pub(super) data: Output<'a, f32>,
    pub(super) first: (usize, usize),
}

/// Whether c is too narrow to hold the sums of several passes.
pub(super) fn sums_aside<K: Kernel, C: Elem>(k: usize) -> bool {
    !matches!(C::DTYPE, DType::F32) && k > K::K_BLOCK
}

/// Computes `c = a·b` with one kernel.
pub(super) fn run<K: Kernel, A: Elem, B: Elem, C: Elem>(
    cpu: &Cpu,
    product: &Product<'_, A, B>,
    c: &Output<'_, C>,
) {
    let (m, n, k) = product.dims;
    let partial = sums_aside::<K, C>(k);
    let blocks = Blocks::new::<K>(product.dims, cpu.pool.threads(), partial);
    let room = panel_len::<K>(blocks.packed_cols.next_multiple_of(K::COLS), blocks.packed_k.min(k));
    scratch::with(if partial { m * blocks.packed_cols } else { 0 }, |sums: &mut [f32]| {
        let data = Output { data: Disjoint::new(sums), ld: blocks.packed_cols, accumulate: false };
        let mut sums = Sums { data, first: (0, 0) };
        scratch::with(room, |data: &mut [f32]| {
            for cols in steps(0..n, blocks.packed_cols) {
                sums.first.1 = cols.start;
                for k in steps(0..k, blocks.packed_k) {
                    let mut packed = Packed { cols: cols.clone(), k, data: &[] };
                    let (to, cut) = (Disjoint::new(data), packed.cut::<K>(4 * cpu.pool.threads()));
                    cpu.pool
                        .run(cut.count(), |task| pack_task::<K, A, B>(cpu, product, &packed, cut, task, &to));
                    packed.data = data;
                    multiply::<K, A, B, C>(cpu, product, &packed, &blocks, partial.then_some(&sums), c);
                }
            }
        });
    });
}

/// Packs one task's panels of b.
pub(super) fn pack_task<K: Kernel, A: Elem, B: Elem>(
    cpu: &Cpu,
    product: &Product<'_, A, B>,
    part: &Packed<'_>,
    cut: PackTasks,
    task: usize,
    data: &Disjoint<'_, f32>,
) {
    let (block, panel) = (task / cut.groups, task % cut.groups * cut.group);
    let from = part.k.start + block * K::K_BLOCK;
    let k = from..(from + K::K_BLOCK).min(part.k.end);
    let from = part.cols.start + panel * K::COLS;
    let cols = from..(from + cut.group * K::COLS).min(part.cols.end);
    let len = panel_len::<K>(K::COLS, k.len());
    let at = part.block::<K>(k.start) + panel * len;
    // SAFETY: each task owns its panels.
    let out = unsafe { data.slice(at, at + cols.len().div_ceil(K::COLS) * len) };
    pack::<K, Cols, B>(cpu.isa, product.b_source(), cols, k, product.round, out);
}

/// Multiplies the packed part of b by all of a, tiles of c in parallel.
fn multiply<K: Kernel, A: Elem, B: Elem, C: Elem>(
    cpu: &Cpu,
    product: &Product<'_, A, B>,
    packed: &Packed<'_>,
    blocks: &Blocks,
    sums: Option<&Sums<'_>>,
    c: &Output<'_, C>,
) {
    let Blocks { row_tasks, col_tasks, .. } = *blocks;
    cpu.pool.run(row_tasks * col_tasks, |task| {
        let rows = part(&(0..product.dims.0), K::ROWS, row_tasks, task / col_tasks);
        let cols = part(&packed.cols, K::COLS, col_tasks, task % col_tasks);
        let room = panel_len::<K>(rows.len().next_multiple_of(K::ROWS), packed.k.len().min(K::K_BLOCK));
        // SAFETY: this task's rows and columns are its own, and lie in c by the check at entry.
        unsafe { multiply_task::<K, A, B, C>(cpu, product, packed, (rows, cols), room, sums, c) };
    });
}

/// Multiplies some rows of a by some columns of the packed part of b; `room` holds a K-block of the rows.
///
/// # Safety
/// The caller owns those rows and columns of c and of the sums, which hold them.
pub(super) unsafe fn multiply_task<K: Kernel, A: Elem, B: Elem, C: Elem>(
    cpu: &Cpu,
    product: &Product<'_, A, B>,
    packed: &Packed<'_>,
    (rows, cols): (Range<usize>, Range<usize>),
    room: usize,
    sums: Option<&Sums<'_>>,
    c: &Output<'_, C>,
) {
    let whole_k = product.dims.2;
    scratch::with(room, |packed_a: &mut [f32]| {
        for k in steps(packed.k.clone(), K::K_BLOCK) {
            let len = panel_len::<K>(rows.len().next_multiple_of(K::ROWS), k.len());
            let packed_a = &mut packed_a[..len];
            let round = product.round;
            pack::<K, Rows, A>(cpu.isa, product.a_source(), rows.clone(), k.clone(), round, packed_a);
            // SAFETY: the caller's promise.
            unsafe { pass::<K, C>(cpu, (rows.clone(), cols.clone(), k), whole_k, packed_a, packed, sums, c) };
        }
    });
}

/// One K-block of one task: every tile of its rows and columns.
///
/// # Safety
/// The caller owns those rows and columns of c and of the sums, which hold them.
unsafe fn pass<K: Kernel, C: Elem>(
    cpu: &Cpu,
    (rows, cols, k): (Range<usize>, Range<usize>, Range<usize>),
    whole_k: usize,
    packed_a: &[f32],
    packed_b: &Packed<'_>,
    sums: Option<&Sums<'_>>,
    c: &Output<'_, C>,
) {
    const { assert!(K::ROWS * K::COLS <= MAX_TILE) };
    let units = super::pack::units::<K>(k.len());
    let (a_len, b_len) = (panel_len::<K>(K::ROWS, k.len()), panel_len::<K>(K::COLS, k.len()));
    for cols in steps(cols, K::COLS) {
        let at = packed_b.block::<K>(k.start) + (cols.start - packed_b.cols.start) / K::COLS * b_len;
        let b = &packed_b.data[at..at + b_len];
        // The next panel of b comes nearer with every tile of this one, so that its first tile need not wait for it.
        let share = b_len.div_ceil(rows.len().div_ceil(K::ROWS)).next_multiple_of(LINE / size_of::<f32>());
        let mut coming = b.as_ptr().wrapping_add(b_len);
        for (rows, a) in steps(rows.clone(), K::ROWS).zip(packed_a.chunks_exact(a_len)) {
            for line in (0..share).step_by(LINE / size_of::<f32>()) {
                // SAFETY: every CPU of the architecture has the instruction, which takes any address.
                unsafe { K::Lanes::prefetch(coming.wrapping_add(line)) };
            }
            coming = coming.wrapping_add(share);
            let size = (rows.len(), cols.len());
            // SAFETY: the panels hold `units`; c and the sums by the caller's promise.
            unsafe {
                let c_tile = c.place(rows.start, cols.start);
                let c_before = c.accumulate.then_some(c_tile.read());
                match sums {
                    None if k.start > 0 => {
                        tile::<K, C, C>(cpu, units, (a, b), c_tile, size, Some(c_tile.read()))
                    }
                    None => tile::<K, C, C>(cpu, units, (a, b), c_tile, size, c_before),
                    Some(sums) => {
                        let sum = sums.data.place(rows.start - sums.first.0, cols.start - sums.first.1);
                        let so_far = (k.start > 0).then_some(sum.read());
                        match (k.start, k.end == whole_k) {
                            (_, true) => tile::<K, C, f32>(cpu, units, (a, b), c_tile, size, so_far),
                            (0, _) => tile::<K, f32, C>(cpu, units, (a, b), sum, size, c_before),
                            _ => tile::<K, f32, f32>(cpu, units, (a, b), sum, size, so_far),
                        }
                    }
                }
            }
        }
    }
}

impl<C> Output<'_, C> {
    /// # Safety
    /// The element lies in c.
    unsafe fn place(&self, row: usize, col: usize) -> Place<*mut C> {
        // SAFETY: the caller's promise.
        Place { start: unsafe { self.data.as_ptr().add(row * self.ld + col) }, ld: self.ld }
    }
}

impl<C> Place<*mut C> {
    fn read(self) -> Place<*const C> {
        Place { start: self.start.cast_const(), ld: self.ld }
    }
}

/// One tile of c, of which `size` is wanted: in place where all is, else by way of a tile aside.
///
/// # Safety
/// The panels hold `units`, c and what was before their wanted parts.
#[inline(always)]
unsafe fn tile<K: Kernel, C: Elem, B: Elem>(
    cpu: &Cpu,
    units: usize,
    (a, b): (&[f32], &[f32]),
    c: Place<*mut C>,
    size: (usize, usize),
    before: Option<Place<*const B>>,
) {
    // SAFETY: the caller's promise; the tile aside is large enough for any kernel.
    unsafe {
        if size == (K::ROWS, K::COLS) {
            return K::tile(units, a.as_ptr(), b.as_ptr(), c, before);
        }
        let mut aside = Tile([0.0; MAX_TILE]);
        let whole = Place { start: aside.0.as_mut_ptr(), ld: K::COLS };
        K::tile::<f32, f32>(units, a.as_ptr(), b.as_ptr(), whole, None);
        settle::<C, B>(cpu.isa, whole.read(), c, size, before);
    }
}

simd_kernel! {
    /// Writes the wanted part of a tile to where it belongs, added to what was before.
    ///
    /// All places must be valid for `size`; this is checked by the callers, who are all in this file.
    fn settle<S, C: Elem, B: Elem>(
        from: Place<*const f32>,
        to: Place<*mut C>,
        size: (usize, usize),
        before: Option<Place<*const B>>,
    ) {
        for r in 0..size.0 {
            // SAFETY: row `r` of all, `i + n <= size.1`.
            unsafe {
                let (from, to) = (from.start.add(r * from.ld), to.start.add(r * to.ld));
                for_lanes!(S, size.1, |i, n| {
                    let mut sum = f32::load_n::<S>(from.add(i), n);
                    if let Some(before) = before {
                        sum = S::add(B::load_n::<S>(before.start.add(r * before.ld + i), n), sum);
                    }
                    C::store_n::<S>(to.add(i), sum, n);
                });
            }
        }
    }
}
