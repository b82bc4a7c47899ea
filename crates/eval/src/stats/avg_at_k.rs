//! Scores of models that sample: avg@k with both of its errors, pass@k, and how many samples an error wanted needs
//! (spec PEV-06).

use super::{Error, Score, at_least, mean};
use serde::{Deserialize, Serialize};

/// Benchmarks with fewer items than this are sampled more than once per item (spec PEV-06).
pub const MANY_ITEMS: usize = 2000;

/// Most samples per item that a plan proposes.
const MOST_SAMPLES: f64 = 65_536.0;

/// Most samples of one item: far beyond what anybody draws, and few enough to multiply over.
const MOST_TRIES: u32 = 1 << 20;

/// One item, answered several times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tries {
    /// Right answers.
    pub solved: u32,
    /// Answers sampled.
    pub of: u32,
}

impl Tries {
    fn rate(self) -> f64 {
        f64::from(self.solved) / f64::from(self.of)
    }

    /// Unbiased estimate of p(1−p) from k ≥ 2 answers: the plug-in p̂(1−p̂) is too small by the factor (k−1)/k.
    fn variance(self) -> f64 {
        let k = f64::from(self.of);
        self.rate() * (1.0 - self.rate()) * k / (k - 1.0)
    }
}

/// avg@k, and what its error is made of.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AvgAtK {
    /// Mean over items of the share of right answers; its error is the total: other items *and* other samples.
    pub score: Score,
    /// Samples per item; `None` where items have different numbers of them.
    pub k: Option<u32>,
    /// √(Σ p_i(1−p_i)/k_i)/n: how far other samples on the same items would move the score. It falls with k.
    /// `None` with a single sample of some item, which says nothing of its rate.
    pub sampling_stderr: Option<f64>,
    /// What is left of the total: how far other items would move the score at endless sampling. More samples do not
    /// lower it. `None` where the part of sampling is not known.
    pub items_stderr: Option<f64>,
}

/// avg@k of a benchmark: (1/n)Σ_i(1/k)Σ_j c_ij. Not pass@k: it does not rise with k.
///
/// The variance of an item's share is that of its rate among items plus p(1−p)/k of sampling. The spread of shares
/// measures the sum; the second term is estimated without bias from each item's own answers and subtracted.
///
/// Errors: fewer than two items, an item without samples or with more right answers than samples.
pub fn avg_at_k(items: &[Tries]) -> Result<AvgAtK, Error> {
    check(items, 1)?;
    let rates: Vec<f64> = items.iter().map(|t| t.rate()).collect();
    let score = Score::mean(&rates)?;
    let first = items.first().map_or(0, |t| t.of);
    let n = items.len() as f64;
    let sampling_stderr = items
        .iter()
        .all(|t| t.of >= 2)
        .then(|| items.iter().map(|t| t.variance() / f64::from(t.of)).sum::<f64>().sqrt() / n);
    let items_stderr = sampling_stderr.map(|s| (score.stderr * score.stderr - s * s).max(0.0).sqrt());
    let k = items.iter().all(|t| t.of == first).then_some(first);
    Ok(AvgAtK { score, k, sampling_stderr, items_stderr })
}

/// pass@k: the chance that one of k samples is right, mean over items, with the error of that mean. Without bias from
/// m ≥ k samples, c of them right, 1 − C(m−c, k)/C(m, k) (Chen et al., "Evaluating large language models trained on
/// code", 2021).
///
/// Errors: fewer than two items, k of 0, an item with fewer than k samples or more right answers than samples.
pub fn pass_at_k(items: &[Tries], k: u32) -> Result<Score, Error> {
    if k == 0 {
        return Err(Error::Setting { name: "k", value: 0.0, range: "1 or more" });
    }
    check(items, k)?;
    Score::mean(&items.iter().map(|&t| pass(t, k)).collect::<Vec<_>>())
}

/// C(m−c, k)/C(m, k) as the product of (1 − c/(m−i)) over i < k, which does not overflow; or over the c right answers
/// where they are fewer: both count the ways to miss.
fn pass(tries: Tries, k: u32) -> f64 {
    let (m, c) = (tries.of, tries.solved);
    if c > m - k {
        return 1.0;
    }
    let (steps, other) = if k < c { (k, c) } else { (c, k) };
    1.0 - (0..steps).map(|i| 1.0 - f64::from(other) / f64::from(m - i)).product::<f64>()
}

/// How often to sample.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Samples per item.
    pub k: u32,
    /// Error of sampling that this k leaves, as far as the pilot tells.
    pub sampling_stderr: f64,
    /// Error of the items, which no k lowers.
    pub items_stderr: f64,
    /// Both together.
    pub stderr: f64,
    /// Whether the total stays above the wanted error whatever k: then only more items help those who want to speak of
    /// items beyond these.
    pub items_dominate: bool,
    /// Whether the benchmark has so few items ([`MANY_ITEMS`]) that one sample each is not enough in any case: `k` is 2
    /// or more.
    pub small: bool,
}

/// The smallest k whose sampling error on these items is below `wanted`, from a pilot of at least two samples per item; of a
/// small benchmark at least 2, whatever the pilot says, so that the error of sampling stays known.
///
/// Errors: those of [`avg_at_k`]; a pilot of single samples, which cannot tell a rate of one half from a coin's fall;
/// `wanted` not in (0, 1), or so small that k would exceed 65,536.
pub fn plan(pilot: &[Tries], wanted: f64) -> Result<Plan, Error> {
    check(pilot, 2)?;
    if wanted.is_nan() || wanted <= 0.0 || wanted >= 1.0 {
        return Err(Error::Setting {
            name: "wanted error",
            value: wanted,
            range: "a share above 0 and below 1",
        });
    }
    let n = pilot.len() as f64;
    let items_stderr = avg_at_k(pilot)?.items_stderr.unwrap_or(0.0);
    let per_sample = mean(&pilot.iter().map(|t| t.variance()).collect::<Vec<_>>()) / n;
    let error_at = |k: f64| (per_sample / k).sqrt();
    // Below, not at: one more where the quotient is whole; and rounding is settled by asking again.
    let small = pilot.len() < MANY_ITEMS;
    let fewest = if small { 2.0 } else { 1.0 };
    let mut k = (per_sample / (wanted * wanted)).floor().max(fewest);
    while error_at(k) >= wanted && k <= MOST_SAMPLES {
        k += 1.0;
    }
    if k > MOST_SAMPLES {
        let range = "a larger error: this one needs more than 65536 samples per item";
        return Err(Error::Setting { name: "wanted error", value: wanted, range });
    }
    let sampling_stderr = error_at(k);
    let stderr = items_stderr.hypot(sampling_stderr);
    Ok(Plan {
        k: k as u32,
        sampling_stderr,
        items_stderr,
        stderr,
        items_dominate: items_stderr >= wanted,
        small,
    })
}

fn check(items: &[Tries], samples: u32) -> Result<(), Error> {
    at_least("items", 2, items.len())?;
    for (index, tries) in items.iter().enumerate() {
        let (solved, of) = (tries.solved, tries.of);
        let reason = if of < samples {
            format!("{of} samples, {samples} needed; sample it more often")
        } else if of > MOST_TRIES {
            format!("{of} samples are more than the {MOST_TRIES} allowed; count again")
        } else if solved > of {
            format!("{solved} right answers of {of}; count again")
        } else {
            continue;
        };
        return Err(Error::Entry { what: "item", index, reason });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::tests::{close, golden};

    fn tries(list: &[(u32, u32)]) -> Vec<Tries> {
        list.iter().map(|&(solved, of)| Tries { solved, of }).collect()
    }

    fn choose(n: u32, k: u32) -> f64 {
        (0..k).map(|i| f64::from(n - i) / f64::from(i + 1)).product()
    }

    #[test]
    fn pass_at_k_is_the_exact_share_of_draws() {
        for case in golden("pass_at_k") {
            let number = |key: &str| case[key].as_u64().unwrap() as u32;
            close(pass(Tries { solved: number("c"), of: number("m") }, number("k")), &case["pass"]);
        }
        assert_eq!(pass(Tries { solved: 0, of: 5 }, 5), 0.0);
        assert_eq!(pass(Tries { solved: 1, of: 5 }, 5), 1.0);
    }

    #[test]
    fn avg_at_1_is_a_share_and_pass_at_1_equals_avg() {
        let single = avg_at_k(&tries(&[(1, 1), (0, 1), (0, 1), (1, 1)])).unwrap();
        assert_eq!((single.score.value, single.k, single.sampling_stderr), (0.5, Some(1), None));
        let many = tries(&[(3, 8), (8, 8), (0, 8), (5, 8)]);
        let avg = avg_at_k(&many).unwrap();
        assert!((avg.score.value - 0.5).abs() < 1e-12 && avg.k == Some(8));
        assert!((pass_at_k(&many, 1).unwrap().value - 0.5).abs() < 1e-12);
        assert_eq!(avg_at_k(&tries(&[(1, 2), (1, 3)])).unwrap().k, None);
    }

    /// Over all outcomes of k answers at known rates, the squared sampling error is on average the true variance.
    #[test]
    fn sampling_error_is_unbiased_by_enumeration() {
        let (rates, k) = ([0.2, 0.5, 0.9], 3u32);
        let chance = |p: f64, c: u32| choose(k, c) * p.powi(c as i32) * (1.0 - p).powi((k - c) as i32);
        let (mut squared, mut value) = (0.0, 0.0);
        for outcome in 0..64u32 {
            let solved = [outcome % 4, outcome / 4 % 4, outcome / 16];
            let weight: f64 = rates.iter().zip(solved).map(|(&p, c)| chance(p, c)).product();
            let avg = avg_at_k(&solved.map(|solved| Tries { solved, of: k })).unwrap();
            squared += weight * avg.sampling_stderr.unwrap().powi(2);
            value += weight * avg.score.value;
        }
        let truth: f64 = rates.iter().map(|p| p * (1.0 - p) / 3.0).sum::<f64>() / 9.0;
        assert!((squared - truth).abs() < 1e-12, "{squared} {truth}");
        assert!((value - 1.6 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn errors_are_told_apart() {
        // Every item at a rate of one half: only sampling moves the score.
        let coins = avg_at_k(&tries(&[(5, 10), (4, 10), (6, 10), (5, 10)])).unwrap();
        assert_eq!(coins.items_stderr, Some(0.0));
        assert!(coins.sampling_stderr.unwrap() > 0.05);
        // Every item always or never: only the choice of items does.
        let fixed = avg_at_k(&tries(&[(10, 10), (0, 10), (10, 10), (0, 10)])).unwrap();
        assert_eq!(fixed.sampling_stderr, Some(0.0));
        assert!((fixed.items_stderr.unwrap() - fixed.score.stderr).abs() < 1e-12);
    }

    #[test]
    fn plan_finds_the_smallest_k() {
        let pilot = tries(&[(5, 10), (2, 10), (9, 10), (10, 10), (7, 10)]);
        let plan = plan(&pilot, 0.02).unwrap();
        let per_sample = pilot.iter().map(|t| t.variance()).sum::<f64>() / 25.0;
        assert!((per_sample / f64::from(plan.k)).sqrt() < 0.02);
        assert!((per_sample / f64::from(plan.k - 1)).sqrt() >= 0.02);
        assert!(plan.items_dominate && plan.small && plan.stderr > plan.items_stderr);
        // Two coins, each seen once right and once wrong: 1/2 over one sample each, exactly.
        let even = super::plan(&tries(&[(1, 2), (1, 2)]), 0.25).unwrap();
        assert_eq!(even.k, 5, "an error of exactly the wanted one is not below it");
    }

    #[test]
    fn few_items_are_sampled_more_than_once() {
        let plan = |items: usize| super::plan(&vec![Tries { solved: 1, of: 2 }; items], 0.3).unwrap();
        assert!((plan(30).k, plan(30).small) == (2, true), "AIME");
        assert!((plan(MANY_ITEMS).k, plan(MANY_ITEMS).small) == (1, false));
        assert_eq!(
            super::plan(&tries(&[(2, 2), (0, 2)]), 0.01).unwrap().k,
            2,
            "no spread is seen in the pilot"
        );
    }

    #[test]
    fn hostile_input_is_refused() {
        assert!(avg_at_k(&[]).is_err());
        assert!(avg_at_k(&tries(&[(0, 0), (1, 1)])).is_err());
        assert!(avg_at_k(&tries(&[(2, 1), (1, 1)])).is_err());
        assert!(pass_at_k(&tries(&[(1, 2), (1, 2)]), 3).is_err());
        assert!(pass_at_k(&tries(&[(1, 2), (1, 2)]), 0).is_err());
        assert!(plan(&tries(&[(1, 1), (0, 1)]), 0.1).is_err());
        for wanted in [0.0, 1.0, -1.0, f64::NAN, 1e-9] {
            assert!(plan(&tries(&[(1, 2), (1, 2)]), wanted).is_err());
        }
        assert!(pass_at_k(&[Tries { solved: u32::MAX - 5, of: u32::MAX }; 2], 3).is_err());
    }
}
