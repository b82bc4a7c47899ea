//! Rows of a matrix by index, forward only: decoding asks for the logits of few of the rows it feeds.

use crate::Cpu;
use crate::tape::{Frame, Node, Tape, Uses, Var};
use crate::with_elem;

/// `out[i] = x[rows[i]]`: x `[n, cols]`, rows `[m]`, out `[m, cols]`.
///
/// # Panics
/// When an index is out of range (a caller bug).
pub fn forward<E: bytemuck::Pod + Send + Sync>(cpu: &Cpu, x: &[E], cols: usize, rows: &[u32], out: &mut [E]) {
    cpu.pool.for_each_chunk(out, cols, |i, out| {
        let start = rows[i] as usize * cols;
        out.copy_from_slice(&x[start..start + cols]);
    });
}

struct SelectRows {
    x: Var,
    rows: Var,
    out: Var,
}

impl Tape {
    /// Rows `rows` `[m]` of `x` `[n, cols]` → `[m, cols]`. Forward only.
    pub fn select_rows(&mut self, x: Var, rows: Var) -> Var {
        let info = self.info(x);
        let out = self.computed(self.info(rows).rows, info.cols, info.dtype);
        self.push(SelectRows { x, rows, out });
        out
    }
}

impl Node for SelectRows {
    fn name(&self) -> &'static str {
        "select_rows"
    }

    fn uses(&self) -> Uses {
        Uses { reads: vec![self.x, self.rows], writes: vec![self.out], ..Uses::default() }
    }

    fn forward(&self, f: &Frame<'_>) {
        with_elem!(f.dtype(self.x), E => {
            forward::<E>(f.cpu, f.read(self.x), f.info(self.x).cols, f.read(self.rows), f.write(self.out));
        });
    }

    fn backward(&self, _: &Frame<'_>) {
        unreachable!("select_rows is for decoding, which runs forward only");
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn picks_rows_in_the_order_asked() {
        let cpu = crate::Cpu::with_isa(crate::isa::Isa::portable(), 2);
        let x: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let mut out = vec![0.0; 9];
        super::forward(&cpu, &x, 3, &[3, 0, 3], &mut out);
        assert_eq!(out, [9.0, 10.0, 11.0, 0.0, 1.0, 2.0, 9.0, 10.0, 11.0]);
    }
}
