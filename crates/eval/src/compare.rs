//! Two results side by side, item by item (spec PEV-21), and whether one fell behind the other (spec PEV-19).

use crate::evaluate::Sample;
use crate::record::TaskResult;
use crate::stats::paired::{Comparison, Settings, Verdict, compare, compare_clustered};
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

/// An item of RULER's and what came of it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct LongItem {
    /// Unique.
    pub id: String,
    /// Tokens.
    pub length: usize,
    /// What was read.
    pub prompt: String,
    /// Most tokens of the answer.
    pub max_tokens: usize,
    /// Share of its answers that were found.
    pub score: f64,
}

/// Compares two runs of RULER, each length by all its items; and which lengths cannot be compared, and why.
pub fn compare_long(
    baseline: &[LongItem],
    candidate: &[LongItem],
    settings: &Settings,
) -> (Vec<TaskComparison>, Vec<String>) {
    let by_length = |items: &[LongItem]| {
        let mut all: BTreeMap<usize, BTreeMap<String, LongItem>> = BTreeMap::new();
        for item in items {
            all.entry(item.length).or_default().insert(item.id.clone(), item.clone());
        }
        all
    };
    let (ours, theirs) = (by_length(baseline), by_length(candidate));
    let (mut compared, mut left_out) = (Vec::new(), Vec::new());
    for (length, a) in ours {
        let name = format!("ruler@{length}");
        let compared_to = theirs.get(&length).ok_or_else(|| "the candidate was not asked".to_owned());
        match compared_to.and_then(|b| same_items(&a, b)).and_then(|pairs| {
            let comparison = compare(&pairs.0, &pairs.1, settings).map_err(|e| e.to_string())?;
            Ok((pairs, comparison))
        }) {
            Ok((pairs, comparison)) => compared.push(TaskComparison {
                name,
                metric: "answers found".into(),
                baseline: Score::fitting::<usize>(&pairs.0, &[]),
                candidate: Score::fitting::<usize>(&pairs.1, &[]),
                comparison,
            }),
            Err(problem) => left_out.push(format!("{name}: {problem}")),
        }
    }
    (compared, left_out)
}

/// The scores of the same items, if they are the same.
fn same_items(
    a: &BTreeMap<String, LongItem>,
    b: &BTreeMap<String, LongItem>,
) -> Result<(Vec<f64>, Vec<f64>), String> {
    let same = |(a, b): (&LongItem, &LongItem)| (a.prompt == b.prompt) && a.max_tokens == b.max_tokens;
    if !a.keys().eq(b.keys()) || !a.values().zip(b.values()).all(same) {
        return Err(
            "other items were asked; ask both with the same kinds, count, seed, text and tokenizer".into()
        );
    }
    let scores = |items: &BTreeMap<String, LongItem>| items.values().map(|item| item.score).collect();
    Ok((scores(a), scores(b)))
}

/// What a guard against regressions says of a task (spec PEV-19).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Guard {
    /// It is worse, by more than may be.
    Alarm,
    /// That it is worse by more than may be is ruled out.
    Held,
    /// The items are too few to say.
    Unclear,
}

/// Whether a candidate fell behind its baseline by more than `most`: its paired test says worse and so does the difference. Held
/// where the bootstrap's interval does not reach so far, nor the rule of three: what no item of n shows may be true of 3/n of all.
pub fn guard(comparison: &Comparison, most: f64) -> Guard {
    let dropped = -comparison.difference.value;
    let unseen = 3.0 / comparison.units as f64;
    match comparison.verdict {
        Verdict::Worse if dropped > most => Guard::Alarm,
        _ if comparison.bootstrap.interval[0].min(-unseen) >= -most => Guard::Held,
        _ => Guard::Unclear,
    }
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

    fn long(length: usize, scores: &[f64]) -> Vec<LongItem> {
        let item = |(i, &score): (usize, &f64)| LongItem {
            id: format!("vt {length} {i}"),
            length,
            prompt: format!("Where is {i}?"),
            max_tokens: 30,
            score,
        };
        scores.iter().enumerate().map(item).collect()
    }

    #[test]
    fn long_contexts_are_compared_by_length_where_the_items_are_the_same() {
        let settings = Settings { resamples: 200, ..Settings::default() };
        let (short, far) = (long(512, &[1.0; 40]), long(1024, &[1.0; 40]));
        let base = [short.clone(), far.clone(), long(2048, &[1.0; 4])].concat();
        let mut other = long(2048, &[1.0; 4]);
        other[3].prompt.push('!');
        let after = [short, long(1024, &[0.0; 40]), other].concat();
        let (compared, left_out) = compare_long(&base, &after, &settings);
        let verdicts: Vec<_> = compared.iter().map(|c| (c.name.as_str(), c.comparison.verdict)).collect();
        assert_eq!(verdicts, [("ruler@512", Verdict::NoDifference), ("ruler@1024", Verdict::Worse)]);
        assert!(left_out.len() == 1 && left_out[0].starts_with("ruler@2048: other items"), "{left_out:?}");
        let (_, left_out) = compare_long(&far, &[], &settings);
        assert_eq!(left_out, ["ruler@1024: the candidate was not asked"]);
    }

    #[test]
    fn a_guard_tells_a_drop_from_noise_and_from_too_few_items() {
        let settings = Settings { resamples: 500, ..Settings::default() };
        let of = |wrong: usize, n: usize, most| {
            let base: Vec<f64> = vec![1.0; n];
            let after: Vec<f64> = (0..n).map(|i| f64::from(u8::from(i >= wrong))).collect();
            guard(&compare(&base, &after, &settings).unwrap(), most)
        };
        assert_eq!(of(100, 1000, 0.02), Guard::Alarm, "ten points");
        assert_eq!(of(100, 1000, 0.2), Guard::Held, "worse, but not by as much as may be");
        assert_eq!(of(0, 1000, 0.02), Guard::Held);
        assert_eq!(of(0, 10, 0.02), Guard::Unclear, "ten items without a change say little");
        assert_eq!(of(2, 40, 0.02), Guard::Unclear, "five points of 40 items are two items");
    }
}
