//! The step in f64, as written in OPT-02.

use super::Hyper;

pub(super) fn step(p: &mut [f64], g: &[f64], m: &mut [f64], v: &mut [f64], h: &Hyper) {
    let t = h.step as i32;
    for i in 0..p.len() {
        let g = g[i] * f64::from(h.grad_scale);
        m[i] = h.beta1 * m[i] + (1.0 - h.beta1) * g;
        v[i] = h.beta2 * v[i] + (1.0 - h.beta2) * g * g;
        let (m, v) = (m[i] / (1.0 - h.beta1.powi(t)), v[i] / (1.0 - h.beta2.powi(t)));
        p[i] -= h.lr * (m / (v.sqrt() + h.eps) + h.weight_decay * p[i]);
    }
}
