//! The op in f64, as written in its definition.

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

pub(super) fn forward(gate_up: &[f64], width: usize) -> Vec<f64> {
    let row = |row: &[f64]| (0..width).map(|k| row[k] * sigmoid(row[k]) * row[width + k]).collect::<Vec<_>>();
    gate_up.chunks_exact(2 * width).flat_map(row).collect()
}

pub(super) fn backward(gate_up: &[f64], width: usize, d_out: &[f64]) -> Vec<f64> {
    let mut grads = vec![0.0; gate_up.len()];
    for (r, d) in d_out.chunks_exact(width).enumerate() {
        for (k, d) in d.iter().enumerate() {
            let (gate, up) = (2 * r * width + k, (2 * r + 1) * width + k);
            let (g, s) = (gate_up[gate], sigmoid(gate_up[gate]));
            grads[gate] = d * gate_up[up] * (s + g * s * (1.0 - s));
            grads[up] = d * g * s;
        }
    }
    grads
}
