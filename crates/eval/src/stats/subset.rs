//! Fewer items for less time (spec EVL-07, PEV-13): a fixed subset of any task, and a small one chosen to keep the
//! ranking of models, with what either costs in agreement.

use super::ranks::{kendall, spearman};
use super::{Error, at_least, finite, mean, same_length};
use serde::{Deserialize, Serialize};
use smolt_run::random::key;
use std::collections::{BTreeMap, BTreeSet};

/// The `count` items that stand for a task: indices into `items`, in their order; all of them where there are no more.
///
/// `items` are (subset, id), such as an MMLU subject and a question's id; the empty subset for tasks without. Each
/// subset is ordered by the BLAKE3 hash of its ids; the place of the r-th of its m items is (r + ½)/m, and the first
/// `count` items by place are taken. So
/// * the choice depends on names alone: not on the order of the file, on a seed, or on other models;
/// * it is nested: the 100 are among the 1,000 (places do not depend on `count`);
/// * subsets keep their shares as exactly as whole items allow, because this is Sainte-Laguë's apportionment, which
///   unlike rounding never takes an item back when there are more to give.
///
/// Errors: a (subset, id) twice.
pub fn fixed<S: AsRef<str>>(items: &[(S, S)], count: usize) -> Result<Vec<usize>, Error> {
    let mut seen = BTreeSet::new();
    let mut strata: BTreeMap<&str, Vec<(u64, usize)>> = BTreeMap::new();
    for (index, (stratum, id)) in items.iter().enumerate() {
        let (stratum, id) = (stratum.as_ref(), id.as_ref());
        if !seen.insert((stratum, id)) {
            return Err(Error::Twice { what: "item", name: format!("{stratum}/{id}") });
        }
        let hash = key(0, &format!("eval.subset/{}/{stratum}/{id}", stratum.len()));
        strata.entry(stratum).or_default().push((hash, index));
    }
    let mut places: Vec<(f64, u64, usize)> = Vec::with_capacity(items.len());
    for mut stratum in strata.into_values() {
        stratum.sort_unstable();
        let m = stratum.len() as f64;
        places.extend(stratum.iter().enumerate().map(|(r, &(hash, i))| ((r as f64 + 0.5) / m, hash, i)));
    }
    places.sort_by(|a, b| a.0.total_cmp(&b.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    let mut chosen: Vec<usize> = places.into_iter().take(count).map(|(_, _, index)| index).collect();
    chosen.sort_unstable();
    Ok(chosen)
}

/// How well a smaller set of items stands for the full one, over models.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// Models compared.
    pub models: usize,
    /// Spearman's ρ of both lists of scores; `None` with fewer than two models or all scores equal.
    pub spearman: Option<f64>,
    /// Kendall's τ-b of both; `None` alike.
    pub kendall: Option<f64>,
    /// Mean over models of small − full.
    pub bias: f64,
    /// Mean over models of |small − full|.
    pub mean_error: f64,
    /// Largest |small − full|.
    pub largest_error: f64,
}

/// Compares scores on a small set, or a cheaper variant of a benchmark, with the full ones: one entry per model.
///
/// Errors: no models, lists of different length, values that are not finite.
pub fn agreement(full: &[f64], small: &[f64]) -> Result<Agreement, Error> {
    at_least("models to compare", 1, full.len())?;
    same_length("scores on the subset", full.len(), small.len())?;
    finite("full score", full)?;
    finite("score on the subset", small)?;
    let differences: Vec<f64> = small.iter().zip(full).map(|(s, f)| s - f).collect();
    let errors: Vec<f64> = differences.iter().map(|d| d.abs()).collect();
    Ok(Agreement {
        models: full.len(),
        spearman: spearman(full, small),
        kendall: kendall(full, small).and_then(|k| k.tau_b),
        bias: mean(&differences),
        mean_error: mean(&errors),
        largest_error: errors.iter().copied().fold(0.0, f64::max),
    })
}

/// What each model scored on each item.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Responses {
    /// Names of the items, unique.
    pub items: Vec<String>,
    /// `[models][items]`.
    pub scores: Vec<Vec<f64>>,
}

/// A small subset and how far to trust it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Selection {
    /// Indices of the items, best first: a prefix is the selection of fewer.
    pub items: Vec<usize>,
    /// On the models that it was chosen by: too good, as always.
    pub chosen_by: Agreement,
    /// On the models held out: the figure to report. `None` where none were.
    pub held_out: Option<Agreement>,
    /// On the same models held out, as many items taken by hash: what the choice must beat. `None` alike.
    pub hashed_held_out: Option<Agreement>,
}

/// Chooses `count` items whose plain mean follows the full score of every model, greedily: each step adds the item that
/// brings the mean of those chosen nearest to the full score, in squared error over the models not in `held_out`
/// (kernel herding with a linear kernel). Unlike anchors of tinyBenchmarks it needs no item weights, so that the subset
/// is scored as any task is. Ties go to the earlier item. O(count · items · models).
///
/// Errors: no items, rows of another length, an item name twice, values that are not finite, `held_out` out of range,
/// fewer than two models to choose by.
pub fn select(responses: &Responses, held_out: &[usize], count: usize) -> Result<Selection, Error> {
    let training = check(responses, held_out)?;
    at_least("items of the subset", 1, count)?;
    let items = herd(responses, &training, count.min(responses.items.len()));
    let held: Vec<usize> = held_out.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
    let named: Vec<(&str, &str)> = responses.items.iter().map(|id| ("", id.as_str())).collect();
    let hashed = fixed(&named, items.len())?;
    let outside = |subset: &[usize]| match held.is_empty() {
        true => Ok(None),
        false => on_subset(responses, &held, subset).map(Some),
    };
    Ok(Selection {
        chosen_by: on_subset(responses, &training, &items)?,
        held_out: outside(&items)?,
        hashed_held_out: outside(&hashed)?,
        items,
    })
}

/// The models to choose by.
fn check(responses: &Responses, held_out: &[usize]) -> Result<Vec<usize>, Error> {
    at_least("items", 1, responses.items.len())?;
    for row in &responses.scores {
        same_length("scores of a model", responses.items.len(), row.len())?;
        finite("score of item", row)?;
    }
    let models = responses.scores.len();
    if let Some((index, model)) = held_out.iter().enumerate().find(|&(_, &m)| m >= models) {
        let reason = format!("there is no model {model}, only {models}; count from 0");
        return Err(Error::Entry { what: "held-out model", index, reason });
    }
    let training: Vec<usize> = (0..models).filter(|m| !held_out.contains(m)).collect();
    at_least("models to choose by", 2, training.len())?;
    Ok(training)
}

/// The greedy choice of [`select`].
fn herd(responses: &Responses, training: &[usize], count: usize) -> Vec<usize> {
    let n = responses.items.len();
    // Item-major: each step walks all items, and an item's scores lie together.
    let columns: Vec<Vec<f64>> =
        (0..n).map(|i| training.iter().map(|&m| responses.scores[m][i]).collect()).collect();
    let full: Vec<f64> = training.iter().map(|&m| mean(&responses.scores[m])).collect();
    let squares: Vec<f64> = columns.iter().map(|c| c.iter().map(|v| v * v).sum()).collect();
    let mut sums = vec![0.0; training.len()];
    let mut free = vec![true; n];
    let mut chosen = Vec::with_capacity(count);
    for size in 1..=count {
        let gap: Vec<f64> = sums.iter().zip(&full).map(|(sum, f)| sum - size as f64 * f).collect();
        // ‖gap + column‖² without ‖gap‖², which is the same for all.
        let cost = |i: usize| squares[i] + 2.0 * gap.iter().zip(&columns[i]).map(|(g, v)| g * v).sum::<f64>();
        let candidates = (0..n).filter(|&i| free[i]).map(|i| (cost(i), i));
        let Some((_, best)) = candidates.min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1))) else {
            break;
        };
        free[best] = false;
        chosen.push(best);
        sums.iter_mut().zip(&columns[best]).for_each(|(sum, v)| *sum += v);
    }
    chosen
}

/// Full scores of `models` against their means over `subset`.
fn on_subset(responses: &Responses, models: &[usize], subset: &[usize]) -> Result<Agreement, Error> {
    let full: Vec<f64> = models.iter().map(|&m| mean(&responses.scores[m])).collect();
    let of = |row: &[f64]| mean(&subset.iter().map(|&i| row[i]).collect::<Vec<_>>());
    let small: Vec<f64> = models.iter().map(|&m| of(&responses.scores[m])).collect();
    agreement(&full, &small)
}

#[cfg(test)]
mod tests {
    use super::*;
    use smolt_run::random::Stream;

    /// Right answers of models of growing ability to items of random difficulty.
    fn responses(models: usize, items: usize) -> Responses {
        let mut stream = Stream::new(5, "test.subset", 0);
        let difficulty: Vec<f64> = (0..items).map(|_| 1.5 * stream.normal()).collect();
        let scores = (0..models)
            .map(|m| {
                let ability = 4.0 * m as f64 / models as f64 - 2.0;
                let right = |d: &f64| f64::from(stream.uniform() < 1.0 / (1.0 + (d - ability).exp()));
                difficulty.iter().map(right).collect()
            })
            .collect();
        Responses { items: (0..items).map(|i| format!("item-{i}")).collect(), scores }
    }

    fn named(strata: &[(&str, usize)]) -> Vec<(String, String)> {
        let items =
            |s: &(&str, usize)| (0..s.1).map(|i| (s.0.to_string(), i.to_string())).collect::<Vec<_>>();
        strata.iter().flat_map(items).collect()
    }

    #[test]
    fn fixed_subsets_keep_shares() {
        let items = named(&[("a", 600), ("b", 300), ("c", 90), ("d", 10)]);
        let counts = |count| {
            let chosen = fixed(&items, count).unwrap();
            ["a", "b", "c", "d"].map(|s| chosen.iter().filter(|&&i| items[i].0 == s).count())
        };
        assert_eq!(counts(100), [60, 30, 9, 1]);
        assert_eq!(counts(10), [6, 3, 1, 0]);
        assert_eq!(counts(5000), [600, 300, 90, 10]);
        assert_eq!(counts(0), [0; 4]);
        let mut twice = items.clone();
        twice.push(items[3].clone());
        assert!(matches!(fixed(&twice, 3), Err(Error::Twice { .. })));
    }

    /// The choice itself is a promise: scores of other days and machines rest on it.
    #[test]
    fn fixed_subsets_never_change() {
        let items = named(&[("", 20)]);
        assert_eq!(fixed(&items, 5).unwrap(), [1, 4, 6, 8, 17]);
    }

    #[test]
    fn a_chosen_subset_keeps_the_ranking_of_models_it_never_saw() {
        let responses = responses(40, 600);
        let held_out: Vec<usize> = (0..40).filter(|m| m % 4 == 1).collect();
        let selection = select(&responses, &held_out, 60).unwrap();
        let (held, hashed) = (selection.held_out.unwrap(), selection.hashed_held_out.unwrap());
        assert_eq!((selection.items.len(), held.models, selection.chosen_by.models), (60, 10, 30));
        assert!(held.spearman.unwrap() > 0.95, "{held:?}");
        assert!(held.mean_error < hashed.mean_error, "{held:?} {hashed:?}");
        assert!(selection.chosen_by.mean_error < held.mean_error, "{selection:?}");
        let fewer = select(&responses, &held_out, 20).unwrap();
        assert_eq!(fewer.items, selection.items[..20]);
        assert_eq!(selection, select(&responses, &held_out, 60).unwrap());
    }

    #[test]
    fn all_items_agree_with_themselves() {
        let responses = responses(5, 30);
        let all = select(&responses, &[4, 4], 1000).unwrap();
        assert_eq!(all.items.len(), 30);
        assert!(all.chosen_by.largest_error < 1e-12 && all.chosen_by.spearman == Some(1.0));
        let held = all.held_out.unwrap();
        assert_eq!((held.models, held.spearman), (1, None));
        assert_eq!(select(&responses, &[], 3).unwrap().held_out, None);
    }

    #[test]
    fn agreement_of_known_lists() {
        let got = agreement(&[0.1, 0.2, 0.4, 0.3], &[0.2, 0.3, 0.3, 0.5]).unwrap();
        assert!((got.bias - 0.075).abs() < 1e-12 && (got.mean_error - 0.125).abs() < 1e-12);
        assert!((got.largest_error - 0.2).abs() < 1e-12);
        assert!((got.kendall.unwrap() - 3.0 / 30f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn hostile_input_is_refused() {
        let good = responses(3, 4);
        assert!(select(&good, &[3], 2).is_err());
        assert!(select(&good, &[0, 1], 2).is_err());
        assert!(select(&good, &[], 0).is_err());
        let change = |f: &dyn Fn(&mut Responses)| {
            let mut bad = good.clone();
            f(&mut bad);
            select(&bad, &[], 2).is_err()
        };
        assert!(change(&|r| r.scores[1].truncate(2)));
        assert!(change(&|r| r.scores[1][2] = f64::NAN));
        assert!(change(&|r| r.items[0] = "item-1".into()));
        assert!(change(&|r| r.items.clear()));
        assert!(change(&|r| r.scores.clear()));
        assert!(agreement(&[], &[]).is_err());
        assert!(agreement(&[1.0], &[]).is_err());
    }

    proptest::proptest! {
        /// Fewer are among more; the order of the file does not matter; each subset's share is off by less than one.
        #[test]
        fn nested_whatever_the_sizes(
            sizes in proptest::collection::vec(1usize..40, 1..6),
            small in 0usize..60,
            more in 0usize..60,
        ) {
            let names: Vec<String> = (0..sizes.len()).map(|i| i.to_string()).collect();
            let strata: Vec<(&str, usize)> = names.iter().map(String::as_str).zip(sizes).collect();
            let items = named(&strata);
            let (few, many) = (fixed(&items, small).unwrap(), fixed(&items, small + more).unwrap());
            proptest::prop_assert_eq!(few.len(), small.min(items.len()));
            proptest::prop_assert!(few.iter().all(|i| many.contains(i)));
            let turned: Vec<_> = items.iter().rev().cloned().collect();
            let mut again: Vec<usize> = fixed(&turned, small).unwrap().iter().map(|i| items.len() - 1 - i).collect();
            again.sort_unstable();
            proptest::prop_assert_eq!(few, again);
        }
    }
}
