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
//! A layer may show a row less of its document ([`Window`], SCP-02, SCP-03, SCP-05), bend its scores ([`Scores`], POS-02),
//! let it attend to nothing (a learned sink), and have values of another width than keys (ATT-04). All of that is decided
//! per tile; tiles that no row sees are skipped.
//!
//! Products are fp32, or of bf16 operands with fp32 sums where storage is bf16 and the CPU multiplies it faster; softmax
//! and its derivative are fp32 for every storage type.

mod arithmetic;
mod backward;
mod cached;
mod curve;
mod forward;
mod layer;
mod mask;
mod node;
mod operands;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;
mod tile;
mod weights;

pub use cached::{PADDING, append, cached};
pub use layer::{Attention, Scores, Shape, Window, alibi_slope, flops};
pub use weights::{Weight, weights};

use crate::Cpu;
use crate::order::{ATTENTION_STRIPS, MOST_STRIPS};
use crate::pool::Disjoint;
use crate::scratch;
use crate::simd::Elem;
use backward::{Output, QuerySums, Strip};
use mask::Mask;
use operands::{Rows, Widths};
use std::ops::Range;
use tile::TILE;

/// What forward and backward read.
struct Input<'a, E> {
    layer: &'a Attention,
    /// `[heads]`
    sinks: Option<&'a [f32]>,
    /// First row of each row's document.
    documents: &'a [u32],
    /// First row from which on each row sees all up to itself.
    starts: &'a [u32],
    qkv: &'a [E],
}

impl<'a, E: Elem> Input<'a, E> {
    fn new(
        layer: &'a Attention,
        sinks: Option<&'a [f32]>,
        documents: &'a [u32],
        starts: &'a [u32],
        qkv: &'a [E],
    ) -> Self {
        let (n, width) = (documents.len(), layer.shape.qkv_width());
        assert!(qkv.len() == n * width, "attention: qkv is not [{n}, {width}]");
        check_sinks(layer, sinks);
        Input { layer, sinks, documents, starts, qkv }
    }

    fn shape(&self) -> Shape {
        self.layer.shape
    }

    fn rows(&self) -> usize {
        self.starts.len()
    }

    /// Tiles of rows, the last of which may be short.
    fn tiles(&self) -> usize {
        self.rows().div_ceil(TILE)
    }

    /// Tasks of one pass: every key–value head of every tile of rows.
    fn tasks(&self) -> usize {
        self.tiles() * self.shape().kv_heads
    }

    /// Whether some row of `tile` is one of those that stay visible.
    fn keeps(&self, tile: usize) -> bool {
        let (kept, last) = (self.layer.kept(), ((tile + 1) * TILE).min(self.rows()) - 1);
        kept > 0 && self.documents[last] as usize + kept > tile * TILE
    }

    /// The row after the last that sees a key of `tile`: rows that see its last key are the last that see any of it,
    /// unless its document keeps some.
    fn seen_by(&self, tile: usize) -> usize {
        let end = ((tile + 1) * TILE).min(self.rows());
        let starts = if self.keeps(tile) { self.documents } else { self.starts };
        starts.partition_point(|&start| (start as usize) < end)
    }

    /// The row after the last that sees a key of any of `tiles`.
    fn reach(&self, tiles: &Range<usize>) -> usize {
        if self.layer.kept() == 0 {
            return self.seen_by(tiles.end - 1);
        }
        tiles.clone().map(|tile| self.seen_by(tile)).max().unwrap_or(0)
    }

    /// The tiles of keys that queries of `tile` see.
    fn seen_from(&self, tile: usize) -> impl Iterator<Item = usize> {
        // Later rows of the tile whose documents begin in it keep none before it.
        let (document, kept) = (self.documents[tile * TILE] as usize, self.layer.kept());
        let first = self.starts[tile * TILE] as usize / TILE;
        let end = if kept > 0 { (document + kept).div_ceil(TILE).min(first) } else { 0 };
        (document / TILE..end).chain(first..=tile)
    }

    /// Whether no row from `tile` on sees a key before it.
    fn starts_island(&self, tile: usize) -> bool {
        let starts = if self.layer.kept() > 0 { self.documents } else { self.starts };
        starts[tile * TILE] as usize >= tile * TILE
    }

    /// The mask whose rows are the keys of tile `key`, and its columns the queries of tile `query`.
    fn keys_by_queries(&self, key: usize, query: usize) -> Mask {
        let (documents, starts) = (self.documents, self.starts);
        if self.keeps(key) {
            Mask::kept_by_queries(documents, starts, self.layer.kept(), key * TILE, query * TILE)
        } else {
            Mask::keys_by_queries(starts, key * TILE, query * TILE)
        }
    }

    /// The mask whose rows are the queries of tile `query`, and its columns the keys of tile `key`.
    fn queries_by_keys(&self, query: usize, key: usize) -> Mask {
        let (documents, starts) = (self.documents, self.starts);
        if self.keeps(key) {
            Mask::queries_by_kept(documents, starts, self.layer.kept(), query * TILE, key * TILE)
        } else {
            Mask::queries_by_keys(starts, query * TILE, key * TILE)
        }
    }

    /// The key–value head and the tile of a task.
    fn task(&self, i: usize) -> (usize, usize) {
        (i % self.shape().kv_heads, i / self.shape().kv_heads)
    }

    /// Query head `head`.
    fn queries(&self, head: usize) -> Rows<'a, E> {
        let Shape { head_dim, .. } = self.shape();
        Rows::new(self.qkv, self.shape().qkv_width(), head * head_dim, head_dim)
    }

    /// Key head `kv`.
    fn keys(&self, kv: usize) -> Rows<'a, E> {
        Rows::new(self.qkv, self.shape().qkv_width(), self.shape().key_at(kv), self.shape().head_dim)
    }

    /// Value head `kv`.
    fn values(&self, kv: usize) -> Rows<'a, E> {
        Rows::new(self.qkv, self.shape().qkv_width(), self.shape().value_at(kv), self.shape().value_dim)
    }
}

fn check_sinks(layer: &Attention, sinks: Option<&[f32]>) {
    let heads = layer.shape.heads;
    assert!(sinks.is_none_or(|sinks| sinks.len() == heads), "attention: sinks are not [{heads}]");
}

/// Attention of every row to its own document up to itself (PKD-03), or as much of that as the layer's window shows.
///
/// * `sinks [heads]`: learned scores that take part in the softmax without a value, if the layer has them
/// * `segments [n]`: first row of each row's document. With a full window row `r` attends to `segments[r]..=r`, and any
///   first rows that do not decrease will do
/// * `qkv [n, heads·head_dim + kv_heads·(head_dim + value_dim)]`: all query heads, then key heads, then value heads;
///   already rotated
/// * `out [n, heads·value_dim]`
/// * `lse [heads, n]`: natural log-sum-exp of the scores, the sink's with them, which [`backward`] needs
///
/// FLOPs: [`flops`].
///
/// # Panics
/// If a slice's length, the layer or the segments disagree with the above.
pub fn forward<E: Elem>(
    cpu: &Cpu,
    layer: &Attention,
    sinks: Option<&[f32]>,
    segments: &[u32],
    qkv: &[E],
    out: &mut [E],
    lse: &mut [f32],
) {
    layer.check();
    let (n, Shape { heads, .. }) = (segments.len(), layer.shape);
    let width = layer.shape.out_width();
    assert!(out.len() == n * width, "attention: out is not [{n}, {width}]");
    assert!(lse.len() == n * heads, "attention: lse is not [{heads}, {n}]");
    layer.with_starts(segments, |starts| {
        let input = Input::new(layer, sinks, segments, starts, qkv);
        let (out, lse, tasks) = (Disjoint::new(out), Disjoint::new(lse), input.tasks());
        cpu.pool.run(tasks, |i| {
            // Late tiles see the most keys: heaviest first leaves the threads even.
            let (kv, tile) = input.task(tasks - 1 - i);
            forward::query_tile(cpu.isa, &input, kv, tile, &out, &lse);
        });
    });
}

/// Gradient of [`forward`] with respect to `qkv`, which is written in full, and to `sinks`.
///
/// * `out`, `lse`: as [`forward`] left them
/// * `d_out [n, heads·value_dim]`
/// * `d_qkv [n, heads·head_dim + kv_heads·(head_dim + value_dim)]`
/// * `d_sinks [heads]`, given exactly when sinks are, and whether to add to what it holds
///
/// # Panics
/// If a slice's length, the layer or the segments disagree with the above.
pub fn backward<E: Elem>(
    cpu: &Cpu,
    layer: &Attention,
    sinks: Option<&[f32]>,
    segments: &[u32],
    qkv: &[E],
    (out, lse): (&[E], &[f32]),
    d_out: &[E],
    d_qkv: &mut [E],
    d_sinks: Option<(&mut [f32], bool)>,
) {
    layer.check();
    let (n, Shape { heads, .. }) = (segments.len(), layer.shape);
    let width = layer.shape.out_width();
    assert!(out.len() == n * width, "attention: out is not [{n}, {width}]");
    assert!(d_out.len() == out.len(), "attention: d_out is not [{n}, {width}]");
    assert!(lse.len() == n * heads, "attention: lse is not [{heads}, {n}]");
    assert!(d_qkv.len() == qkv.len(), "attention: d_qkv is not like qkv");
    layer.with_starts(segments, |starts| {
        let input = Input::new(layer, sinks, segments, starts, qkv);
        let output = Output { out, lse, d_out };
        let rows = |tile: usize| tile * TILE..((tile + 1) * TILE).min(n);
        scratch::with(n * heads, |delta: &mut [f32]| {
            let shared = Disjoint::new(delta);
            cpu.pool.run(input.tiles(), |i| backward::delta_rows(cpu.isa, &input, &output, rows(i), &shared));
            match (sinks, d_sinks) {
                (Some(sinks), Some((d_sinks, add))) => {
                    assert!(d_sinks.len() == heads, "attention: d_sinks is not [{heads}]");
                    backward::sinks(cpu, sinks, lse, delta, d_sinks, add);
                }
                (None, None) => {}
                _ => panic!("attention: d_sinks is given exactly when sinks are"),
            }
            by_strips(cpu, &input, &output, delta, d_qkv);
        });
    });
}

/// The gradient of `qkv`, from `delta [heads, n]`.
fn by_strips<E: Elem>(
    cpu: &Cpu,
    input: &Input<'_, E>,
    output: &Output<'_, E>,
    delta: &[f32],
    d_qkv: &mut [E],
) {
    let (n, shape, d_qkv) = (input.rows(), input.shape(), Disjoint::new(d_qkv));
    let width = Widths::new(shape, arithmetic::per::<E>(cpu.isa)).key;
    let (tiles, padded) = (input.tiles(), input.tiles() * TILE);
    let rows = |tile: usize| tile * TILE..((tile + 1) * TILE).min(n);
    scratch::with((tiles + 1) * (1 + MOST_STRIPS), |cuts: &mut [u32]| {
        let (islands, cuts) = cuts.split_at_mut(tiles + 1);
        let islands = find_islands(input, islands);
        let slots = strips_per_island(shape, islands.len() - 1);
        let cuts = cut_islands(input, islands, slots, cuts);
        let strip = |at: usize| cuts[at] as usize..cuts[at + 1] as usize;
        scratch::with(slots * shape.heads * padded * width, |sums: &mut [f32]| {
            let sums = QuerySums { data: Disjoint::new(sums), rows: padded, heads: shape.heads, width };
            cpu.pool.run((cuts.len() - 1) * shape.kv_heads, |i| {
                let (at, kv) = (i / shape.kv_heads, i % shape.kv_heads);
                let strip = Strip { kv, tiles: strip(at), slot: at % slots };
                if !strip.tiles.is_empty() {
                    backward::strip(cpu.isa, input, output, &strip, delta, &sums, &d_qkv);
                }
            });
            cpu.pool.run(tiles, |i| {
                let island = islands.partition_point(|&start| start as usize <= i) - 1;
                let shares = (0..slots).filter(|slot| {
                    let tiles = strip(island * slots + slot);
                    !tiles.is_empty() && tiles.start <= i && i * TILE < input.reach(&tiles)
                });
                backward::settle_queries(cpu.isa, input, rows(i), shares, &sums, &d_qkv);
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
