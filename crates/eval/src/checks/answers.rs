//! Answers that can be told without the question: by their place, their length, or because they stand in the prompt.

use super::prompts::right_text;
use super::{FEWEST, Finding, Hits, NEARLY_ALWAYS, Severity, Subject, UNLIKELY, binomial_tail};
use crate::task::Formulation;
use crate::task::pose::Item;

pub(super) fn all(subject: Subject<'_>, items: &[Item]) -> Vec<Finding> {
    let mut found: Vec<Finding> = ends_the_prompt(subject, items).into_iter().collect();
    if subject.is_choice() {
        found.extend(place(subject, items));
        found.extend(length(subject, items));
        found.extend(in_the_prompt(subject, items));
    }
    found
}

/// Hits of a rule that ignores the question, judged against what a guess hits.
struct Rule {
    check: &'static str,
    problem: String,
    hits: usize,
    of: usize,
    /// What a guess hits of each, on average.
    chance: f64,
    example: String,
}

impl Rule {
    /// An error where the rule solves nearly all; a warning where chance is no explanation, among `tried` rules.
    fn judge(self, subject: Subject<'_>, tried: usize, worst: Severity, fix: &str) -> Option<Finding> {
        let Rule { check, problem, hits, of, chance, example } = self;
        let p = binomial_tail(hits, of, chance) * tried as f64;
        let share = hits as f64 / of.max(1) as f64;
        if of < FEWEST || p >= UNLIKELY {
            return None;
        }
        let severity = if share >= NEARLY_ALWAYS { worst } else { Severity::Warning };
        let mut counted = Hits::new(check);
        (counted.count, counted.of, counted.example) = (hits, of, example);
        let problem = format!("{problem}, by chance {:.1} % (p = {p:.1e})", 100.0 * chance);
        counted.with(severity, subject, &problem, fix)
    }
}

fn place(subject: Subject<'_>, items: &[Item]) -> Option<Finding> {
    let places = items.iter().map(|item| item.continuations.len()).max().unwrap_or(0);
    let count = |place: usize| items.iter().filter(|item| item.answer == Some(place)).count();
    let best = (0..places).max_by_key(|&place| (count(place), std::cmp::Reverse(place)))?;
    let with: Vec<&Item> = items.iter().filter(|item| best < item.continuations.len()).collect();
    let chance =
        with.iter().map(|item| 1.0 / item.continuations.len() as f64).sum::<f64>() / with.len().max(1) as f64;
    let example =
        with.iter().find(|item| item.answer == Some(best)).and_then(|item| right_text(item)).cloned();
    // Where options are not shown their order tells a model nothing; only ties are decided by it.
    let worst =
        if subject.formulation == Formulation::MultipleChoice { Severity::Error } else { Severity::Warning };
    Rule {
        check: "answer_by_place",
        problem: format!("the right answer is candidate {best} (from 0)"),
        hits: count(best),
        of: with.len(),
        chance,
        example: example.unwrap_or_default(),
    }
    .judge(
        subject,
        places,
        worst,
        "look at `item.answer`; if the data has this order, shuffle the candidates",
    )
}

fn length(subject: Subject<'_>, items: &[Item]) -> Vec<Finding> {
    let rule = |longest: bool| {
        let lengths = |item: &Item| -> Vec<usize> {
            let texts = if item.choices.is_empty() { &item.continuations } else { &item.choices };
            texts.iter().map(|text| text.chars().count()).collect()
        };
        // Only items with one extreme candidate say anything.
        let extreme = |item: &Item| -> Option<(usize, usize)> {
            let lengths = lengths(item);
            let end = if longest { lengths.iter().max()? } else { lengths.iter().min()? };
            let mut at = lengths.iter().enumerate().filter(|(_, length)| *length == end).map(|(i, _)| i);
            let only = at.next()?;
            at.next().is_none().then_some((only, lengths.len()))
        };
        let seen: Vec<(&Item, usize, usize)> =
            items.iter().filter_map(|item| extreme(item).map(|(at, of)| (item, at, of))).collect();
        let hit = seen.iter().filter(|(item, at, _)| item.answer == Some(*at));
        let chance = seen.iter().map(|(.., of)| 1.0 / *of as f64).sum::<f64>() / seen.len().max(1) as f64;
        Rule {
            check: if longest { "answer_is_longest" } else { "answer_is_shortest" },
            problem: format!(
                "the right answer is the {} candidate",
                if longest { "longest" } else { "shortest" }
            ),
            hits: hit.clone().count(),
            of: seen.len(),
            chance,
            example: hit.clone().next().map(|(item, ..)| item.choices.join(" | ")).unwrap_or_default(),
        }
    };
    let fix = "compare with the score of picking by length; candidates of equal length measure more";
    [true, false]
        .into_iter()
        .filter_map(|longest| rule(longest).judge(subject, 2, Severity::Error, fix))
        .collect()
}

/// The question names the right candidate and none of the others. A text that is read for its answer does so often; one
/// that always does can be solved by looking for words.
fn in_the_prompt(subject: Subject<'_>, items: &[Item]) -> Option<Finding> {
    if subject.formulation == Formulation::MultipleChoice || items.iter().any(|item| item.questions.len() > 1)
    {
        return None;
    }
    let (mut only, mut right, mut chance, mut example) = (0usize, 0usize, 0.0, String::new());
    for item in items {
        let question = item.questions.first().map(|q| q.to_lowercase()).unwrap_or_default();
        let inside = |text: &&String| has_words(&question, &text.to_lowercase());
        let mut named = item.continuations.iter().enumerate().filter(|(_, text)| inside(text));
        let (Some((at, text)), None) = (named.next(), named.next()) else { continue };
        only += 1;
        chance += 1.0 / item.continuations.len() as f64;
        if item.answer == Some(at) {
            if right == 0 {
                example = format!("{} → {text}", item.questions[0]);
            }
            right += 1;
        }
    }
    // A tenth of the items whose words give them away are no fault of the task.
    let worst =
        if only as f64 >= NEARLY_ALWAYS * items.len() as f64 { Severity::Error } else { Severity::Warning };
    let chance = chance / only.max(1) as f64;
    let problem = "the only candidate that the question names is the right one".to_owned();
    Rule { check: "answer_in_prompt", problem, hits: right, of: only, chance, example }.judge(
        subject,
        1,
        worst,
        "take the answer out of the prompt; where a text is read for it, compare with picking what the text names",
    )
}

/// The words of `needle` stand in `text`, not as parts of other words.
pub(super) fn has_words(text: &str, needle: &str) -> bool {
    let needle = needle.trim();
    let edge = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric());
    !needle.is_empty()
        && text.match_indices(needle).any(|(at, found)| {
            edge(text[..at].chars().next_back()) && edge(text[at + found.len()..].chars().next())
        })
}

/// The prompt already ends with its answer.
fn ends_the_prompt(subject: Subject<'_>, items: &[Item]) -> Option<Finding> {
    let mut hits = Hits::new("answer_ends_prompt");
    for item in items.iter().filter(|item| item.questions.len() == 1) {
        let (question, answer) =
            (item.questions[0].trim_end(), right_text(item).map_or("", |text| text.trim()));
        let before = question.strip_suffix(answer).filter(|_| !answer.is_empty());
        let bad = before.is_some_and(|before| !before.ends_with(char::is_alphanumeric));
        hits.see(bad, || format!("{question} → {answer}"));
    }
    hits.by_share(subject, "the prompt ends with the answer", "take the answer out of the prompt's template")
}
