//! Few rows against a weight matrix (decoding): memory decides, so b is read where it lies, once per four rows.

use super::pack::rounded;
use super::{FEW_ROWS, Output, Product};
use crate::Cpu;
use crate::scratch;
use crate::simd::{Elem, Simd, for_lanes};
use crate::simd_kernel;
use std::ops::Range;

/// Columns of c per task.
const TASK_COLS: usize = 64;

/// Whether a product is of this kind: few rows, and both operands contiguous along k.
pub(super) fn suits<A, B>(product: &Product<'_, A, B>) -> bool {
    product.dims.0 <= FEW_ROWS && product.a.col_stride == 1 && product.b.row_stride == 1
}

/// Computes `c = a·b` as dot products: lanes in order of k, then the lanes by halves.
pub(super) fn run<A: Elem, B: Elem, C: Elem>(cpu: &Cpu, product: &Product<'_, A, B>, c: &Output<'_, C>) {
    let (m, n, k) = product.dims;
    scratch::with(m * k, |a: &mut [f32]| {
        for (r, a) in a.chunks_exact_mut(k).enumerate() {
            widen::<A>(cpu.isa, &product.a.data[r * product.a.row_stride..][..k], product.round, a);
        }
        let a = &*a;
        cpu.pool.run(n.div_ceil(TASK_COLS), |task| {
            let cols = task * TASK_COLS..((task + 1) * TASK_COLS).min(n);
            dots::<A, B, C>(cpu.isa, product, a, cols, c);
        });
    });
}

simd_kernel! {
    fn widen<S, A: Elem>(from: &[A], round: bool, to: &mut [f32]) {
        assert_eq!(from.len(), to.len());
        // SAFETY: `i + n` stays within both slices.
        for_lanes!(S, from.len(), |i, n| unsafe {
            let x = rounded::<S, A>(A::load_n::<S>(from.as_ptr().add(i), n), round);
            f32::store_n::<S>(to.as_mut_ptr().add(i), x, n);
        });
    }
}

simd_kernel! {
    fn dots<S, A: Elem, B: Elem, C: Elem>(
        product: &Product<'_, A, B>,
        a: &[f32],
        cols: Range<usize>,
        c: &Output<'_, C>,
    ) {
        let k = product.dims.2;
        let column = |j: usize| &product.b.data[j * product.b.col_stride..][..k];
        let mut j = cols.start;
        while j < cols.end {
            let wide = cols.end - j >= 4;
            for (group, rows) in a.chunks(4 * k).enumerate() {
                let rows = |r: usize| &rows[r * k..(r + 1) * k];
                let at = (4 * group, j);
                let count = (a.len() / k - 4 * group).min(4);
                match (count, wide) {
                    (4, true) => group_of::<S, B, C, 4, 4>(rows, |i| column(j + i), product.round, at, c),
                    (_, true) => (0..count).for_each(|r| {
                        group_of::<S, B, C, 1, 4>(|_| rows(r), |i| column(j + i), product.round, (at.0 + r, j), c)
                    }),
                    _ => (0..count).for_each(|r| {
                        group_of::<S, B, C, 1, 1>(|_| rows(r), |i| column(j + i), product.round, (at.0 + r, j), c)
                    }),
                }
            }
            j += if wide { 4 } else { 1 };
        }
    }
}

/// `R` rows by `J` columns of c, from `at`.
#[inline(always)]
fn group_of<'a, S: Simd, B: Elem, C: Elem, const R: usize, const J: usize>(
    row: impl Fn(usize) -> &'a [f32],
    column: impl Fn(usize) -> &'a [B],
    round: bool,
    at: (usize, usize),
    c: &Output<'_, C>,
) {
    let (rows, columns): ([&[f32]; R], [&[B]; J]) = (std::array::from_fn(row), std::array::from_fn(column));
    let k = rows[0].len();
    assert!(rows.iter().all(|row| row.len() == k) && columns.iter().all(|column| column.len() == k));
    // SAFETY: `i + n <= k`, the length of every row and column.
    let sums = unsafe {
        let mut sums = [[S::splat(0.0); J]; R];
        for_lanes!(S, k, |i, n| {
            let mut b = [S::splat(0.0); J];
            for (b, column) in b.iter_mut().zip(&columns) {
                *b = rounded::<S, B>(B::load_n::<S>(column.as_ptr().add(i), n), round);
            }
            for (sums, row) in sums.iter_mut().zip(&rows) {
                let a = f32::load_n::<S>(row.as_ptr().add(i), n);
                for (sum, &b) in sums.iter_mut().zip(&b) {
                    *sum = S::fma(a, b, *sum);
                }
            }
        });
        sums
    };
    for (r, sums) in sums.iter().enumerate() {
        let start = (at.0 + r) * c.ld + at.1;
        // SAFETY: these columns of c belong to this task alone; the instruction set is enabled.
        unsafe {
            for (out, &sum) in c.data.slice(start, start + J).iter_mut().zip(sums) {
                let before = if c.accumulate { out.to_f32() } else { 0.0 };
                *out = C::from_f32(before + S::reduce_add(sum));
            }
        }
    }
}
