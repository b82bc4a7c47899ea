//! Benchmarks that the best models have finished: their scores no longer tell models apart (spec PEV-23).

use super::{Error, Score, at_least, finite};
use serde::{Deserialize, Serialize};

/// When a benchmark counts as finished.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The largest score that can be had: 1, or less where labels are known to be wrong.
    pub maximum: f64,
    /// How near to it is at the ceiling.
    pub epsilon: f64,
    /// How many of the best models must be there.
    pub top: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { maximum: 1.0, epsilon: 0.05, top: 3 }
    }
}

/// Whether there is room above the best models.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// All of the top models are within epsilon of the maximum: replace the benchmark, or keep it as a sanity check.
    Saturated,
    /// They are not, but some may be: within two standard errors they reach epsilon. Look for a successor.
    Near,
    /// There is room.
    Headroom,
    /// Fewer models than `top` were given.
    NotEnoughModels,
}

/// A benchmark judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Saturation {
    /// The verdict.
    pub verdict: Verdict,
    /// The best models, the best first; equal ones in the order given.
    pub top: Vec<String>,
    /// Maximum − the lowest score among them. `None` without models.
    pub room: Option<f64>,
}

/// Judges a benchmark by scores of (model, score).
///
/// Errors: scores or settings that are not finite, a negative epsilon, `top` of 0.
pub fn judge(scores: &[(String, Score)], settings: &Settings) -> Result<Saturation, Error> {
    at_least("top models", 1, settings.top)?;
    finite("setting", &[settings.maximum, settings.epsilon])?;
    if settings.epsilon < 0.0 {
        return Err(Error::Setting { name: "epsilon", value: settings.epsilon, range: "0 or more" });
    }
    finite("score of model", &scores.iter().map(|(_, s)| s.value).collect::<Vec<_>>())?;
    finite("standard error of model", &scores.iter().map(|(_, s)| s.stderr).collect::<Vec<_>>())?;
    let mut order: Vec<&(String, Score)> = scores.iter().collect();
    order.sort_by(|a, b| b.1.value.total_cmp(&a.1.value));
    order.truncate(settings.top);
    // One part in 10¹² of slack: 1 − 0.95 is not 0.05 in binary.
    let bar = settings.maximum - settings.epsilon - 1e-12 * settings.maximum.abs();
    let all = |good: &dyn Fn(&Score) -> bool| order.iter().all(|(_, s)| good(s));
    let verdict = if order.len() < settings.top {
        Verdict::NotEnoughModels
    } else if all(&|s| s.value >= bar) {
        Verdict::Saturated
    } else if all(&|s| s.value + 2.0 * s.stderr.abs() >= bar) {
        Verdict::Near
    } else {
        Verdict::Headroom
    };
    let room = order.last().map(|(_, s)| settings.maximum - s.value);
    Ok(Saturation { verdict, top: order.into_iter().map(|(model, _)| model.clone()).collect(), room })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Formula;

    fn scores(values: &[f64]) -> Vec<(String, Score)> {
        let score = |&value: &f64| Score { value, stderr: 0.01, n: 400, formula: Formula::Binomial };
        values.iter().enumerate().map(|(i, v)| (format!("m{i}"), score(v))).collect()
    }

    fn verdict(values: &[f64]) -> Verdict {
        judge(&scores(values), &Settings::default()).unwrap().verdict
    }

    #[test]
    fn the_best_models_decide() {
        assert_eq!(verdict(&[0.3, 0.99, 0.95, 0.96]), Verdict::Saturated);
        assert_eq!(verdict(&[0.99, 0.94, 0.96]), Verdict::Near);
        assert_eq!(verdict(&[0.99, 0.5, 0.96]), Verdict::Headroom);
        assert_eq!(verdict(&[0.99, 0.99]), Verdict::NotEnoughModels);
        let judged = judge(&scores(&[0.3, 0.99, 0.95, 0.99]), &Settings::default()).unwrap();
        assert_eq!(judged.top, ["m1", "m3", "m2"]);
        assert!((judged.room.unwrap() - 0.05).abs() < 1e-12);
        let noisy_labels = Settings { maximum: 0.9, ..Settings::default() };
        assert_eq!(judge(&scores(&[0.86, 0.87, 0.88]), &noisy_labels).unwrap().verdict, Verdict::Saturated);
    }

    #[test]
    fn hostile_input_is_refused() {
        assert!(judge(&scores(&[f64::NAN]), &Settings::default()).is_err());
        assert!(judge(&[], &Settings { top: 0, ..Settings::default() }).is_err());
        assert!(judge(&[], &Settings { epsilon: -0.1, ..Settings::default() }).is_err());
        assert!(judge(&[], &Settings { maximum: f64::NAN, ..Settings::default() }).is_err());
        assert_eq!(judge(&[], &Settings::default()).unwrap().room, None);
    }
}
