//! Rank correlations: how far two lists put the same things in the same order.

use serde::{Deserialize, Serialize};

/// Ranks from 1, the smallest first; equal values share the mean of their ranks.
pub fn average_ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&i, &j| values[i].total_cmp(&values[j]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    while start < order.len() {
        // By ==, not by total_cmp: −0 and 0 are one value.
        let tied = order[start..].iter().take_while(|&&i| values[i] == values[order[start]]).count().max(1);
        let rank = start as f64 + (tied as f64 + 1.0) / 2.0;
        order[start..start + tied].iter().for_each(|&i| ranks[i] = rank);
        start += tied;
    }
    ranks
}

/// Spearman's ρ: the correlation of the ranks, in −1..=1. `None` where it is undefined: fewer than two pairs, lists of
/// different length, a list of equal values, a value that is not finite.
pub fn spearman(a: &[f64], b: &[f64]) -> Option<f64> {
    if !comparable(a, b) {
        return None;
    }
    let center = (a.len() as f64 + 1.0) / 2.0;
    let (mut both, mut of_a, mut of_b) = (0.0, 0.0, 0.0);
    for (x, y) in average_ranks(a).iter().zip(average_ranks(b)) {
        let (x, y) = (x - center, y - center);
        both += x * y;
        of_a += x * x;
        of_b += y * y;
    }
    let scale = (of_a * of_b).sqrt();
    (scale > 0.0).then(|| (both / scale).clamp(-1.0, 1.0))
}

/// Kendall's τ, two ways to treat ties.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kendall {
    /// (concordant − discordant) / all pairs: a tie counts as neither, so that ties pull it towards 0.
    pub tau_a: f64,
    /// The same over the pairs that are not tied in either list, geometric mean: 1 for the same order with the same
    /// ties. `None` where all values of a list are equal.
    pub tau_b: Option<f64>,
}

/// Kendall's τ of two lists. `None` as for [`spearman`], but that equal values have a `tau_a` of 0.
/// Compares all pairs: O(n²), meant for lists of models and checkpoints, not of items.
pub fn kendall(a: &[f64], b: &[f64]) -> Option<Kendall> {
    if !comparable(a, b) {
        return None;
    }
    let (mut difference, mut untied_a, mut untied_b) = (0i64, 0i64, 0i64);
    for i in 1..a.len() {
        for j in 0..i {
            let (x, y) = (sign(a[i], a[j]), sign(b[i], b[j]));
            difference += x * y;
            untied_a += x * x;
            untied_b += y * y;
        }
    }
    let n = a.len() as f64;
    let scale = (untied_a as f64 * untied_b as f64).sqrt();
    Some(Kendall {
        tau_a: difference as f64 / (n * (n - 1.0) / 2.0),
        tau_b: (scale > 0.0).then(|| (difference as f64 / scale).clamp(-1.0, 1.0)),
    })
}

fn comparable(a: &[f64], b: &[f64]) -> bool {
    a.len() == b.len() && a.len() >= 2 && a.iter().chain(b).all(|v| v.is_finite())
}

fn sign(x: f64, y: f64) -> i64 {
    i64::from(x > y) - i64::from(x < y)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::tests::{close, golden, numbers};

    #[test]
    fn correlations_are_those_of_scipy() {
        for case in golden("ranks") {
            let (a, b) = (numbers(&case["a"]), numbers(&case["b"]));
            assert_eq!(average_ranks(&a), numbers(&case["ranks_a"]));
            close(spearman(&a, &b).unwrap(), &case["spearman"]);
            let tau = kendall(&a, &b).unwrap();
            close(tau.tau_a, &case["tau_a"]);
            close(tau.tau_b.unwrap(), &case["tau_b"]);
        }
    }

    #[test]
    fn undefined_where_there_is_no_order() {
        assert_eq!(spearman(&[1.0, 1.0], &[1.0, 2.0]), None);
        assert_eq!(kendall(&[1.0, 1.0], &[1.0, 2.0]), Some(Kendall { tau_a: 0.0, tau_b: None }));
        assert_eq!(spearman(&[1.0], &[1.0]), None);
        assert_eq!(kendall(&[1.0, 2.0], &[1.0]), None);
        assert_eq!(spearman(&[1.0, f64::NAN], &[1.0, 2.0]), None);
        assert_eq!(average_ranks(&[f64::NAN, 1.0, f64::NAN]).len(), 3);
        assert_eq!(average_ranks(&[-0.0, 0.0]), [1.5, 1.5]);
    }

    proptest::proptest! {
        /// Without ties τ-a and τ-b agree; turning one list around turns the sign; monotone maps change nothing.
        #[test]
        fn laws(pairs in proptest::collection::vec((-9i32..9, -9i32..9), 2..40)) {
            let a: Vec<f64> = pairs.iter().map(|p| f64::from(p.0)).collect();
            let b: Vec<f64> = pairs.iter().map(|p| f64::from(p.1)).collect();
            let turned: Vec<f64> = a.iter().map(|v| -v).collect();
            let cubed: Vec<f64> = a.iter().map(|v| v * v * v).collect();
            let (tau, back) = (kendall(&a, &b).unwrap(), kendall(&turned, &b).unwrap());
            proptest::prop_assert!((tau.tau_a + back.tau_a).abs() < 1e-12);
            proptest::prop_assert_eq!(spearman(&cubed, &b), spearman(&a, &b));
            if let Some(tau_b) = tau.tau_b {
                proptest::prop_assert!(tau_b.abs() >= tau.tau_a.abs() - 1e-12);
            }
            proptest::prop_assert_eq!(average_ranks(&a).iter().sum::<f64>(), (a.len() * (a.len() + 1)) as f64 / 2.0);
        }
    }
}
