//! Weights of one pairing made weights of the other (POS-03).

use super::Pairing;

/// Puts the rows of a q or k projection `[heads·head_dim, n_in]` (or a bias, with `n_in` 1) into the order
/// that `to` rotates as `from` rotates this one: per head, the `rotary_dim` rows from `at` on are permuted.
/// Scores stay the same where q and k are both converted.
///
/// # Panics
/// When the shape has no such heads (a caller bug).
pub fn convert_rows<T: Copy>(
    from: Pairing,
    to: Pairing,
    weights: &[T],
    n_in: usize,
    head_dim: usize,
    at: usize,
    rotary_dim: usize,
) -> Vec<T> {
    assert!(at + rotary_dim <= head_dim, "rope: features {at} to {} of {head_dim}", at + rotary_dim);
    assert!(rotary_dim.is_multiple_of(2), "rope: {rotary_dim} features make no pairs");
    let head = head_dim * n_in;
    assert!(head > 0 && weights.len().is_multiple_of(head), "rope: weights of whole heads");
    let (mut converted, half) = (weights.to_vec(), rotary_dim / 2);
    for (new, old) in converted.chunks_exact_mut(head).zip(weights.chunks_exact(head)) {
        for k in 0..half {
            for (to, from) in to.features(k, half).into_iter().zip(from.features(k, half)) {
                let (to, from) = ((at + to) * n_in, (at + from) * n_in);
                new[to..to + n_in].copy_from_slice(&old[from..from + n_in]);
            }
        }
    }
    converted
}
