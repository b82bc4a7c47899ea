//! The op on the tape.

use super::{Grads, Rotation, Shape};
use crate::ops::rope::{Pairing, Tables};
use crate::tape::{Frame, Node, Tape, Uses, Var};
use crate::with_elem;
use std::sync::Arc;

/// A [`Rotation`] as it is recorded.
#[derive(Clone)]
pub struct RotateBy {
    /// Input `[n]`.
    pub positions: Var,
    /// Which features make a pair.
    pub pairing: Pairing,
    /// For [`Shape::rope`] features.
    pub tables: Arc<Tables>,
}

impl RotateBy {
    pub(super) fn in_run<'a>(&'a self, f: &'a Frame<'_>) -> Rotation<'a> {
        Rotation { tables: &self.tables, pairing: self.pairing, positions: f.read(self.positions) }
    }
}

struct Latent {
    shape: Shape,
    rotate: RotateBy,
    q: Var,
    kv_up: Var,
    k_rope: Var,
    qkv: Var,
}

impl Tape {
    /// Queries, keys and values of latent attention: q `[n, heads·(nope + rope)]`, kv_up `[n, heads·(nope + value)]`,
    /// k_rope `[n, rope]`, neither rotated yet → `[n, q | keys | values]`, stored as q and kv_up are; k_rope may be
    /// stored as another float.
    ///
    /// # Panics
    /// When shapes or dtypes disagree (a recording bug).
    pub fn latent_qkv(&mut self, q: Var, kv_up: Var, k_rope: Var, shape: Shape, rotate: RotateBy) -> Var {
        let [q_info, kv_info, k_info] = [q, kv_up, k_rope].map(|var| self.info(var));
        assert_eq!(q_info.dtype, kv_info.dtype, "latent: q and kv_up are stored alike");
        let widths = [shape.q_width(), shape.kv_up_width(), shape.rope];
        assert_eq!([q_info.cols, kv_info.cols, k_info.cols], widths, "latent: columns of q, kv_up, k_rope");
        let qkv = self.computed(q_info.rows, shape.qkv_width(), q_info.dtype);
        self.push(Latent { shape, rotate, q, kv_up, k_rope, qkv });
        qkv
    }
}

impl Node for Latent {
    fn name(&self) -> &'static str {
        "latent_qkv"
    }

    fn uses(&self) -> Uses {
        Uses {
            reads: vec![self.q, self.kv_up, self.k_rope, self.rotate.positions],
            writes: vec![self.qkv],
            saved: vec![self.rotate.positions],
            grads_in: vec![self.qkv],
            grads_out: vec![self.q, self.kv_up, self.k_rope],
            ..Uses::default()
        }
    }

    fn forward(&self, f: &Frame<'_>) {
        let rotation = self.rotate.in_run(f);
        with_elem!(f.dtype(self.q), E => with_elem!(f.dtype(self.k_rope), K => {
            let (q, kv_up, k_rope): (&[E], &[E], &[K]) =
                (f.read(self.q), f.read(self.kv_up), f.read(self.k_rope));
            super::forward(f.cpu, self.shape, rotation, q, kv_up, k_rope, f.write(self.qkv));
        }));
    }

    fn backward(&self, f: &Frame<'_>) {
        let rotation = self.rotate.in_run(f);
        with_elem!(f.dtype(self.q), E => with_elem!(f.dtype(self.k_rope), K => {
            let d_qkv: &[E] = f.grad(self.qkv);
            let grads = Grads::<E, K> {
                d_q: (f.grad_mut(self.q), f.accumulates(self.q)),
                d_kv_up: (f.grad_mut(self.kv_up), f.accumulates(self.kv_up)),
                d_k_rope: (f.grad_mut(self.k_rope), f.accumulates(self.k_rope)),
            };
            super::backward(f.cpu, self.shape, rotation, d_qkv, grads);
        }));
    }
}
