//! Two results side by side, item by item (spec PEV-21).

use crate::evaluate::Sample;
use crate::record::TaskResult;
use crate::stats::paired::{Comparison, Settings, compare, compare_clustered};
use crate::stats::{self, Score};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A task that two models were asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskComparison {
    /// Task and formulation.
    pub name: String,
    /// The score that is compared.
    pub metric: String,
    /// The baseline's.
    pub baseline: Score,
    /// The candidate's.
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
    let score = |result: &TaskResult| result.scores.primary().ok_or_else(|| format!("no score `{metric}`"));
    Ok(TaskComparison {
        name: a.name(),
        metric: metric.clone(),
        baseline: score(a)?,
        candidate: score(b)?,
        comparison,
    })
}
