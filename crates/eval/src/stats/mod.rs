//! Statistics of scores: how sure a score is, whether two models differ, and what a task's scores are worth as a guide.
//!
//! Pure functions of numbers, serial and in the order given, so that the same input is the same bits on any number of
//! threads. Nothing here reads a file or knows a model.

pub mod avg_at_k;
mod distribution;
pub mod paired;
pub mod ranks;
pub mod replication;
pub mod saturation;
pub mod schedule;
mod score;
pub mod signal;
pub mod subset;
pub mod win_rate;

use serde::{Deserialize, Serialize};
use smolt_run::error::{Exit, ExitKind};

/// Where an error comes from, so that nobody has to guess what "±" means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Formula {
    /// Not recorded: written before formulas were.
    #[default]
    Unstated,
    /// √(p(1−p)/n), of independent right or wrong answers.
    Binomial,
    /// s/√n with the sample standard deviation s (n − 1), of independent values.
    SampleMean,
    /// Cluster-robust: √(G/(G−1) · Σ_g(Σ_{i∈g}(x_i − x̄))²)/n over G clusters.
    Clustered,
    /// s, as of one item: all items are one cluster, and may be right or wrong together.
    OneCluster,
    /// √Σse²/k, the unweighted mean of k independent scores.
    MacroAverage,
    /// √Σ(w·se)² with weights w = n_i/Σn.
    WeightedAverage,
}

/// A mean over items and how sure it is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Mean over items; a share of items solved is 0..=1.
    pub value: f64,
    /// Standard error of `value`, in its unit: how far other items of the same kind would move it. It knows nothing
    /// of another training seed.
    pub stderr: f64,
    /// Items.
    pub n: usize,
    /// How `stderr` was computed.
    #[serde(default)]
    pub formula: Formula,
}

/// Numbers from which a statistic cannot be computed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// Fewer than the statistic needs.
    #[error("{what}: {got} given, {needed} needed; add more or leave this figure out")]
    TooFew {
        /// Of what.
        what: &'static str,
        /// The fewest that do.
        needed: usize,
        /// How many there are.
        got: usize,
    },
    /// A number that is no score.
    #[error("{what} {index} is {value}; it must be a finite number within ±1e140: find what computed it")]
    NotFinite {
        /// Which list.
        what: &'static str,
        /// Position in it, from 0.
        index: usize,
        /// The number.
        value: f64,
    },
    /// Two lists that should be about the same things are not.
    #[error("{what}: {got} entries where {expected} are expected; give one per item, in the same order")]
    Lengths {
        /// Which list.
        what: &'static str,
        /// Entries that the other list has.
        expected: usize,
        /// Entries of this one.
        got: usize,
    },
    /// A setting outside of its range.
    #[error("{name} = {value} is out of range; use {range}")]
    Setting {
        /// Its name.
        name: &'static str,
        /// Its value.
        value: f64,
        /// What is allowed.
        range: &'static str,
    },
    /// One entry of a list is wrong.
    #[error("{what} {index}: {reason}")]
    Entry {
        /// Which list.
        what: &'static str,
        /// Position in it, from 0.
        index: usize,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A name that must be unique is not.
    #[error("{what} `{name}` occurs twice; rename or remove one")]
    Twice {
        /// Of what it is the name.
        what: &'static str,
        /// The name.
        name: String,
    },
}

impl ExitKind for Error {
    fn exit(&self) -> Exit {
        Exit::BadInput
    }
}

/// Largest magnitude of a value: squares of a hundred million of them still sum to a finite number.
const LARGEST: f64 = 1e140;

/// Refuses values that would turn every figure into NaN or infinity.
fn finite(what: &'static str, values: &[f64]) -> Result<(), Error> {
    match values.iter().position(|v| v.is_nan() || v.abs() > LARGEST) {
        Some(index) => Err(Error::NotFinite { what, index, value: values[index] }),
        None => Ok(()),
    }
}

/// Refuses lists that are not as long as another.
fn same_length(what: &'static str, expected: usize, got: usize) -> Result<(), Error> {
    if expected == got { Ok(()) } else { Err(Error::Lengths { what, expected, got }) }
}

/// Refuses fewer than `needed`.
fn at_least(what: &'static str, needed: usize, got: usize) -> Result<(), Error> {
    if got >= needed { Ok(()) } else { Err(Error::TooFew { what, needed, got }) }
}

/// Mean; 0 of nothing.
fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Sample standard deviation (n − 1); 0 of fewer than two, and exactly 0 of equal values, whose mean may be rounded.
fn deviation(values: &[f64]) -> f64 {
    if values.windows(2).all(|pair| pair[0] == pair[1]) {
        return 0.0;
    }
    let center = mean(values);
    let squares: f64 = values.iter().map(|v| (v - center) * (v - center)).sum();
    (squares / values.len().saturating_sub(1).max(1) as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    /// The cases of one kind in `tests/golden/stats/golden.json`.
    pub(super) fn golden(kind: &str) -> Vec<Value> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/stats/golden.json");
        let all: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let cases = all[kind].as_array().unwrap().clone();
        assert!(!cases.is_empty());
        cases
    }

    /// A JSON list as numbers.
    pub(super) fn numbers(list: &Value) -> Vec<f64> {
        list.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
    }

    /// Nine digits: incomplete beta functions of large arguments lose the rest.
    #[track_caller]
    pub(super) fn close(got: f64, want: &Value) {
        let want = want.as_f64().unwrap();
        assert!((got - want).abs() <= 1e-9 * want.abs().max(1e-3), "{got} is not {want}");
    }
}
