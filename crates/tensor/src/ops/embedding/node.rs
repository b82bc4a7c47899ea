//! The op on the tape.

use crate::tape::{DType, Frame, Node, ParamId, Tape, Uses, Var};

struct Embedding {
    tokens: Var,
    table: ParamId,
    scale: f32,
    out: Var,
}

struct AddEmbedding {
    x: Var,
    rows: Var,
    table: ParamId,
    out: Var,
}

impl Tape {
    /// Rows of `table` `[vocab, hidden]` picked by `tokens` `[n]`, times `scale` → `[n, hidden]` fp32.
    pub fn embedding(&mut self, tokens: Var, table: ParamId, hidden: usize, scale: f32) -> Var {
        let out = self.computed(self.info(tokens).rows, hidden, DType::F32);
        self.push(Embedding { tokens, table, scale, out });
        out
    }

    /// `x + table[rows]`: x `[n, hidden]` fp32, rows `[n]` (positions), table `[m, hidden]` → `[n, hidden]` fp32.
    pub fn add_embedding(&mut self, x: Var, rows: Var, table: ParamId) -> Var {
        let info = self.info(x);
        let out = self.computed(info.rows, info.cols, DType::F32);
        // As in any sum, one gradient serves both.
        self.share_gradient(&[x, out]);
        self.push(AddEmbedding { x, rows, table, out });
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
            self.scale,
            f.write(self.out),
        );
    }

    fn backward(&self, f: &Frame<'_>) {
        table_gradient(f, self.table, self.tokens, self.out, self.scale);
    }
}

impl Node for AddEmbedding {
    fn name(&self) -> &'static str {
        "add_embedding"
    }

    fn uses(&self) -> Uses {
        Uses {
            reads: vec![self.x, self.rows],
            writes: vec![self.out],
            saved: vec![self.rows],
            grads_in: vec![self.out],
            params: vec![self.table],
            ..Uses::default()
        }
    }

    fn forward(&self, f: &Frame<'_>) {
        let (x, rows, table) = (f.read(self.x), f.read(self.rows), f.param(self.table));
        super::add(f.cpu, x, rows, table, f.info(self.x).cols, f.write(self.out));
    }

    fn backward(&self, f: &Frame<'_>) {
        table_gradient(f, self.table, self.rows, self.out, 1.0);
    }
}

/// Adds the gradient of `out` to the rows of the table's, cleared where nothing was there.
fn table_gradient(f: &Frame<'_>, table: ParamId, rows: Var, out: Var, scale: f32) {
    let d_table = f.param_grad(table);
    if !f.accumulates_param(table) {
        f.cpu.pool.for_each_chunk(d_table, 1 << 16, |_, part| part.fill(0.0));
    }
    super::backward(f.cpu, f.read(rows), f.grad(out), f.info(out).cols, scale, d_table);
}
