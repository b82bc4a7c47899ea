//! The op in f64, as written in its definition.

/// (y, inv_rms)
pub(super) fn forward(x: &[f64], w: &[f64], eps: f64) -> (Vec<f64>, Vec<f64>) {
    let d = w.len();
    let inverse = |row: &[f64]| 1.0 / (row.iter().map(|v| v * v).sum::<f64>() / d as f64 + eps).sqrt();
    let inv_rms: Vec<f64> = x.chunks_exact(d).map(inverse).collect();
    let y = x.iter().enumerate().map(|(i, v)| v * inv_rms[i / d] * w[i % d]).collect();
    (y, inv_rms)
}

/// (dx, dw)
pub(super) fn backward(x: &[f64], w: &[f64], eps: f64, dy: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let d = w.len();
    let (_, inv_rms) = forward(x, w, eps);
    let (mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; d]);
    for (r, inv) in inv_rms.iter().enumerate() {
        let row = r * d..(r + 1) * d;
        let (x, dy) = (&x[row.clone()], &dy[row.clone()]);
        let along: f64 = (0..d).map(|k| dy[k] * w[k] * x[k]).sum();
        for k in 0..d {
            dx[row.start + k] = dy[k] * w[k] * inv - x[k] * along * inv.powi(3) / d as f64;
            dw[k] += dy[k] * x[k] * inv;
        }
    }
    (dx, dw)
}
