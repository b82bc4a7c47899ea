//! Matrix products, after Goto and van de Geijn, "Anatomy of high-performance matrix multiplication" (2008).
//!
//! Operands are packed into panels by [`pack`], which a microkernel (one file each) multiplies tile by tile;
//! [`blocked`] drives it over cache blocks and threads, [`small`] serves a few rows without packing, and [`grouped()`]
//! takes many products at once.
//! Each element of c is the sum, in order, of its K-blocks' sums ([`crate::order`]): neither the number of
//! threads nor the size of a cache changes a bit. Products are 2·m·n·k FLOPs.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512bf16;
pub mod bench;
mod blocked;
mod blocks;
mod grouped;
mod kernel;
#[cfg(target_arch = "aarch64")]
mod neon;
mod pack;
mod portable;
mod small;
#[cfg(test)]
mod tests;

pub use grouped::{Job, grouped};

use crate::Cpu;
use crate::pool::Disjoint;
use crate::simd::Elem;
use pack::Source;

/// Evaluates an expression with the kernel type that an instruction-set path and a precision call for.
macro_rules! with_kernel {
    ($isa:expr, $precision:expr, $K:ident => $body:expr) => {{
        use $crate::isa::Path;
        match ($isa.path(), $precision) {
            #[cfg(target_arch = "x86_64")]
            (Path::Avx512Bf16, $crate::gemm::Precision::Bf16) if $crate::gemm::avx512bf16::pays() => {
                type $K = $crate::gemm::avx512bf16::Avx512Bf16;
                $body
            }
            #[cfg(target_arch = "x86_64")]
            (Path::Avx512Bf16 | Path::Avx512, _) => {
                type $K = $crate::gemm::avx512::Avx512;
                $body
            }
            #[cfg(target_arch = "x86_64")]
            (Path::Avx2, _) => {
                type $K = $crate::gemm::avx2::Avx2;
                $body
            }
            #[cfg(target_arch = "aarch64")]
            (Path::Neon, _) => {
                type $K = $crate::gemm::neon::Neon;
                $body
            }
            _ => {
                type $K = $crate::gemm::portable::Portable;
                $body
            }
        }
    }};
}
use with_kernel;

pub use crate::order::FEW_ROWS;

/// How operands enter a matrix product; accumulation is always fp32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Precision {
    /// fp32 operands.
    Fp32,
    /// Operands rounded to the nearest bf16: multiplied by `vdpbf16ps` where that is fast, else in fp32.
    Bf16,
}

impl Precision {
    /// bf16 where the CPU's bf16 products outrun its fp32 ones, else fp32: what `auto` stands for.
    pub fn auto(isa: crate::isa::Isa) -> Precision {
        #[cfg(target_arch = "x86_64")]
        if isa.has_bf16() && avx512bf16::pays() {
            return Precision::Bf16;
        }
        let _ = isa;
        Precision::Fp32
    }
}

/// A `[rows, cols]` view with strides, one of which is 1.
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

    /// Row-major with `ld` elements from row to row, of which the product's shape says how many count.
    pub fn rows_strided(data: &'a [E], ld: usize) -> Self {
        View { data, row_stride: ld, col_stride: 1 }
    }

    /// The transpose.
    pub fn t(self) -> Self {
        View { data: self.data, row_stride: self.col_stride, col_stride: self.row_stride }
    }

    /// Asserts that `[rows, cols]`, neither zero, lie in the data.
    fn check(&self, name: &str, rows: usize, cols: usize) {
        let (len, ld) = (self.data.len(), self.row_stride.max(self.col_stride));
        assert!(
            self.row_stride == 1 || self.col_stride == 1,
            "gemm: {name} is contiguous in neither direction"
        );
        let last = (rows - 1) * self.row_stride + (cols - 1) * self.col_stride;
        assert!(last < len, "gemm: {name} [{rows}, {cols}] with stride {ld} needs more than {len} elements");
    }
}

/// What is multiplied.
struct Product<'a, A, B> {
    /// m, n, k
    dims: (usize, usize, usize),
    a: View<'a, A>,
    b: View<'a, B>,
    /// Whether fp32 values are rounded to bf16 on their way in.
    round: bool,
}

impl<'a, A, B> Product<'a, A, B> {
    fn a_source(&self) -> Source<'a, A> {
        Source { data: self.a.data, lane_stride: self.a.row_stride, k_stride: self.a.col_stride }
    }

    fn b_source(&self) -> Source<'a, B> {
        Source { data: self.b.data, lane_stride: self.b.col_stride, k_stride: self.b.row_stride }
    }
}

/// Where it goes.
struct Output<'a, C> {
    data: Disjoint<'a, C>,
    ld: usize,
    accumulate: bool,
}

/// `c[m, n] = a[m, k]·b[k, n]`, or `+=` when `accumulate`. c is row-major with `ldc` elements from row to row;
/// elements between rows stay as they are.
///
/// # Panics
/// When a view or c is too small for the shape.
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
    if m == 0 || n == 0 {
        return;
    }
    assert!(
        n <= ldc && (m - 1) * ldc + n <= c.len(),
        "gemm: c [{m}, {n}] with stride {ldc} in {} elements",
        c.len()
    );
    if k == 0 {
        if !accumulate {
            c.chunks_mut(ldc).take(m).for_each(|row| row[..n].fill(C::from_f32(0.0)));
        }
        return;
    }
    a.check("a", m, k);
    b.check("b", k, n);
    let product = Product { dims: (m, n, k), a, b, round: precision == Precision::Bf16 };
    let c = Output { data: Disjoint::new(c), ld: ldc, accumulate };
    if small::suits(&product) {
        return small::run(cpu, &product, &c);
    }
    with_kernel!(cpu.isa, precision, K => blocked::run::<K, A, B, C>(cpu, &product, &c));
}
