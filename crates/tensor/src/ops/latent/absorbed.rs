//! The form for decoding, that keeps one latent and one rotated key per row instead of all heads' keys and
//! values (ATT-04). Forward only.
//!
//! A head's key is `W_UK·c`, so its score with a query is `q·(W_UK·c) = (W_UKᵀ·q)·c`: queries are taken to the
//! latents ([`queries`]) instead of latents to keys. Values are linear in latents too, so latents are averaged
//! and the average is taken to the value ([`values`]). Between the two lies attention with one key–value head of
//! `rank + rope` features ([`keys`]), the first `rank` of which are its value: a cache holds keys only. The
//! rotation would stand between the two factors, and depends on the distance: that is why rotated features
//! are separate. The scale of scores stays `1/√(nope + rope)`.
//!
//! `w` is `kv_b_proj`'s weight `[heads·(nope + value), rank]`: per head the rows of W_UK `[nope, rank]`, then
//! those of W_UV `[value, rank]`.

use super::cpu::{self, Places};
use super::{ROWS, Rotation, Shape};
use crate::Cpu;
use crate::gemm::{Precision, View, gemm};
use crate::ops::rope::pairing::with_pairs;
use crate::simd::Elem;

/// Per head `W_UKᵀ·q` and the rotated part behind it: q `[n, heads·(nope + rope)]`, w `[heads·(nope + value), rank]`
/// → out `[n, heads·(rank + rope)]`. FLOPs: 2·n·heads·nope·rank.
///
/// # Panics
/// When shapes disagree or a position is beyond the tables (caller bugs).
pub fn queries<E: Elem>(
    cpu: &Cpu,
    precision: Precision,
    shape: Shape,
    rotation: Rotation<'_>,
    q: &[E],
    w: &[f32],
    out: &mut [E],
) {
    let Shape { heads, nope, rope, value } = shape;
    let (n, rank) = (rotation.positions.len(), rank(shape, w));
    shape.check(rotation, n);
    assert_eq!(q.len(), n * shape.q_width(), "latent: {n} rows of q for {shape:?}");
    let width = heads * (rank + rope);
    assert_eq!(out.len(), n * width, "latent: {n} rows of {width} absorbed queries");
    if n == 0 || width == 0 {
        return;
    }
    for h in 0..heads {
        let q = View::rows_strided(&q[h * shape.head_dim()..], shape.q_width());
        let w_uk = View::rows(&w[h * (nope + value) * rank..], rank);
        gemm(cpu, precision, (n, rank, nope), q, w_uk, &mut out[h * (rank + rope)..], width, false);
    }
    let from = Places { row: shape.q_width(), first: nope, head: shape.head_dim() };
    rotate(cpu, rotation, heads, q, from, out, Places { row: width, first: rank, head: rank + rope });
}

/// The one key per row: latent `[n, rank]`, normalised, and k_rope `[n, rope]`, rotated → out `[n, rank + rope]`.
///
/// # Panics
/// As [`queries`].
pub fn keys<E: Elem, K: Elem>(
    cpu: &Cpu,
    shape: Shape,
    rotation: Rotation<'_>,
    latent: &[E],
    k_rope: &[K],
    out: &mut [E],
) {
    let (n, rope) = (rotation.positions.len(), shape.rope);
    shape.check(rotation, n);
    if n == 0 {
        return;
    }
    let rank = latent.len() / n;
    assert!(latent.len() == n * rank && k_rope.len() == n * rope, "latent: {n} latents and rotary keys");
    assert_eq!(out.len(), n * (rank + rope), "latent: {n} keys of {}", rank + rope);
    cpu.pool.for_each_chunk(out, ROWS * (rank + rope), |i, part| {
        for (row, latent) in
            part.chunks_exact_mut(rank + rope).zip(latent[i * ROWS * rank..].chunks_exact(rank))
        {
            row[..rank].copy_from_slice(latent);
        }
    });
    let (from, to) =
        (Places { row: rope, first: 0, head: rope }, Places { row: rank + rope, first: rank, head: rope });
    rotate(cpu, rotation, 1, k_rope, from, out, to);
}

/// Per head `W_UV·x`: averaged latents x `[n, heads·rank]`, w `[heads·(nope + value), rank]` → out
/// `[n, heads·value]`. FLOPs: 2·n·heads·value·rank.
///
/// # Panics
/// When shapes disagree (a caller bug).
pub fn values<E: Elem>(cpu: &Cpu, precision: Precision, shape: Shape, x: &[E], w: &[f32], out: &mut [E]) {
    let Shape { heads, nope, value, .. } = shape;
    let (rank, width) = (rank(shape, w), heads * value);
    if out.is_empty() {
        return;
    }
    let n = out.len() / width;
    assert_eq!(out.len(), n * width, "latent: rows of {width} values");
    assert_eq!(x.len(), n * heads * rank, "latent: {n} rows of averaged latents");
    for h in 0..heads {
        let x = View::rows_strided(&x[h * rank..], heads * rank);
        let w_uv = View::rows(&w[(h * (nope + value) + nope) * rank..], rank).t();
        gemm(cpu, precision, (n, value, rank), x, w_uv, &mut out[h * value..], width, false);
    }
}

/// Features of a latent, from the weight `[heads·(nope + value), rank]`.
fn rank(shape: Shape, w: &[f32]) -> usize {
    let rows = shape.kv_up_width();
    assert!(rows > 0 && !w.is_empty() && w.len().is_multiple_of(rows), "latent: a weight of {rows} rows");
    w.len() / rows
}

fn rotate<A: Elem, B: Elem>(
    cpu: &Cpu,
    rotation: Rotation<'_>,
    heads: usize,
    x: &[A],
    from: Places,
    y: &mut [B],
    to: Places,
) {
    with_pairs!(rotation.pairing, P => cpu.pool.for_each_chunk(y, ROWS * to.row, |i, y| {
        let rotation = Rotation { positions: &rotation.positions[i * ROWS..], ..rotation };
        cpu::rotate::<A, B, P>(cpu.isa, rotation, heads, &x[i * ROWS * from.row..], from, y, to);
    }));
}
