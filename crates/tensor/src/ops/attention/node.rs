//! The op on the tape.

use super::Attention;
use crate::tape::{DType, Frame, Node, Tape, Uses, Var};
use crate::with_elem;

struct Packed {
    layer: Attention,
    segments: Var,
    qkv: Var,
    out: Var,
    lse: Var,
}

struct Cached {
    layer: Attention,
    /// Which layer of the cache it is.
    index: usize,
    slots: Var,
    positions: Var,
    qkv: Var,
    out: Var,
}

impl Tape {
    /// Causal attention within documents: qkv `[n, heads·head_dim + kv_heads·(head_dim + value_dim)]` →
    /// `[n, heads·value_dim]`; row `r` sees rows `segments[r]..=r`, or what the layer's window shows of them.
    pub fn attention(&mut self, qkv: Var, segments: Var, layer: &Attention) -> Var {
        let rows = self.info(qkv).rows;
        let out = self.activation_like(rows, layer.shape.out_width());
        let lse = self.computed(layer.shape.heads, rows, DType::F32);
        self.push(Packed { layer: *layer, segments, qkv, out, lse });
        out
    }

    /// Decoding: appends each row's key and value to layer `index` of the cache at (slot, position), then
    /// lets the row see positions `0..=position` of its slot, or what the layer's window shows of them. Forward only.
    pub fn cached_attention(
        &mut self,
        qkv: Var,
        slots: Var,
        positions: Var,
        index: usize,
        layer: &Attention,
    ) -> Var {
        let out = self.activation_like(self.info(qkv).rows, layer.shape.out_width());
        self.push(Cached { layer: *layer, index, slots, positions, qkv, out });
        out
    }
}

impl Node for Packed {
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
            params: self.layer.sinks.into_iter().collect(),
        }
    }

    fn flops(&self, f: &Frame<'_>) -> [u64; 2] {
        super::flops(&self.layer, f.read(self.segments))
    }

    fn forward(&self, f: &Frame<'_>) {
        let (layer, segments) = (&self.layer, f.read(self.segments));
        let sinks = layer.sinks.map(|id| f.param(id));
        with_elem!(f.dtype(self.qkv), E => {
            let (qkv, out): (&[E], &mut [E]) = (f.read(self.qkv), f.write(self.out));
            super::forward(f.cpu, layer, sinks, segments, qkv, out, f.write(self.lse));
        });
    }

    fn backward(&self, f: &Frame<'_>) {
        let (layer, segments) = (&self.layer, f.read(self.segments));
        let sinks = layer.sinks.map(|id| f.param(id));
        let d_sinks = layer.sinks.map(|id| (f.param_grad(id), f.accumulates_param(id)));
        with_elem!(f.dtype(self.qkv), E => {
            let (qkv, out): (&[E], &[E]) = (f.read(self.qkv), f.read(self.out));
            let (d_out, d_qkv) = (f.grad(self.out), f.grad_mut(self.qkv));
            super::backward(
                f.cpu, layer, sinks, segments, qkv, (out, f.read(self.lse)), d_out, d_qkv, d_sinks,
            );
        });
    }
}

impl Node for Cached {
    fn name(&self) -> &'static str {
        "cached_attention"
    }

    fn uses(&self) -> Uses {
        Uses { reads: vec![self.qkv, self.slots, self.positions], writes: vec![self.out], ..Uses::default() }
    }

    fn forward(&self, f: &Frame<'_>) {
        let (slots, positions) = (f.read(self.slots), f.read(self.positions));
        let (layer, shape) = (&self.layer, self.layer.shape);
        let sinks = layer.sinks.map(|id| f.param(id));
        let mut cache = f.cache();
        let capacity = cache.capacity;
        // A cache without values holds them in its keys.
        let value_width = if cache.value_width == 0 { 0 } else { shape.value_width() };
        let (keys, values) = cache.layer(self.index, shape.key_width(), value_width);
        with_elem!(f.dtype(self.qkv), E => {
            let (qkv, out): (&[E], &mut [E]) = (f.read(self.qkv), f.write(self.out));
            super::append(shape, qkv, slots, positions, capacity, keys, values);
            super::cached(f.cpu, layer, sinks, qkv, slots, positions, keys, values, capacity, out);
        });
    }

    fn backward(&self, _: &Frame<'_>) {
        unreachable!("decoding programs run forward only");
    }
}
