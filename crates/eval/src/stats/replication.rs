//! The gate before a suite is used: it must reproduce published scores of several models (spec EVL-08, PEV-14).
//!
//! A figure may differ from the published one by what both errors allow, and no further. Differences that are each
//! allowed but all point one way are an error of the implementation (a prompt, a normalisation), so their mean is
//! tested too: that is what several models are for.

use super::distribution::critical;
use super::{Error, Score, at_least, finite, mean};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A score measured here beside a published one of the same model on the same task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// The task, in one formulation and metric.
    pub task: String,
    /// The model.
    pub model: String,
    /// What was measured.
    pub measured: Score,
    /// What was published, in the same unit.
    pub reference: f64,
    /// Its standard error where it was published; `None` takes that of the measured score, as for the same items.
    pub reference_stderr: Option<f64>,
}

/// How strict the gate is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Share of faithful implementations that fail a task by chance, over all its models together.
    pub alpha: f64,
    /// Half of the last digit that references are given to (0.0005 for "43.2 %"): differences below it are rounding.
    pub rounding: f64,
    /// Largest tolerance that still proves something. With too few items everything agrees with everything.
    pub most_tolerance: f64,
    /// The same for single tasks, by name (spec EVL-08: tolerance per task).
    pub most_tolerance_of: BTreeMap<String, f64>,
    /// Fewest models of a task.
    pub fewest_models: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            alpha: 0.05,
            rounding: 0.0005,
            most_tolerance: 0.05,
            most_tolerance_of: BTreeMap::new(),
            fewest_models: 2,
        }
    }
}

/// What the gate says of a figure or a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Reproduced within the errors.
    Reproduced,
    /// Not reproduced: look at the prompts and the extraction.
    Differs,
    /// The errors are so large that agreement proves nothing: score more items.
    TooFewItems,
    /// Fewer models than a gate needs; said of tasks.
    TooFewModels,
}

/// One figure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// The model.
    pub model: String,
    /// Measured − published.
    pub difference: f64,
    /// What the difference may be: rounding + the critical value · √(se² + se²).
    pub tolerance: f64,
    /// Of this figure.
    pub verdict: Verdict,
}

/// One task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Replication {
    /// The task.
    pub task: String,
    /// Of the task: reproduced where every figure is, the mean difference is, and there are enough models.
    pub verdict: Verdict,
    /// Mean over models of measured − published.
    pub bias: f64,
    /// What `bias` may be.
    pub bias_tolerance: f64,
    /// Its models, in the order given.
    pub figures: Vec<Figure>,
}

/// Judges each task, in the order of their names. The level is shared among the m figures of a task and their mean:
/// each is tested at alpha/(m + 1), two-sided, by the normal distribution.
///
/// Errors: a model twice in a task; values that are not finite; negative errors; settings out of range.
pub fn gate(pairs: &[Pair], settings: &Settings) -> Result<Vec<Replication>, Error> {
    check(pairs, settings)?;
    let mut tasks: BTreeMap<&str, Vec<&Pair>> = BTreeMap::new();
    for pair in pairs {
        tasks.entry(&pair.task).or_default().push(pair);
    }
    Ok(tasks.into_iter().map(|(task, pairs)| judge(task, &pairs, settings)).collect())
}

fn check(pairs: &[Pair], settings: &Settings) -> Result<(), Error> {
    let range = |name, value: f64, range, good: bool| {
        if good { Ok(()) } else { Err(Error::Setting { name, value, range }) }
    };
    range("alpha", settings.alpha, "1e-9 to 0.5", (1e-9..=0.5).contains(&settings.alpha))?;
    range("rounding", settings.rounding, "0 to 1", (0.0..=1.0).contains(&settings.rounding))?;
    at_least("models of a gate (fewest_models)", 1, settings.fewest_models)?;
    let most: Vec<f64> =
        settings.most_tolerance_of.values().copied().chain([settings.most_tolerance]).collect();
    finite("largest tolerance", &most)?;
    let mut seen = BTreeSet::new();
    for (index, pair) in pairs.iter().enumerate() {
        let stderr = pair.reference_stderr.unwrap_or(pair.measured.stderr);
        let figures = [pair.measured.value, pair.measured.stderr, pair.reference, stderr];
        let (model, task) = (&pair.model, &pair.task);
        if finite("figure", &figures).is_err() || pair.measured.stderr < 0.0 || stderr < 0.0 {
            let reason =
                format!("a value of {model} on {task} is not finite or an error negative; correct it");
            return Err(Error::Entry { what: "pair", index, reason });
        }
        if !seen.insert((task, model)) {
            return Err(Error::Twice { what: "figure of", name: format!("{model} on {task}") });
        }
    }
    Ok(())
}

fn judge(task: &str, pairs: &[&Pair], settings: &Settings) -> Replication {
    let m = pairs.len() as f64;
    let z = critical(settings.alpha / (m + 1.0), None);
    let error = |p: &Pair| p.measured.stderr.hypot(p.reference_stderr.unwrap_or(p.measured.stderr));
    let most = settings.most_tolerance_of.get(task).copied().unwrap_or(settings.most_tolerance);
    let verdict_of = |difference: f64, tolerance: f64| {
        // Too far off is too far off, however few the items.
        if difference.abs() > tolerance {
            Verdict::Differs
        } else if tolerance > most {
            Verdict::TooFewItems
        } else {
            Verdict::Reproduced
        }
    };
    let figure = |p: &&Pair| {
        let difference = p.measured.value - p.reference;
        let tolerance = settings.rounding + z * error(p);
        Figure { model: p.model.clone(), difference, tolerance, verdict: verdict_of(difference, tolerance) }
    };
    let figures: Vec<Figure> = pairs.iter().map(figure).collect();
    let bias = mean(&figures.iter().map(|f| f.difference).collect::<Vec<_>>());
    let squares: f64 = pairs.iter().map(|p| error(p) * error(p)).sum();
    let bias_tolerance = settings.rounding + z * squares.sqrt() / m;
    let any = |verdict| figures.iter().any(|f| f.verdict == verdict);
    let verdict = if any(Verdict::Differs) || bias.abs() > bias_tolerance {
        Verdict::Differs
    } else if pairs.len() < settings.fewest_models {
        Verdict::TooFewModels
    } else if any(Verdict::TooFewItems) {
        Verdict::TooFewItems
    } else {
        Verdict::Reproduced
    };
    Replication { task: task.into(), verdict, bias, bias_tolerance, figures }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Formula;

    fn pair(task: &str, model: &str, measured: f64, reference: f64, n: usize) -> Pair {
        let stderr = (measured * (1.0 - measured) / n as f64).sqrt();
        let measured = Score { value: measured, stderr, n, formula: Formula::Binomial };
        Pair { task: task.into(), model: model.into(), measured, reference, reference_stderr: None }
    }

    fn verdict(pairs: &[Pair]) -> Verdict {
        gate(pairs, &Settings::default()).unwrap()[0].verdict
    }

    #[test]
    fn faithful_figures_pass_and_others_do_not() {
        let good = [pair("arc", "a", 0.431, 0.434, 4000), pair("arc", "b", 0.502, 0.498, 4000)];
        assert_eq!(verdict(&good), Verdict::Reproduced);
        let bad = [pair("arc", "a", 0.431, 0.434, 4000), pair("arc", "b", 0.502, 0.56, 4000)];
        assert_eq!(verdict(&bad), Verdict::Differs);
        assert_eq!(verdict(&good[..1]), Verdict::TooFewModels);
        let few = [pair("arc", "a", 0.43, 0.43, 50), pair("arc", "b", 0.5, 0.5, 50)];
        assert_eq!(verdict(&few), Verdict::TooFewItems);
        let mut lenient = Settings::default();
        lenient.most_tolerance_of.insert("arc".into(), 0.5);
        assert_eq!(gate(&few, &lenient).unwrap()[0].verdict, Verdict::Reproduced);
    }

    /// Each figure is within its tolerance, all are low: the mean gives the implementation away.
    #[test]
    fn a_shift_of_all_models_is_seen() {
        let shifted: Vec<Pair> = (0..6).map(|i| pair("mmlu", &format!("m{i}"), 0.40, 0.415, 4000)).collect();
        let got = &gate(&shifted, &Settings::default()).unwrap()[0];
        assert!(got.figures.iter().all(|f| f.verdict == Verdict::Reproduced), "{got:?}");
        assert_eq!(got.verdict, Verdict::Differs);
        assert!(got.bias < -got.bias_tolerance);
    }

    #[test]
    fn tolerance_is_rounding_and_both_errors() {
        let exact = Pair { reference_stderr: Some(0.0), ..pair("t", "a", 0.5, 0.5, 100) };
        let got = gate(&[exact], &Settings::default()).unwrap();
        // One model and the mean share the level: z(0.025) = 2.2414.
        assert!((got[0].figures[0].tolerance - (0.0005 + 2.241_402_727_604_947 * 0.05)).abs() < 1e-9);
    }

    #[test]
    fn hostile_input_is_refused() {
        let good = pair("t", "a", 0.5, 0.5, 100);
        let gate = |p: Pair| super::gate(&[p], &Settings::default());
        assert!(gate(Pair { reference: f64::NAN, ..good.clone() }).is_err());
        assert!(gate(Pair { reference_stderr: Some(-1.0), ..good.clone() }).is_err());
        assert!(matches!(
            super::gate(&[good.clone(), good.clone()], &Settings::default()),
            Err(Error::Twice { .. })
        ));
        for settings in [
            Settings { alpha: 0.0, ..Settings::default() },
            Settings { rounding: f64::NAN, ..Settings::default() },
            Settings { most_tolerance: f64::INFINITY, ..Settings::default() },
            Settings { fewest_models: 0, ..Settings::default() },
        ] {
            assert!(super::gate(std::slice::from_ref(&good), &settings).is_err());
        }
        assert!(super::gate(&[], &Settings::default()).unwrap().is_empty());
    }
}
