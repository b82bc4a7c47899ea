//! The op on the tape.

use crate::tape::{DType, Frame, Node, ParamId, Tape, Uses, Var};

struct Embedding {
    tokens: Var,
    table: ParamId,
    out: Var,
}

impl Tape {
    /// Rows of `table` `[vocab, hidden]` picked by `tokens` `[n]` → `[n, hidden]` fp32.
    pub fn embedding(&mut self, tokens: Var, table: ParamId, hidden: usize) -> Var {
        let out = self.computed(self.info(tokens).rows, hidden, DType::F32);
        self.push(Embedding { tokens, table, out });
        out
    }
}

impl Node for Embedding {
    fn name(&self) -> &'static str {
        "embedding"
    }

    fn uses(&self) -> Uses {
        Uses {
            reads: vec![self.tokens],
            writes: vec![self.out],
            saved: vec![self.tokens],
            grads_in: vec![self.out],
            params: vec![self.table],
            ..Uses::default()
        }
    }

    fn bytes(&self, f: &Frame<'_>) -> [u64; 2] {
        // Of the table only rows, one per token at most; but clearing its gradient writes all of it.
        let rows = f.info(self.out).bytes() as u64;
        let cleared = if f.accumulates_param(self.table) { 0 } else { 4 * f.param(self.table).len() as u64 };
        [2 * rows, 3 * rows + cleared]
    }

    fn forward(&self, f: &Frame<'_>) {
        super::forward(
            f.cpu,
            f.read(self.tokens),
            f.param(self.table),
            f.info(self.out).cols,
            f.write(self.out),
        );
    }

    fn backward(&self, f: &Frame<'_>) {
        let d_table = f.param_grad(self.table);
        if !f.accumulates_param(self.table) {
            f.cpu.pool.for_each_chunk(d_table, 1 << 16, |_, part| part.fill(0.0));
        }
        super::backward(f.cpu, f.read(self.tokens), f.grad(self.out), f.info(self.out).cols, d_table);
    }
}
