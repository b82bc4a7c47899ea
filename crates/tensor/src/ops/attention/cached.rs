//! Attention of new rows to a key–value cache, for generation.

use super::Shape;
use super::arithmetic::Fp32;
use super::forward::Online;
use super::mask::Mask;
use super::operands::{self, Moving, Rows};
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
/// * `qkv [n, (heads + 2·kv_heads)·head_dim]`: as in [`forward`](super::forward)
/// * `slots [n]`, `positions [n]`: where row `i` goes; rows of slot [`PADDING`] go nowhere
/// * `k_cache`, `v_cache [slots, capacity, kv_heads·head_dim]`
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
    let width = shape.kv_heads * shape.head_dim;
    for (i, row) in qkv.chunks_exact(shape.qkv_width()).enumerate().filter(|&(i, _)| slots[i] != PADDING) {
        let start = (slots[i] as usize * capacity + positions[i] as usize) * width;
        let (keys, values) = row[shape.key_at(0)..].split_at(width);
        for (to, from) in [(&mut *k_cache, keys), (&mut *v_cache, values)] {
            to[start..start + width].iter_mut().zip(from).for_each(|(to, from)| *to = from.to_f32());
        }
    }
}

/// Attention of new rows to rows `0..=positions[i]` of their slot of the cache, where [`append`] has put
/// their own keys and values already.
///
/// * `qkv [n, (heads + 2·kv_heads)·head_dim]`: only the queries are read
/// * `slots [n]`, `positions [n]`: rows of slot [`PADDING`] get zeros
/// * `k_cache`, `v_cache [slots, capacity, kv_heads·head_dim]`
/// * `out [n, heads·head_dim]`
///
/// A row's result does not depend on which rows it is computed with. Consecutive rows of one slot share
/// the reading of the cache when their positions increase, as those of a prompt do.
///
/// # Panics
/// If lengths disagree, or a row's place is outside the cache.
pub fn cached<E: Elem>(
    cpu: &Cpu,
    shape: Shape,
    scale: f32,
    qkv: &[E],
    slots: &[u32],
    positions: &[u32],
    k_cache: &[f32],
    v_cache: &[f32],
    capacity: usize,
    out: &mut [E],
) {
    check(shape, qkv, slots, positions, k_cache, v_cache, capacity);
    let n = slots.len();
    assert!(scale > 0.0, "attention: scale {scale} is not positive");
    assert!(out.len() == n * shape.out_width(), "attention: out is not [{n}, {}]", shape.out_width());
    // A group of more heads than a tile has columns is taken in parts.
    let parts = shape.group().div_ceil(TILE);
    let heads = shape.group().div_ceil(parts);
    scratch::with(n + 1, |starts: &mut [u32]| {
        let runs = split(slots, positions, TILE / heads, starts);
        let input = Cached { shape, scale, qkv, slots, positions, k_cache, v_cache, capacity };
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
    shape.check();
    let (n, width) = (slots.len(), shape.kv_heads * shape.head_dim);
    assert!(qkv.len() == n * shape.qkv_width(), "attention: qkv is not [{n}, {}]", shape.qkv_width());
    assert!(positions.len() == n, "attention: {n} slots but {} positions", positions.len());
    assert!(k.len() == v.len(), "attention: caches of keys and values differ in size");
    let total = k.len() / (capacity * width).max(1);
    let inside =
        |(&slot, &at): (&u32, &u32)| slot == PADDING || (slot as usize) < total && (at as usize) < capacity;
    assert!(
        slots.iter().zip(positions).all(inside),
        "attention: a row outside the cache [{total}, {capacity}]"
    );
}

/// What [`cached`] reads.
struct Cached<'a, E> {
    shape: Shape,
    scale: f32,
    qkv: &'a [E],
    slots: &'a [u32],
    positions: &'a [u32],
    k_cache: &'a [f32],
    v_cache: &'a [f32],
    capacity: usize,
}

impl<E: Elem> Cached<'_, E> {
    fn place(&self, row: usize, head: usize) -> Range<usize> {
        let start = row * self.shape.out_width() + head * self.shape.head_dim;
        start..start + self.shape.head_dim
    }
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
    let width = operands::width(input.shape.head_dim, 1);
    let len = Online::scratch(width) + TILE * TILE + 2 * Moving::scratch(width);
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
        let Shape { head_dim, kv_heads, .. } = input.shape;
        let width = operands::width(head_dim, 1);
        let (state, rest) = memory.split_at_mut(Online::scratch(width));
        let (scores, rest) = rest.split_at_mut(TILE * TILE);
        let (k, v) = rest.split_at_mut(Moving::scratch(width));
        let (mut k, mut v) = (Moving::at::<S, Fp32>(k, width), Moving::at::<S, Fp32>(v, width));
        let mut state = Online::at(state, width);
        state.reset();
        state.queries.fill(0.0);
        let column = |c: usize| (rows.start + c / heads.len(), heads.start + c % heads.len());
        let columns = rows.len() * heads.len();
        for c in 0..columns {
            let (row, head) = column(c);
            let query = Rows::new(input.qkv, input.shape.qkv_width(), head * head_dim, head_dim).row(row);
            operands::put_column(query, state.queries, c);
        }
        let start = input.slots[rows.start] as usize * input.capacity * kv_heads * head_dim;
        let cache = |data| Rows::new(data, kv_heads * head_dim, start + kv * head_dim, head_dim);
        let (k_cache, v_cache) = (cache(input.k_cache), cache(input.v_cache));
        let positions = &input.positions[rows.clone()];
        for key in (0..=positions[positions.len() - 1] as usize).step_by(TILE) {
            let mask = Mask::cached(positions, heads.len(), key);
            k.load_rows::<S, Fp32, f32>(&k_cache, key, mask.rows);
            v.load_zipped::<S, Fp32, f32>(&v_cache, key, mask.rows);
            state.absorb::<S, Fp32>((&k, &v), head_dim, input.scale, &mask, scores);
        }
        for c in 0..columns {
            let (row, head) = column(c);
            let place = input.place(row, head);
            // SAFETY: these heads of these rows belong to this task alone.
            let to = unsafe { out.slice(place.start, place.end) };
            tile::take_row::<S, E>(&state.out[c * width..(c + 1) * width], 1.0 / state.sum[c], to);
        }
    }
}
