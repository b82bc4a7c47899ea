//! Whether one model is better than another on the same items (spec PEV-21).
//!
//! Both models answered the same items, so what counts is the difference per item: most of what makes scores vary, easy
//! and hard items, cancels. "No difference" is a verdict, and says how large a difference would have been seen.

use super::distribution::{critical, normal_quantile, normal_two_sided, t_two_sided};
use super::score::cluster_sums;
use super::{Error, Score, finite, same_length};
use serde::{Deserialize, Serialize};
use smolt_run::random::{Stream, key};

/// Up to so many items that only one of the models solved, McNemar's test is exact; above, chi-squared with continuity
/// correction, which stands in for it closely enough that the p-value does not jump at the limit.
pub const EXACT_UP_TO: usize = 25;

/// Most resamples of a bootstrap.
const MOST_RESAMPLES: u32 = 1_000_000;

/// What is declared before looking.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Share of comparisons of equal models that may be called different, 0 to 1.
    pub alpha: f64,
    /// Probability with which a difference of [`Comparison::smallest_visible`] is found, 0.5 to 1.
    pub power: f64,
    /// Resamples of the bootstrap.
    pub resamples: u32,
    /// Seed of the bootstrap.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { alpha: 0.05, power: 0.8, resamples: 10_000, seed: 0 }
    }
}

impl Settings {
    fn check(&self) -> Result<(), Error> {
        let setting = |name, value, range, good: bool| {
            if good { Ok(()) } else { Err(Error::Setting { name, value, range }) }
        };
        setting("alpha", self.alpha, "1e-9 to 0.5", (1e-9..=0.5).contains(&self.alpha))?;
        setting("power", self.power, "0.5 to 0.999999", (0.5..=0.999_999).contains(&self.power))?;
        let good = (1..=MOST_RESAMPLES).contains(&self.resamples);
        setting("resamples", f64::from(self.resamples), "1 to 1000000", good)
    }
}

/// The candidate beside the baseline, where a larger value is the better one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The candidate scores higher.
    Better,
    /// The candidate scores lower.
    Worse,
    /// What was seen is within the noise.
    NoDifference,
}

/// The test behind a p-value. Right-or-wrong items without clusters get McNemar's, everything else Student's t.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Test {
    /// McNemar's exact: are the items that only one model solved split like fair coins? Two-sided binomial.
    McnemarExact,
    /// McNemar's chi-squared with continuity correction, (|b − c| − 1)²/(b + c).
    McnemarChiSquared,
    /// Student's t on the differences per item, n − 1 degrees of freedom.
    PairedT,
    /// Student's t with the cluster-robust error, G − 1 degrees of freedom.
    ClusteredT,
    /// Every item (or cluster) differs by the same amount, so there is no spread to judge by: fair coins, 2·½^G.
    Sign,
}

/// Two models on one task.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Candidate − baseline, with the paired (and, given clusters, clustered) standard error.
    pub difference: Score,
    /// Bootstrap of the same difference, for a look; the verdict is the test's.
    pub bootstrap: Bootstrap,
    /// Independent units: items, or clusters where they were given.
    pub units: usize,
    /// Items that only the candidate scored higher on.
    pub candidate_ahead: usize,
    /// Items that only the baseline scored higher on.
    pub baseline_ahead: usize,
    /// The test that decided.
    pub test: Test,
    /// Two-sided p-value of `test`.
    pub p_value: f64,
    /// The same after Holm's correction for the family of comparisons that it was judged in.
    pub p_adjusted: f64,
    /// Declared level.
    pub alpha: f64,
    /// Declared power.
    pub power: f64,
    /// The smallest true difference that would have been called different with probability `power`, at this noise.
    /// `None` where nothing could have been: too few items, or no spread to judge by.
    pub smallest_visible: Option<f64>,
    /// Judged by `p_adjusted`.
    pub verdict: Verdict,
}

/// Resampled differences.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bootstrap {
    /// Percentile interval of level 1 − alpha.
    pub interval: [f64; 2],
    /// Two-sided: twice the smaller share of resamples on either side of 0, both counted with one more.
    pub p_value: f64,
    /// Resamples drawn.
    pub resamples: u32,
}

/// Compares per-item values of two models on the same independent items, in the same order. Larger is better.
///
/// Errors: lists of different length, fewer than two items, values that are not finite, settings out of range.
pub fn compare(baseline: &[f64], candidate: &[f64], settings: &Settings) -> Result<Comparison, Error> {
    let differences = subtract(baseline, candidate)?;
    let difference = Score::mean(&differences)?;
    let items: Vec<usize> = (0..differences.len()).collect();
    let binary = baseline.iter().chain(candidate).all(|&v| v == 0.0 || v == 1.0);
    judge(difference, &differences, &items, binary, settings)
}

/// The same for items in clusters, such as questions on one passage: `clusters[i]` names that of item i.
///
/// Errors: those of [`compare`], clusters of another length, fewer than two clusters.
pub fn compare_clustered<C: Ord>(
    baseline: &[f64],
    candidate: &[f64],
    clusters: &[C],
    settings: &Settings,
) -> Result<Comparison, Error> {
    let differences = subtract(baseline, candidate)?;
    let difference = Score::clustered(&differences, clusters)?;
    judge(difference, &differences, clusters, false, settings)
}

fn subtract(baseline: &[f64], candidate: &[f64]) -> Result<Vec<f64>, Error> {
    same_length("scores of the candidate", baseline.len(), candidate.len())?;
    finite("score of the baseline", baseline)?;
    finite("score of the candidate", candidate)?;
    Ok(candidate.iter().zip(baseline).map(|(c, b)| c - b).collect())
}

fn judge<C: Ord>(
    difference: Score,
    differences: &[f64],
    clusters: &[C],
    binary: bool,
    settings: &Settings,
) -> Result<Comparison, Error> {
    settings.check()?;
    let units = cluster_sums(differences, clusters)?;
    let candidate_ahead = differences.iter().filter(|&&d| d > 0.0).count();
    let baseline_ahead = differences.iter().filter(|&&d| d < 0.0).count();
    let (test, p_value) = match binary {
        true => mcnemar(candidate_ahead, baseline_ahead),
        false => student(&difference, units.len()),
    };
    let mut comparison = Comparison {
        difference,
        bootstrap: resample(&units, settings),
        units: units.len(),
        candidate_ahead,
        baseline_ahead,
        test,
        p_value,
        p_adjusted: p_value,
        alpha: settings.alpha,
        power: settings.power,
        smallest_visible: None,
        verdict: Verdict::NoDifference,
    };
    comparison.smallest_visible = smallest_visible(&comparison, settings.alpha);
    comparison.decide();
    Ok(comparison)
}

impl Comparison {
    fn decide(&mut self) {
        self.verdict = match self.p_adjusted <= self.alpha {
            true if self.difference.value > 0.0 => Verdict::Better,
            true if self.difference.value < 0.0 => Verdict::Worse,
            _ => Verdict::NoDifference,
        };
    }
}

/// McNemar's test of `b` against `c` items that only one of two models solved: which form, and the two-sided p-value.
pub fn mcnemar(b: usize, c: usize) -> (Test, f64) {
    let discordant = b.saturating_add(c);
    if discordant <= EXACT_UP_TO {
        // Exact in integers: C(25, 12) is far below 2^53.
        let (mut ways, mut tail) = (1u64, 1u64);
        for k in 1..=b.min(c) as u64 {
            ways = ways * (discordant as u64 - k + 1) / k;
            tail += ways;
        }
        let p = 2.0 * tail as f64 / (1u64 << discordant) as f64;
        return (Test::McnemarExact, p.min(1.0));
    }
    let apart = (b.abs_diff(c) as f64 - 1.0).max(0.0);
    (Test::McnemarChiSquared, normal_two_sided(apart / (discordant as f64).sqrt()))
}

/// Student's t of a mean difference against 0 over `units` items or clusters.
fn student(difference: &Score, units: usize) -> (Test, f64) {
    // Rounding leaves a trace of spread where every difference is the same.
    if difference.stderr <= 1e-12 * difference.value.abs() {
        let p = if difference.value == 0.0 { 1.0 } else { agreeing_coins(units) };
        return (Test::Sign, p);
    }
    let test = if difference.formula == super::Formula::Clustered { Test::ClusteredT } else { Test::PairedT };
    (test, t_two_sided(difference.value / difference.stderr, units as f64 - 1.0))
}

/// Two-sided probability that `n` fair coins agree, 2·½^n.
fn agreeing_coins(n: usize) -> f64 {
    2.0 * 0.5f64.powi(n.clamp(1, 1074) as i32)
}

/// (critical value at `alpha` + quantile of the power) · stderr; for McNemar's test at least as many items as must all
/// speak for one model before it can reject.
fn smallest_visible(comparison: &Comparison, alpha: f64) -> Option<f64> {
    let stderr = comparison.difference.stderr;
    let reach = |dof| (critical(alpha, dof) + normal_quantile(comparison.power)) * stderr;
    match comparison.test {
        Test::Sign => None,
        Test::PairedT | Test::ClusteredT => Some(reach(Some(comparison.units as f64 - 1.0))),
        Test::McnemarExact | Test::McnemarChiSquared => {
            let fewest = (1..64).find(|&m| agreeing_coins(m) <= alpha)?;
            let floor = fewest as f64 / comparison.difference.n as f64;
            (fewest <= comparison.difference.n).then(|| reach(None).max(floor))
        }
    }
}

/// Bootstrap of the mean of `differences`: items are drawn with replacement, whole clusters where `clusters` are given.
/// Resample r reads stream r of the seed, so that each is a pure function of (seed, r).
///
/// Errors: no items, clusters of another length, values that are not finite, settings out of range.
pub fn bootstrap<C: Ord>(
    differences: &[f64],
    clusters: Option<&[C]>,
    settings: &Settings,
) -> Result<Bootstrap, Error> {
    settings.check()?;
    finite("difference", differences)?;
    super::at_least("items for a bootstrap", 1, differences.len())?;
    let units = match clusters {
        Some(clusters) => cluster_sums(differences, clusters)?,
        None => differences.iter().map(|&d| (d, 1)).collect(),
    };
    Ok(resample(&units, settings))
}

/// Draws as many units as there are, each time; the mean is over the items of the units drawn.
fn resample(units: &[(f64, usize)], settings: &Settings) -> Bootstrap {
    let stream_key = key(settings.seed, "eval.bootstrap");
    let mut means: Vec<f64> = (0..settings.resamples)
        .map(|r| {
            let mut stream = Stream::from_key(stream_key, u64::from(r));
            let (mut sum, mut size) = (0.0, 0usize);
            for _ in units {
                let (of_unit, items) = units[stream.below(units.len() as u64) as usize];
                sum += of_unit;
                size += items;
            }
            sum / size as f64
        })
        .collect();
    means.sort_by(f64::total_cmp);
    let below = means.iter().filter(|&&m| m <= 0.0).count();
    let above = means.iter().filter(|&&m| m >= 0.0).count();
    let resamples = settings.resamples;
    let p_value = (2.0 * (below.min(above) as f64 + 1.0) / (f64::from(resamples) + 1.0)).min(1.0);
    let interval = [quantile(&means, settings.alpha / 2.0), quantile(&means, 1.0 - settings.alpha / 2.0)];
    Bootstrap { interval, p_value, resamples }
}

/// Linear interpolation between the order statistics of a sorted list, as numpy's default; 0 of nothing.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * sorted.len().saturating_sub(1) as f64;
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    match (sorted.get(below), sorted.get(above)) {
        (Some(low), Some(high)) => low + (high - low) * (place - below as f64),
        _ => 0.0,
    }
}

/// Holm's step-down correction: p-values that keep the probability of *any* false alarm in the family at the level, in
/// the order given. The smallest is multiplied by their number, the next by one less, never falling.
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|&i, &j| p_values[i].total_cmp(&p_values[j]));
    let mut adjusted = vec![1.0; p_values.len()];
    let mut running = 0.0f64;
    for (done, &i) in order.iter().enumerate() {
        running = running.max((p_values.len() - done) as f64 * p_values[i]).min(1.0);
        adjusted[i] = running;
    }
    adjusted
}

/// Judges many comparisons as one family: among twenty tasks one differs by chance at a level of 0.05. Verdicts then
/// follow Holm's p-values, and the smallest visible difference that of the family's first, strictest step.
pub fn judge_family(comparisons: &mut [Comparison]) {
    let adjusted = holm(&comparisons.iter().map(|c| c.p_value).collect::<Vec<_>>());
    let family = comparisons.len() as f64;
    for (comparison, p) in comparisons.iter_mut().zip(adjusted) {
        comparison.p_adjusted = p;
        comparison.smallest_visible = smallest_visible(comparison, comparison.alpha / family);
        comparison.decide();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::tests::{close, golden, numbers};

    fn quick() -> Settings {
        Settings { resamples: 200, ..Settings::default() }
    }

    /// Items of a pair of models that are right with probabilities `p` and `q`, independently.
    fn answers(n: usize, p: f64, q: f64, index: u64) -> (Vec<f64>, Vec<f64>) {
        let mut stream = Stream::new(1, "test.paired", index);
        (0..n).map(|_| (f64::from(stream.uniform() < p), f64::from(stream.uniform() < q))).unzip()
    }

    #[test]
    fn mcnemar_is_that_of_statsmodels() {
        for case in golden("mcnemar") {
            let (b, c) = (case["b"].as_u64().unwrap() as usize, case["c"].as_u64().unwrap() as usize);
            let (test, p) = mcnemar(b, c);
            assert_eq!(test == Test::McnemarExact, case["exact"].as_bool().unwrap(), "{b} {c}");
            close(p, &case["p"]);
        }
    }

    #[test]
    fn paired_and_clustered_t_are_those_of_scipy_and_statsmodels() {
        for case in golden("paired") {
            let (baseline, candidate) = (numbers(&case["baseline"]), numbers(&case["candidate"]));
            let clusters: Vec<u64> = numbers(&case["clusters"]).iter().map(|&c| c as u64).collect();
            let plain = compare(&baseline, &candidate, &quick()).unwrap();
            assert_eq!(plain.test, Test::PairedT);
            close(plain.p_value, &case["t_p"]);
            let clustered = compare_clustered(&baseline, &candidate, &clusters, &quick()).unwrap();
            assert_eq!(clustered.test, Test::ClusteredT);
            close(clustered.difference.stderr, &case["clustered_stderr"]);
            close(clustered.p_value, &case["clustered_p"]);
        }
    }

    #[test]
    fn holm_is_that_of_statsmodels() {
        for case in golden("holm") {
            let adjusted = holm(&numbers(&case["p"]));
            adjusted
                .iter()
                .zip(case["adjusted"].as_array().unwrap())
                .for_each(|(got, want)| close(*got, want));
        }
        assert!(holm(&[]).is_empty());
        assert_eq!(holm(&[0.5, f64::NAN]).len(), 2);
    }

    /// All 256 ways to draw 4 of 4 items: the bootstrap meets each mean as often as it should, within 5 errors.
    #[test]
    fn bootstrap_matches_enumeration() {
        let items = [(-1.0, 1), (0.0, 1), (2.0, 1), (4.0, 2)];
        let mut exact = Vec::new();
        for draw in 0..256usize {
            let drawn = [items[draw % 4], items[draw / 4 % 4], items[draw / 16 % 4], items[draw / 64]];
            exact.push(
                drawn.iter().map(|u| u.0).sum::<f64>() / drawn.iter().map(|u| u.1).sum::<usize>() as f64,
            );
        }
        let differences = [-1.0, 0.0, 2.0, 1.0, 3.0];
        let settings = Settings { resamples: 40_000, alpha: 0.2, ..Settings::default() };
        let got = bootstrap(&differences, Some(&[0, 1, 2, 3, 3]), &settings).unwrap();
        exact.sort_by(f64::total_cmp);
        assert_eq!(got.interval, [quantile(&exact, 0.1), quantile(&exact, 0.9)]);
        let below = exact.iter().filter(|&&m| m <= 0.0).count() as f64 / 256.0;
        assert!((got.p_value - 2.0 * below).abs() < 10.0 * (below / 40_000.0).sqrt(), "{}", got.p_value);
        assert_eq!(got, bootstrap(&differences, Some(&[0, 1, 2, 3, 3]), &settings).unwrap());
    }

    #[test]
    fn quantiles_are_those_of_numpy() {
        for case in golden("quantile") {
            close(quantile(&numbers(&case["sorted"]), case["q"].as_f64().unwrap()), &case["value"]);
        }
    }

    #[test]
    fn clear_differences_are_seen_and_others_are_not() {
        let (weak, strong) = answers(400, 0.3, 0.6, 0);
        let up = compare(&weak, &strong, &quick()).unwrap();
        let down = compare(&strong, &weak, &quick()).unwrap();
        assert_eq!((up.verdict, down.verdict), (Verdict::Better, Verdict::Worse));
        assert_eq!(up.test, Test::McnemarChiSquared);
        assert!(up.bootstrap.interval[0] > 0.0 && up.bootstrap.p_value < 0.05);
        assert_eq!(up.p_value, down.p_value);
        let same = compare(&weak, &weak, &quick()).unwrap();
        assert_eq!((same.verdict, same.p_value, same.test), (Verdict::NoDifference, 1.0, Test::McnemarExact));
        // Six items that speak with one voice are the fewest that reject at 0.05.
        assert!((same.smallest_visible.unwrap() - 6.0 / 400.0).abs() < 1e-12);
        assert_eq!(compare(&weak[..5], &strong[..5], &quick()).unwrap().smallest_visible, None);
    }

    /// Equal models are called different at most at the declared rate; a difference of the size named is found at
    /// about the declared power.
    #[test]
    fn level_and_power_hold() {
        let settings = Settings { resamples: 1, ..Settings::default() };
        let rate = |p: f64, q: f64, from: u64| {
            let differs = (0..1000).filter(|i| {
                let (a, b) = answers(300, p, q, from + i);
                compare(&a, &b, &settings).unwrap().verdict != Verdict::NoDifference
            });
            differs.count() as f64 / 1000.0
        };
        let alarms = rate(0.5, 0.5, 0);
        assert!((0.02..=0.06).contains(&alarms), "{alarms}");
        let (a, b) = answers(300, 0.444, 0.556, 5000);
        let visible = compare(&a, &b, &settings).unwrap().smallest_visible.unwrap();
        assert!((visible - 0.112).abs() < 0.01, "{visible}");
        let found = rate(0.444, 0.556, 10_000);
        assert!((0.70..=0.86).contains(&found), "{found}");
    }

    #[test]
    fn clusters_widen_the_error() {
        let (a, b) = answers(100, 0.4, 0.6, 3);
        let four = |v: &[f64]| v.iter().flat_map(|&x| [x; 4]).collect::<Vec<_>>();
        let clusters: Vec<usize> = (0..400).map(|i| i / 4).collect();
        let blind = compare(&four(&a), &four(&b), &quick()).unwrap();
        let seeing = compare_clustered(&four(&a), &four(&b), &clusters, &quick()).unwrap();
        assert!(seeing.difference.stderr > 1.9 * blind.difference.stderr);
        assert!(seeing.p_value > blind.p_value);
        let width = |c: &Comparison| c.bootstrap.interval[1] - c.bootstrap.interval[0];
        assert!(width(&seeing) > 1.5 * width(&blind));
    }

    #[test]
    fn a_family_is_judged_more_strictly() {
        let one = |index| {
            let (a, b) = answers(300, 0.45, 0.55, index);
            compare(&a, &b, &quick()).unwrap()
        };
        let alone = (0..50).map(one).find(|c| c.verdict == Verdict::Better && c.p_value > 0.01).unwrap();
        let null = {
            let (a, b) = answers(300, 0.5, 0.5, 77);
            compare(&a, &b, &quick()).unwrap()
        };
        let mut family = [alone, null, null, null, null, null];
        judge_family(&mut family);
        assert_eq!(family[0].verdict, Verdict::NoDifference);
        assert!(family[0].smallest_visible > alone.smallest_visible);
        judge_family(&mut []);
    }

    #[test]
    fn equal_differences_are_judged_by_their_number() {
        let (a, b): (Vec<f64>, Vec<f64>) =
            (0..4).map(|i| (f64::from(i) * 0.1, f64::from(i) * 0.1 + 0.25)).unzip();
        let c = compare(&a, &b, &quick()).unwrap();
        assert_eq!((c.test, c.p_value, c.verdict), (Test::Sign, 0.125, Verdict::NoDifference));
        let (a, b): (Vec<f64>, Vec<f64>) =
            (0..9).map(|i| (f64::from(i) * 0.1, f64::from(i) * 0.1 + 0.25)).unzip();
        assert_eq!(compare(&a, &b, &quick()).unwrap().verdict, Verdict::Better);
    }

    #[test]
    fn hostile_input_is_refused() {
        assert!(matches!(compare(&[1.0], &[1.0, 0.0], &quick()), Err(Error::Lengths { .. })));
        assert!(matches!(compare(&[], &[], &quick()), Err(Error::TooFew { .. })));
        assert!(matches!(compare(&[f64::NAN; 2], &[1.0, 0.0], &quick()), Err(Error::NotFinite { .. })));
        for settings in [
            Settings { alpha: 0.0, ..quick() },
            Settings { alpha: f64::NAN, ..quick() },
            Settings { power: 1.0, ..quick() },
            Settings { resamples: 0, ..quick() },
            Settings { resamples: u32::MAX, ..quick() },
        ] {
            assert!(matches!(compare(&[1.0, 0.0], &[1.0, 0.0], &settings), Err(Error::Setting { .. })));
        }
        assert!(matches!(bootstrap::<u8>(&[], None, &quick()), Err(Error::TooFew { .. })));
    }

    proptest::proptest! {
        /// Whatever the values: finite figures, and turning the models around turns the difference and nothing else.
        #[test]
        fn turning_around(pairs in proptest::collection::vec((-1e6f64..1e6, -1e6f64..1e6), 2..40)) {
            let (a, b): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
            let settings = Settings { resamples: 20, ..Settings::default() };
            let (one, other) = (compare(&a, &b, &settings).unwrap(), compare(&b, &a, &settings).unwrap());
            proptest::prop_assert_eq!(one.difference.value, -other.difference.value);
            proptest::prop_assert_eq!(one.p_value, other.p_value);
            proptest::prop_assert!((0.0..=1.0).contains(&one.p_value) && (0.0..=1.0).contains(&one.bootstrap.p_value));
            let text = serde_json::to_string(&one).unwrap();
            proptest::prop_assert_eq!(serde_json::from_str::<Comparison>(&text).unwrap(), one);
        }
    }
}
