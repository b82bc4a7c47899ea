//! Matrix products (naive until the packed kernels arrive).

/// How operands enter a matrix product; accumulation is always fp32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Precision {
    /// fp32 operands.
    Fp32,
    /// bf16 operands.
    Bf16,
}

use crate::Cpu;
use crate::pool::Disjoint;
use crate::simd::Elem;

/// A `[rows, cols]` view with strides.
#[derive(Clone, Copy, Debug)]
pub struct View<'a, E> {
    /// Elements.
    pub data: &'a [E],
    /// Distance between rows.
    pub row_stride: usize,
    /// Distance between columns.
    pub col_stride: usize,
}

impl<'a, E: Elem> View<'a, E> {
    /// Row-major with `cols` columns.
    pub fn rows(data: &'a [E], cols: usize) -> Self {
        View { data, row_stride: cols, col_stride: 1 }
    }

    /// The transpose.
    pub fn t(self) -> Self {
        View { data: self.data, row_stride: self.col_stride, col_stride: self.row_stride }
    }
}

/// `c[m,n] = a[m,k]·b[k,n]`, or `+=` when `accumulate`; c row-major with leading dimension `ldc`.
pub fn gemm<A: Elem, B: Elem, C: Elem>(
    cpu: &Cpu,
    precision: Precision,
    (m, n, k): (usize, usize, usize),
    a: View<'_, A>,
    b: View<'_, B>,
    c: &mut [C],
    ldc: usize,
    accumulate: bool,
) {
    let round = |x: f32| match precision {
        Precision::Fp32 => x,
        Precision::Bf16 => half::bf16::from_f32(x).to_f32(),
    };
    let c = Disjoint::new(c);
    cpu.pool.run(m, |i| {
        // SAFETY: row `i` belongs to task `i` alone.
        let row = unsafe { c.slice(i * ldc, i * ldc + n) };
        for (j, out) in row.iter_mut().enumerate() {
            let mut sum = if accumulate { out.to_f32() } else { 0.0 };
            for p in 0..k {
                let x = round(a.data[i * a.row_stride + p * a.col_stride].to_f32());
                sum += x * round(b.data[p * b.row_stride + j * b.col_stride].to_f32());
            }
            *out = C::from_f32(sum);
        }
    });
}
