//! The score so far, for the progress bar: of the items that are answered, in whatever order answers come.

use crate::model::Continuation;
use crate::score::choice::pick;
use crate::task::pose::Item;
use std::collections::BTreeMap;

/// A mean that grows.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mean {
    sum: f64,
    n: usize,
}

impl Mean {
    pub(crate) fn add(&mut self, value: f64) {
        self.sum += value;
        self.n += 1;
    }

    /// `None` before the first.
    pub(crate) fn value(&self) -> Option<f64> {
        (self.n > 0).then(|| self.sum / self.n as f64)
    }
}

/// Accuracy over items whose candidates have been scored.
pub(crate) struct Candidates<'i> {
    items: &'i [Item],
    /// The score that is shown.
    metric: &'i str,
    /// Item of each request, and which of its questions it is.
    owners: Vec<(usize, usize)>,
    /// What came of items that are asked in several requests.
    waiting: BTreeMap<usize, Vec<Option<Continuation>>>,
    mean: Mean,
}

impl<'i> Candidates<'i> {
    /// Of items that are asked in order, each in as many requests as it has questions.
    pub(crate) fn new(items: &'i [Item], metric: &'i str) -> Self {
        let owners =
            items.iter().enumerate().flat_map(|(at, item)| (0..item.questions.len()).map(move |i| (at, i)));
        Candidates {
            items,
            metric,
            owners: owners.collect(),
            waiting: BTreeMap::new(),
            mean: Mean::default(),
        }
    }

    /// Takes up the answer of a request; others than those of the items do not count.
    pub(crate) fn hear(&mut self, request: usize, answer: &[Continuation]) {
        let Some(&(at, part)) = self.owners.get(request) else { return };
        let item = &self.items[at];
        if item.questions.len() == 1 {
            return self.judge(item, answer);
        }
        let parts = self.waiting.entry(at).or_insert_with(|| vec![None; item.questions.len()]);
        parts[part] = answer.first().cloned();
        if let Some(whole) = parts.iter().cloned().collect::<Option<Vec<_>>>() {
            self.waiting.remove(&at);
            self.judge(item, &whole);
        }
    }

    fn judge(&mut self, item: &Item, scored: &[Continuation]) {
        let picked = pick(item, scored, None).picks;
        if let Some((_, choice)) = picked.iter().find(|(by, _)| by.metric() == self.metric) {
            self.mean.add(f64::from(u8::from(Some(*choice) == item.answer)));
        }
    }

    pub(crate) fn value(&self) -> Option<f64> {
        self.mean.value()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_count_when_all_their_requests_are_answered() {
        let likely = |log_likelihood| Continuation { log_likelihood, tokens: 1, greedy: false };
        let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        let one = Item {
            continuations: texts(&["a", "b"]),
            choices: texts(&["a", "b"]),
            answer: Some(1),
            ..Item::asking("q")
        };
        let two = Item { questions: texts(&["q a", "q b"]), answer: Some(0), ..one.clone() };
        let items = [one, two];
        let mut so_far = Candidates::new(&items, "accuracy");
        assert_eq!(so_far.value(), None);
        so_far.hear(2, &[likely(-2.0)]);
        assert_eq!(so_far.value(), None, "half of the second item");
        so_far.hear(0, &[likely(-3.0), likely(-1.0)]);
        assert_eq!(so_far.value(), Some(1.0));
        so_far.hear(1, &[likely(-4.0)]);
        assert_eq!(so_far.value(), Some(0.5), "the second picks its second candidate, which is wrong");
        so_far.hear(3, &[likely(0.0)]);
        assert_eq!(so_far.value(), Some(0.5), "not one of the items'");
    }
}
