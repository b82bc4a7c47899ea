//! Element-wise arithmetic over flat buffers: sums of leaf gradients, changes of storage, scaling.
//!
//! All read and write each element once, so memory bandwidth bounds them.

mod cpu;
mod node;

pub(crate) use cpu::{
    add as sum_rows, add_rows, add_scaled_rows, convert as convert_rows, scale as scale_rows,
};

use crate::Cpu;
use crate::simd::Elem;

/// Elements per task.
const TASK: usize = 1 << 15;

/// Columns per task when blocks are added up.
const COLUMNS: usize = 64;

/// `sum = a + b`, all `[len]`.
pub fn add(cpu: &Cpu, a: &[f32], b: &[f32], sum: &mut [f32]) {
    assert!(a.len() == sum.len() && b.len() == sum.len(), "add: buffers of equal length");
    cpu.pool.for_each_chunk(sum, TASK, |i, part| {
        let range = i * TASK..i * TASK + part.len();
        cpu::add(cpu.isa, &a[range.clone()], &b[range], part);
    });
}

/// `dst += src`, both `[len]`: one node of the tree that sums leaf gradients.
pub fn add_assign(cpu: &Cpu, dst: &mut [f32], src: &[f32]) {
    assert_eq!(dst.len(), src.len(), "add_assign: buffers of equal length");
    cpu.pool.for_each_chunk(dst, TASK, |i, part| add_rows(cpu.isa, &src[i * TASK..][..part.len()], part));
}

/// Adds up partial sums over rows, in order of block ([`crate::order::REDUCE_ROWS`]): partial `[blocks, d]` → out `[d]`,
/// added to or overwritten.
pub(crate) fn sum_blocks(cpu: &Cpu, partial: &[f32], out: &mut [f32], accumulate: bool) {
    let d = out.len();
    assert!(d > 0 && partial.len().is_multiple_of(d), "sum_blocks: blocks of {d}");
    cpu.pool.for_each_chunk(out, COLUMNS, |i, part| {
        cpu::add_blocks(cpu.isa, partial, d, i * COLUMNS, part, accumulate);
    });
}

/// `x *= factor`, `[len]`.
pub fn scale(cpu: &Cpu, x: &mut [f32], factor: f32) {
    cpu.pool.for_each_chunk(x, TASK, |_, part| cpu::scale(cpu.isa, factor, part));
}

/// `dst = src` in another storage type, both `[len]`; bf16 rounds to nearest even.
pub fn convert<A: Elem, B: Elem>(cpu: &Cpu, src: &[A], dst: &mut [B]) {
    assert_eq!(dst.len(), src.len(), "convert: buffers of equal length");
    cpu.pool.for_each_chunk(dst, TASK, |i, part| {
        cpu::convert::<A, B>(cpu.isa, &src[i * TASK..][..part.len()], part)
    });
}

#[cfg(test)]
mod tests {
    use crate::ops::testing::{on_every_cpu, random, stored, wide};
    use half::bf16;

    const LEN: usize = 3 * super::TASK + 77;

    #[test]
    fn sums_and_scales() {
        let (a, b) = (random(1, LEN, 2.0), random(2, LEN, 2.0));
        let sum: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
        let scaled: Vec<f32> = a.iter().map(|a| a * 0.3).collect();
        on_every_cpu(
            |cpu| {
                let (mut sum, mut apart, mut scaled) = (a.clone(), vec![0.0; LEN], a.clone());
                super::add_assign(cpu, &mut sum, &b);
                super::add(cpu, &a, &b, &mut apart);
                super::scale(cpu, &mut scaled, 0.3);
                vec![wide(&sum), wide(&apart), wide(&scaled)]
            },
            &[("sum", wide(&sum), 0.0), ("apart", wide(&sum), 0.0), ("scaled", wide(&scaled), 0.0)],
        );
    }

    #[test]
    fn conversion_rounds_to_nearest_even_and_back_is_exact() {
        let x = random(3, LEN, 1e3);
        let narrow = stored::<bf16>(&x);
        on_every_cpu(
            |cpu| {
                let mut got = vec![bf16::ZERO; LEN];
                super::convert(cpu, &x, &mut got);
                let mut back = vec![0f32; LEN];
                super::convert(cpu, &got, &mut back);
                vec![wide(&got), wide(&back)]
            },
            &[("narrow", wide(&narrow), 0.0), ("back", wide(&narrow), 0.0)],
        );
    }
}
