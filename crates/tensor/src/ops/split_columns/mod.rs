//! A matrix cut in two between columns: x `[n, cols]` → `x[:, ..at]` and `x[:, at..]`.
//!
//! One product often makes what two ops go on with (MLA's latent and shared key, ATT-04). As values of
//! their own, each has its own gradient, which backward copies to its columns. Bound by memory, no arithmetic.

mod cpu;
mod node;

pub(crate) use cpu::put_lanes;

use crate::Cpu;
use crate::pool::Disjoint;
use crate::simd::Elem;

/// Rows per task.
const ROWS: usize = 64;

/// Writes a `[n, at]` and b `[n, cols − at]` from x `[n, cols]`.
///
/// # Panics
/// When shapes disagree (a caller bug).
pub fn forward<E: Elem>(cpu: &Cpu, x: &[E], cols: usize, at: usize, a: &mut [E], b: &mut [E]) {
    let n = rows(x.len(), cols, at, a.len(), b.len());
    let (a, b, rest) = (Disjoint::new(a), Disjoint::new(b), cols - at);
    cpu.pool.run(n.div_ceil(ROWS), |task| {
        for r in task * ROWS..((task + 1) * ROWS).min(n) {
            // SAFETY: rows of a task are its own.
            let (a, b) = unsafe { (a.slice(r * at, (r + 1) * at), b.slice(r * rest, (r + 1) * rest)) };
            let (left, right) = x[r * cols..][..cols].split_at(at);
            a.copy_from_slice(left);
            b.copy_from_slice(right);
        }
    });
}

/// `dx = [da | db]`, or `+=` where `accumulate`.
///
/// # Panics
/// As [`forward`].
pub fn backward<E: Elem>(
    cpu: &Cpu,
    da: &[E],
    db: &[E],
    at: usize,
    dx: &mut [E],
    cols: usize,
    accumulate: bool,
) {
    rows(dx.len(), cols, at, da.len(), db.len());
    cpu.pool.for_each_chunk(dx, ROWS * cols, |i, part| {
        for (row, dx) in part.chunks_exact_mut(cols).enumerate() {
            let (r, rest) = (i * ROWS + row, cols - at);
            let (left, right) = dx.split_at_mut(at);
            cpu::put(cpu.isa, &da[r * at..][..at], left, accumulate);
            cpu::put(cpu.isa, &db[r * rest..][..rest], right, accumulate);
        }
    });
}

/// n, after checking that x `[n, cols]`, a `[n, at]` and b `[n, cols − at]` belong together.
fn rows(x: usize, cols: usize, at: usize, a: usize, b: usize) -> usize {
    assert!(at <= cols, "split_columns: column {at} of {cols}");
    assert!(cols > 0 && x.is_multiple_of(cols), "split_columns: {x} elements in rows of {cols}");
    let n = x / cols;
    assert!(a == n * at && b == n * (cols - at), "split_columns: parts of {at} and {} columns", cols - at);
    n
}

#[cfg(test)]
mod tests {
    use crate::ops::testing::{on_every_cpu, random, stored, tolerance, wide};
    use crate::simd::Elem;

    fn compare<E: Elem>(n: usize, cols: usize, at: usize) {
        let (x, held) = (stored::<E>(&random(1, n * cols, 1.0)), stored::<E>(&random(2, n * cols, 1.0)));
        let part = |columns: std::ops::Range<usize>| -> Vec<E> {
            x.chunks(cols).flat_map(|row| row[columns.clone()].to_vec()).collect()
        };
        let (a, b) = (part(0..at), part(at..cols));
        let sum: Vec<f64> = wide(&x).iter().zip(&wide(&held)).map(|(x, held)| x + held).collect();
        on_every_cpu(
            |cpu| {
                let (mut a, mut b) =
                    (stored::<E>(&vec![0.0; n * at]), stored::<E>(&vec![0.0; n * (cols - at)]));
                let (mut fresh, mut added) = (held.clone(), held.clone());
                super::forward(cpu, &x, cols, at, &mut a, &mut b);
                super::backward(cpu, &a, &b, at, &mut fresh, cols, false);
                super::backward(cpu, &a, &b, at, &mut added, cols, true);
                vec![wide(&a), wide(&b), wide(&fresh), wide(&added)]
            },
            &[
                ("a", wide(&a), 0.0),
                ("b", wide(&b), 0.0),
                ("fresh", wide(&x), 0.0),
                ("added", sum, tolerance::<E>()),
            ],
        );
    }

    #[test]
    fn parts_are_cut_and_gradients_put_together_on_every_path() {
        for (n, cols, at) in [(1, 1, 1), (70, 21, 13), (200, 40, 32), (3, 5, 0)] {
            compare::<f32>(n, cols, at);
            compare::<half::bf16>(n, cols, at);
        }
    }

    #[test]
    #[should_panic(expected = "parts of 2 and 1 columns")]
    fn parts_of_other_sizes_are_refused() {
        let cpu = crate::Cpu::with_isa(crate::isa::Isa::portable(), 1);
        super::forward(&cpu, &[0.0f32; 6], 3, 2, &mut [0.0; 4], &mut [0.0; 3]);
    }

    proptest::proptest! {
        #![proptest_config(crate::ops::testing::random_shapes())]

        #[test]
        fn random_shapes_are_cut_and_put_together(n in 1usize..220, (at, rest) in (0usize..60, 0usize..60)) {
            let cols = (at + rest).max(1);
            compare::<f32>(n, cols, at);
            compare::<half::bf16>(n, cols, at);
        }
    }
}
