//! The op in f64, as written in its definition; `sign` −1 turns back.

pub(super) fn rotate(
    positions: &[u32],
    x: &[f64],
    stride: usize,
    heads: usize,
    head_dim: usize,
    theta: f64,
    sign: f64,
) -> Vec<f64> {
    let (mut out, half) = (x.to_vec(), head_dim / 2);
    for (r, &p) in positions.iter().enumerate() {
        for head in 0..heads {
            for k in 0..half {
                let (sin, cos) = (sign * f64::from(p) * theta.powf(-(k as f64) / half as f64)).sin_cos();
                let (a, b) = (r * stride + head * head_dim + k, r * stride + head * head_dim + half + k);
                out[a] = x[a] * cos - x[b] * sin;
                out[b] = x[b] * cos + x[a] * sin;
            }
        }
    }
    out
}
