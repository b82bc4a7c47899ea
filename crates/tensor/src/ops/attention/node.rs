//! The op on the tape.

use super::Shape;
use crate::tape::{DType, Frame, Node, Tape, Uses, Var};
use crate::with_elem;

struct Attention {
    shape: Shape,
    segments: Var,
    qkv: Var,
    out: Var,
    lse: Var,
}

struct CachedAttention {
    shape: Shape,
    layer: usize,
    slots: Var,
    positions: Var,
    qkv: Var,
    out: Var,
}

impl Tape {
    /// Causal attention within documents: qkv `[n, (heads + 2·kv_heads)·head_dim]` →
    /// `[n, heads·head_dim]`; row `r` sees rows `segments[r]..=r`.
    pub fn attention(&mut self, qkv: Var, segments: Var, shape: Shape) -> Var {
        let rows = self.info(qkv).rows;
        let out = self.activation_like(rows, shape.heads * shape.head_dim);
        let lse = self.computed(shape.heads, rows, DType::F32);
        self.push(Attention { shape, segments, qkv, out, lse });
        out
    }

    /// Decoding: appends each row's key and value to `layer` of the cache at (slot, position), then
    /// lets the row see positions `0..=position` of its slot. Forward only.
    pub fn cached_attention(
        &mut self,
        qkv: Var,
        slots: Var,
        positions: Var,
        layer: usize,
        shape: Shape,
    ) -> Var {
        let out = self.activation_like(self.info(qkv).rows, shape.heads * shape.head_dim);
        self.push(CachedAttention { shape, layer, slots, positions, qkv, out });
        out
    }
}

fn scale(shape: &Shape) -> f32 {
    1.0 / (shape.head_dim as f32).sqrt()
}

impl Node for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn uses(&self) -> Uses {
        Uses {
            reads: vec![self.qkv, self.segments],
            writes: vec![self.out, self.lse],
            saved: vec![self.qkv, self.segments, self.out, self.lse],
            grads_in: vec![self.out],
            grads_out: vec![self.qkv],
            ..Uses::default()
        }
    }

    fn flops(&self, f: &Frame<'_>) -> [u64; 2] {
        let forward = super::flops(self.shape, f.read(self.segments));
        [forward, forward / 2 * 5]
    }

    fn forward(&self, f: &Frame<'_>) {
        with_elem!(f.dtype(self.qkv), E => {
            let (qkv, out): (&[E], &mut [E]) = (f.read(self.qkv), f.write(self.out));
            super::forward(f.cpu, self.shape, scale(&self.shape), f.read(self.segments), qkv, out, f.write(self.lse));
        });
    }

    fn backward(&self, f: &Frame<'_>) {
        with_elem!(f.dtype(self.qkv), E => {
            let (qkv, out): (&[E], &[E]) = (f.read(self.qkv), f.read(self.out));
            super::backward(
                f.cpu,
                self.shape,
                scale(&self.shape),
                f.read(self.segments),
                qkv,
                out,
                f.read(self.lse),
                f.grad(self.out),
                f.grad_mut(self.qkv),
            );
        });
    }
}

impl Node for CachedAttention {
    fn name(&self) -> &'static str {
        "cached_attention"
    }

    fn uses(&self) -> Uses {
        Uses { reads: vec![self.qkv, self.slots, self.positions], writes: vec![self.out], ..Uses::default() }
    }

    fn forward(&self, f: &Frame<'_>) {
        let (slots, positions) = (f.read(self.slots), f.read(self.positions));
        let mut cache = f.cache();
        let capacity = cache.capacity;
        let (keys, values) = cache.layer(self.layer);
        with_elem!(f.dtype(self.qkv), E => {
            let (qkv, out): (&[E], &mut [E]) = (f.read(self.qkv), f.write(self.out));
            super::append(self.shape, qkv, slots, positions, capacity, keys, values);
            super::cached(
                f.cpu, self.shape, scale(&self.shape), qkv, slots, positions, keys, values, capacity, out,
            );
        });
    }

    fn backward(&self, _: &Frame<'_>) {
        unreachable!("decoding programs run forward only");
    }
}
