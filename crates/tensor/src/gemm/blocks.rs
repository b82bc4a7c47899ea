//! How a product is cut. None of these sizes changes a bit of the result: only the K-block does, and that is
//! a constant of the kernel.

use super::kernel::Kernel;
use super::pack::units;
use std::ops::Range;
use std::sync::OnceLock;

/// The most packed elements of b that exist at one time (32 MiB).
pub(super) const PACKED: usize = 8 << 20;

/// Columns below which b is cut along k instead; so many columns of fp32 sums exist at one time.
pub(super) const NARROW: usize = 1024;

/// Tasks per thread: enough to even out threads that are slowed by others.
const TASKS: usize = 3;

/// Sizes of the cuts of one product.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blocks {
    /// Columns of b that are packed at one time, a multiple of the tile's unless all.
    pub(super) packed_cols: usize,
    /// Inner indices that are packed at one time, a multiple of the K-block unless all.
    pub(super) packed_k: usize,
    /// Parts that the rows of c are cut into, one a task.
    pub(super) row_tasks: usize,
    /// Parts that the packed columns are cut into, one a task.
    pub(super) col_tasks: usize,
}

impl Blocks {
    /// Cuts for a shape m, n, k; `summed` when c needs fp32 sums beside it, `[m, packed_cols]`.
    pub(super) fn new<K: Kernel>((m, n, k): (usize, usize, usize), threads: usize, summed: bool) -> Blocks {
        let packed = packed();
        let room = if summed { NARROW } else { (packed / units::<K>(k).max(1)).max(NARROW) };
        let packed_cols = if n <= room { n } else { room.next_multiple_of(K::COLS) };
        let room = packed / packed_cols.next_multiple_of(K::COLS) / units::<K>(K::K_BLOCK);
        let packed_k = room.max(1) * K::K_BLOCK;
        let most_rows = most_rows::<K>(k.min(K::K_BLOCK));
        let (row_tasks, col_tasks) = tasks::<K>(m, packed_cols, most_rows, wanted(threads));
        Blocks { packed_cols, packed_k, row_tasks, col_tasks }
    }
}

/// Tasks that all work of a region should make at least.
pub(super) fn wanted(threads: usize) -> usize {
    if threads > 1 { threads * TASKS } else { 1 }
}

/// A task's rows of a, `k` wide, fill half the second-level cache, so that they stay while columns pass by.
pub(super) fn most_rows<K: Kernel>(k: usize) -> usize {
    let row_bytes = size_of::<f32>() * units::<K>(k).max(1);
    (second_level_cache() / 2 / row_bytes).max(4 * K::ROWS)
}

/// Parts of m rows, of which a task takes `most_rows` at most, and of columns, so that `want` tasks come about.
pub(super) fn tasks<K: Kernel>(m: usize, cols: usize, most_rows: usize, want: usize) -> (usize, usize) {
    let row_tasks = m.div_ceil(most_rows).max(want.min(m.div_ceil(4 * K::ROWS)));
    // Columns are cut where rows are too few, because each part packs the rows again.
    (row_tasks, want.div_ceil(row_tasks).min(cols.div_ceil(4 * K::COLS)))
}

/// Part `i` of `parts` of a range, in whole panels of `lanes`, as even as these allow.
pub(super) fn part(range: &Range<usize>, lanes: usize, parts: usize, i: usize) -> Range<usize> {
    let panels = range.len().div_ceil(lanes);
    let at = |i: usize| (range.start + panels * i / parts * lanes).min(range.end);
    at(i)..at(i + 1)
}

/// `range` in steps of `step`, as ranges.
pub(super) fn steps(range: Range<usize>, step: usize) -> impl Iterator<Item = Range<usize>> {
    let end = range.end;
    range.step_by(step).map(move |at| at..(at + step).min(end))
}

/// Packed elements of b that exist at one time: a quarter of the third-level cache, so that they stay there while rows of a
/// pass by, or [`PACKED`] where that is less or the system tells of none.
fn packed() -> usize {
    static BYTES: OnceLock<usize> = OnceLock::new();
    let bytes = *BYTES.get_or_init(|| cache(3).map_or(usize::MAX, |bytes| (bytes / 4).max(4 << 20)));
    (bytes / size_of::<f32>()).min(PACKED)
}

/// Bytes of the second-level cache of the first core, 1 MiB where the system does not tell.
fn second_level_cache() -> usize {
    static BYTES: OnceLock<usize> = OnceLock::new();
    *BYTES.get_or_init(|| cache(2).unwrap_or(1 << 20).clamp(128 << 10, 16 << 20))
}

/// Bytes of a cache of the first core, if the system tells.
fn cache(level: usize) -> Option<usize> {
    let read = |file: &str| {
        std::fs::read_to_string(format!("/sys/devices/system/cpu/cpu0/cache/index{level}/{file}")).ok()
    };
    read("level").filter(|found| found.trim().parse() == Ok(level))?;
    let kib: usize = read("size")?.trim().strip_suffix('K')?.parse().ok()?;
    Some(kib << 10)
}
