//! Queries, keys and values of multi-head latent attention (MLA, ATT-04; DeepSeek-V2, 2024) from its
//! projections, with the rotation of their positional part.
//!
//! Each head's query and key are `nope` features that know no position and `rope` that are rotated. All keys
//! and values are made from one latent per row; the rotated part of the key is one for all heads. Per row:
//!
//! * q `heads·(nope + rope)`: as projected,
//! * kv_up `heads·(nope + value)`: per head the key's features and the value, as `kv_b_proj` makes them,
//! * k_rope `rope`: the shared key, not rotated yet,
//! * → qkv: q, rotated (`heads·(nope + rope)`) | keys (`heads·(nope + rope)`) | values (`heads·value`).
//!
//! Bound by memory; 6 floating-point operations per rotated pair. Backward copies, turns back, and adds the
//! gradients of the shared key over heads in order. What decoding computes instead is in [`absorbed`].

pub mod absorbed;
mod absorbed_node;
mod cpu;
mod node;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tape_tests;
#[cfg(test)]
mod tests;

pub use node::RotateBy;

use crate::Cpu;
use crate::ops::rope::pairing::with_pairs;
use crate::ops::rope::{Pairing, Tables};
use crate::pool::Disjoint;
use crate::simd::Elem;

/// Rows per task.
const ROWS: usize = 16;

/// Sizes of a layer's heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Query heads; as many keys and values.
    pub heads: usize,
    /// Features of a query or key that know no position (`qk_nope_head_dim`).
    pub nope: usize,
    /// Features that are rotated, behind those (`qk_rope_head_dim`).
    pub rope: usize,
    /// Features of a value (`v_head_dim`).
    pub value: usize,
}

impl Shape {
    /// Features of one query or key; scores are divided by the square root of it, absorbed or not.
    pub fn head_dim(&self) -> usize {
        self.nope + self.rope
    }

    /// Features of a row of queries.
    pub fn q_width(&self) -> usize {
        self.heads * self.head_dim()
    }

    /// Features of a row of keys and values as projected.
    pub fn kv_up_width(&self) -> usize {
        self.heads * (self.nope + self.value)
    }

    /// Features of a row of the result.
    pub fn qkv_width(&self) -> usize {
        2 * self.q_width() + self.heads * self.value
    }

    /// Panics unless the rotation is for n rows of this shape (a caller bug).
    fn check(&self, rotation: Rotation<'_>, n: usize) {
        assert_eq!(rotation.tables.dim(), self.rope, "latent: the tables are for another rope dimension");
        assert_eq!(rotation.positions.len(), n, "latent: one position per row");
        rotation.tables.check(rotation.positions);
    }
}

/// How the positional parts are rotated.
#[derive(Clone, Copy, Debug)]
pub struct Rotation<'a> {
    /// For [`Shape::rope`] features.
    pub tables: &'a Tables,
    /// How those pair up: interleaved in DeepSeek's checkpoints (`rope_interleave`).
    pub pairing: Pairing,
    /// `[n]`
    pub positions: &'a [u32],
}

/// Writes qkv `[n, qkv_width]` from q `[n, q_width]`, kv_up `[n, kv_up_width]` and k_rope `[n, rope]`.
///
/// # Panics
/// When shapes disagree or a position is beyond the tables (caller bugs).
pub fn forward<E: Elem, K: Elem>(
    cpu: &Cpu,
    shape: Shape,
    rotation: Rotation<'_>,
    q: &[E],
    kv_up: &[E],
    k_rope: &[K],
    qkv: &mut [E],
) {
    check(shape, rotation, [q.len(), kv_up.len(), k_rope.len(), qkv.len()]);
    with_pairs!(rotation.pairing, P => cpu.pool.for_each_chunk(qkv, ROWS * shape.qkv_width(), |i, qkv| {
        let from = |x: usize| i * ROWS * x;
        let rotation = Rotation { positions: &rotation.positions[from(1)..], ..rotation };
        let (q, kv_up) = (&q[from(shape.q_width())..], &kv_up[from(shape.kv_up_width())..]);
        cpu::forward::<E, K, P>(cpu.isa, shape, rotation, q, kv_up, &k_rope[from(shape.rope)..], qkv);
    }));
}

/// Where gradients go, with whether each is added to.
pub struct Grads<'a, E, K> {
    /// `[n, q_width]`
    pub d_q: (&'a mut [E], bool),
    /// `[n, kv_up_width]`
    pub d_kv_up: (&'a mut [E], bool),
    /// `[n, rope]`
    pub d_k_rope: (&'a mut [K], bool),
}

/// Gradients of what [`forward`] reads from d_qkv `[n, qkv_width]`.
///
/// # Panics
/// As [`forward`].
pub fn backward<E: Elem, K: Elem>(
    cpu: &Cpu,
    shape: Shape,
    rotation: Rotation<'_>,
    d_qkv: &[E],
    grads: Grads<'_, E, K>,
) {
    let Grads { d_q: (d_q, add_q), d_kv_up: (d_kv_up, add_kv), d_k_rope: (d_k_rope, add_k) } = grads;
    check(shape, rotation, [d_q.len(), d_kv_up.len(), d_k_rope.len(), d_qkv.len()]);
    let n = rotation.positions.len();
    let (d_q, d_kv_up, d_k_rope) = (Disjoint::new(d_q), Disjoint::new(d_kv_up), Disjoint::new(d_k_rope));
    with_pairs!(rotation.pairing, P => cpu.pool.run(n.div_ceil(ROWS), |task| {
        let (start, end) = (task * ROWS, ((task + 1) * ROWS).min(n));
        let of = |width: usize| (start * width, end * width);
        let (q, kv, k, qkv) = (of(shape.q_width()), of(shape.kv_up_width()), of(shape.rope), of(shape.qkv_width()));
        // SAFETY: rows of a task are its own.
        let (d_q, d_kv_up, d_k_rope) =
            unsafe { (d_q.slice(q.0, q.1), d_kv_up.slice(kv.0, kv.1), d_k_rope.slice(k.0, k.1)) };
        let grads = Grads { d_q: (d_q, add_q), d_kv_up: (d_kv_up, add_kv), d_k_rope: (d_k_rope, add_k) };
        let rotation = Rotation { positions: &rotation.positions[start..end], ..rotation };
        cpu::backward::<E, K, P>(cpu.isa, shape, rotation, &d_qkv[qkv.0..qkv.1], grads);
    }));
}

fn check(shape: Shape, rotation: Rotation<'_>, [q, kv_up, k_rope, qkv]: [usize; 4]) {
    let n = rotation.positions.len();
    shape.check(rotation, n);
    assert!(
        q == n * shape.q_width() && kv_up == n * shape.kv_up_width() && k_rope == n * shape.rope,
        "latent: {n} rows of q, kv_up and k_rope for {shape:?}"
    );
    assert_eq!(qkv, n * shape.qkv_width(), "latent: {n} rows of qkv for {shape:?}");
}
