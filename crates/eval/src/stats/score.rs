//! A score with its standard error (spec EVL-07): of shares, of any values, of values in clusters, of several scores.

use super::{Error, Formula, Score, at_least, deviation, finite, mean, same_length};
use std::collections::BTreeMap;

impl Score {
    /// The share of `true`, with the standard error of a mean, √(p(1−p)/n).
    ///
    /// At a share of 0 or 1 this error is 0: then no item contradicts the share, which is not the same as certainty
    /// (with none of n solved, up to about 3/n could be).
    pub fn of(results: impl IntoIterator<Item = bool>) -> Score {
        let (mut hits, mut n) = (0usize, 0usize);
        for result in results {
            n += 1;
            hits += usize::from(result);
        }
        let value = hits as f64 / n.max(1) as f64;
        let stderr = (value * (1.0 - value) / n.max(1) as f64).sqrt();
        Score { value, stderr, n, formula: Formula::Binomial }
    }

    /// The mean of any per-item values (F1, log-likelihood, avg@k of an item), error s/√n.
    ///
    /// Errors: fewer than two values have no spread; values must be finite.
    pub fn mean(values: &[f64]) -> Result<Score, Error> {
        at_least("items for a standard error", 2, values.len())?;
        finite("value", values)?;
        let n = values.len();
        let stderr = deviation(values) / (n as f64).sqrt();
        Ok(Score { value: mean(values), stderr, n, formula: Formula::SampleMean })
    }

    /// The mean of values that come in clusters, such as questions on one passage: they are right or wrong together,
    /// so there is less to learn from them than from as many independent ones. `clusters[i]` names the cluster of
    /// `values[i]`.
    ///
    /// Deviations are summed within each cluster before they are squared: the sandwich estimator that Miller, "Adding
    /// error bars to evals" (2024), recommends, with the usual correction G/(G−1) for few clusters. With one item per
    /// cluster this is [`Score::mean`].
    ///
    /// Errors: one cluster name per value, at least two clusters, finite values.
    pub fn clustered<C: Ord>(values: &[f64], clusters: &[C]) -> Result<Score, Error> {
        finite("value", values)?;
        let sums = cluster_sums(values, clusters)?;
        at_least("clusters for a standard error", 2, sums.len())?;
        let (n, g) = (values.len() as f64, sums.len() as f64);
        let value = mean(values);
        let squares: f64 = sums
            .iter()
            .map(|(sum, size)| sum - *size as f64 * value)
            .map(|residual| residual * residual)
            .sum();
        let stderr = (g / (g - 1.0) * squares).sqrt() / n;
        Ok(Score { value, stderr, n: values.len(), formula: Formula::Clustered })
    }

    /// The mean of any values with the error that fits them: of clusters where every value has one, of a share where all
    /// are 0 or 1 or there are too few for a spread, else of a sample. How items of a single cluster hang together cannot be
    /// seen in them, so they count as one item.
    pub fn fitting<C: Ord>(values: &[f64], clusters: &[C]) -> Score {
        if clusters.len() == values.len() && values.len() > 1 {
            if let Ok(score) = Score::clustered(values, clusters) {
                return score;
            }
            if let Ok(score) = Score::mean(values) {
                return Score { stderr: deviation(values), formula: Formula::OneCluster, ..score };
            }
        }
        let binary = values.iter().all(|&value| value == 0.0 || value == 1.0);
        match Score::mean(values) {
            Ok(score) if !binary => score,
            _ => Score { value: mean(values), ..Score::of(values.iter().map(|&value| value == 1.0)) },
        }
    }

    /// The unweighted mean of independent scores: √Σse² / k. Every subset counts the same, however small.
    pub fn macro_average(scores: &[Score]) -> Score {
        let k = scores.len().max(1) as f64;
        Score {
            value: scores.iter().map(|s| s.value).sum::<f64>() / k,
            stderr: scores.iter().map(|s| s.stderr * s.stderr).sum::<f64>().sqrt() / k,
            n: items(scores),
            formula: Formula::MacroAverage,
        }
    }

    /// The mean of independent scores weighted by their items: every item counts the same. The error is that of the
    /// given mixture of subsets: items within them vary, their shares do not.
    pub fn weighted_average(scores: &[Score]) -> Score {
        let total = items(scores).max(1) as f64;
        let weight = |s: &Score| s.n as f64 / total;
        let variance: f64 = scores.iter().map(|s| (weight(s) * s.stderr).powi(2)).sum();
        Score {
            value: scores.iter().map(|s| weight(s) * s.value).sum(),
            stderr: variance.sqrt(),
            n: items(scores),
            formula: Formula::WeightedAverage,
        }
    }
}

fn items(scores: &[Score]) -> usize {
    scores.iter().fold(0, |n, s| n.saturating_add(s.n))
}

/// Sum and size of each cluster, in the order of the clusters.
pub(super) fn cluster_sums<C: Ord>(values: &[f64], clusters: &[C]) -> Result<Vec<(f64, usize)>, Error> {
    same_length("clusters", values.len(), clusters.len())?;
    let mut sums: BTreeMap<&C, (f64, usize)> = BTreeMap::new();
    for (value, cluster) in values.iter().zip(clusters) {
        let entry = sums.entry(cluster).or_default();
        entry.0 += value;
        entry.1 += 1;
    }
    Ok(sums.into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::tests::{close, golden, numbers};

    fn score(value: f64, stderr: f64, n: usize) -> Score {
        Score { value, stderr, n, formula: Formula::Unstated }
    }

    #[test]
    fn share_and_error() {
        let s = Score::of((0..100).map(|i| i < 20));
        assert!((s.value - 0.2).abs() < 1e-12 && (s.stderr - 0.04).abs() < 1e-12 && s.n == 100);
        let m = Score::macro_average(&[s, score(0.4, 0.03, 50)]);
        assert!((m.value - 0.3).abs() < 1e-12 && (m.stderr - 0.025).abs() < 1e-12 && m.n == 150);
        let w = Score::weighted_average(&[s, score(0.5, 0.03, 50)]);
        assert!((w.value - 0.3).abs() < 1e-12 && w.n == 150);
        assert!((w.stderr - ((0.04f64 * 2.0 / 3.0).powi(2) + 0.0001).sqrt()).abs() < 1e-12);
        assert_eq!(Score::of([]).value, 0.0);
        assert_eq!(Score::weighted_average(&[]).value, 0.0);
    }

    #[test]
    fn errors_are_those_of_scipy_and_statsmodels() {
        for case in golden("score") {
            let (values, clusters) = (numbers(&case["values"]), numbers(&case["clusters"]));
            let clusters: Vec<u64> = clusters.iter().map(|&c| c as u64).collect();
            let plain = Score::mean(&values).unwrap();
            close(plain.value, &case["mean"]);
            close(plain.stderr, &case["stderr"]);
            let clustered = Score::clustered(&values, &clusters).unwrap();
            close(clustered.value, &case["mean"]);
            close(clustered.stderr, &case["clustered_stderr"]);
            assert_eq!(clustered.formula, Formula::Clustered);
        }
    }

    /// Over every way to draw 3 clusters of 4 with replacement, the squared error is on average that of the mean.
    #[test]
    fn clustered_error_is_unbiased_by_enumeration() {
        let population = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.5, 1.0]];
        let (mut estimates, mut means) = (Vec::new(), Vec::new());
        for draw in 0..64usize {
            let drawn = [population[draw % 4], population[draw / 4 % 4], population[draw / 16]];
            let s = Score::clustered(drawn.as_flattened(), &[0, 0, 1, 1, 2, 2]).unwrap();
            estimates.push(s.stderr * s.stderr);
            means.push(s.value);
        }
        let center = mean(&means);
        let variance = means.iter().map(|m| (m - center).powi(2)).sum::<f64>() / 64.0;
        assert!((mean(&estimates) - variance).abs() < 1e-12);
    }

    #[test]
    fn items_of_a_single_cluster_count_as_one() {
        let values = [1.0, 0.0, 1.0, 0.0];
        let apart = Score::fitting::<u8>(&values, &[]);
        let together = Score::fitting(&values, &[7; 4]);
        assert_eq!((together.value, together.n, together.formula), (0.5, 4, Formula::OneCluster));
        assert!((together.stderr - deviation(&values)).abs() < 1e-12 && together.stderr > 2.0 * apart.stderr);
        assert_eq!(Score::fitting(&values, &[0, 0, 1, 1]).formula, Formula::Clustered);
        assert_eq!(Score::fitting(&[1.0], &[7]).formula, Formula::Binomial, "one item has no spread");
    }

    #[test]
    fn hostile_values_are_refused() {
        assert!(matches!(Score::mean(&[1.0]), Err(Error::TooFew { .. })));
        assert!(matches!(Score::mean(&[1.0, f64::NAN]), Err(Error::NotFinite { index: 1, .. })));
        assert!(matches!(Score::mean(&[1e200, 0.0]), Err(Error::NotFinite { index: 0, .. })));
        assert!(matches!(Score::clustered(&[1.0, 2.0], &[1, 1]), Err(Error::TooFew { .. })));
        assert!(matches!(Score::clustered(&[1.0, 2.0], &[1]), Err(Error::Lengths { .. })));
        assert!(matches!(Score::clustered::<u8>(&[], &[]), Err(Error::TooFew { .. })));
    }

    #[test]
    fn scores_without_a_formula_still_read() {
        let old: Score = serde_json::from_str(r#"{"value": 0.5, "stderr": 0.1, "n": 25}"#).unwrap();
        assert_eq!(old, score(0.5, 0.1, 25));
        let text = serde_json::to_string(&Score::of([true, false])).unwrap();
        assert!(text.contains(r#""formula":"binomial""#), "{text}");
    }

    proptest::proptest! {
        /// Clusters of one are no clusters; copies of every item in its cluster add nothing.
        #[test]
        fn clusters_of_one_and_of_copies(values in proptest::collection::vec(-1.0f64..1.0, 2..60)) {
            let plain = Score::mean(&values).unwrap();
            let ids: Vec<usize> = (0..values.len()).collect();
            let single = Score::clustered(&values, &ids).unwrap();
            proptest::prop_assert!((plain.stderr - single.stderr).abs() < 1e-12);
            let copies: Vec<f64> = values.iter().flat_map(|&v| [v; 3]).collect();
            let copied: Vec<usize> = ids.iter().flat_map(|&i| [i; 3]).collect();
            let tripled = Score::clustered(&copies, &copied).unwrap();
            proptest::prop_assert!((plain.stderr - tripled.stderr).abs() < 1e-12);
        }
    }
}
