//! The op in f64, as written in its definition.

pub(super) fn forward(x: &[f64], w: &[f64], n_in: usize) -> Vec<f64> {
    let dot = |x: &[f64], w: &[f64]| x.iter().zip(w).map(|(x, w)| x * w).sum::<f64>();
    x.chunks_exact(n_in).flat_map(|x| w.chunks_exact(n_in).map(move |w| dot(x, w))).collect()
}

/// (dx, dw)
pub(super) fn backward(x: &[f64], w: &[f64], n_in: usize, dy: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let (mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; w.len()]);
    let n_out = w.len() / n_in;
    for (at, d) in dy.iter().enumerate() {
        let (row, out) = (at / n_out * n_in, at % n_out * n_in);
        for i in 0..n_in {
            dx[row + i] += d * w[out + i];
            dw[out + i] += d * x[row + i];
        }
    }
    (dx, dw)
}

pub(super) fn add_bias(mut y: Vec<f64>, bias: &[f64]) -> Vec<f64> {
    y.iter_mut().enumerate().for_each(|(at, y)| *y += bias[at % bias.len()]);
    y
}

pub(super) fn backward_bias(dy: &[f64], n_out: usize) -> Vec<f64> {
    (0..n_out).map(|k| dy.iter().skip(k).step_by(n_out).sum()).collect()
}
