//! The op on the tape.

use crate::tape::{Frame, Node, Tape, Uses, Var};
use crate::with_elem;

struct SplitColumns {
    x: Var,
    a: Var,
    b: Var,
}

struct JoinColumns {
    a: Var,
    b: Var,
    out: Var,
}

impl Tape {
    /// `[a | b]`, row by row: a `[n, x]`, b `[n, y]` → `[n, x + y]`. Forward only.
    pub fn join_columns(&mut self, a: Var, b: Var) -> Var {
        let (info, more) = (self.info(a), self.info(b));
        let out = self.computed(info.rows, info.cols + more.cols, info.dtype);
        self.push(JoinColumns { a, b, out });
        out
    }

    /// The first `at` columns of `x` `[n, cols]` and the rest: `[n, at]` and `[n, cols − at]`, stored as x is.
    ///
    /// # Panics
    /// When x has fewer columns (a recording bug).
    pub fn split_columns(&mut self, x: Var, at: usize) -> (Var, Var) {
        let info = self.info(x);
        assert!(at <= info.cols, "split_columns: column {at} of {}", info.cols);
        let a = self.computed(info.rows, at, info.dtype);
        let b = self.computed(info.rows, info.cols - at, info.dtype);
        self.push(SplitColumns { x, a, b });
        (a, b)
    }
}

impl Node for SplitColumns {
    fn name(&self) -> &'static str {
        "split_columns"
    }

    fn uses(&self) -> Uses {
        Uses {
            reads: vec![self.x],
            writes: vec![self.a, self.b],
            grads_in: vec![self.a, self.b],
            grads_out: vec![self.x],
            ..Uses::default()
        }
    }

    fn forward(&self, f: &Frame<'_>) {
        let (cols, at) = (f.info(self.x).cols, f.info(self.a).cols);
        with_elem!(f.dtype(self.x), E => {
            super::forward::<E>(f.cpu, f.read(self.x), cols, at, f.write(self.a), f.write(self.b));
        });
    }

    fn backward(&self, f: &Frame<'_>) {
        let (cols, at, accumulate) = (f.info(self.x).cols, f.info(self.a).cols, f.accumulates(self.x));
        with_elem!(f.dtype(self.x), E => {
            super::backward::<E>(
                f.cpu, f.grad(self.a), f.grad(self.b), at, f.grad_mut(self.x), cols, accumulate,
            );
        });
    }
}

impl Node for JoinColumns {
    fn name(&self) -> &'static str {
        "join_columns"
    }

    fn uses(&self) -> Uses {
        Uses { reads: vec![self.a, self.b], writes: vec![self.out], ..Uses::default() }
    }

    fn forward(&self, f: &Frame<'_>) {
        let (cols, at) = (f.info(self.out).cols, f.info(self.a).cols);
        with_elem!(f.dtype(self.out), E => {
            // Joining is what splitting does with gradients.
            super::backward::<E>(f.cpu, f.read(self.a), f.read(self.b), at, f.write(self.out), cols, false);
        });
    }

    fn backward(&self, _: &Frame<'_>) {
        unreachable!("columns are joined for decoding, which runs forward only");
    }
}
