//! The op in f64, as written in its definition.

pub(super) fn forward(x: &[f64], limit: f64) -> Vec<f64> {
    x.iter().map(|x| limit * (x / limit).tanh()).collect()
}

pub(super) fn backward(x: &[f64], limit: f64, dy: &[f64]) -> Vec<f64> {
    x.iter().zip(dy).map(|(x, dy)| dy * (1.0 - (x / limit).tanh().powi(2))).collect()
}
