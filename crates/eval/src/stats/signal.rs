//! Whether a task tells small models apart while they train: the four criteria of a good early signal (spec EVL-01,
//! EVL-02), with the definitions of FineTasks, from the scores of several runs at their checkpoints.

use super::ranks::{kendall, spearman};
use super::{Error, deviation, finite, mean};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Fewest checkpoints of a curve whose trend means anything.
const FEWEST_CHECKPOINTS: usize = 3;

/// How far the checkpoint that stands for an anchor may lie from it, as a share of the anchor.
const NEAR: f64 = 0.1;

/// One score of one checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// What was trained: a dataset, an architecture. Runs that differ only in their seed share it.
    pub run: String,
    /// Seed of the run.
    pub seed: u64,
    /// Tokens (or steps) trained when it was scored.
    pub tokens: u64,
    /// The task's score in one formulation and metric; larger is better.
    pub score: f64,
}

/// The task's baseline, and where and how strictly to judge. The defaults are FineTasks' for runs of 30 billion tokens,
/// with anchors that follow the length of the runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// What guessing scores: the mean of 1/choices over items, 0 for generative tasks.
    pub baseline: f64,
    /// Generative tasks are excused from the signal-to-noise ratio.
    pub generative: bool,
    /// Tokens at which noise and chance are judged (FineTasks: 30e9); `None` for the last checkpoint of all runs.
    pub score_at: Option<u64>,
    /// Tokens from which rankings should hold (FineTasks: 15e9); `None` for half of `score_at`.
    pub ranking_from: Option<u64>,
    /// Smallest mean Spearman ρ of tokens and score.
    pub min_monotonicity: f64,
    /// What the mean score must exceed, in standard deviations over seeds.
    pub min_signal_to_noise: f64,
    /// What the best score must exceed the baseline by, in standard deviations over seeds.
    pub min_margin: f64,
    /// Smallest mean Kendall τ-a of successive rankings; `None` (FineTasks) to compare tasks by it without a bar.
    pub min_ranking: Option<f64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            baseline: 0.0,
            generative: false,
            score_at: None,
            ranking_from: None,
            min_monotonicity: 0.5,
            min_signal_to_noise: 20.0,
            min_margin: 3.0,
            min_ranking: None,
        }
    }
}

/// What a criterion comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The bar is met.
    Met,
    /// It is not.
    Missed,
    /// The bar is not for this kind of task; the number stands for information.
    Exempt,
    /// There is no bar; the number serves to compare tasks.
    Compared,
    /// The runs cannot tell; `detail` says what is missing.
    NotEnoughRuns,
}

/// One criterion with the number behind it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Criterion {
    /// The verdict.
    pub outcome: Outcome,
    /// The number; `None` where it could not be computed.
    pub value: Option<f64>,
    /// Its bar.
    pub threshold: Option<f64>,
    /// What went into it, or what is missing, in one sentence.
    pub detail: String,
}

impl Criterion {
    fn missing(threshold: Option<f64>, detail: &str) -> Criterion {
        Criterion { outcome: Outcome::NotEnoughRuns, value: None, threshold, detail: detail.into() }
    }

    fn judged(met: bool, value: f64, threshold: f64, detail: String) -> Criterion {
        let outcome = if met { Outcome::Met } else { Outcome::Missed };
        Criterion { outcome, value: Some(value), threshold: Some(threshold), detail }
    }
}

/// A task's worth as an early signal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Signal {
    /// Does the score rise with training? Mean over runs of Spearman's ρ of tokens and score.
    pub monotonicity: Criterion,
    /// Is it steady over seeds? Mean score over runs at `score_at` / mean over checkpoints of the standard deviation
    /// over seeds.
    pub noise: Criterion,
    /// Is it better than guessing? (Best run − baseline) / standard deviation over seeds, both at `score_at`.
    pub above_random: Criterion,
    /// Do checkpoints agree which run is better? Mean Kendall τ-a between successive checkpoints from `ranking_from`.
    pub ranking: Criterion,
}

impl Signal {
    /// Whether nothing speaks against the task: every criterion met, exempt or without a bar.
    pub fn clear(&self) -> bool {
        let good = |c: &Criterion| !matches!(c.outcome, Outcome::Missed | Outcome::NotEnoughRuns);
        [&self.monotonicity, &self.noise, &self.above_random, &self.ranking].into_iter().all(good)
    }
}

/// Scores by run, then tokens, then seed.
struct Curves<'a> {
    runs: BTreeMap<&'a str, BTreeMap<u64, BTreeMap<u64, f64>>>,
}

/// Judges a task by the scores of several runs. Standard deviations are the sample's (n − 1) and only exist where a
/// run has two or more seeds at a checkpoint; the score of a run is the mean over its seeds there.
///
/// Errors: a score that is not finite, the same (run, seed, tokens) twice.
pub fn judge(rows: &[Row], settings: &Settings) -> Result<Signal, Error> {
    let bars =
        [settings.baseline, settings.min_monotonicity, settings.min_signal_to_noise, settings.min_margin];
    finite("threshold", &bars)?;
    finite("threshold of rankings", settings.min_ranking.as_slice())?;
    let curves = Curves::new(rows)?;
    let anchor = curves.anchor(settings.score_at);
    Ok(Signal {
        monotonicity: curves.monotonicity(settings),
        noise: curves.noise(anchor, settings),
        above_random: curves.above_random(anchor, settings),
        ranking: curves.ranking(anchor, settings),
    })
}

impl<'a> Curves<'a> {
    fn new(rows: &'a [Row]) -> Result<Self, Error> {
        finite("score of row", &rows.iter().map(|r| r.score).collect::<Vec<_>>())?;
        let mut runs: BTreeMap<&str, BTreeMap<u64, BTreeMap<u64, f64>>> = BTreeMap::new();
        for row in rows {
            let seeds = runs.entry(&row.run).or_default().entry(row.tokens).or_default();
            if seeds.insert(row.seed, row.score).is_some() {
                let name = format!("{}, seed {}, {} tokens", row.run, row.seed, row.tokens);
                return Err(Error::Twice { what: "the score of", name });
            }
        }
        Ok(Self { runs })
    }

    /// Checkpoints that every run has, in order.
    fn shared(&self) -> Vec<u64> {
        let mut runs = self.runs.values();
        let Some(first) = runs.next() else { return Vec::new() };
        let mut shared: BTreeSet<u64> = first.keys().copied().collect();
        for run in runs {
            shared.retain(|tokens| run.contains_key(tokens));
        }
        shared.into_iter().collect()
    }

    /// The shared checkpoint nearest to the anchor, the last one without an anchor.
    fn anchor(&self, at: Option<u64>) -> Option<u64> {
        let shared = self.shared();
        let Some(at) = at else { return shared.last().copied() };
        let near = |tokens: &u64| tokens.abs_diff(at) as f64 <= NEAR * at as f64;
        shared.into_iter().filter(near).min_by_key(|tokens| tokens.abs_diff(at))
    }

    /// Score of each run at a checkpoint, mean over its seeds.
    fn scores_at(&self, tokens: u64) -> Vec<f64> {
        let seeds = self.runs.values().filter_map(|run| run.get(&tokens));
        seeds.map(|seeds| mean(&seeds.values().copied().collect::<Vec<_>>())).collect()
    }

    /// Standard deviation over seeds at a checkpoint, mean over the runs that have several.
    fn deviation_at(&self, tokens: u64) -> Option<f64> {
        let seeds = self.runs.values().filter_map(|run| run.get(&tokens)).filter(|seeds| seeds.len() >= 2);
        let deviations: Vec<f64> =
            seeds.map(|seeds| deviation(&seeds.values().copied().collect::<Vec<_>>())).collect();
        (!deviations.is_empty()).then(|| mean(&deviations))
    }

    fn monotonicity(&self, settings: &Settings) -> Criterion {
        let mut correlations = Vec::new();
        for run in self.runs.values() {
            let mut by_seed: BTreeMap<u64, (Vec<f64>, Vec<f64>)> = BTreeMap::new();
            for (tokens, seeds) in run {
                for (seed, score) in seeds {
                    let curve = by_seed.entry(*seed).or_default();
                    curve.0.push(*tokens as f64);
                    curve.1.push(*score);
                }
            }
            let long = by_seed.values().filter(|(tokens, _)| tokens.len() >= FEWEST_CHECKPOINTS);
            // A flat curve has no ρ; for this purpose it does not rise, which is 0.
            correlations.extend(long.map(|(tokens, scores)| spearman(tokens, scores).unwrap_or(0.0)));
        }
        let threshold = settings.min_monotonicity;
        if correlations.is_empty() {
            return Criterion::missing(Some(threshold), "no run has three checkpoints; score more of them");
        }
        let value = mean(&correlations);
        let detail = format!("mean Spearman ρ of tokens and score over {} curves", correlations.len());
        Criterion::judged(value >= threshold, value, threshold, detail)
    }

    fn noise(&self, anchor: Option<u64>, settings: &Settings) -> Criterion {
        let threshold = settings.min_signal_to_noise;
        let Some(anchor) = anchor else { return no_anchor(threshold) };
        let all: BTreeSet<u64> = self.runs.values().flat_map(|run| run.keys().copied()).collect();
        let deviations: Vec<f64> = all.iter().filter_map(|&tokens| self.deviation_at(tokens)).collect();
        let spread = mean(&deviations);
        if deviations.is_empty() {
            return no_seeds(threshold);
        }
        if spread == 0.0 {
            let reason = "all seeds score the same at every checkpoint: either one run was entered twice, or the \
                          score does not move at all";
            return Criterion::missing(Some(threshold), reason);
        }
        let score = mean(&self.scores_at(anchor));
        let value = score / spread;
        let detail = format!(
            "mean score {score:.4} at {anchor} tokens over a standard deviation of {spread:.4} over seeds at {} \
             checkpoints",
            deviations.len()
        );
        let judged = Criterion::judged(value > threshold, value, threshold, detail);
        if settings.generative { Criterion { outcome: Outcome::Exempt, ..judged } } else { judged }
    }

    fn above_random(&self, anchor: Option<u64>, settings: &Settings) -> Criterion {
        let threshold = settings.min_margin;
        let Some(anchor) = anchor else { return no_anchor(threshold) };
        let Some(spread) = self.deviation_at(anchor) else { return no_seeds(threshold) };
        let best = self.scores_at(anchor).into_iter().fold(f64::NEG_INFINITY, f64::max);
        let margin = best - settings.baseline;
        let detail = format!(
            "best run {best:.4} against {:.4} of guessing at {anchor} tokens; standard deviation over seeds {spread:.4}",
            settings.baseline
        );
        let met = margin > threshold * spread;
        let judged = Criterion::judged(met, margin / spread, threshold, detail);
        // Seeds that agree leave a margin of nothing or of no number of deviations; the sign is all there is.
        if spread == 0.0 { Criterion { value: None, ..judged } } else { judged }
    }

    fn ranking(&self, anchor: Option<u64>, settings: &Settings) -> Criterion {
        let threshold = settings.min_ranking;
        let from = settings.ranking_from.or(settings.score_at.or(anchor).map(|at| at / 2)).unwrap_or(0);
        let checkpoints: Vec<u64> = self.shared().into_iter().filter(|&tokens| tokens >= from).collect();
        let scores: Vec<Vec<f64>> = checkpoints.iter().map(|&tokens| self.scores_at(tokens)).collect();
        let taus: Vec<f64> =
            scores.windows(2).filter_map(|pair| kendall(&pair[0], &pair[1])).map(|k| k.tau_a).collect();
        if taus.is_empty() {
            let reason = format!("needs two runs with two shared checkpoints from {from} tokens on");
            return Criterion::missing(threshold, &reason);
        }
        let value = mean(&taus);
        let detail = format!(
            "mean Kendall τ-a of {} runs between {} checkpoints from {from} tokens on",
            self.runs.len(),
            checkpoints.len()
        );
        match threshold {
            Some(threshold) => Criterion::judged(value >= threshold, value, threshold, detail),
            None => Criterion { outcome: Outcome::Compared, value: Some(value), threshold, detail },
        }
    }
}

fn no_anchor(threshold: f64) -> Criterion {
    Criterion::missing(
        Some(threshold),
        "no checkpoint near the anchor that all runs have; train further or move it",
    )
}

fn no_seeds(threshold: f64) -> Criterion {
    Criterion::missing(Some(threshold), "no run has a second seed there; train one run with more seeds")
}

/// A task in one formulation and metric, judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// The task.
    pub task: String,
    /// Formulation and metric, such as `cf acc_char`.
    pub variant: String,
    /// What [`judge`] says of it.
    pub signal: Signal,
}

/// Picks the suite: of each task the variant that is [clear](Signal::clear) and ranks runs most consistently, then the
/// one with less noise, then the first given. Indices into `candidates`, by task name; a task of which no variant is
/// clear is not in it.
pub fn pick(candidates: &[Candidate]) -> Vec<usize> {
    let mut best: BTreeMap<&str, usize> = BTreeMap::new();
    let worth = |i: usize| {
        let signal: &Signal = &candidates[i].signal;
        [signal.ranking.value, signal.noise.value].map(|v| v.unwrap_or(f64::NEG_INFINITY))
    };
    for (i, candidate) in candidates.iter().enumerate().filter(|(_, c)| c.signal.clear()) {
        let held = best.entry(&candidate.task).or_insert(i);
        let ([ranking, noise], [held_ranking, held_noise]) = (worth(i), worth(*held));
        if ranking.total_cmp(&held_ranking).then(noise.total_cmp(&held_noise)).is_gt() {
            *held = i;
        }
    }
    best.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::tests::{close, golden};
    use smolt_run::random::Stream;

    /// Ten checkpoints up to 30e9 tokens of runs whose score goes from `from` up by `rise` (run 0) to half of it (the
    /// last run), with noise; run 0 has five seeds.
    fn curves(runs: usize, from: f64, rise: f64, noise: f64) -> Vec<Row> {
        let mut rows = Vec::new();
        for run in 0..runs {
            for seed in 0..if run == 0 { 5 } else { 1 } {
                let mut stream = Stream::new(seed, "test.signal", run as u64);
                for step in 1..=10u64 {
                    let quality = 1.0 - 0.5 * run as f64 / runs as f64;
                    let score = from + rise * quality * step as f64 / 10.0 + noise * stream.normal();
                    rows.push(Row { run: format!("run {run}"), seed, tokens: step * 3_000_000_000, score });
                }
            }
        }
        rows
    }

    fn settings(baseline: f64) -> Settings {
        Settings { baseline, ..Settings::default() }
    }

    #[test]
    fn figures_are_those_of_numpy_and_scipy() {
        for case in golden("signal") {
            let rows: Vec<Row> = serde_json::from_value(case["rows"].clone()).unwrap();
            let (score_at, ranking_from) = (case["score_at"].as_u64(), case["ranking_from"].as_u64());
            let baseline = case["baseline"].as_f64().unwrap();
            let signal = judge(&rows, &Settings { score_at, ranking_from, ..settings(baseline) }).unwrap();
            close(signal.monotonicity.value.unwrap(), &case["monotonicity"]);
            close(signal.noise.value.unwrap(), &case["signal_to_noise"]);
            close(signal.above_random.value.unwrap(), &case["margin"]);
            close(signal.ranking.value.unwrap(), &case["ranking"]);
        }
    }

    /// The verdicts of spec EVL-02: a task that learns is clear; one as noisy as SIQA is dropped for its noise; one
    /// that stays at chance, as MMLU with letters does early, for that.
    #[test]
    fn tasks_fail_for_what_is_wrong_with_them() {
        let clear = judge(&curves(4, 0.25, 0.3, 0.003), &settings(0.25)).unwrap();
        assert!(clear.clear(), "{clear:?}");
        assert_eq!(clear.ranking.outcome, Outcome::Compared);
        let noisy = judge(&curves(4, 0.34, 0.08, 0.05), &settings(1.0 / 3.0)).unwrap();
        assert_eq!(noisy.noise.outcome, Outcome::Missed);
        let flat = judge(&curves(4, 0.25, 0.0, 0.005), &settings(0.25)).unwrap();
        assert_eq!(flat.above_random.outcome, Outcome::Missed);
        assert_eq!(flat.monotonicity.outcome, Outcome::Missed);
        assert!(flat.ranking.value.unwrap() < clear.ranking.value.unwrap());
        let generative = Settings { generative: true, ..settings(0.0) };
        assert_eq!(judge(&curves(4, 0.34, 0.08, 0.05), &generative).unwrap().noise.outcome, Outcome::Exempt);
        let strict = Settings { min_ranking: Some(0.999), ..settings(0.25) };
        assert_eq!(judge(&curves(4, 0.25, 0.0, 0.005), &strict).unwrap().ranking.outcome, Outcome::Missed);
    }

    #[test]
    fn what_the_runs_cannot_tell_is_said() {
        let outcomes = |rows: &[Row], settings: &Settings| {
            let s = judge(rows, settings).unwrap();
            [s.monotonicity, s.noise, s.above_random, s.ranking].map(|c| c.outcome == Outcome::NotEnoughRuns)
        };
        assert_eq!(outcomes(&[], &settings(0.25)), [true; 4]);
        let one_seed: Vec<Row> = curves(4, 0.25, 0.3, 0.01).into_iter().filter(|r| r.seed == 0).collect();
        assert_eq!(outcomes(&one_seed, &settings(0.25)), [false, true, true, false]);
        assert_eq!(outcomes(&curves(1, 0.25, 0.3, 0.01), &settings(0.25)), [false, false, false, true]);
        let far = Settings { score_at: Some(100_000_000_000), ..settings(0.25) };
        assert_eq!(outcomes(&curves(4, 0.25, 0.3, 0.01), &far), [false, true, true, true]);
        let near = Settings { score_at: Some(29_000_000_000), ..settings(0.25) };
        assert_eq!(outcomes(&curves(4, 0.25, 0.3, 0.01), &near), [false; 4]);
        // The same run entered under two seeds looks free of noise.
        let twice = curves(4, 0.25, 0.3, 0.0);
        assert_eq!(outcomes(&twice, &settings(0.25)), [false, true, false, false]);
    }

    #[test]
    fn hostile_rows_are_refused() {
        let mut rows = curves(2, 0.2, 0.1, 0.01);
        rows.push(rows[0].clone());
        assert!(matches!(judge(&rows, &settings(0.25)), Err(Error::Twice { .. })));
        rows[0].score = f64::NAN;
        assert!(matches!(judge(&rows, &settings(0.25)), Err(Error::NotFinite { index: 0, .. })));
        assert!(matches!(judge(&[], &settings(f64::INFINITY)), Err(Error::NotFinite { .. })));
        let odd = Row { run: String::new(), seed: u64::MAX, tokens: u64::MAX, score: 1e140 };
        assert!(judge(&[odd], &Settings { score_at: Some(0), ..settings(0.0) }).is_ok());
    }

    #[test]
    fn the_suite_takes_the_best_clear_variant_of_each_task() {
        let candidate = |task: &str, variant: &str, rise, noise| Candidate {
            task: task.into(),
            variant: variant.into(),
            signal: judge(&curves(4, 0.25, rise, noise), &settings(0.25)).unwrap(),
        };
        let candidates = [
            candidate("mmlu", "mcf", 0.0, 0.005),
            candidate("mmlu", "cf acc", 0.1, 0.01),
            candidate("mmlu", "cf acc_char", 0.3, 0.001),
            candidate("siqa", "cf", 0.05, 0.08),
            candidate("arc", "cf", 0.3, 0.002),
        ];
        assert_eq!(pick(&candidates), [4, 2]);
        assert!(pick(&[]).is_empty());
    }
}
