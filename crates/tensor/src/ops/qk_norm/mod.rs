//! RMSNorm of queries and keys before they are rotated (STB-03): per head (Qwen 3, Gemma 3) or over all heads at once
//! (OLMo 2). Values pass through.
//!
//! A row is q|k|rest. Of q and of k each group of as many columns as there are weights is divided by its root mean
//! square and multiplied by the weights; statistics are fp32. Memory bounds both passes.

mod cpu;
mod node;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;

pub use node::Widths;

use crate::Cpu;
use crate::ops::add;
use crate::order::REDUCE_ROWS;
use crate::pool::Disjoint;
use crate::scratch;
use crate::simd::Elem;

/// Rows per task of the forward pass.
const ROWS: usize = 16;

/// A stretch of columns and the weights that each of its groups is multiplied by.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// Columns, a multiple of the number of weights.
    pub width: usize,
    /// Weights, one per column of a group.
    pub w: &'a [f32],
}

impl Part<'_> {
    fn groups(&self) -> usize {
        self.width / self.w.len().max(1)
    }
}

/// x `[n, cols]`, of which the parts are the first columns → y `[n, cols]`, inv_rms `[n, groups]`, saved for backward.
///
/// # Panics
/// When shapes disagree (a caller bug).
pub fn forward<E: Elem>(
    cpu: &Cpu,
    x: &[E],
    cols: usize,
    parts: [Part<'_>; 2],
    eps: f32,
    y: &mut [E],
    inv_rms: &mut [f32],
) {
    let (n, groups) = check(x.len(), cols, parts, inv_rms.len());
    assert_eq!(y.len(), x.len(), "qk_norm: x and y have one shape");
    let y = Disjoint::new(y);
    cpu.pool.for_each_chunk(inv_rms, ROWS * groups, |i, inv_rms| {
        let part = i * ROWS * cols..((i + 1) * ROWS).min(n) * cols;
        // SAFETY: these rows belong to task `i` alone.
        let y = unsafe { y.slice(part.start, part.end) };
        cpu::forward::<E>(cpu.isa, &x[part], cols, parts, eps, y, inv_rms);
    });
}

/// x `[n, cols]`, inv_rms `[n, groups]`, dy `[n, cols]` → dx `[n, cols]`, overwritten, and the gradients of each part's
/// weights, added to or overwritten: sums over rows in blocks, within a row over groups.
///
/// # Panics
/// When shapes disagree (a caller bug).
pub fn backward<E: Elem>(
    cpu: &Cpu,
    x: &[E],
    cols: usize,
    parts: [Part<'_>; 2],
    inv_rms: &[f32],
    dy: &[E],
    dx: &mut [E],
    dw: [(&mut [f32], bool); 2],
) {
    let (n, groups) = check(x.len(), cols, parts, inv_rms.len());
    assert!(dy.len() == x.len() && dx.len() == x.len(), "qk_norm: x, dy and dx have one shape");
    let [q, k] = parts.map(|part| part.w.len());
    let blocks = n.div_ceil(REDUCE_ROWS);
    scratch::with(blocks * (q + k), |partial: &mut [f32]| {
        let (of_q, of_k) = partial.split_at_mut(blocks * q);
        let (dx, sums) = (Disjoint::new(dx), [Disjoint::new(of_q), Disjoint::new(of_k)]);
        cpu.pool.run(blocks, |i| {
            let (first, last) = (i * REDUCE_ROWS, ((i + 1) * REDUCE_ROWS).min(n));
            let part = first * cols..last * cols;
            // SAFETY: these rows and these blocks belong to task `i` alone.
            let (dx, dw) = unsafe {
                let dw = [sums[0].slice(i * q, (i + 1) * q), sums[1].slice(i * k, (i + 1) * k)];
                (dx.slice(part.start, part.end), dw)
            };
            let inv_rms = &inv_rms[first * groups..last * groups];
            cpu::backward::<E>(cpu.isa, &x[part.clone()], cols, parts, inv_rms, &dy[part], dx, dw);
        });
        for ((dw, accumulate), partial) in dw.into_iter().zip([of_q, of_k]) {
            add::sum_blocks(cpu, partial, dw, accumulate);
        }
    });
}

/// (n, groups of a row)
fn check(x: usize, cols: usize, parts: [Part<'_>; 2], inv_rms: usize) -> (usize, usize) {
    let whole = parts.iter().all(|part| !part.w.is_empty() && part.width.is_multiple_of(part.w.len()));
    assert!(whole, "qk_norm: parts are made of whole groups");
    let (width, groups) = (parts[0].width + parts[1].width, parts[0].groups() + parts[1].groups());
    assert!(
        groups > 0 && width <= cols && x.is_multiple_of(cols),
        "qk_norm: parts of {width} in rows of {cols}"
    );
    assert_eq!(inv_rms, x / cols * groups, "qk_norm: inv_rms has {groups} per row");
    (x / cols, groups)
}
