//! What of a benchmark stands in the training data, and what that does to its score (spec PEV-10, PEV-11).
//!
//! The search itself needs the training data and lies with the command; here are the texts to look for, the record of what
//! was found, and the scores of clean and contaminated items apart.

use crate::evaluate::Sample;
use crate::stats::Score;
use crate::task::pose::Item;
use crate::task::{Formulation, Task};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Documents that are named.
pub const WORST: usize = 20;

/// Fewest items on each side of a comparison of clean and contaminated ones.
const FEWEST: usize = 5;

/// Standard errors from which a gap between clean and contaminated items is no noise: two-sided 5 %.
const GAP: f64 = 1.96;

/// What was looked through.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Searched {
    /// Shards, in order, with their documents and tokens.
    pub shards: Vec<SearchedShard>,
    /// Hash of the tokenizer that turned tokens back into text.
    pub tokenizer_hash: String,
}

/// A shard that was looked through.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SearchedShard {
    /// Its file.
    pub path: String,
    /// The source that it is in the recipe.
    pub source: String,
    /// Documents.
    pub documents: u64,
    /// Tokens.
    pub tokens: u64,
}

/// What was found of a task. A task without one was never looked for, which is not the same as clean.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Contamination {
    /// Where it was looked for.
    pub searched: Searched,
    /// One for each length of n-grams.
    pub by_n: Vec<Found>,
}

/// What was found with n-grams of one length.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// Consecutive words that must be shared.
    pub n: u32,
    /// Items.
    pub items: usize,
    /// Items too short to be looked for: neither clean nor contaminated.
    pub unchecked: usize,
    /// Items of which something was found.
    pub contaminated: usize,
    /// `contaminated` of the items that were looked for, 0 to 1.
    pub share: f64,
    /// Items whose question was found.
    pub in_question: usize,
    /// Items of which words of the right answer, or of it and the end of the question, were found.
    pub in_answer: usize,
    /// Items of which a candidate was found by itself.
    pub in_candidate: usize,
    /// Documents with anything of the task.
    pub documents: u64,
    /// The documents with most items, at most [`WORST`].
    pub worst: Vec<Document>,
    /// Each contaminated item, in the order of the benchmark.
    pub found: Vec<FoundItem>,
    /// Scores apart; none where nothing was scored or one side has fewer than five items.
    pub effect: Option<Effect>,
}

/// A document of the training data that holds items.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// The shard's file.
    pub shard: String,
    /// Its number there, as `smolt data inspect` counts.
    pub document: u64,
    /// What the input called it, where the shard kept names.
    pub source: Option<String>,
    /// Items it holds something of.
    pub items: usize,
    /// Places where their words stand.
    pub places: usize,
    /// One of the items.
    pub example: String,
    /// The words that it shares.
    pub excerpt: String,
}

/// An item that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundItem {
    /// Of the item.
    pub id: String,
    /// Row in the split: the same in every formulation.
    pub row: usize,
    /// Documents that share words of its question.
    pub question: u64,
    /// Of its right answer.
    pub answer: u64,
    /// Of a candidate.
    pub candidate: u64,
}

/// Clean and contaminated items scored apart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    /// The score.
    pub metric: String,
    /// Items of which nothing was found, those too short to be looked for among them.
    pub clean: Score,
    /// The others.
    pub contaminated: Score,
    /// contaminated − clean.
    pub difference: f64,
    /// Its standard error; clusters that lie on both sides are paired in it.
    pub difference_stderr: f64,
    /// All items − clean items, the same items on both sides: what contamination adds to the score, if contaminated items
    /// are as hard as the others.
    pub inflation: f64,
    /// Its standard error.
    pub inflation_stderr: f64,
    /// Contaminated items score higher than clean ones by more than the error.
    pub inflated: bool,
}

/// What of an item is looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts {
    /// The question in each of its wordings, without the words of the templates around it.
    pub questions: Vec<String>,
    /// The right answer; with the end of a question before it.
    pub answer: String,
    /// Every candidate, the right one among them; none where they lie in the question.
    pub candidates: Vec<String>,
}

/// The formulation whose questions hold least besides the benchmark's own words.
pub fn plainest(task: &Task) -> Option<Formulation> {
    let has = task.formulations();
    [Formulation::Cloze, Formulation::Generation, Formulation::MultipleChoice]
        .into_iter()
        .find(|f| has.contains(f))
}

/// The texts of an item posed in the [`plainest`] formulation.
pub fn texts(task: &Task, formulation: Formulation, item: &Item) -> Texts {
    let own = match formulation {
        Formulation::Generation => task.generation.as_ref().and_then(|form| form.prompt.as_ref()),
        Formulation::MultipleChoice => task.multiple_choice.as_ref().map(|form| &form.prompt),
        Formulation::Cloze => None,
    };
    let template = own.unwrap_or(&task.item.prompt);
    let plain = item.questions.get(item.answer.unwrap_or(0)).or(item.questions.first());
    let chat = item.chat_question.as_ref().zip(task.item.chat_prompt.as_ref());
    let wordings = plain.map(|text| (text, template)).into_iter().chain(chat);
    let mut questions: Vec<String> =
        wordings.map(|(text, template)| without_template(text, template).to_owned()).collect();
    questions.dedup();
    let answer = match item.answer {
        Some(right) => item.continuations.get(right).cloned(),
        None => Some(item.target.clone()),
    };
    let candidates = match formulation {
        // The candidates lie in the question: all but a word of theirs is the question's.
        _ if item.questions.len() > 1 => Vec::new(),
        // What stands after the prompt are letters.
        Formulation::MultipleChoice => item.choices.clone(),
        _ => item.continuations.clone(),
    };
    Texts { questions, answer: answer.unwrap_or_default(), candidates }
}

/// A rendered text without the words that the template puts before and after the benchmark's own.
pub(crate) fn without_template<'t>(text: &'t str, template: &str) -> &'t str {
    let tags = ["{{", "{%", "{#"];
    let before = tags.iter().filter_map(|tag| template.find(tag)).min().map_or("", |at| &template[..at]);
    let ends = ["}}", "%}", "#}"];
    let after = ends.iter().filter_map(|tag| template.rfind(tag)).max().map_or("", |at| &template[at + 2..]);
    let text = text.strip_prefix(before).unwrap_or(text);
    text.strip_suffix(after).unwrap_or(text).trim()
}

impl Contamination {
    /// The same with the scores of clean and contaminated items apart.
    pub fn with_effect(mut self, metric: &str, samples: &[Sample]) -> Contamination {
        for found in &mut self.by_n {
            let rows: BTreeSet<usize> = found.found.iter().map(|item| item.row).collect();
            found.effect = effect(metric, samples, &rows);
        }
        self
    }

    /// The share for a table: of the longest n-grams, which say most.
    pub fn summary(&self) -> String {
        let percent = |found: &Found| format!("{:.1} % ({} words)", 100.0 * found.share, found.n);
        self.by_n.iter().max_by_key(|found| found.n).map_or_else(|| "not measured".into(), percent)
    }
}

/// Scores of the items in `rows` and of the others, and how far apart they are. None where a side has too few items or
/// the score is missing.
pub fn effect(metric: &str, samples: &[Sample], rows: &BTreeSet<usize>) -> Option<Effect> {
    let values: Vec<(f64, bool, Option<&str>)> = samples
        .iter()
        .filter_map(|s| Some((*s.values.get(metric)?, rows.contains(&s.row), s.cluster.as_deref())))
        .filter(|(value, ..)| value.is_finite())
        .collect();
    let side = |wanted: bool| values.iter().filter(move |(_, dirty, _)| *dirty == wanted);
    let (clean, dirty) = (Side::of(side(false).map(|v| v.0)), Side::of(side(true).map(|v| v.0)));
    if clean.n < FEWEST || dirty.n < FEWEST {
        return None;
    }
    let clustered = values.iter().all(|(.., cluster)| cluster.is_some());
    let difference = dirty.mean - clean.mean;
    let stderr = match clustered {
        true => clustered_error(&values, &clean, &dirty),
        false => (clean.variance_of_mean() + dirty.variance_of_mean()).sqrt(),
    };
    let share = dirty.n as f64 / values.len() as f64;
    let score = |wanted: bool| {
        let (values, clusters): (Vec<f64>, Vec<Option<&str>>) = side(wanted).map(|v| (v.0, v.2)).unzip();
        let clusters: Vec<&str> = clusters.into_iter().flatten().filter(|_| clustered).collect();
        Score::fitting(&values, &clusters)
    };
    Some(Effect {
        metric: metric.to_owned(),
        clean: score(false),
        contaminated: score(true),
        difference,
        difference_stderr: stderr,
        inflation: share * difference,
        inflation_stderr: share * stderr,
        inflated: difference > GAP * stderr,
    })
}

/// One side of a comparison.
struct Side {
    n: usize,
    mean: f64,
    squares: f64,
    binary: bool,
}

impl Side {
    fn of(values: impl Iterator<Item = f64> + Clone) -> Side {
        let n = values.clone().count();
        let mean = values.clone().sum::<f64>() / n.max(1) as f64;
        let squares = values.clone().map(|v| (v - mean) * (v - mean)).sum();
        let mut values = values;
        Side { n, mean, squares, binary: values.all(|v| v == 0.0 || v == 1.0) }
    }

    /// Of a share with one success and one failure added (Agresti and Caffo, 2000): five of five is no certainty.
    fn variance_of_mean(&self) -> f64 {
        let n = self.n as f64;
        match self.binary {
            true => {
                let p = (self.mean * n + 1.0) / (n + 2.0);
                p * (1.0 - p) / (n + 2.0)
            }
            false => self.squares / (n - 1.0) / n,
        }
    }
}

/// The error of a difference of two means whose items come in clusters, also across the two: each cluster's pull on the
/// difference is summed before it is squared.
fn clustered_error(values: &[(f64, bool, Option<&str>)], clean: &Side, dirty: &Side) -> f64 {
    let mut pulls: BTreeMap<&str, f64> = BTreeMap::new();
    for (value, is_dirty, cluster) in values {
        let pull = match is_dirty {
            true => (value - dirty.mean) / dirty.n as f64,
            false => -(value - clean.mean) / clean.n as f64,
        };
        *pulls.entry(cluster.unwrap_or_default()).or_default() += pull;
    }
    let g = pulls.len() as f64;
    (g / (g - 1.0).max(1.0) * pulls.values().map(|pull| pull * pull).sum::<f64>()).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(row: usize, value: f64, cluster: Option<String>) -> Sample {
        let item = Item { row, cluster, ..Item::asking("q") };
        let mut sample = crate::evaluate::sample(&item, String::new());
        sample.values.insert("accuracy".into(), value);
        sample
    }

    #[test]
    fn clean_and_contaminated_items_are_scored_apart() {
        // 40 of 100 clean items are right, 18 of 20 contaminated ones.
        let samples: Vec<Sample> = (0..120)
            .map(|i| sample(i, f64::from(u8::from(if i < 100 { i % 5 < 2 } else { i % 10 > 0 })), None))
            .collect();
        let effect = effect("accuracy", &samples, &(100..120).collect()).unwrap();
        assert!((effect.clean.value - 0.4).abs() < 1e-12 && (effect.contaminated.value - 0.9).abs() < 1e-12);
        assert!((effect.difference - 0.5).abs() < 1e-12 && effect.inflated);
        // Agresti and Caffo: p = 41/102 and 19/22.
        let want = (41.0 / 102.0 * (61.0 / 102.0) / 102.0 + 19.0 / 22.0 * (3.0 / 22.0) / 22.0f64).sqrt();
        assert!((effect.difference_stderr - want).abs() < 1e-12);
        // All items: (40 + 18)/120 − 0.4.
        assert!((effect.inflation - (58.0 / 120.0 - 0.4)).abs() < 1e-12);
        assert!((effect.inflation_stderr - want / 6.0).abs() < 1e-12);
        assert!(super::effect("accuracy", &samples, &(116..120).collect()).is_none(), "four are too few");
        assert!(super::effect("other", &samples, &(100..120).collect()).is_none());
        let all_right: Vec<Sample> = (0..12).map(|i| sample(i, 1.0, None)).collect();
        let same = super::effect("accuracy", &all_right, &(0..6).collect()).unwrap();
        assert!(!same.inflated && same.difference_stderr > 0.1, "no certainty from six of six");
    }

    #[test]
    fn copies_in_a_cluster_add_nothing() {
        let of = |copies: usize| {
            let row = |i: usize| i / copies;
            let samples: Vec<Sample> = (0..60 * copies)
                .map(|i| sample(i, f64::from((row(i) % 7) as u8) / 6.0, Some(row(i).to_string())))
                .collect();
            effect("accuracy", &samples, &(0..20 * copies).collect()).unwrap()
        };
        assert!((of(1).difference_stderr - of(4).difference_stderr).abs() < 1e-12);
    }

    #[test]
    fn every_wording_of_a_question_is_looked_for() {
        let mut task = crate::task::builtin("tinytown", &[]).unwrap();
        task.item.chat_prompt = Some("Tell me: {{ question }}".into());
        let plain =
            Item { answers: vec!["red".into()], target: "red".into(), ..Item::asking("Where is the hat?") };
        let asked = |chat: &str| Item { chat_question: Some(chat.into()), ..plain.clone() };
        let of = |item: &Item| texts(&task, Formulation::Cloze, item).questions;
        assert_eq!(of(&plain), ["Where is the hat?"]);
        assert_eq!(of(&asked("Tell me: Who has the hat?")), ["Where is the hat?", "Who has the hat?"]);
        assert_eq!(of(&asked("Tell me: Where is the hat?")), ["Where is the hat?"], "once");
    }

    #[test]
    fn the_template_is_not_part_of_a_question() {
        assert_eq!(without_template("Question: What?\nAnswer:", "Question: {{ q }}\nAnswer:"), "What?");
        assert_eq!(without_template("What?", "{{ q }}"), "What?");
        assert_eq!(without_template("plain", "plain"), "plain");
        assert_eq!(without_template("A: x B: y", "A: {{ a }} B: {% if b %}{{ b }}{% endif %}"), "x B: y");
    }

    proptest::proptest! {
        #[test]
        fn any_template_is_taken_off_without_panic(text in "\\PC{0,30}", template in "([{}%#]|\\PC){0,30}") {
            proptest::prop_assert!(text.contains(without_template(&text, &template)));
        }
    }
}
