//! The absorbed form on the tape, forward only.

use super::absorbed;
use super::{RotateBy, Shape};
use crate::tape::{Frame, Node, ParamId, Tape, Uses, Var};
use crate::with_elem;

struct Queries {
    shape: Shape,
    rotate: RotateBy,
    q: Var,
    w: ParamId,
    out: Var,
}

struct Keys {
    shape: Shape,
    rotate: RotateBy,
    latent: Var,
    k_rope: Var,
    out: Var,
}

struct Values {
    shape: Shape,
    x: Var,
    w: ParamId,
    out: Var,
}

impl Tape {
    /// [`absorbed::queries`]: q `[n, heads·(nope + rope)]`, w `[heads·(nope + value), rank]` →
    /// `[n, heads·(rank + rope)]`. Forward only.
    pub fn absorbed_queries(
        &mut self,
        q: Var,
        w: ParamId,
        rank: usize,
        shape: Shape,
        rotate: RotateBy,
    ) -> Var {
        let info = self.info(q);
        let out = self.computed(info.rows, shape.heads * (rank + shape.rope), info.dtype);
        self.push(Queries { shape, rotate, q, w, out });
        out
    }

    /// [`absorbed::keys`]: latent `[n, rank]`, k_rope `[n, rope]` → `[n, rank + rope]`. Forward only.
    pub fn absorbed_keys(&mut self, latent: Var, k_rope: Var, shape: Shape, rotate: RotateBy) -> Var {
        let info = self.info(latent);
        let out = self.computed(info.rows, info.cols + shape.rope, info.dtype);
        self.push(Keys { shape, rotate, latent, k_rope, out });
        out
    }

    /// [`absorbed::values`]: averaged latents `[n, heads·rank]`, w `[heads·(nope + value), rank]` →
    /// `[n, heads·value]`. Forward only.
    pub fn absorbed_values(&mut self, x: Var, w: ParamId, shape: Shape) -> Var {
        let info = self.info(x);
        let out = self.computed(info.rows, shape.heads * shape.value, info.dtype);
        self.push(Values { shape, x, w, out });
        out
    }
}

/// FLOPs of a product with a part of each head's weight, `features` rows of it.
fn flops(f: &Frame<'_>, shape: Shape, w: ParamId, rows: usize, features: usize) -> [u64; 2] {
    let rank = f.param(w).len() / shape.kv_up_width().max(1);
    [2 * (rows * shape.heads * features * rank) as u64, 0]
}

impl Node for Queries {
    fn name(&self) -> &'static str {
        "absorbed_queries"
    }

    fn uses(&self) -> Uses {
        Uses { reads: vec![self.q, self.rotate.positions], writes: vec![self.out], ..Uses::default() }
    }

    fn flops(&self, f: &Frame<'_>) -> [u64; 2] {
        flops(f, self.shape, self.w, f.info(self.q).rows, self.shape.nope)
    }

    fn forward(&self, f: &Frame<'_>) {
        let rotation = self.rotate.in_run(f);
        with_elem!(f.dtype(self.q), E => {
            let (q, out): (&[E], &mut [E]) = (f.read(self.q), f.write(self.out));
            absorbed::queries(f.cpu, f.precision, self.shape, rotation, q, f.param(self.w), out);
        });
    }

    fn backward(&self, _: &Frame<'_>) {
        unreachable!("absorbed attention is for decoding, which runs forward only");
    }
}

impl Node for Keys {
    fn name(&self) -> &'static str {
        "absorbed_keys"
    }

    fn uses(&self) -> Uses {
        let reads = vec![self.latent, self.k_rope, self.rotate.positions];
        Uses { reads, writes: vec![self.out], ..Uses::default() }
    }

    fn forward(&self, f: &Frame<'_>) {
        let rotation = self.rotate.in_run(f);
        with_elem!(f.dtype(self.latent), E => with_elem!(f.dtype(self.k_rope), K => {
            let (latent, k_rope): (&[E], &[K]) = (f.read(self.latent), f.read(self.k_rope));
            absorbed::keys(f.cpu, self.shape, rotation, latent, k_rope, f.write(self.out));
        }));
    }

    fn backward(&self, _: &Frame<'_>) {
        unreachable!("absorbed attention is for decoding, which runs forward only");
    }
}

impl Node for Values {
    fn name(&self) -> &'static str {
        "absorbed_values"
    }

    fn uses(&self) -> Uses {
        Uses { reads: vec![self.x], writes: vec![self.out], ..Uses::default() }
    }

    fn flops(&self, f: &Frame<'_>) -> [u64; 2] {
        flops(f, self.shape, self.w, f.info(self.x).rows, self.shape.value)
    }

    fn forward(&self, f: &Frame<'_>) {
        with_elem!(f.dtype(self.x), E => {
            let (x, out): (&[E], &mut [E]) = (f.read(self.x), f.write(self.out));
            absorbed::values(f.cpu, f.precision, self.shape, x, f.param(self.w), out);
        });
    }

    fn backward(&self, _: &Frame<'_>) {
        unreachable!("absorbed attention is for decoding, which runs forward only");
    }
}
