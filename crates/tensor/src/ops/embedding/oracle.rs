//! The op in f64, as written in its definition.

pub(super) fn forward(tokens: &[u32], table: &[f64], d: usize, scale: f64) -> Vec<f64> {
    tokens.iter().flat_map(|&t| table[t as usize * d..][..d].iter().map(move |x| scale * x)).collect()
}

pub(super) fn backward(tokens: &[u32], d_out: &[f64], d: usize, scale: f64, d_table: &mut [f64]) {
    for (r, &t) in tokens.iter().enumerate() {
        for k in 0..d {
            d_table[t as usize * d + k] += scale * d_out[r * d + k];
        }
    }
}
