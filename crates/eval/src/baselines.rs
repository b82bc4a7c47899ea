//! What a score must beat: chance and the most frequent answer.

use crate::items::Item;
use crate::stats::{Formula, Score};
use crate::task::pose;
use std::collections::BTreeMap;

/// Expected accuracy of a uniform guess.
pub fn chance(items: &[Item]) -> Score {
    let n = items.len();
    let value = items.iter().map(|i| 1.0 / i.choices.len() as f64).sum::<f64>() / n.max(1) as f64;
    let stderr = (value * (1.0 - value) / n.max(1) as f64).sqrt();
    Score { value, stderr, n, formula: Formula::Binomial }
}

/// Accuracy of always picking the candidate that is most often right in the other items: the strongest
/// guess that ignores the question. An item does not count for itself, else a rare answer gives itself away.
pub fn most_frequent_answer(items: &[Item]) -> Score {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for item in items {
        *counts.entry(&item.choices[item.answer]).or_default() += 1;
    }
    let often = |item: &Item, i: usize| {
        counts.get(item.choices[i].as_str()).copied().unwrap_or(0) - usize::from(i == item.answer)
    };
    Score::of(items.iter().map(|item| {
        let pick =
            (1..item.choices.len()).fold(0, |b, i| if often(item, i) > often(item, b) { i } else { b });
        pick == item.answer
    }))
}

/// Expected accuracy of a uniform guess among the candidates of each item.
pub fn chance_of(items: &[pose::Item]) -> f64 {
    items.iter().map(|item| 1.0 / item.continuations.len().max(1) as f64).sum::<f64>()
        / items.len().max(1) as f64
}

/// Accuracy of always picking the candidate, or the place among candidates, that is most often right in the other items:
/// the better of the two. Needs no question, so a score below it says nothing about understanding.
pub fn most_frequent_of(items: &[pose::Item]) -> f64 {
    let texts = most_frequent(items, |item, choice| item.continuations[choice].clone());
    let places = most_frequent(items, |_, choice| choice);
    f64::max(texts, places)
}

fn most_frequent<K: Ord>(items: &[pose::Item], key: impl Fn(&pose::Item, usize) -> K) -> f64 {
    let mut counts: BTreeMap<K, usize> = BTreeMap::new();
    for (item, answer) in items.iter().filter_map(|item| Some((item, item.answer?))) {
        *counts.entry(key(item, answer)).or_default() += 1;
    }
    let hits = items.iter().filter(|item| {
        let often = |choice: usize| {
            let own = usize::from(item.answer == Some(choice));
            counts.get(&key(item, choice)).copied().unwrap_or(0).saturating_sub(own)
        };
        let better = |best: usize, choice: usize| if often(choice) > often(best) { choice } else { best };
        item.answer == Some((1..item.continuations.len()).fold(0, better))
    });
    hits.count() as f64 / items.len().max(1) as f64
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
