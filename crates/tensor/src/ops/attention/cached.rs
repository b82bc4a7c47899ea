//! Attention of new rows to a key–value cache, for generation.

use super::arithmetic::Fp32;
use super::check_sinks;
use super::curve::Curve;
use super::forward::Online;
use super::layer::{Attention, Shape};
use super::mask::Mask;
use super::operands::{self, Moving, Rows, Widths};
use super::tile::{self, TILE};
use crate::Cpu;
use crate::isa::Isa;
use crate::pool::Disjoint;
use crate::scratch;
use crate::simd::Elem;
use crate::simd_kernel;
use std::ops::Range;

/// The slot of a padding row.
pub const PADDING: u32 = u32::MAX;

/// Copies the keys and values of new rows into the cache.
///
/// * `qkv [n, heads·head_dim + kv_heads·(head_dim + value_dim)]`: as in [`forward`](super::forward)
/// * `slots [n]`, `positions [n]`: where row `i` goes; rows of slot [`PADDING`] go nowhere
/// * `k_cache [slots, capacity, kv_heads·head_dim]`
/// * `v_cache [slots, capacity, kv_heads·value_dim]`, or empty where values are the first features of keys
///
/// # Panics
/// If lengths disagree, or a row's place is outside the cache.
pub fn append<E: Elem>(
    shape: Shape,
    qkv: &[E],
    slots: &[u32],
    positions: &[u32],
    capacity: usize,
    k_cache: &mut [f32],
    v_cache: &mut [f32],
) {
    check(shape, qkv, slots, positions, k_cache, v_cache, capacity);
    let (key, value) = (shape.key_width(), shape.value_width());
    for (i, row) in qkv.chunks_exact(shape.qkv_width()).enumerate().filter(|&(i, _)| slots[i] != PADDING) {
        let place = slots[i] as usize * capacity + positions[i] as usize;
        let (keys, values) = row[shape.key_at(0)..].split_at(key);
        for (to, from, width) in [(&mut *k_cache, keys, key), (&mut *v_cache, values, value)] {
            if !to.is_empty() {
                to[place * width..][..width].iter_mut().zip(from).for_each(|(to, from)| *to = from.to_f32());
            }
        }
    }
}

/// Attention of new rows to rows `0..=positions[i]` of their slot of the cache, or as many of them as the layer's window
/// shows; [`append`] has put their own keys and values there already.
///
/// * `sinks [heads]`: as in [`forward`](super::forward)
/// * `qkv [n, heads·head_dim + kv_heads·(head_dim + value_dim)]`: only the queries are read
/// * `slots [n]`, `positions [n]`: rows of slot [`PADDING`] get zeros
/// * `k_cache [slots, capacity, kv_heads·head_dim]`
/// * `v_cache [slots, capacity, kv_heads·value_dim]`, or empty where the first `value_dim` features of each key are its
///   value: a latent is both at once (ATT-04)
/// * `out [n, heads·value_dim]`
///
/// A row's result does not depend on which rows it is computed with. Consecutive rows of one slot share
/// the reading of the cache when their positions increase, as those of a prompt do.
///
/// # Panics
/// If lengths disagree, or a row's place is outside the cache.
pub fn cached<E: Elem>(
    cpu: &Cpu,
    layer: &Attention,
    sinks: Option<&[f32]>,
    qkv: &[E],
    slots: &[u32],
    positions: &[u32],
    k_cache: &[f32],
    v_cache: &[f32],
    capacity: usize,
    out: &mut [E],
) {
    layer.check();
    check_sinks(layer, sinks);
    let (shape, n) = (layer.shape, slots.len());
    check(shape, qkv, slots, positions, k_cache, v_cache, capacity);
    assert!(out.len() == n * shape.out_width(), "attention: out is not [{n}, {}]", shape.out_width());
    // A group of more heads than a tile has columns is taken in parts.
    let parts = shape.group().div_ceil(TILE);
    let heads = shape.group().div_ceil(parts);
    scratch::with(n + 1, |starts: &mut [u32]| {
        let runs = split(slots, positions, TILE / heads, starts);
        let input = Cached { layer, sinks, qkv, slots, positions, k_cache, v_cache, capacity };
        let (out, starts) = (Disjoint::new(out), &starts[..=runs]);
        cpu.pool.run(runs * shape.kv_heads * parts, |i| {
            let (run, i) = (i / (shape.kv_heads * parts), i % (shape.kv_heads * parts));
            let (kv, part) = (i / parts, i % parts);
            let heads = kv * shape.group() + part * heads
                ..kv * shape.group() + ((part + 1) * heads).min(shape.group());
            let rows = starts[run] as usize..starts[run + 1] as usize;
            queries(cpu.isa, &input, kv, heads, rows, &out);
        });
    });
}

/// Splits rows into runs of at most `most` whose slot is the same and whose positions increase. `starts[i]`
/// is the first row of run `i`; returns the number of runs, after which comes the number of rows.
fn split(slots: &[u32], positions: &[u32], most: usize, starts: &mut [u32]) -> usize {
    let mut runs = 0;
    for i in 0..slots.len() {
        let follows = i > 0
            && i - (starts[runs - 1] as usize) < most
            && slots[i] == slots[i - 1]
            && (slots[i] == PADDING || positions[i] > positions[i - 1]);
        if !follows {
            starts[runs] = i as u32;
            runs += 1;
        }
    }
    starts[runs] = slots.len() as u32;
    runs
}

fn check<E>(
    shape: Shape,
    qkv: &[E],
    slots: &[u32],
    positions: &[u32],
    k: &[f32],
    v: &[f32],
    capacity: usize,
) {
    let (n, key, value) = (slots.len(), shape.key_width(), shape.value_width());
    assert!(qkv.len() == n * shape.qkv_width(), "attention: qkv is not [{n}, {}]", shape.qkv_width());
    assert!(positions.len() == n, "attention: {n} slots but {} positions", positions.len());
    let rows =
        if v.is_empty() { shape.value_dim <= shape.head_dim } else { k.len() * value == v.len() * key };
    assert!(rows, "attention: caches of keys and values differ in rows");
    let total = k.len() / (capacity * key).max(1);
    let inside =
        |(&slot, &at): (&u32, &u32)| slot == PADDING || (slot as usize) < total && (at as usize) < capacity;
    assert!(
        slots.iter().zip(positions).all(inside),
        "attention: a row outside the cache [{total}, {capacity}]"
    );
}

/// What [`cached`] reads.
struct Cached<'a, E> {
    layer: &'a Attention,
    sinks: Option<&'a [f32]>,
    qkv: &'a [E],
    slots: &'a [u32],
    positions: &'a [u32],
    k_cache: &'a [f32],
    v_cache: &'a [f32],
    capacity: usize,
}

impl<E: Elem> Cached<'_, E> {
    fn place(&self, row: usize, head: usize) -> Range<usize> {
        let shape = self.layer.shape;
        let start = row * shape.out_width() + head * shape.value_dim;
        start..start + shape.value_dim
    }
}

/// The tiles of cached keys that some of these positions, which increase, see.
fn seen(layer: &Attention, positions: &[u32]) -> impl Iterator<Item = usize> {
    let [first, last] = [positions[0], positions[positions.len() - 1]].map(|position| position as usize);
    let start = layer.first_seen(0, first) / TILE;
    (0..layer.kept().div_ceil(TILE).min(start)).chain(start..=last / TILE)
}

/// Outputs of query heads `heads`, which share key–value head `kv`, of rows `rows`, a run of one slot.
fn queries<E: Elem>(
    isa: Isa,
    input: &Cached<'_, E>,
    kv: usize,
    heads: Range<usize>,
    rows: Range<usize>,
    out: &Disjoint<'_, E>,
) {
    if input.slots[rows.start] == PADDING {
        for row in rows {
            let place = input.place(row, heads.start).start..input.place(row, heads.end - 1).end;
            // SAFETY: these heads of these rows belong to this task alone.
            unsafe { out.slice(place.start, place.end) }.fill(E::from_f32(0.0));
        }
        return;
    }
    let widths = Widths::new(input.layer.shape, 1);
    let len =
        Online::scratch(widths) + TILE * TILE + Moving::scratch(widths.key) + Moving::scratch(widths.value);
    scratch::with(len, |memory: &mut [f32]| kernel(isa, input, kv, heads, rows, out, memory));
}

simd_kernel! {
    fn kernel<S, E: Elem>(
        input: &Cached<'_, E>,
        kv: usize,
        heads: Range<usize>,
        rows: Range<usize>,
        out: &Disjoint<'_, E>,
        memory: &mut [f32],
    ) {
        let (layer, shape) = (input.layer, input.layer.shape);
        let Shape { head_dim, value_dim, .. } = shape;
        let widths = Widths::new(shape, 1);
        let (state, rest) = memory.split_at_mut(Online::scratch(widths));
        let (scores, rest) = rest.split_at_mut(TILE * TILE);
        let (k, v) = rest.split_at_mut(Moving::scratch(widths.key));
        let (mut k, mut v) = (Moving::at::<S, Fp32>(k, widths.key), Moving::at::<S, Fp32>(v, widths.value));
        let mut state = Online::at(state, widths);
        state.reset();
        state.queries.fill(0.0);
        let column = |c: usize| (rows.start + c / heads.len(), heads.start + c % heads.len());
        let columns = rows.len() * heads.len();
        let mut slopes = [0.0; TILE];
        for (c, slope) in slopes.iter_mut().enumerate().take(columns) {
            let (row, head) = column(c);
            let query = Rows::new(input.qkv, shape.qkv_width(), head * head_dim, head_dim).row(row);
            operands::put_column(query, state.queries, c);
            *slope = layer.slope(head);
            if let Some(sinks) = input.sinks {
                state.absorb_sink(c..c + 1, sinks[head]);
            }
        }
        let start = input.slots[rows.start] as usize * input.capacity;
        let (key, value) = (shape.key_width(), shape.value_width());
        let k_cache = Rows::new(input.k_cache, key, start * key + kv * head_dim, head_dim);
        let v_cache = match input.v_cache {
            [] => Rows::new(input.k_cache, key, start * key + kv * head_dim, value_dim),
            values => Rows::new(values, value, start * value + kv * value_dim, value_dim),
        };
        let positions = &input.positions[rows.clone()];
        for key in seen(layer, positions).map(|tile| tile * TILE) {
            let mask = Mask::cached(layer, positions, heads.len(), key);
            k.load_rows::<S, Fp32, f32>(&k_cache, key, mask.rows);
            v.load_zipped::<S, Fp32, f32>(&v_cache, key, mask.rows);
            let back = |c: usize| {
                let position = positions.get(c / heads.len()).map_or(0.0, |&position| position as f32);
                (slopes[c], position - key as f32)
            };
            let curve = Curve::new(layer.scores, back);
            state.absorb::<S, Fp32>((&k, &v), head_dim, &curve, &mask, scores);
        }
        for c in 0..columns {
            let (row, head) = column(c);
            let place = input.place(row, head);
            // SAFETY: these heads of these rows belong to this task alone.
            let to = unsafe { out.slice(place.start, place.end) };
            tile::take_row::<S, E>(&state.out[c * widths.value..(c + 1) * widths.value], 1.0 / state.sum[c], to);
        }
    }
}
