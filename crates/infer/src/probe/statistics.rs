//! Sizes and spreads of numbers.

/// A root mean square in the making.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rms {
    squares: f64,
    count: usize,
}

impl Rms {
    pub(super) fn add(&mut self, values: &[f32]) {
        self.squares += values.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>();
        self.count += values.len();
    }

    pub(super) fn value(self) -> f64 {
        (self.squares / self.count.max(1) as f64).sqrt()
    }
}

/// How numbers are spread.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spread {
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation.
    pub deviation: f64,
    /// The least.
    pub least: f64,
    /// The most.
    pub most: f64,
}

impl Spread {
    /// Of `values`; zeros where there are none.
    pub(super) fn of(values: &[f64]) -> Spread {
        if values.is_empty() {
            return Spread::default();
        }
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let variance = values.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / count;
        Spread {
            mean,
            deviation: variance.sqrt(),
            least: values.iter().copied().fold(f64::INFINITY, f64::min),
            most: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        }
    }
}

/// Euclidean norms of the rows of a matrix.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Norms {
    /// Root mean square of the matrix's elements; times √width, that of the norms.
    pub rms: f64,
    /// The least.
    pub least: f64,
    /// One row in a hundred is below.
    pub low: f64,
    /// Half of the rows are below.
    pub median: f64,
    /// One row in a hundred is above.
    pub high: f64,
    /// The most.
    pub most: f64,
}

impl Norms {
    /// Of a matrix whose rows are `width` wide.
    pub(super) fn of(matrix: &[f32], width: usize) -> Norms {
        let norm = |row: &[f32]| row.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
        let mut norms: Vec<f64> = matrix.chunks_exact(width.max(1)).map(norm).collect();
        norms.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let rank = (share * norms.len().saturating_sub(1) as f64).round() as usize;
            norms.get(rank).copied().unwrap_or_default()
        };
        let mut rms = Rms::default();
        rms.add(matrix);
        Norms {
            rms: rms.value(),
            least: at(0.0),
            low: at(0.01),
            median: at(0.5),
            high: at(0.99),
            most: at(1.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn norms_are_of_rows_and_quantiles_of_norms() {
        // Rows (0, i) for i from 0 to 100: norms are 0 to 100.
        let matrix: Vec<f32> = (0..=100).rev().flat_map(|i| [0.0, i as f32]).collect();
        let norms = Norms::of(&matrix, 2);
        let all = [norms.least, norms.low, norms.median, norms.high, norms.most];
        assert_eq!(all, [0.0, 1.0, 50.0, 99.0, 100.0]);
        let squares: f64 = (0..=100).map(|i| f64::from(i * i)).sum();
        assert!((norms.rms - (squares / 202.0).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn a_spread_has_the_deviation_of_all_values() {
        let spread = Spread::of(&[1.0, 3.0, 5.0, 7.0]);
        assert_eq!(spread, Spread { mean: 4.0, deviation: 5f64.sqrt(), least: 1.0, most: 7.0 });
        assert_eq!(Spread::of(&[]), Spread::default());
    }
}
