//! The op in f64, as written in its definition.

/// A part: its width, and the weights of each of its groups.
pub(super) type Parts<'a> = [(usize, &'a [f64]); 2];

/// Columns where groups start, their part and its weights.
fn groups(parts: Parts<'_>) -> impl Iterator<Item = (usize, usize, &[f64])> {
    let starts = [0, parts[0].0];
    (0..2).flat_map(move |p| {
        let (width, w) = parts[p];
        (0..width / w.len()).map(move |g| (starts[p] + g * w.len(), p, w))
    })
}

fn inverse(group: &[f64], eps: f64) -> f64 {
    1.0 / (group.iter().map(|v| v * v).sum::<f64>() / group.len() as f64 + eps).sqrt()
}

/// (y, inv_rms)
pub(super) fn forward(x: &[f64], cols: usize, parts: Parts<'_>, eps: f64) -> (Vec<f64>, Vec<f64>) {
    let (mut y, mut inv_rms) = (x.to_vec(), Vec::new());
    for row in (0..x.len()).step_by(cols) {
        for (start, _, w) in groups(parts) {
            let at = row + start..row + start + w.len();
            let inv = inverse(&x[at.clone()], eps);
            inv_rms.push(inv);
            y[at].iter_mut().zip(w).for_each(|(y, w)| *y *= inv * w);
        }
    }
    (y, inv_rms)
}

/// (dx, dw of both parts)
pub(super) fn backward(
    x: &[f64],
    cols: usize,
    parts: Parts<'_>,
    eps: f64,
    dy: &[f64],
) -> (Vec<f64>, [Vec<f64>; 2]) {
    let mut dx = dy.to_vec();
    let mut dw = parts.map(|(_, w)| vec![0.0; w.len()]);
    for row in (0..x.len()).step_by(cols) {
        for (start, part, w) in groups(parts) {
            let (at, d) = (row + start, w.len());
            let inv = inverse(&x[at..at + d], eps);
            let along: f64 = (0..d).map(|k| dy[at + k] * w[k] * x[at + k]).sum();
            for k in 0..d {
                dx[at + k] = dy[at + k] * w[k] * inv - x[at + k] * along * inv.powi(3) / d as f64;
                dw[part][k] += dy[at + k] * x[at + k] * inv;
            }
        }
    }
    (dx, dw)
}
