//! Rows of a matrix by index: decoding asks for the logits of few of the rows it feeds.

use crate::Cpu;

/// `out[i] = x[rows[i]]`: x `[n, cols]`, rows `[m]`, out `[m, cols]`.
///
/// # Panics
/// When an index is out of range (a caller bug).
pub fn forward<E: bytemuck::Pod + Send + Sync>(cpu: &Cpu, x: &[E], cols: usize, rows: &[u32], out: &mut [E]) {
    cpu.pool.for_each_chunk(out, cols, |i, out| {
        let start = rows[i] as usize * cols;
        out.copy_from_slice(&x[start..start + cols]);
    });
}

#[cfg(test)]
mod tests {
    #[test]
    fn picks_rows_in_the_order_asked() {
        let cpu = crate::Cpu::with_isa(crate::isa::Isa::portable(), 2);
        let x: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let mut out = vec![0.0; 9];
        super::forward(&cpu, &x, 3, &[3, 0, 3], &mut out);
        assert_eq!(out, [9.0, 10.0, 11.0, 0.0, 1.0, 2.0, 9.0, 10.0, 11.0]);
    }
}
