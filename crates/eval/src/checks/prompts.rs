//! Prompts before anything is asked.

use super::answers;
use super::{Finding, Hits, Severity, Subject, spaced};
use crate::task::pose::{Item, Shot};
use crate::task::{Formulation, Task};
use std::collections::{BTreeMap, BTreeSet};

/// A tokenizer, and room for what is read: prompts are checked as tokens where there is one.
pub trait Reader {
    /// The bytes of each token of `text`.
    fn pieces(&self, text: &str) -> Vec<Vec<u8>>;
    /// Most tokens of a prompt with its answer.
    fn context_length(&self) -> usize;
}

/// Checks the items of a task as they are put to a model without a chat template.
pub fn prompts(
    task: &Task,
    formulation: Formulation,
    items: &[Item],
    reader: Option<&dyn Reader>,
) -> Vec<Finding> {
    let subject = Subject { task, formulation };
    let mut found: Vec<Finding> = Vec::new();
    found.extend(missing_space(subject, items));
    found.extend(unlike_examples(subject, items));
    found.extend(doubled_space(subject, items));
    found.extend(ends_in_space(subject, items));
    found.extend(leftovers(subject, items));
    found.extend(empty(subject, items));
    found.extend(contradictions(subject, items));
    found.extend(duplicates(subject, items));
    found.extend(examples_among_items(subject, items));
    found.extend(answers::all(subject, items));
    if let Some(reader) = reader {
        found.extend(too_long(subject, items, reader));
        found.extend(torn_words(subject, items, reader));
    }
    found
}

/// What follows the prompt: each candidate, or the answer that examples show.
fn continuations(item: &Item) -> &[String] {
    if item.continuations.is_empty() { std::slice::from_ref(&item.target) } else { &item.continuations }
}

/// The prompt's own question and every text that may follow it, delimiter included.
fn joins(item: &Item) -> impl Iterator<Item = (&str, String)> {
    continuations(item).iter().enumerate().map(|(i, text)| {
        let question = item.questions.get(i).or(item.questions.first()).map_or("", String::as_str);
        (question, format!("{}{text}", item.delimiter))
    })
}

/// A letter that stands where a space is due: after a letter, or after the mark that ends a question.
fn grown_together(before: &str, after: &str) -> bool {
    let (Some(last), Some(first)) = (before.chars().next_back(), after.chars().next()) else { return false };
    let ends_a_word = last.is_alphanumeric() || ":.?!,;)]}%".contains(last);
    ends_a_word && first.is_alphanumeric() && spaced(last) && spaced(first)
}

fn missing_space(subject: Subject<'_>, items: &[Item]) -> Option<Finding> {
    let mut hits = Hits::new("missing_space");
    for item in items {
        let bad = joins(item).find(|(question, after)| grown_together(question, after));
        hits.see(bad.is_some(), || bad.map(|(q, a)| format!("{q}{a}")).unwrap_or_default());
    }
    let fix = format!(
        "set the delimiter of [{}] to \" \", or end the prompt where a word may begin; see `smolt eval prompts`",
        subject.formulation.name()
    );
    hits.by_share(subject, "no space between prompt and answer", &fix)
}

/// How question and answer meet: with white space or without.
fn meets_with_space(question: &str, after: &str) -> bool {
    question.ends_with(char::is_whitespace) || after.starts_with(char::is_whitespace)
}

/// The examples teach another way of going on than the question asks for.
fn unlike_examples(subject: Subject<'_>, items: &[Item]) -> Option<Finding> {
    let mut hits = Hits::new("unlike_examples");
    for item in items.iter().filter(|item| !item.shots.is_empty()) {
        let of_shot =
            |shot: &Shot| meets_with_space(&shot.question, &format!("{}{}", item.delimiter, shot.answer));
        let shots: Vec<bool> = item.shots.iter().map(of_shot).collect();
        let own: Vec<bool> = joins(item).map(|(q, a)| meets_with_space(q, &a)).collect();
        let differs =
            shots.iter().all(|s| *s == shots[0]) && own.iter().all(|o| *o != shots[0]) && !own.is_empty();
        hits.see(differs, || {
            let shot = &item.shots[0];
            format!("{}{}{}{}{}", shot.question, item.delimiter, shot.answer, item.separator, item.prompt(0))
        });
    }
    let fix = "let examples and question use the same template and columns of the same spelling";
    hits.by_share(subject, "question and answer meet otherwise than in the examples", fix)
}

fn doubled_space(subject: Subject<'_>, items: &[Item]) -> Vec<Finding> {
    let mut joint = Hits::new("doubled_space");
    let mut inside = Hits::new("doubled_space_inside");
    for item in items {
        let bad = joins(item)
            .find(|(q, a)| q.ends_with(' ') && a.starts_with(' ') || q.is_empty() && a.starts_with("  "));
        joint.see(bad.is_some(), || bad.map(|(q, a)| format!("{q}{a}")).unwrap_or_default());
        // Spaces at the beginning of a line are indentation.
        let line = item.wordings().flat_map(|q| q.lines()).find(|line| line.trim_start().contains("  "));
        inside.see(line.is_some(), || line.unwrap_or_default().to_owned());
    }
    let fix = "end the prompt without white space, or make the delimiter empty";
    let of_rows =
        "clean the column in the template, as with `| replace('  ', ' ')`, if its source has it by mistake";
    [
        joint.by_share(subject, "two spaces between prompt and answer", fix),
        inside.with(Severity::Warning, subject, "two spaces within a line of the question", of_rows),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A model that writes begins with a space itself; after one it must begin with a token that it has hardly seen there.
fn ends_in_space(subject: Subject<'_>, items: &[Item]) -> Option<Finding> {
    let mut hits = Hits::new("prompt_ends_in_space");
    for item in items {
        let bad = item.wordings().find(|q| q.ends_with([' ', '\t']));
        hits.see(bad.is_some(), || format!("{}⏎", bad.map_or("", String::as_str)));
    }
    let problem = "the prompt ends in white space";
    let fix = "take the space from the end of the prompt and put it into the delimiter";
    match subject.formulation {
        Formulation::Generation => hits.by_share(subject, problem, fix),
        // Candidates are scored with the space that stands before them.
        _ => hits.with(Severity::Warning, subject, problem, fix),
    }
}

/// A text that is left where a column's value should be.
fn is_leftover(text: &str) -> bool {
    let value = text.trim().rsplit_once(": ").map_or(text.trim(), |(_, value)| value.trim());
    ["None", "nan", "NaN", "undefined", "null"].contains(&value)
}

/// `{{ name }}` or `{% for … %}`; braces alone are also mathematics.
fn has_tag(text: &str) -> bool {
    let tag = |open: &str, close: &str, first: fn(char) -> bool| {
        text.match_indices(open).any(|(at, _)| {
            let inside = text[at + open.len()..].trim_start_matches(['-', ' ']);
            let end = inside.find(close);
            let simple = |c: char| c.is_alphanumeric() || " _.|-()'\",[]".contains(c);
            end.is_some_and(|end| inside.starts_with(first) && inside[..end].chars().all(simple) && end < 100)
        })
    };
    tag("{{", "}}", |c| c.is_alphabetic() || c == '_') && !text.contains('\\') && !text.contains('$')
        || tag("{%", "%}", char::is_alphabetic)
}

fn leftovers(subject: Subject<'_>, items: &[Item]) -> Option<Finding> {
    let mut hits = Hits::new("template_leftovers");
    for item in items {
        let lines = item.wordings().chain(&item.answers).chain([&item.target]).flat_map(|text| text.lines());
        let bad = lines.clone().find(|line| is_leftover(line)).or_else(|| {
            item.wordings().chain(&item.continuations).map(String::as_str).find(|text| has_tag(text))
        });
        // One "None" is an option as others are; all of them are none.
        let bad = bad.or_else(|| {
            let all = !item.choices.is_empty() && item.choices.iter().all(|choice| is_leftover(choice));
            all.then(|| item.choices[0].as_str())
        });
        hits.see(bad.is_some(), || bad.unwrap_or_default().to_owned());
    }
    let fix = "correct the name of the column in the template, or leave such rows out with dataset.filter";
    hits.by_share(subject, "None, nan, undefined or a template's tag where a value should be", fix)
}

fn empty(subject: Subject<'_>, items: &[Item]) -> Option<Finding> {
    let mut hits = Hits::new("empty_question");
    let template = match (subject.formulation, &subject.task.generation) {
        (Formulation::Generation, Some(form)) => form.prompt.as_ref().unwrap_or(&subject.task.item.prompt),
        _ => &subject.task.item.prompt,
    };
    for item in items {
        let own = |question: &String| crate::contamination::without_template(question, template).is_empty();
        let bad = item.questions.is_empty() || item.questions.iter().any(own);
        hits.see(bad, || format!("item {}: {:?}", item.id, item.questions.first()));
    }
    let fix = "correct the template's columns, or leave such rows out with dataset.filter";
    hits.by_share(subject, "questions without words of their own", fix)
}

/// What an item asks, whatever its order of candidates.
fn asked(item: &Item) -> (&[String], BTreeSet<&str>) {
    (&item.questions, item.continuations.iter().map(String::as_str).collect())
}

fn right(item: &Item) -> BTreeSet<&str> {
    match item.answer {
        Some(answer) => item.continuations.get(answer).map(String::as_str).into_iter().collect(),
        None => item.answers.iter().map(String::as_str).collect(),
    }
}

fn contradictions(subject: Subject<'_>, items: &[Item]) -> Option<Finding> {
    let mut first: BTreeMap<_, &Item> = BTreeMap::new();
    let mut hits = Hits::new("same_prompt_other_answer");
    for item in items {
        let before = *first.entry(asked(item)).or_insert(item);
        let (a, b) = (right(before), right(item));
        hits.see(a.is_disjoint(&b), || {
            let list = |texts: &BTreeSet<&str>| texts.iter().copied().collect::<Vec<_>>().join(" | ");
            format!("items {} ({}) and {} ({})", before.id, list(&a), item.id, list(&b))
        });
    }
    let fix = "look whether the template leaves out a column that tells them apart, or the labels are wrong";
    hits.by_share(subject, "the same prompt and candidates with another right answer", fix)
}

fn duplicates(subject: Subject<'_>, items: &[Item]) -> Option<Finding> {
    let mut first: BTreeMap<_, usize> = BTreeMap::new();
    let mut hits = Hits::new("duplicated_items");
    for (at, item) in items.iter().enumerate() {
        // Copies may share their id.
        let before = *first.entry((asked(item), right(item))).or_insert(at);
        hits.see(before != at, || format!("items {} and {}: {}", items[before].id, item.id, item.prompt(0)));
    }
    let fix = "remove the copies: they make the error smaller than it is";
    hits.by_share(subject, "items that occur twice", fix)
}

fn examples_among_items(subject: Subject<'_>, items: &[Item]) -> Option<Finding> {
    let example = |question: &str, answer: &str| format!("{question}\0{answer}");
    let own = |item: &Item| -> Option<String> {
        let at = item.answer.unwrap_or(0).min(item.questions.len().saturating_sub(1));
        let answer = right_text(item)?;
        Some(example(item.questions.get(at)?, answer))
    };
    let all: BTreeSet<String> = items.iter().filter_map(own).collect();
    // Without a split of their own, examples are other items by design.
    let apart =
        subject.task.dataset.few_shot_split.as_ref().is_some_and(|s| *s != subject.task.dataset.split);
    let mut hits = Hits::new("examples_are_items");
    for item in items.iter().filter(|item| !item.shots.is_empty()) {
        let itself = own(item);
        let bad = item.shots.iter().find(|shot| {
            let shown = example(&shot.question, &shot.answer);
            itself.as_ref() == Some(&shown) || apart && all.contains(&shown)
        });
        hits.see(bad.is_some(), || bad.map(|s| format!("{} → {}", s.question, s.answer)).unwrap_or_default());
    }
    let fix = "take examples from another split, or remove the rows that both splits have";
    hits.by_share(subject, "examples that are items of the benchmark, with their answers", fix)
}

pub(super) fn right_text(item: &Item) -> Option<&String> {
    match item.answer {
        Some(answer) => item.continuations.get(answer),
        None => Some(&item.target),
    }
}

fn too_long(subject: Subject<'_>, items: &[Item], reader: &dyn Reader) -> Option<Finding> {
    let mut hits = Hits::new("over_the_context");
    let writes =
        subject.task.generation.as_ref().filter(|_| !subject.is_choice()).map(|form| form.max_tokens);
    for item in items {
        let (mut most, mut at) = (0, 0);
        for i in 0..item.questions.len() {
            // The longest question; its tokens are counted once.
            if item.questions[i].len() > item.questions[at].len() {
                at = i;
            }
        }
        let longest = item.continuations.iter().max_by_key(|text| text.len());
        let text = format!("{}{}{}", item.prompt(at), item.delimiter, longest.map_or("", String::as_str));
        // A token is at least a byte: most prompts need not be counted.
        if text.len() + writes.unwrap_or(0) > reader.context_length() {
            most = reader.pieces(&text).len() + writes.unwrap_or(0);
        }
        let over = most > reader.context_length();
        hits.see(over, || format!("item {}: {most} tokens for {}", item.id, reader.context_length()));
    }
    let fix = "fewer examples (--few-shot), or a model with a longer context: prompts are cut from the left";
    hits.by_share(subject, "prompts that do not fit the context with their answers", fix)
}

/// Each candidate must begin with a token of its own.
fn torn_words(subject: Subject<'_>, items: &[Item], reader: &dyn Reader) -> Option<Finding> {
    let mut hits = Hits::new("answer_within_a_token");
    for item in items {
        let torn = joins(item).take(4).find_map(|(question, after)| {
            // The words before the answer decide how it is cut into tokens.
            let line = question.rsplit('\n').next().unwrap_or(question);
            let text = format!("{line}{after}");
            let pieces = reader.pieces(&text);
            let end = line.trim_end().len();
            torn_at(&text, end, &pieces).map(|piece| format!("{text} (token {piece:?})"))
        });
        hits.see(torn.is_some(), || torn.unwrap_or_default());
    }
    let fix = "put a space or the end of a line between prompt and answer";
    hits.by_share(subject, "a token reaches from the prompt into the answer", fix)
}

/// The token that holds bytes before and letters behind byte `end` of the text.
fn torn_at(text: &str, end: usize, pieces: &[Vec<u8>]) -> Option<String> {
    // A tokenizer that changes the text cannot be followed through it.
    if pieces.concat() != text.as_bytes() {
        return None;
    }
    let mut start = 0;
    for piece in pieces {
        let behind = start + piece.len();
        if behind > end {
            let letters = text.get(end..behind)?.chars().any(char::is_alphanumeric);
            return (start < end && letters).then(|| String::from_utf8_lossy(piece).into_owned());
        }
        start = behind;
    }
    None
}
