//! Candidates by likelihood, normalised in five ways (spec EVL-04).

use crate::model::Continuation;
use crate::task::pose::Item;
use serde::{Deserialize, Serialize};
use std::f64::consts::LN_2;

/// By what a log-likelihood is divided, or compared with, before the best candidate is picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Normalisation {
    /// ln P(a|q): right for candidates of one token.
    None,
    /// ln P(a|q) / characters of a: takes away the advantage of short answers.
    Char,
    /// ln P(a|q) / bytes of a.
    Byte,
    /// ln P(a|q) / tokens of a: differs between tokenizers.
    Token,
    /// ln P(a|q) − ln P(a|"Answer:"): how much the question speaks for the candidate.
    Pmi,
}

impl Normalisation {
    /// All, in the order of reports.
    pub const ALL: [Normalisation; 5] = [
        Normalisation::None,
        Normalisation::Char,
        Normalisation::Byte,
        Normalisation::Token,
        Normalisation::Pmi,
    ];

    /// Name of the accuracy under it.
    pub fn metric(self) -> &'static str {
        match self {
            Normalisation::None => "accuracy",
            Normalisation::Char => "accuracy_char",
            Normalisation::Byte => "accuracy_byte",
            Normalisation::Token => "accuracy_token",
            Normalisation::Pmi => "accuracy_pmi",
        }
    }

    fn score(self, candidate: &Continuation, unconditional: Option<&Continuation>, text: &str) -> f64 {
        let per = |n: usize| candidate.log_likelihood / n.max(1) as f64;
        match self {
            Normalisation::None => candidate.log_likelihood,
            Normalisation::Char => per(text.chars().count()),
            Normalisation::Byte => per(text.len()),
            Normalisation::Token => per(candidate.tokens),
            Normalisation::Pmi => candidate.log_likelihood - unconditional.map_or(0.0, |u| u.log_likelihood),
        }
    }
}

/// What follows from the likelihoods of one item.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Picked {
    /// The candidate picked under each normalisation; the first of equals.
    pub picks: Vec<(Normalisation, usize)>,
    /// −log₂ P of the right candidate per byte: moves smoothly where accuracy still jumps.
    pub answer_bits_per_byte: f64,
}

/// Picks the best candidate under every normalisation that there are numbers for.
pub fn pick(item: &Item, scored: &[Continuation], unconditional: Option<&[Continuation]>) -> Picked {
    let best = |by: Normalisation| {
        // Letters measure as letters; where the candidate lies in the prompt, all continuations are the same text.
        let measured = if item.questions.len() > 1 { &item.choices } else { &item.continuations };
        let value = |i: usize| by.score(&scored[i], unconditional.and_then(|u| u.get(i)), &measured[i]);
        (1..scored.len()).fold(0, |best, i| if value(i) > value(best) { i } else { best })
    };
    let usable = |by: &Normalisation| *by != Normalisation::Pmi || unconditional.is_some();
    let picks = Normalisation::ALL.into_iter().filter(usable).map(|by| (by, best(by))).collect();
    let right = item.answer.unwrap_or(0);
    let bits = -scored[right].log_likelihood / LN_2;
    Picked { picks, answer_bits_per_byte: bits / item.continuations[right].len().max(1) as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(choices: &[&str]) -> Item {
        let choices: Vec<String> = choices.iter().map(ToString::to_string).collect();
        Item { continuations: choices.clone(), choices, answer: Some(0), ..Item::asking("q") }
    }

    fn scored(values: &[(f64, usize)]) -> Vec<Continuation> {
        let make =
            |&(log_likelihood, tokens): &(f64, usize)| Continuation { log_likelihood, tokens, greedy: false };
        values.iter().map(make).collect()
    }

    #[test]
    fn each_normalisation_has_its_own_favourite() {
        // Characters 2, 8, 4; bytes 2, 8, 12; tokens 1, 2, 4.
        let item = item(&["ab", "abcdefgh", "水火木金"]);
        let scored = scored(&[(-2.0, 1), (-7.0, 2), (-6.0, 4)]);
        let before = [(-1.0, 1), (-2.0, 2), (-9.0, 4)];
        let unconditional: Vec<_> = before.iter().map(|&b| self::scored(&[b])[0].clone()).collect();
        let picked = pick(&item, &scored, Some(&unconditional));
        let of = |by| picked.picks.iter().find(|(n, _)| *n == by).map(|(_, i)| *i);
        assert_eq!(of(Normalisation::None), Some(0));
        assert_eq!(of(Normalisation::Char), Some(1), "-1, -0.875, -1.5");
        assert_eq!(of(Normalisation::Byte), Some(2), "-1, -0.875, -0.5");
        assert_eq!(of(Normalisation::Token), Some(2), "-2, -3.5, -1.5");
        assert_eq!(of(Normalisation::Pmi), Some(2), "-1, -5, +3");
        assert!((picked.answer_bits_per_byte - 2.0 / LN_2 / 2.0).abs() < 1e-12);
    }

    /// Normalising by length must not prefer the letter of a long option.
    #[test]
    fn letters_measure_as_letters() {
        let letters = vec!["A".to_owned(), "B".to_owned()];
        let item = Item { continuations: letters, ..item(&["a long option", "b"]) };
        let picked = pick(&item, &scored(&[(-2.0, 1), (-1.0, 1)]), None);
        assert!(picked.picks.iter().all(|(_, pick)| *pick == 1));
    }

    #[test]
    fn equal_candidates_give_the_first_and_pmi_needs_its_numbers() {
        let picked = pick(&item(&["a", "b"]), &scored(&[(-1.0, 1), (-1.0, 1)]), None);
        assert!(picked.picks.iter().all(|(_, pick)| *pick == 0) && picked.picks.len() == 4);
    }
}
