//! What a score must beat: chance and the most frequent answer.

use crate::items::Item;
use crate::stats::{Formula, Score};
use crate::task::pose;
use std::collections::BTreeMap;

/// A question with candidates.
pub trait Choosing {
    /// The candidates.
    fn candidates(&self) -> &[String];
    /// The right one.
    fn right(&self) -> Option<usize>;
}

impl Choosing for Item {
    fn candidates(&self) -> &[String] {
        &self.choices
    }

    fn right(&self) -> Option<usize> {
        Some(self.answer)
    }
}

impl Choosing for pose::Item {
    fn candidates(&self) -> &[String] {
        &self.continuations
    }

    fn right(&self) -> Option<usize> {
        self.answer
    }
}

/// Expected accuracy of a uniform guess.
pub fn chance(items: &[impl Choosing]) -> Score {
    let n = items.len();
    let value = items.iter().map(|i| 1.0 / i.candidates().len().max(1) as f64).sum::<f64>() / n.max(1) as f64;
    let stderr = (value * (1.0 - value) / n.max(1) as f64).sqrt();
    Score { value, stderr, n, formula: Formula::Binomial }
}

/// Accuracy of always picking the candidate that is most often right in the other items: the strongest
/// guess that ignores the question. An item does not count for itself, else a rare answer gives itself away.
pub fn most_frequent_answer(items: &[impl Choosing]) -> Score {
    most_frequent(items, |item, choice| item.candidates()[choice].as_str())
}

/// Accuracy of always picking the place among the candidates that is most often right in the other items.
pub fn most_frequent_place(items: &[impl Choosing]) -> Score {
    most_frequent(items, |_, choice| choice)
}

fn most_frequent<'a, I: Choosing, K: Ord>(items: &'a [I], key: impl Fn(&'a I, usize) -> K) -> Score {
    let mut counts: BTreeMap<K, usize> = BTreeMap::new();
    for (item, answer) in items.iter().filter_map(|item| Some((item, item.right()?))) {
        *counts.entry(key(item, answer)).or_default() += 1;
    }
    Score::of(items.iter().map(|item| {
        let often = |choice: usize| {
            let own = usize::from(item.right() == Some(choice));
            counts.get(&key(item, choice)).copied().unwrap_or(0).saturating_sub(own)
        };
        let better = |best: usize, choice: usize| if often(choice) > often(best) { choice } else { best };
        item.right() == Some((1..item.candidates().len()).fold(0, better))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(choices: &[&str], answer: usize) -> Item {
        let choices = choices.iter().map(ToString::to_string).collect();
        let text = String::new();
        Item {
            id: text.clone(),
            skill: text.clone(),
            prompt: text.clone(),
            choices,
            answer,
            answer_text: text,
            chat: vec![],
        }
    }

    #[test]
    fn baselines_of_known_items() {
        let items = [
            item(&["a", "b"], 0),
            item(&["b", "a"], 1),
            item(&["a", "b", "c", "d"], 2),
            item(&["b", "c"], 0),
        ];
        assert!((chance(&items).value - (0.5 + 0.5 + 0.25 + 0.5) / 4.0).abs() < 1e-12);
        // Right answers are a, a, c, b. Without itself the first item sees a 1, b 1 and picks the first, which is right;
        // the second sees the same and picks b; the third sees a 2, the fourth c 1 and b none.
        assert!((most_frequent_answer(&items).value - 0.25).abs() < 1e-12);
    }

    #[test]
    fn an_answer_that_occurs_once_does_not_give_itself_away() {
        let items: Vec<Item> = (0..40)
            .map(|i| {
                let choices: Vec<String> = (0..4).map(|c| format!("{i}-{c}")).collect();
                item(&choices.iter().map(String::as_str).collect::<Vec<_>>(), i % 4)
            })
            .collect();
        assert!((most_frequent_answer(&items).value - 0.25).abs() < 1e-12);
    }
}
