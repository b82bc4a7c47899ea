//! What a score must beat: chance and the most frequent answer.

use crate::stats::{Formula, Score};
use crate::task::pose::Item;
use std::collections::BTreeMap;

/// Expected accuracy of a uniform guess.
pub fn chance(items: &[Item]) -> Score {
    let n = items.len();
    let value =
        items.iter().map(|i| 1.0 / i.continuations.len().max(1) as f64).sum::<f64>() / n.max(1) as f64;
    let stderr = (value * (1.0 - value) / n.max(1) as f64).sqrt();
    Score { value, stderr, n, formula: Formula::Binomial }
}

/// Accuracy of always picking the candidate that is most often right in the other items: the strongest
/// guess that ignores the question. An item does not count for itself, else a rare answer gives itself away.
pub fn most_frequent_answer(items: &[Item]) -> Score {
    most_frequent(items, |item, choice| item.continuations[choice].as_str())
}

/// Accuracy of always picking the place among the candidates that is most often right in the other items.
pub fn most_frequent_place(items: &[Item]) -> Score {
    most_frequent(items, |_, choice| choice)
}

fn most_frequent<'a, K: Ord>(items: &'a [Item], key: impl Fn(&'a Item, usize) -> K) -> Score {
    let mut counts: BTreeMap<K, usize> = BTreeMap::new();
    for (item, answer) in items.iter().filter_map(|item| Some((item, item.answer?))) {
        *counts.entry(key(item, answer)).or_default() += 1;
    }
    Score::of(items.iter().map(|item| {
        let often = |choice: usize| {
            let own = usize::from(item.answer == Some(choice));
            counts.get(&key(item, choice)).copied().unwrap_or(0).saturating_sub(own)
        };
        let better = |best: usize, choice: usize| if often(choice) > often(best) { choice } else { best };
        item.answer == Some((1..item.continuations.len()).fold(0, better))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(choices: &[&str], answer: usize) -> Item {
        let continuations = choices.iter().map(ToString::to_string).collect();
        Item { continuations, answer: Some(answer), ..Item::asking("q") }
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
