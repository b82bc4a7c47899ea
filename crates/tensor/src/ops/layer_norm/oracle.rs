//! The op in f64, as written in its definition.

pub(super) struct Output {
    pub(super) y: Vec<f64>,
    /// Mean and 1 / √(var + eps) per row.
    pub(super) stats: Vec<f64>,
}

pub(super) fn forward(x: &[f64], w: &[f64], b: &[f64], eps: f64) -> Output {
    let d = w.len();
    let (mut y, mut stats) = (Vec::new(), Vec::new());
    for row in x.chunks_exact(d) {
        let mean = row.iter().sum::<f64>() / d as f64;
        let var = row.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / d as f64;
        let inv = 1.0 / (var + eps).sqrt();
        y.extend((0..d).map(|k| (row[k] - mean) * inv * w[k] + b[k]));
        stats.extend([mean, inv]);
    }
    Output { y, stats }
}

/// (dx, dw, db)
pub(super) fn backward(x: &[f64], w: &[f64], eps: f64, dy: &[f64]) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let d = w.len();
    let normal = forward(x, &vec![1.0; d], &vec![0.0; d], eps);
    let (mut dx, mut dw, mut db) = (vec![0.0; x.len()], vec![0.0; d], vec![0.0; d]);
    for (r, stats) in normal.stats.chunks_exact(2).enumerate() {
        let (hat, dy) = (&normal.y[r * d..][..d], &dy[r * d..][..d]);
        let g: Vec<f64> = dy.iter().zip(w).map(|(dy, w)| dy * w).collect();
        let level = g.iter().sum::<f64>() / d as f64;
        let along = g.iter().zip(hat).map(|(g, hat)| g * hat).sum::<f64>() / d as f64;
        for k in 0..d {
            dx[r * d + k] = stats[1] * (g[k] - level - hat[k] * along);
            dw[k] += dy[k] * hat[k];
            db[k] += dy[k];
        }
    }
    (dx, dw, db)
}
