//! What one row attends to, as the definition of attention reads: for looking into a model, not for running it.

use super::Attention;

/// A row that another one sees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weight {
    /// The row that is seen.
    pub row: usize,
    /// Scaled product of query and key: the score before it saturates and before ALiBi takes from it (STB-04).
    pub product: f64,
    /// The score.
    pub score: f64,
    /// Its share of the softmax. Shares add up to 1, or to less where a learned sink takes the rest.
    pub share: f64,
}

/// What head `head` of row `row` attends to, in order of the rows that it sees: `layer`, `sinks`, `segments` and `qkv` as in
/// [`forward`](super::forward). In f64, one pair of rows after another: 2·head_dim floating-point operations each.
///
/// # Panics
/// When a slice's length disagrees with the layer, or there is no such row or head (a caller bug).
pub fn weights(
    layer: &Attention,
    sinks: Option<&[f32]>,
    segments: &[u32],
    qkv: &[f32],
    (row, head): (usize, usize),
) -> Vec<Weight> {
    layer.check();
    super::check_sinks(layer, sinks);
    let shape = layer.shape;
    let (n, width) = (segments.len(), shape.qkv_width());
    assert!(qkv.len() == n * width, "attention: qkv is not [{n}, {width}]");
    assert!(row < n && head < shape.heads, "attention: row {row} of {n}, head {head} of {}", shape.heads);
    let vector = |row: usize, at: usize| &qkv[row * width + at..][..shape.head_dim];
    let query = vector(row, head * shape.head_dim);
    let key = shape.key_at(head / shape.group());
    let weight = |other: usize| {
        let product = f64::from(layer.scores.scale) * dot(query, vector(other, key));
        let capped =
            layer.scores.softcap.map_or(product, |cap| f64::from(cap) * (product / f64::from(cap)).tanh());
        let score = capped - f64::from(layer.slope(head)) * (row - other) as f64;
        Weight { row: other, product, score, share: 0.0 }
    };
    let document = segments[row] as usize;
    let first = layer.first_seen(document, row);
    let kept = if first > document { layer.kept() } else { 0 };
    let mut seen: Vec<Weight> = (document..document + kept).chain(first..=row).map(weight).collect();
    let sink = sinks.map(|sinks| f64::from(sinks[head]));
    let scores = || seen.iter().map(|weight| weight.score).chain(sink);
    let max = scores().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = scores().map(|score| (score - max).exp()).sum();
    seen.iter_mut().for_each(|weight| weight.share = (weight.score - max).exp() / sum);
    seen
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

#[cfg(test)]
mod tests {
    use super::super::oracle::Oracle;
    use super::super::{Scores, Shape, Window};
    use super::*;
    use crate::ops::testing::{random, wide};

    /// Averages of values by these shares are what the oracle puts out.
    #[test]
    fn shares_average_values_to_the_output() {
        let plain = Attention::new(Shape { value_dim: 5, ..Shape::new(4, 2, 6) });
        let see = |window: Window, sink_tokens: usize| Attention { window, sink_tokens, ..plain };
        let bent = Scores { scale: 0.7, softcap: Some(1.5), alibi: true };
        let layers = [
            plain,
            see(Window::Sliding(3), 0),
            see(Window::Sliding(3), 2),
            see(Window::Chunked(4), 0),
            Attention { scores: bent, ..see(Window::Sliding(5), 1) },
        ];
        let segments = [vec![0; 9], vec![9; 8]].concat();
        let n = segments.len();
        for layer in layers {
            let shape = layer.shape;
            let qkv = random(3, n * shape.qkv_width(), 1.5);
            let sink_values = random(4, shape.heads, 2.0);
            for sinks in [None, Some(&sink_values[..])] {
                let (exact, exact_sinks) = (wide(&qkv), sinks.map(wide));
                let oracle =
                    Oracle { layer: &layer, sinks: exact_sinks.as_deref(), segments: &segments, qkv: &exact };
                let (out, lse) = oracle.forward();
                for (row, head) in (0..n).flat_map(|row| (0..shape.heads).map(move |head| (row, head))) {
                    let seen = weights(&layer, sinks, &segments, &qkv, (row, head));
                    let mut average = vec![0.0; shape.value_dim];
                    for weight in &seen {
                        let at = weight.row * shape.qkv_width() + shape.value_at(head / shape.group());
                        let value = &exact[at..at + shape.value_dim];
                        average.iter_mut().zip(value).for_each(|(sum, v)| *sum += weight.share * v);
                        assert!((weight.share - (weight.score - lse[head * n + row]).exp()).abs() < 1e-6);
                        let cap = layer.scores.softcap.map_or(f64::INFINITY, f64::from);
                        assert!(weight.score <= cap && weight.score.abs() <= weight.product.abs() + 8.0);
                    }
                    let want = &out[row * shape.out_width() + head * shape.value_dim..][..shape.value_dim];
                    let off = average.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                    assert!(off < 1e-6, "{layer:?}, row {row}, head {head}: {average:?}, {want:?}");
                    let all: f64 = seen.iter().map(|weight| weight.share).sum();
                    assert!(if sinks.is_some() { all < 1.0 } else { (all - 1.0).abs() < 1e-12 });
                }
            }
        }
    }
}
