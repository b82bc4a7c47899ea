use super::{Job, Precision, View, gemm, grouped};
#[cfg(target_arch = "x86_64")]
use super::{Output, Product, avx512bf16, blocked};
use crate::Cpu;
use crate::isa::Isa;
use crate::ops::testing::{assert_close, random, stored, wide};
use crate::order::{GEMM_K_BF16, GEMM_K_FP32};
#[cfg(target_arch = "x86_64")]
use crate::pool::Disjoint;
use crate::simd::Elem;
use half::bf16;

/// Distance by which rows are longer than they need be.
const GAP: usize = 3;

/// One product: shape, which operands lie transposed, whether c is added to.
#[derive(Clone, Copy, Debug)]
struct Case {
    dims: (usize, usize, usize),
    a_t: bool,
    b_t: bool,
    accumulate: bool,
}

/// A matrix of random numbers, as stored and as f64 `[rows, cols]` (rounded to bf16 where the product does).
struct Matrix<E> {
    data: Vec<E>,
    ld: usize,
    transposed: bool,
    exact: Vec<f64>,
}

impl<E: Elem> Matrix<E> {
    fn new(seed: u64, (rows, cols): (usize, usize), transposed: bool, precision: Precision) -> Self {
        let (long, ld) = if transposed { (cols, rows + GAP) } else { (rows, cols + GAP) };
        let data: Vec<E> = stored(&random(seed, long * ld - GAP, 1.0));
        let (rs, cs) = if transposed { (1, ld) } else { (ld, 1) };
        let exact = (0..rows * cols)
            .map(|i| {
                let x = data[i / cols * rs + i % cols * cs].to_f32();
                f64::from(if precision == Precision::Bf16 { bf16::from_f32(x).to_f32() } else { x })
            })
            .collect();
        Matrix { data, ld, transposed, exact }
    }

    fn view(&self) -> View<'_, E> {
        let view = View::rows_strided(&self.data, self.ld);
        if self.transposed { view.t() } else { view }
    }
}

fn check<A: Elem, B: Elem, C: Elem>(case: Case, precision: Precision) {
    let Case { dims: (m, n, k), a_t, b_t, accumulate } = case;
    let a = Matrix::<A>::new(1, (m, k), a_t, precision);
    let b = Matrix::<B>::new(2, (k, n), b_t, precision);
    let ldc = n + GAP;
    let before: Vec<C> = stored(&random(3, m * ldc - GAP, 1.0));
    let mut want = wide(&before);
    for i in 0..m {
        for j in 0..n {
            let sum: f64 = (0..k).map(|p| a.exact[i * k + p] * b.exact[p * n + j]).sum();
            want[i * ldc + j] = sum + if accumulate { want[i * ldc + j] } else { 0.0 };
        }
    }
    let shape = (m, n, k);
    for isa in Isa::available() {
        let run =
            |cpu: &Cpu, c: &mut [C]| gemm(cpu, precision, shape, a.view(), b.view(), c, ldc, accumulate);
        on_threads(isa, &format!("{isa} {precision:?} {case:?}"), &before, (m, n, &want), run);
        #[cfg(target_arch = "x86_64")]
        if isa.has_bf16() && precision == Precision::Bf16 {
            // Also where the CPU's maker rules it out.
            let product = Product { dims: shape, a: a.view(), b: b.view(), round: true };
            let run = |cpu: &Cpu, c: &mut [C]| {
                let c = Output { data: Disjoint::new(c), ld: ldc, accumulate };
                blocked::run::<avx512bf16::Avx512Bf16, A, B, C>(cpu, &product, &c);
            };
            on_threads(isa, &format!("vdpbf16ps {case:?}"), &before, (m, n, &want), run);
        }
    }
}

/// Runs a product on one, two and three threads: close to what is wanted, the same bits each time, and nothing
/// written between the rows of c.
fn on_threads<C: Elem>(
    isa: Isa,
    what: &str,
    before: &[C],
    (m, n, want): (usize, usize, &[f64]),
    run: impl Fn(&Cpu, &mut [C]),
) {
    let tolerance = if size_of::<C>() == 2 { 1.0 / 250.0 } else { 1e-5 };
    let ldc = n + GAP;
    let results = [1, 2, 3].map(|threads| {
        let mut c = before.to_vec();
        run(&Cpu::with_isa(isa, threads), &mut c);
        c
    });
    assert_close(what, &wide(&results[0]), want, tolerance);
    for more in &results[1..] {
        let same = results[0].iter().zip(more).all(|(x, y)| x.to_f32().to_bits() == y.to_f32().to_bits());
        assert!(same, "{what}: other bits than on one thread");
    }
    for r in 0..m - 1 {
        let gap = r * ldc + n..(r + 1) * ldc;
        assert!(wide(&results[0][gap.clone()]) == wide(&before[gap]), "{what}: wrote between rows");
    }
}

fn check_dtypes(case: Case) {
    for precision in [Precision::Fp32, Precision::Bf16] {
        check::<f32, f32, f32>(case, precision);
        check::<bf16, f32, bf16>(case, precision);
    }
    check::<f32, bf16, f32>(case, Precision::Bf16);
    check::<bf16, bf16, bf16>(case, Precision::Bf16);
    check::<bf16, bf16, f32>(case, Precision::Bf16);
}

fn layouts(dims: (usize, usize, usize)) -> impl Iterator<Item = Case> {
    (0..8).map(move |i| Case { dims, a_t: i & 1 == 1, b_t: i & 2 == 2, accumulate: i & 4 == 4 })
}

#[test]
fn every_layout_and_dtype_equals_the_oracle() {
    for dims in [(29, 67, 37), (14, 32, 8), (1, 1, 1), (9, 5, 130)] {
        layouts(dims).for_each(check_dtypes);
    }
}

#[test]
fn few_rows_equal_the_oracle() {
    for dims in [(1, 130, 67), (3, 7, 64), (4, 65, 17), (16, 9, 33)] {
        layouts(dims).for_each(check_dtypes);
    }
}

#[test]
fn several_passes_along_k_equal_the_oracle() {
    let k = 2 * GEMM_K_FP32 + 19;
    layouts((17, 35, k)).for_each(check_dtypes);
    check_dtypes(Case { dims: (15, 33, GEMM_K_BF16 * 2 + 1), a_t: true, b_t: false, accumulate: true });
}

#[test]
fn a_product_is_cut_into_many_tasks_with_the_same_bits() {
    for accumulate in [false, true] {
        check_dtypes(Case { dims: (203, 301, 70), a_t: false, b_t: true, accumulate });
    }
}

#[test]
fn b_that_is_too_large_to_pack_at_once_is_cut_along_columns_and_k() {
    // 1100 columns are two stretches, and 1024 columns of 8200 are packed in two parts.
    let dims = (2, 1100, 8200);
    check::<bf16, bf16, bf16>(Case { dims, a_t: true, b_t: false, accumulate: true }, Precision::Bf16);
    check::<f32, f32, f32>(Case { dims, a_t: false, b_t: false, accumulate: true }, Precision::Fp32);
}

#[test]
fn nothing_times_nothing_is_nothing() {
    let cpu = Cpu::with_isa(Isa::portable(), 1);
    let mut c = [1.0f32; 6];
    let none: View<'_, f32> = View::rows(&[], 0);
    gemm(&cpu, Precision::Fp32, (2, 2, 0), none, none, &mut c, 3, true);
    assert_eq!(c, [1.0; 6]);
    gemm(&cpu, Precision::Fp32, (2, 2, 0), none, none, &mut c, 3, false);
    assert_eq!(c, [0.0, 0.0, 1.0, 0.0, 0.0, 1.0]);
    gemm(&cpu, Precision::Fp32, (0, 2, 2), none, none, &mut c, 3, false);
    assert_eq!(c, [0.0, 0.0, 1.0, 0.0, 0.0, 1.0]);
}

#[test]
#[should_panic(expected = "gemm: b [4, 5]")]
fn a_view_that_is_too_small_is_refused() {
    let cpu = Cpu::with_isa(Isa::portable(), 1);
    let (a, b, mut c) = ([0.0f32; 8], [0.0f32; 19], [0.0f32; 10]);
    gemm(&cpu, Precision::Fp32, (2, 5, 4), View::rows(&a, 4), View::rows(&b, 5), &mut c, 5, false);
}

/// Products of runs of rows by weights of their own, as experts have them: k constant, or m and n constant.
fn check_grouped<A: Elem, B: Elem, C: Elem>(precision: Precision, rows: &[usize], (n, k): (usize, usize)) {
    let offsets: Vec<usize> = std::iter::once(0)
        .chain(rows.iter().scan(0, |sum, rows| {
            *sum += rows;
            Some(*sum)
        }))
        .collect();
    let all = offsets[rows.len()];
    let (x, dy) = (stored::<A>(&random(1, all * k, 1.0)), stored::<A>(&random(2, all * n, 1.0)));
    let (w, x_b) = (stored::<B>(&random(3, rows.len() * n * k, 1.0)), stored::<B>(&random(4, all * k, 1.0)));
    let forward = |e: usize| Job {
        dims: (rows[e], n, k),
        a: View::rows(&x[offsets[e] * k..offsets[e + 1] * k], k),
        b: View::rows(&w[e * n * k..(e + 1) * n * k], k).t(),
        c: offsets[e] * n,
    };
    let weights = |e: usize| Job {
        dims: (n, k, rows[e]),
        a: View::rows(&dy[offsets[e] * n..offsets[e + 1] * n], n).t(),
        b: View::rows(&x_b[offsets[e] * k..offsets[e + 1] * k], k),
        c: e * n * k,
    };
    for accumulate in [false, true] {
        for isa in Isa::available() {
            let one = Cpu::with_isa(isa, 1);
            let (y, dw) =
                (stored::<C>(&random(5, all * n, 1.0)), stored::<C>(&random(6, rows.len() * n * k, 1.0)));
            let (mut want_y, mut want_dw) = (y.clone(), dw.clone());
            for e in 0..rows.len() {
                let Job { dims, a, b, c } = forward(e);
                gemm(&one, precision, dims, a, b, &mut want_y[c..], n, accumulate);
                let Job { dims, a, b, c } = weights(e);
                gemm(&one, precision, dims, a, b, &mut want_dw[c..], k, accumulate);
            }
            for threads in 1..4 {
                let cpu = Cpu::with_isa(isa, threads);
                let (mut y, mut dw) = (y.clone(), dw.clone());
                grouped(&cpu, precision, rows.len(), forward, &mut y, accumulate);
                grouped(&cpu, precision, rows.len(), weights, &mut dw, accumulate);
                assert!(wide(&y) == wide(&want_y), "{isa} {precision:?} {rows:?} {n} {k}: y");
                assert!(wide(&dw) == wide(&want_dw), "{isa} {precision:?} {rows:?} {n} {k}: dw");
            }
        }
    }
}

#[test]
fn a_group_has_the_bits_of_its_products() {
    let many: Vec<usize> = (0..70).map(|e| e * 7 % 33).collect();
    for rows in [&[37, 0, 5, 130, 17][..], &[0, 0], &[300], &[], &many] {
        for shape in [(33, 21), (70, 300)] {
            check_grouped::<f32, f32, f32>(Precision::Fp32, rows, shape);
            check_grouped::<bf16, f32, bf16>(Precision::Bf16, rows, shape);
        }
    }
}

#[test]
fn a_group_is_cut_into_batches_that_can_be_packed() {
    // 9 MiB of weights each, and 36 MiB, which are too much at once.
    check_grouped::<f32, f32, f32>(Precision::Fp32, &[18, 3, 19, 21, 18], (1150, 2050));
    check_grouped::<bf16, f32, bf16>(Precision::Bf16, &[17], (2300, 4100));
}

#[test]
#[should_panic(expected = "parts of c overlap")]
fn a_group_whose_parts_overlap_is_refused() {
    let cpu = Cpu::with_isa(Isa::portable(), 1);
    let (x, mut c) = ([0.0f32; 4], [0.0f32; 8]);
    let job = |_| Job { dims: (2, 2, 2), a: View::rows(&x[..], 2), b: View::rows(&x[..], 2), c: 0 };
    grouped(&cpu, Precision::Fp32, 2, job, &mut c, false);
}

#[test]
fn a_row_has_the_same_bits_in_any_product_of_more_than_a_few_rows() {
    fn check<A: Elem, C: Elem>(precision: Precision) {
        let (m, n, k) = (90, 70, 2 * GEMM_K_BF16 + 37);
        let (a, b) = (stored::<A>(&random(1, m * k, 1.0)), random(2, n * k, 1.0));
        for (isa, threads) in Isa::available().into_iter().flat_map(|isa| [(isa, 1), (isa, 3)]) {
            let cpu = Cpu::with_isa(isa, threads);
            let product = |rows: std::ops::Range<usize>| {
                let mut c = vec![C::from_f32(9.0); rows.len() * n];
                let a = View::rows(&a[rows.start * k..rows.end * k], k);
                gemm(&cpu, precision, (rows.len(), n, k), a, View::rows(&b, k).t(), &mut c, n, false);
                wide(&c).iter().map(|x| x.to_bits()).collect::<Vec<u64>>()
            };
            let all = product(0..m);
            for rows in [0..super::FEW_ROWS + 1, 5..40, 20..84, m - super::FEW_ROWS - 1..m] {
                assert_eq!(
                    product(rows.clone()),
                    all[rows.start * n..rows.end * n],
                    "{isa} {precision:?} {rows:?}"
                );
            }
        }
    }
    check::<f32, f32>(Precision::Fp32);
    check::<bf16, f32>(Precision::Bf16);
    check::<bf16, bf16>(Precision::Bf16);
}
