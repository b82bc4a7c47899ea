//! Embedding: rows of a table picked by token id (EMB-01), multiplied by a constant where the model does so (Gemma: by
//! √hidden); and rows of a second table, picked by position, that are added to them (learned positions, POS-01).
//!
//! Forward copies, backward adds each row's gradient to its token's row. No products: both are bound
//! by memory, `n·d` elements.

mod cpu;
mod node;
#[cfg(test)]
mod oracle;

use crate::Cpu;

/// `out[r] = scale·table[tokens[r]]`: tokens `[n]`, table `[vocab, d]` → out `[n, d]`.
///
/// # Panics
/// When shapes disagree or a token id is not below `vocab` (a caller bug: loaders check ids).
pub fn forward(cpu: &Cpu, tokens: &[u32], table: &[f32], d: usize, scale: f32, out: &mut [f32]) {
    check(tokens, table.len(), d, out.len());
    cpu::forward(cpu, tokens, table, d, scale, out);
}

/// `out[r] = x[r] + table[rows[r]]`: x `[n, d]`, rows `[n]`, table `[m, d]` → out `[n, d]`. The gradient of the table
/// is that of [`backward`] at scale 1.
///
/// # Panics
/// As [`forward`].
pub fn add(cpu: &Cpu, x: &[f32], rows: &[u32], table: &[f32], d: usize, out: &mut [f32]) {
    check(rows, table.len(), d, out.len());
    assert_eq!(x.len(), out.len(), "embedding: x and out have one shape");
    cpu::add(cpu, x, rows, table, d, out);
}

/// `d_table[tokens[r]] += scale·d_out[r]`, for each table row in order of `r`: tokens `[n]`, d_out `[n, d]`,
/// d_table `[vocab, d]`.
///
/// # Panics
/// As [`forward`].
pub fn backward(cpu: &Cpu, tokens: &[u32], d_out: &[f32], d: usize, scale: f32, d_table: &mut [f32]) {
    check(tokens, d_table.len(), d, d_out.len());
    cpu::backward(cpu, tokens, d_out, d, scale, d_table);
}

fn check(tokens: &[u32], table: usize, d: usize, out: usize) {
    assert!(d > 0 && table.is_multiple_of(d), "embedding: a table of {table} elements has no rows of {d}");
    assert_eq!(out, tokens.len() * d, "embedding: one row of {d} per token");
    let (vocab, highest) = (table / d, tokens.iter().max());
    assert!(highest.is_none_or(|&t| (t as usize) < vocab), "embedding: a token id is not below {vocab}");
}

#[cfg(test)]
mod tests {
    use super::oracle;
    use crate::ops::testing::{assert_slope, dot, on_every_cpu, random, wide};

    /// Runs of one token longer than a task, among others.
    fn tokens(n: usize, vocab: u32) -> Vec<u32> {
        (0..n as u32)
            .map(|r| if r % 2 == 0 { 3 } else { r.wrapping_mul(2_654_435_761) >> 8 } % vocab)
            .collect()
    }

    #[test]
    fn oracle_gradient_is_the_slope() {
        let (tokens, d) = (tokens(9, 5), 3);
        let (table, d_out) = (wide(&random(1, 5 * d, 1.0)), wide(&random(2, 9 * d, 1.0)));
        for scale in [1.0, 2.5] {
            let mut gradient = vec![0.0; 5 * d];
            oracle::backward(&tokens, &d_out, d, scale, &mut gradient);
            assert_slope("table", &table, &gradient, |t| dot(&oracle::forward(&tokens, t, d, scale), &d_out));
        }
    }

    fn compare(n: usize, vocab: usize, d: usize) {
        for scale in [1.0, 5.6] {
            let tokens = tokens(n, vocab as u32);
            let (table, d_out) = (random(1, vocab * d, 1.0), random(2, n * d, 1.0));
            let held = random(3, vocab * d, 1.0);
            let (mut want, x) = (wide(&held), random(4, n * d, 1.0));
            oracle::backward(&tokens, &wide(&d_out), d, scale.into(), &mut want);
            let rows = oracle::forward(&tokens, &wide(&table), d, scale.into());
            let mut sum = oracle::forward(&tokens, &wide(&table), d, 1.0);
            sum.iter_mut().zip(&x).for_each(|(sum, x)| *sum += f64::from(*x));
            on_every_cpu(
                |cpu| {
                    let (mut out, mut d_table) = (vec![0.0; n * d], held.clone());
                    super::forward(cpu, &tokens, &table, d, scale, &mut out);
                    super::backward(cpu, &tokens, &d_out, d, scale, &mut d_table);
                    let mut sum = vec![0.0; n * d];
                    super::add(cpu, &x, &tokens, &table, d, &mut sum);
                    vec![wide(&out), wide(&sum), wide(&d_table)]
                },
                &[
                    ("out", rows, if scale == 1.0 { 0.0 } else { 1e-7 }),
                    ("sum", sum, 1e-7),
                    ("d_table", want, 1e-5),
                ],
            );
        }
    }

    #[test]
    fn every_path_matches_the_oracle() {
        for (n, vocab, d) in [(1, 4, 1), (37, 11, 19), (1500, 300, 40)] {
            compare(n, vocab, d);
        }
    }

    #[test]
    #[should_panic(expected = "a token id is not below 4")]
    fn a_token_beyond_the_table_is_refused() {
        let cpu = crate::Cpu::with_isa(crate::isa::Isa::portable(), 1);
        super::forward(&cpu, &[0, 4], &[0.0; 8], 2, 1.0, &mut [0.0; 4]);
    }

    proptest::proptest! {
        #![proptest_config(crate::ops::testing::random_shapes())]

        #[test]
        fn random_shapes_match_the_oracle(n in 1usize..700, vocab in 4usize..300, d in 1usize..70) {
            compare(n, vocab, d);
        }
    }
}
