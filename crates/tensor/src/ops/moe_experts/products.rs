//! The products of all experts: rows by weights, back, and rows by rows.

use super::Dispatch;
use crate::Cpu;
use crate::gemm::{Job, Precision, View, grouped};
use crate::simd::Elem;

/// One weight of each expert, `[E, out, in]`, and the rows that meet it.
#[derive(Clone, Copy)]
pub(super) struct Products<'a> {
    pub(super) cpu: &'a Cpu,
    pub(super) precision: Precision,
    pub(super) dispatch: Dispatch<'a>,
    pub(super) n_out: usize,
    pub(super) n_in: usize,
}

impl Products<'_> {
    /// y `[rows, out]` = x `[rows, in]`·wᵀ of the row's expert, or `+=`.
    pub(super) fn forward<X: Elem, Y: Elem>(&self, x: &[X], w: &[f32], y: &mut [Y], accumulate: bool) {
        let (n_out, n_in) = (self.n_out, self.n_in);
        let job = |e: usize| {
            let rows = self.dispatch.rows(e);
            Job {
                dims: (rows.len(), n_out, n_in),
                a: View::rows(&x[rows.start * n_in..rows.end * n_in], n_in),
                b: View::rows(&w[e * n_out * n_in..(e + 1) * n_out * n_in], n_in).t(),
                c: rows.start * n_out,
            }
        };
        grouped(self.cpu, self.precision, self.dispatch.experts(), job, y, accumulate);
    }

    /// dx `[rows, in]` = dy `[rows, out]`·w of the row's expert.
    pub(super) fn backward<Y: Elem>(&self, dy: &[Y], w: &[f32], dx: &mut [f32]) {
        let (n_out, n_in) = (self.n_out, self.n_in);
        let job = |e: usize| {
            let rows = self.dispatch.rows(e);
            Job {
                dims: (rows.len(), n_in, n_out),
                a: View::rows(&dy[rows.start * n_out..rows.end * n_out], n_out),
                b: View::rows(&w[e * n_out * n_in..(e + 1) * n_out * n_in], n_in),
                c: rows.start * n_in,
            }
        };
        grouped(self.cpu, self.precision, self.dispatch.experts(), job, dx, false);
    }

    /// dw `[E, out, in]` = dyᵀ·x over the rows of each expert, or `+=`; in order of row, in blocks.
    pub(super) fn weights<Y: Elem, X: Elem>(&self, dy: &[Y], x: &[X], dw: &mut [f32], accumulate: bool) {
        let (n_out, n_in) = (self.n_out, self.n_in);
        let job = |e: usize| {
            let rows = self.dispatch.rows(e);
            Job {
                dims: (n_out, n_in, rows.len()),
                a: View::rows(&dy[rows.start * n_out..rows.end * n_out], n_out).t(),
                b: View::rows(&x[rows.start * n_in..rows.end * n_in], n_in),
                c: e * n_out * n_in,
            }
        };
        grouped(self.cpu, self.precision, self.dispatch.experts(), job, dw, accumulate);
    }
}
