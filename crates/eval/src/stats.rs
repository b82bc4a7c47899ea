//! Statistics of scores.

use serde::{Deserialize, Serialize};

/// A share of successes and how sure it is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Share of items solved, 0..=1.
    pub value: f64,
    /// Standard error of `value`.
    pub stderr: f64,
    /// Items.
    pub n: usize,
}

impl Score {
    /// The share of `true`, with the standard error of a mean, √(p(1−p)/n).
    pub fn of(results: impl IntoIterator<Item = bool>) -> Score {
        let (mut hits, mut n) = (0usize, 0usize);
        for result in results {
            n += 1;
            hits += usize::from(result);
        }
        let value = hits as f64 / n.max(1) as f64;
        Score { value, stderr: (value * (1.0 - value) / n.max(1) as f64).sqrt(), n }
    }

    /// The unweighted mean of independent scores: √Σse² / k.
    pub fn macro_average(scores: &[Score]) -> Score {
        let k = scores.len().max(1) as f64;
        Score {
            value: scores.iter().map(|s| s.value).sum::<f64>() / k,
            stderr: scores.iter().map(|s| s.stderr * s.stderr).sum::<f64>().sqrt() / k,
            n: scores.iter().map(|s| s.n).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn share_and_error() {
        let s = Score::of((0..100).map(|i| i < 20));
        assert!((s.value - 0.2).abs() < 1e-12 && (s.stderr - 0.04).abs() < 1e-12 && s.n == 100);
        let m = Score::macro_average(&[s, Score { value: 0.4, stderr: 0.03, n: 50 }]);
        assert!((m.value - 0.3).abs() < 1e-12 && (m.stderr - 0.025).abs() < 1e-12 && m.n == 150);
        assert_eq!(Score::of([]).value, 0.0);
    }
}
