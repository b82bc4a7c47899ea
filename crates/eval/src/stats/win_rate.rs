//! How many models a model beats, and which are worth their size (spec WRP-02).
//!
//! The playbook's figure counts models beaten and labels the axis "%"; here both figures exist under their own names.

use super::{Error, at_least, finite, same_length};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A model and its score on each task, in one order of tasks for all models; larger is better.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entrant {
    /// Its name.
    pub model: String,
    /// Parameters, all of them.
    pub parameters: u64,
    /// Score per task.
    pub scores: Vec<f64>,
}

/// Where a model stands among the others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// Its name.
    pub model: String,
    /// Parameters.
    pub parameters: u64,
    /// Models beaten on a task, mean over tasks, ties counting one half: from 0 to `rivals`.
    pub models_beaten: f64,
    /// The other models.
    pub rivals: usize,
    /// `models_beaten` as a share of `rivals`, in percent: from 0 to 100.
    pub win_rate_percent: f64,
    /// Whether no other model is at most as large and wins at least as often, one of them strictly.
    pub pareto: bool,
}

impl Standing {
    /// What the axis of a plot of `models_beaten` must say.
    pub fn axis_of_models_beaten(&self) -> String {
        format!("models beaten, mean over tasks (of {})", self.rivals)
    }
}

/// Axis of a plot of [`Standing::win_rate_percent`].
pub const AXIS_OF_WIN_RATE: &str = "win rate, mean over tasks (%)";

/// Standings in the order given. They depend on who else takes part: only compare those of one call.
///
/// Errors: fewer than two models, no task, a model named twice or without a score for every task.
pub fn standings(entrants: &[Entrant]) -> Result<Vec<Standing>, Error> {
    at_least("models to compare", 2, entrants.len())?;
    let tasks = entrants[0].scores.len();
    at_least("tasks to compare on", 1, tasks)?;
    let mut names = BTreeSet::new();
    for entrant in entrants {
        same_length("scores of a model", tasks, entrant.scores.len())?;
        finite("score of task", &entrant.scores)?;
        if !names.insert(&entrant.model) {
            return Err(Error::Twice { what: "model", name: entrant.model.clone() });
        }
    }
    let rivals = entrants.len() - 1;
    let beaten = |i: usize| {
        let others = entrants.iter().enumerate().filter(|&(j, _)| j != i);
        let halves: usize = others.map(|(_, other)| half_wins(&entrants[i].scores, &other.scores)).sum();
        halves as f64 / 2.0 / tasks as f64
    };
    let wins: Vec<f64> = (0..entrants.len()).map(beaten).collect();
    let standing = |(i, entrant): (usize, &Entrant)| Standing {
        model: entrant.model.clone(),
        parameters: entrant.parameters,
        models_beaten: wins[i],
        rivals,
        win_rate_percent: 100.0 * wins[i] / rivals as f64,
        pareto: !(0..entrants.len()).any(|j| dominates(entrants, &wins, j, i)),
    };
    Ok(entrants.iter().enumerate().map(standing).collect())
}

/// Two per task won, one per tie: whole numbers, so that equal records are equal.
fn half_wins(ours: &[f64], theirs: &[f64]) -> usize {
    ours.iter().zip(theirs).map(|(a, b)| 2 * usize::from(a > b) + usize::from(a == b)).sum()
}

fn dominates(entrants: &[Entrant], wins: &[f64], j: usize, i: usize) -> bool {
    let (size, other) = (entrants[i].parameters, entrants[j].parameters);
    other <= size && wins[j] >= wins[i] && (other < size || wins[j] > wins[i])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entrant(model: &str, parameters: u64, scores: &[f64]) -> Entrant {
        Entrant { model: model.into(), parameters, scores: scores.to_vec() }
    }

    #[test]
    fn wins_ties_and_the_front() {
        let standings = standings(&[
            entrant("small", 1_700, &[0.5, 0.2, 0.4]),
            entrant("middle", 3_000, &[0.6, 0.2, 0.5]),
            entrant("bloated", 3_100, &[0.4, 0.1, 0.5]),
            entrant("large", 4_000, &[0.7, 0.9, 0.6]),
        ])
        .unwrap();
        let beaten: Vec<f64> = standings.iter().map(|s| s.models_beaten).collect();
        assert_eq!(beaten, [(1.0 + 1.5 + 0.0) / 3.0, (2.0 + 1.5 + 1.5) / 3.0, 1.5 / 3.0, 3.0]);
        assert!((standings[3].win_rate_percent - 100.0).abs() < 1e-12);
        assert_eq!(standings.iter().map(|s| s.pareto).collect::<Vec<_>>(), [true, true, false, true]);
        assert_eq!(standings[0].axis_of_models_beaten(), "models beaten, mean over tasks (of 3)");
    }

    #[test]
    fn twins_share_the_front() {
        let twins = [entrant("a", 10, &[0.5]), entrant("b", 10, &[0.5])];
        let standings = standings(&twins).unwrap();
        assert!(standings.iter().all(|s| s.pareto && s.models_beaten == 0.5 && s.win_rate_percent == 50.0));
    }

    #[test]
    fn hostile_input_is_refused() {
        let good = entrant("a", 10, &[0.5]);
        assert!(standings(&[]).is_err());
        assert!(standings(std::slice::from_ref(&good)).is_err());
        assert!(matches!(standings(&[good.clone(), good.clone()]), Err(Error::Twice { .. })));
        assert!(standings(&[entrant("a", 1, &[]), entrant("b", 1, &[])]).is_err());
        assert!(standings(&[good.clone(), entrant("b", 1, &[0.5, 0.6])]).is_err());
        assert!(standings(&[good, entrant("b", 1, &[f64::NAN])]).is_err());
    }

    proptest::proptest! {
        /// Every pair shares one point per task; the front is never empty.
        #[test]
        fn points_are_shared(rows in proptest::collection::vec((1u64..5, proptest::collection::vec(0i32..4, 3)), 2..8)) {
            let entrants: Vec<Entrant> = rows
                .iter()
                .enumerate()
                .map(|(i, (size, scores))| Entrant {
                    model: i.to_string(),
                    parameters: *size,
                    scores: scores.iter().map(|&s| f64::from(s)).collect(),
                })
                .collect();
            let got = standings(&entrants).unwrap();
            let m = entrants.len() as f64;
            let sum: f64 = got.iter().map(|s| s.models_beaten).sum();
            proptest::prop_assert!((sum - m * (m - 1.0) / 2.0).abs() < 1e-9);
            proptest::prop_assert!(got.iter().any(|s| s.pareto));
        }
    }
}
