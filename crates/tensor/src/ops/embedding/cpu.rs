//! Parallel over rows of the output (forward) or of the table (backward).

use crate::Cpu;
use crate::ops::add::{add_rows, add_scaled_rows, scale_rows, sum_rows};
use crate::pool::Disjoint;
use crate::scratch;

/// Rows per task.
const ROWS: usize = 128;

pub(super) fn forward(cpu: &Cpu, tokens: &[u32], table: &[f32], d: usize, scale: f32, out: &mut [f32]) {
    cpu.pool.for_each_chunk(out, ROWS * d, |i, part| {
        for (row, &token) in part.chunks_exact_mut(d).zip(&tokens[i * ROWS..]) {
            row.copy_from_slice(&table[token as usize * d..][..d]);
            if scale != 1.0 {
                scale_rows(cpu.isa, scale, row);
            }
        }
    });
}

pub(super) fn add(cpu: &Cpu, x: &[f32], rows: &[u32], table: &[f32], d: usize, out: &mut [f32]) {
    cpu.pool.for_each_chunk(out, ROWS * d, |i, part| {
        let first = i * ROWS;
        for (at, (to, &row)) in part.chunks_exact_mut(d).zip(&rows[first..]).enumerate() {
            sum_rows(cpu.isa, &x[(first + at) * d..][..d], &table[row as usize * d..][..d], to);
        }
    });
}

/// Sorts (token, row) pairs, so that each table row's terms lie together in order of row; the task
/// in whose stretch a token's first term lies adds all of them.
pub(super) fn backward(cpu: &Cpu, tokens: &[u32], d_out: &[f32], d: usize, scale: f32, d_table: &mut [f32]) {
    scratch::with(tokens.len(), |terms: &mut [u64]| {
        for (row, (term, &token)) in terms.iter_mut().zip(tokens).enumerate() {
            *term = u64::from(token) << 32 | row as u64;
        }
        // All terms differ, so an unstable sort has one result.
        terms.sort_unstable();
        let (terms, table) = (&*terms, Disjoint::new(d_table));
        cpu.pool.run(terms.len().div_ceil(ROWS), |task| {
            let (start, end) = (task * ROWS, ((task + 1) * ROWS).min(terms.len()));
            let before = start.checked_sub(1).map(|i| terms[i] >> 32);
            let mut at = start;
            while at < end {
                let token = terms[at] >> 32;
                let count = terms[at..].iter().take_while(|&&term| term >> 32 == token).count();
                if Some(token) != before {
                    let row = token as usize * d;
                    // SAFETY: the row belongs to the one task that holds its first term.
                    let sum = unsafe { table.slice(row, row + d) };
                    for &term in &terms[at..at + count] {
                        let d_row = &d_out[(term as u32) as usize * d..][..d];
                        match scale == 1.0 {
                            true => add_rows(cpu.isa, d_row, sum),
                            false => add_scaled_rows(cpu.isa, scale, d_row, sum),
                        }
                    }
                }
                at += count;
            }
        });
    });
}
