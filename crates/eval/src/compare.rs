//! Two results side by side, item by item (spec PEV-21).

use crate::evaluate::Sample;
use crate::record::TaskResult;
use crate::stats::paired::{Comparison, Settings, compare, compare_clustered};
use crate::stats::{self, Score};
use crate::task::Compare;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A task that two models were asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskComparison {
    /// Task and formulation.
    pub name: String,
    /// The score that is compared; of chrF it is the mean over items, which unlike the corpus' comes from items.
    pub metric: String,
    /// The baseline's, over items.
    pub baseline: Score,
    /// The candidate's, over items.
    pub candidate: Score,
    /// Item by item.
    pub comparison: Comparison,
}

/// Compares the primary score of two results of one task.
///
/// # Errors
/// What makes the two incomparable: other settings, other items.
pub fn compare_task(
    baseline: (&TaskResult, &[Sample]),
    candidate: (&TaskResult, &[Sample]),
    settings: &Settings,
) -> Result<TaskComparison, String> {
    let (a, b) = (baseline.0, candidate.0);
    a.comparable(b).map_err(|differs| format!("not comparable: {differs} differ"))?;
    let metric = &a.scores.primary;
    let values = |sample: &Sample| sample.values.get(metric).copied();
    // A name alone need not be unique.
    let item = |sample: &Sample| (sample.row, sample.id.clone());
    let known: BTreeMap<_, f64> =
        candidate.1.iter().filter_map(|sample| Some((item(sample), values(sample)?))).collect();
    let mut pairs = (Vec::new(), Vec::new());
    let mut clusters = Vec::new();
    for sample in baseline.1 {
        let (Some(own), Some(&other)) = (values(sample), known.get(&item(sample))) else {
            return Err(format!("item `{}` was not asked of both; evaluate again", sample.id));
        };
        pairs.0.push(own);
        pairs.1.push(other);
        clusters.extend(sample.cluster.as_deref());
    }
    if pairs.0.len() != candidate.1.len() {
        return Err("other items were asked; evaluate again".into());
    }
    let said = |e: stats::Error| e.to_string();
    let comparison = match clusters.len() == pairs.0.len() && !clusters.is_empty() {
        true => compare_clustered(&pairs.0, &pairs.1, &clusters, settings),
        false => compare(&pairs.0, &pairs.1, settings),
    }
    .map_err(said)?;
    let over_items = if metric.starts_with(Compare::Chrf.name()) { " (mean of items)" } else { "" };
    Ok(TaskComparison {
        name: a.name(),
        metric: format!("{metric}{over_items}"),
        baseline: Score::fitting(&pairs.0, &clusters),
        candidate: Score::fitting(&pairs.1, &clusters),
        comparison,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::{self, tests::result};
    use crate::task::pose::pose;
    use crate::task::{Formulation, builtin};

    #[test]
    fn of_a_corpus_the_mean_of_items_is_shown_that_is_compared() {
        let task = builtin("flores200", &["few_shot.count=0".to_owned()]).unwrap();
        let rows: Vec<_> = (0..4)
            .map(|i| serde_json::json!({"id": i, "URL": i, "sentence_eng_Latn": "a", "sentence_fra_Latn": "b"}))
            .map(|row| row.as_object().unwrap().clone())
            .collect();
        let items = pose(&task, Formulation::Generation, &rows, None).unwrap();
        let asked = |values: [f64; 4]| {
            let mut samples: Vec<Sample> =
                items.iter().map(|item| evaluate::sample(item, item.prompt(0))).collect();
            for (sample, value) in samples.iter_mut().zip(values) {
                sample.values.insert("chrf".into(), value);
            }
            let result = result(&task, Formulation::Generation, &items, &samples);
            (result, samples)
        };
        let (a, b) = (asked([0.1, 0.2, 0.3, 0.4]), asked([0.3, 0.3, 0.4, 0.6]));
        let compared = compare_task((&a.0, &a.1), (&b.0, &b.1), &Settings::default()).unwrap();
        assert_eq!(compared.metric, "chrf (mean of items)");
        assert!(
            (compared.baseline.value - 0.25).abs() < 1e-12 && (compared.candidate.value - 0.4).abs() < 1e-12
        );
        assert!((compared.comparison.difference.value - 0.15).abs() < 1e-12);
    }
}
