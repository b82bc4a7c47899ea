//! The blocked product: b is packed once by all threads, then tasks own tiles of c.

use super::blocks::{Blocks, steps};
use super::kernel::{Cols, Kernel, Rows};
use super::pack::{Source, pack, panel_len};
use super::{Output, Product};
use crate::Cpu;
use crate::pool::Disjoint;
use crate::scratch;
use crate::simd::{Elem, for_lanes};
use crate::simd_kernel;
use crate::tape::DType;
use std::ops::Range;

/// Elements of the largest tile of any kernel.
const MAX_TILE: usize = 14 * 32;

#[repr(align(64))]
struct Tile([f32; MAX_TILE]);

/// The part of b that is packed at one time.
struct Packed<'a> {
    cols: Range<usize>,
    k: Range<usize>,
    data: &'a [f32],
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
}

/// Where tiles are summed: c itself, or fp32 sums where c is narrower and takes several passes.
struct Sums<'a> {
    data: Disjoint<'a, f32>,
    ld: usize,
}

/// Computes `c = a·b` with one kernel.
pub(super) fn run<K: Kernel, A: Elem, B: Elem, C: Elem>(
    cpu: &Cpu,
    product: &Product<'_, A, B>,
    c: &Output<'_, C>,
) {
    let (m, n, k) = product.dims;
    let partial = !matches!(C::DTYPE, DType::F32) && k > K::K_BLOCK;
    let blocks = Blocks::new::<K>(product.dims, cpu.pool.threads(), partial);
    let room = panel_len::<K>(blocks.packed_cols.next_multiple_of(K::COLS), blocks.packed_k.min(k));
    scratch::with(if partial { m * blocks.packed_cols } else { 0 }, |sums: &mut [f32]| {
        let sums = Sums { data: Disjoint::new(sums), ld: blocks.packed_cols };
        scratch::with(room, |data: &mut [f32]| {
            for cols in steps(0..n, blocks.packed_cols) {
                for k in steps(0..k, blocks.packed_k) {
                    let mut packed = Packed { cols: cols.clone(), k, data: &[] };
                    pack_b::<K, B>(cpu, product.b_source(), product.round, &packed, data);
                    packed.data = data;
                    multiply::<K, A, B, C>(cpu, product, &packed, &blocks, partial.then_some(&sums), c);
                }
            }
        });
    });
}

/// Packs b by panels in parallel.
fn pack_b<K: Kernel, B: Elem>(cpu: &Cpu, b: Source<'_, B>, round: bool, part: &Packed<'_>, data: &mut [f32]) {
    let panels = part.cols.len().div_ceil(K::COLS);
    let k_blocks = part.k.len().div_ceil(K::K_BLOCK);
    let group = (panels * k_blocks).div_ceil(4 * cpu.pool.threads()).clamp(1, 8);
    let groups = panels.div_ceil(group);
    let data = Disjoint::new(data);
    cpu.pool.run(k_blocks * groups, |task| {
        let (block, panel) = (task / groups, task % groups * group);
        let from = part.k.start + block * K::K_BLOCK;
        let k = from..(from + K::K_BLOCK).min(part.k.end);
        let from = part.cols.start + panel * K::COLS;
        let cols = from..(from + group * K::COLS).min(part.cols.end);
        let len = panel_len::<K>(K::COLS, k.len());
        let at = part.block::<K>(k.start) + panel * len;
        // SAFETY: each task owns its panels.
        let out = unsafe { data.slice(at, at + cols.len().div_ceil(K::COLS) * len) };
        pack::<K, Cols, B>(cpu.isa, b, cols, k, round, out);
    });
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
    let (m, _, k) = product.dims;
    let col_tasks = packed.cols.len().div_ceil(blocks.task_cols);
    cpu.pool.run(m.div_ceil(blocks.task_rows) * col_tasks, |task| {
        let from = task / col_tasks * blocks.task_rows;
        let rows = from..(from + blocks.task_rows).min(m);
        let from = packed.cols.start + task % col_tasks * blocks.task_cols;
        let cols = from..(from + blocks.task_cols).min(packed.cols.end);
        let room = panel_len::<K>(rows.len().next_multiple_of(K::ROWS), packed.k.len().min(K::K_BLOCK));
        scratch::with(room, |packed_a: &mut [f32]| {
            for k in steps(packed.k.clone(), K::K_BLOCK) {
                let len = panel_len::<K>(rows.len().next_multiple_of(K::ROWS), k.len());
                let packed_a = &mut packed_a[..len];
                let round = product.round;
                pack::<K, Rows, A>(cpu.isa, product.a_source(), rows.clone(), k.clone(), round, packed_a);
                // SAFETY: this task's rows and columns are its own, and lie in c by the check at entry.
                unsafe { pass::<K, C>(cpu, (rows.clone(), cols.clone(), k), packed_a, packed, sums, c) };
            }
        });
        if let (Some(sums), true) = (sums, packed.k.end == k) {
            // SAFETY: as above.
            unsafe {
                let from = sums.data.as_ptr().add(rows.start * sums.ld + cols.start - packed.cols.start);
                let to = c.data.as_ptr().add(rows.start * c.ld + cols.start);
                settle::<C>(cpu.isa, from, sums.ld, to, c.ld, (rows.len(), cols.len()), c.accumulate);
            }
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
        for (rows, a) in steps(rows.clone(), K::ROWS).zip(packed_a.chunks_exact(a_len)) {
            // SAFETY: the panels hold `units`; c and the sums by the caller's promise.
            unsafe {
                match sums {
                    None => {
                        let to = c.data.as_ptr().add(rows.start * c.ld + cols.start);
                        let add = c.accumulate || k.start > 0;
                        tile::<K, C>(cpu, units, (a, b), (to, c.ld), (rows.len(), cols.len()), add);
                    }
                    Some(sums) => {
                        let column = cols.start - packed_b.cols.start;
                        let to = sums.data.as_ptr().add(rows.start * sums.ld + column);
                        tile::<K, f32>(
                            cpu,
                            units,
                            (a, b),
                            (to, sums.ld),
                            (rows.len(), cols.len()),
                            k.start > 0,
                        );
                    }
                }
            }
        }
    }
}

/// One tile of c, of which `size` is wanted: in place where all is, else by way of a tile aside.
///
/// # Safety
/// The panels hold `units`, and c its wanted part.
#[inline(always)]
unsafe fn tile<K: Kernel, C: Elem>(
    cpu: &Cpu,
    units: usize,
    (a, b): (&[f32], &[f32]),
    (to, ld): (*mut C, usize),
    size: (usize, usize),
    add: bool,
) {
    // SAFETY: the caller's promise; the tile aside is large enough for any kernel.
    unsafe {
        if size == (K::ROWS, K::COLS) {
            return K::tile(units, a.as_ptr(), b.as_ptr(), to, ld, add);
        }
        let mut aside = Tile([0.0; MAX_TILE]);
        K::tile(units, a.as_ptr(), b.as_ptr(), aside.0.as_mut_ptr(), K::COLS, false);
        settle::<C>(cpu.isa, aside.0.as_ptr(), K::COLS, to, ld, size, add);
    }
}

simd_kernel! {
    /// Writes a block of fp32 sums to where it belongs, or adds it.
    ///
    /// Both pointers must be valid for `size`; this is checked by the callers, who are all in this file.
    fn settle<S, C: Elem>(
        from: *const f32,
        from_ld: usize,
        to: *mut C,
        to_ld: usize,
        size: (usize, usize),
        add: bool,
    ) {
        for r in 0..size.0 {
            // SAFETY: row `r` of both, `i + n <= size.1`.
            unsafe {
                let (from, to) = (from.add(r * from_ld), to.add(r * to_ld));
                for_lanes!(S, size.1, |i, n| {
                    let mut sum = f32::load_n::<S>(from.add(i), n);
                    if add {
                        sum = S::add(C::load_n::<S>(to.add(i), n), sum);
                    }
                    C::store_n::<S>(to.add(i), sum, n);
                });
            }
        }
    }
}
