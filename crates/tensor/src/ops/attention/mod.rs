//! Causal grouped-query attention inside documents (ATT-01, PKD-03), forward, backward and with a
//! key–value cache, in memory linear in the number of rows.
//!
//! Multi-head, grouped-query and multi-query attention are one op: `kv_heads` equal to `heads`, a
//! divisor of it, or 1. Query head `h` reads key–value head `h / (heads / kv_heads)`.
//!
//! Scores exist only as tiles of [`ATTENTION_TILE`](crate::order::ATTENTION_TILE) squared: the forward pass keeps a running
//! maximum and sum per row (online softmax) and saves the log-sum-exp, from which the backward pass
//! computes the probabilities again, tile by tile (Dao et al., FlashAttention, 2022), in strips of key
//! tiles, so that no sum is shared between tasks. Tiles above the diagonal or outside the document are never visited.
//!
//! Products are fp32, or of bf16 operands with fp32 sums where storage is bf16 and the CPU multiplies it faster; softmax
//! and its derivative are fp32 for every storage type.

mod arithmetic;
mod backward;
mod cached;
mod forward;
mod mask;
mod node;
mod operands;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;
mod tile;

pub use cached::{PADDING, append, cached};

use crate::Cpu;
use crate::order::{ATTENTION_STRIPS, MOST_STRIPS};
use crate::pool::Disjoint;
use crate::scratch;
use crate::simd::Elem;
use backward::{Output, QuerySums, Strip};
use operands::Rows;
use tile::TILE;

/// The heads of an attention layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Query heads, a multiple of `kv_heads`.
    pub heads: usize,
    /// Key–value heads, each shared by `heads / kv_heads` consecutive query heads.
    pub kv_heads: usize,
    /// Features per head.
    pub head_dim: usize,
}

impl Shape {
    /// Query heads per key–value head.
    pub const fn group(self) -> usize {
        self.heads / self.kv_heads
    }

    /// Width of a row of queries, keys and values together.
    pub const fn qkv_width(self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }

    /// Width of a row of outputs.
    pub const fn out_width(self) -> usize {
        self.heads * self.head_dim
    }

    /// Where key head `kv` begins in a row of `qkv`.
    const fn key_at(self, kv: usize) -> usize {
        (self.heads + kv) * self.head_dim
    }

    /// Where value head `kv` begins in a row of `qkv`.
    const fn value_at(self, kv: usize) -> usize {
        (self.heads + self.kv_heads + kv) * self.head_dim
    }

    fn check(self) {
        let Shape { heads, kv_heads, head_dim } = self;
        assert!(
            kv_heads > 0 && head_dim > 0 && heads > 0 && heads.is_multiple_of(kv_heads),
            "attention: {heads} heads of {head_dim} must be a positive multiple of {kv_heads} key-value heads"
        );
    }
}

/// What forward and backward read.
struct Input<'a, E> {
    shape: Shape,
    scale: f32,
    segments: &'a [u32],
    qkv: &'a [E],
}

impl<'a, E: Elem> Input<'a, E> {
    fn new(shape: Shape, scale: f32, segments: &'a [u32], qkv: &'a [E]) -> Self {
        shape.check();
        assert!(scale > 0.0, "attention: scale {scale} is not positive");
        let n = segments.len();
        assert!(qkv.len() == n * shape.qkv_width(), "attention: qkv is not [{n}, {}]", shape.qkv_width());
        let causal = segments.iter().enumerate().all(|(row, &first)| first as usize <= row);
        assert!(
            causal && segments.is_sorted(),
            "attention: segments must not decrease, nor exceed their row"
        );
        Input { shape, scale, segments, qkv }
    }

    fn rows(&self) -> usize {
        self.segments.len()
    }

    /// Tiles of rows, the last of which may be short.
    fn tiles(&self) -> usize {
        self.rows().div_ceil(TILE)
    }

    /// Tasks of one pass: every key–value head of every tile of rows.
    fn tasks(&self) -> usize {
        self.tiles() * self.shape.kv_heads
    }

    /// The row after the last that sees a key of `tile`: rows that see its last key are the last that see any of it.
    fn seen_by(&self, tile: usize) -> usize {
        let end = ((tile + 1) * TILE).min(self.rows());
        self.segments.partition_point(|&start| (start as usize) < end)
    }

    /// Whether no row from `tile` on sees a key before it.
    fn starts_island(&self, tile: usize) -> bool {
        self.segments[tile * TILE] as usize >= tile * TILE
    }

    /// The key–value head and the tile of a task.
    fn task(&self, i: usize) -> (usize, usize) {
        (i % self.shape.kv_heads, i / self.shape.kv_heads)
    }

    /// The head that begins at feature `at` of each row.
    fn head(&self, at: usize) -> Rows<'a, E> {
        Rows::new(self.qkv, self.shape.qkv_width(), at, self.shape.head_dim)
    }
}

/// Multiplications and additions of a forward pass, counting only pairs of rows that see each other;
/// a backward pass is conventionally 2.5 times that.
pub fn flops(shape: Shape, segments: &[u32]) -> u64 {
    let pairs: u64 = (0u64..).zip(segments).map(|(row, &first)| row + 1 - u64::from(first)).sum();
    4 * pairs * shape.out_width() as u64
}

/// Attention of every row to its own document up to itself (PKD-03).
///
/// * `scale`: factor of the scores, positive, usually 1/√head_dim
/// * `segments [n]`: first row of each row's document; row `r` attends to `segments[r]..=r`. Must not decrease;
///   a later first row than the document's makes a sliding window
/// * `qkv [n, (heads + 2·kv_heads)·head_dim]`: all query heads, then key heads, then value heads; already rotated
/// * `out [n, heads·head_dim]`
/// * `lse [heads, n]`: natural log-sum-exp of the scaled scores, which [`backward`] needs
///
/// FLOPs: [`flops`].
///
/// # Panics
/// If a slice's length, the scale or the segments disagree with the above.
pub fn forward<E: Elem>(
    cpu: &Cpu,
    shape: Shape,
    scale: f32,
    segments: &[u32],
    qkv: &[E],
    out: &mut [E],
    lse: &mut [f32],
) {
    let input = Input::new(shape, scale, segments, qkv);
    let n = input.rows();
    assert!(out.len() == n * shape.out_width(), "attention: out is not [{n}, {}]", shape.out_width());
    assert!(lse.len() == n * shape.heads, "attention: lse is not [{}, {n}]", shape.heads);
    let (out, lse, tasks) = (Disjoint::new(out), Disjoint::new(lse), input.tasks());
    cpu.pool.run(tasks, |i| {
        // Late tiles see the most keys: heaviest first leaves the threads even.
        let (kv, tile) = input.task(tasks - 1 - i);
        forward::query_tile(cpu.isa, &input, kv, tile, &out, &lse);
    });
}

/// Gradient of [`forward`] with respect to `qkv`, which is written in full.
///
/// * `out`, `lse`: as [`forward`] left them
/// * `d_out [n, heads·head_dim]`
/// * `d_qkv [n, (heads + 2·kv_heads)·head_dim]`
///
/// # Panics
/// If a slice's length or the segments disagree with the above.
pub fn backward<E: Elem>(
    cpu: &Cpu,
    shape: Shape,
    scale: f32,
    segments: &[u32],
    qkv: &[E],
    out: &[E],
    lse: &[f32],
    d_out: &[E],
    d_qkv: &mut [E],
) {
    let input = Input::new(shape, scale, segments, qkv);
    let n = input.rows();
    assert!(out.len() == n * shape.out_width(), "attention: out is not [{n}, {}]", shape.out_width());
    assert!(d_out.len() == out.len(), "attention: d_out is not [{n}, {}]", shape.out_width());
    assert!(lse.len() == n * shape.heads, "attention: lse is not [{}, {n}]", shape.heads);
    assert!(d_qkv.len() == qkv.len(), "attention: d_qkv is not [{n}, {}]", shape.qkv_width());
    let (output, d_qkv) = (Output { out, lse, d_out }, Disjoint::new(d_qkv));
    let width = operands::width(shape.head_dim, arithmetic::per::<E>(cpu.isa));
    let (tiles, padded) = (input.tiles(), input.tiles() * TILE);
    let rows = |tile: usize| tile * TILE..((tile + 1) * TILE).min(n);
    scratch::with((tiles + 1) * (1 + MOST_STRIPS), |cuts: &mut [u32]| {
        let (islands, cuts) = cuts.split_at_mut(tiles + 1);
        let islands = find_islands(&input, islands);
        let slots = strips_per_island(shape, islands.len() - 1);
        let cuts = cut_islands(&input, islands, slots, cuts);
        let strip = |at: usize| cuts[at] as usize..cuts[at + 1] as usize;
        scratch::with(n * shape.heads, |delta: &mut [f32]| {
            let shared = Disjoint::new(delta);
            cpu.pool.run(tiles, |i| backward::delta_rows(cpu.isa, &input, &output, rows(i), &shared));
            let delta = &*delta;
            scratch::with(slots * shape.heads * padded * width, |sums: &mut [f32]| {
                let sums = QuerySums { data: Disjoint::new(sums), rows: padded, heads: shape.heads, width };
                cpu.pool.run((cuts.len() - 1) * shape.kv_heads, |i| {
                    let (at, kv) = (i / shape.kv_heads, i % shape.kv_heads);
                    let strip = Strip { kv, tiles: strip(at), slot: at % slots };
                    if !strip.tiles.is_empty() {
                        backward::strip(cpu.isa, &input, &output, &strip, delta, &sums, &d_qkv);
                    }
                });
                cpu.pool.run(tiles, |i| {
                    let island = islands.partition_point(|&start| start as usize <= i) - 1;
                    let shares = (0..slots).filter(|slot| {
                        let tiles = strip(island * slots + slot);
                        !tiles.is_empty() && tiles.start <= i && i * TILE < input.seen_by(tiles.end - 1)
                    });
                    backward::settle_queries(cpu.isa, &input, rows(i), shares, &sums, &d_qkv);
                });
            });
        });
    });
}

/// The first tile of each island (tiles none of whose rows sees a key outside it), and after them the number of tiles.
fn find_islands<'a, E: Elem>(input: &Input<'_, E>, starts: &'a mut [u32]) -> &'a [u32] {
    let mut count = 0;
    for tile in (0..input.tiles()).filter(|&tile| input.starts_island(tile)) {
        starts[count] = tile as u32;
        count += 1;
    }
    starts[count] = input.tiles() as u32;
    &starts[..=count]
}

/// Into how many strips the key tiles of each island are cut: enough tasks for many threads, whatever their number is.
fn strips_per_island(shape: Shape, islands: usize) -> usize {
    ATTENTION_STRIPS.div_ceil((islands * shape.kv_heads).max(1)).min(MOST_STRIPS)
}

/// Where the strips begin, `slots` for each island one after another, and after them the number of tiles: strips of an
/// island see about as many tiles each.
fn cut_islands<'a, E: Elem>(
    input: &Input<'_, E>,
    islands: &[u32],
    slots: usize,
    cuts: &'a mut [u32],
) -> &'a [u32] {
    let cost = |tile: u32| input.seen_by(tile as usize).div_ceil(TILE) - tile as usize;
    for (island, cuts) in islands.windows(2).zip(cuts.chunks_exact_mut(slots)) {
        let total: usize = if slots > 1 { (island[0]..island[1]).map(cost).sum() } else { 0 };
        let (mut tile, mut sum) = (island[0], 0);
        for (slot, cut) in cuts.iter_mut().enumerate() {
            while tile < island[1] && sum * slots < total * slot {
                sum += cost(tile);
                tile += 1;
            }
            *cut = tile;
        }
    }
    let count = (islands.len() - 1) * slots;
    cuts[count] = input.tiles() as u32;
    &cuts[..=count]
}
