//! Extraction of answers from what was written: by the accepted answers themselves, and by samples.

use super::answers::has_words;
use super::{FEWEST, Finding, Hits, NEARLY_ALWAYS, SIGMA, SYSTEMATIC, Severity, Subject};
use crate::evaluate::{Sample, Written};
use crate::model::stop::cut_at_stop;
use crate::score::generation::{Judge, Judged};
use crate::score::reasoning::{self, Reasoning};
use crate::task::pose::Item;
use crate::task::{Compare, Formulation, Generation, Task};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Share of the wrong answers that hold the right one, from which the extraction is at fault.
const HELD_BY_WRONG: f64 = 0.3;

/// Checks that accepted answers are judged right when they are written as they are.
pub fn gold(task: &Task, items: &[Item]) -> Vec<Finding> {
    let subject = Subject { task, formulation: Formulation::Generation };
    let Some(form) = &task.generation else { return Vec::new() };
    // A task whose expressions do not compile was refused when it was read.
    let Ok(judge) = Judge::new(form) else { return Vec::new() };
    let mut found: Vec<Finding> = Vec::new();
    found.extend(targets(subject, &judge, items));
    found.extend(accepted(subject, form, &judge, items));
    found.extend(vanishing(subject, form, &judge, items));
    found.extend(stops(subject, form, &judge, items));
    found
}

/// Judged right under a metric: a text equal to an accepted answer scores all there is.
fn right(judged: &[Judged]) -> impl Iterator<Item = bool> {
    judged.iter().map(|judged| judged.value > 1.0 - 1e-9)
}

/// What examples show must be right under every extraction: a model that copies their form is judged by it.
fn targets(subject: Subject<'_>, judge: &Judge, items: &[Item]) -> Option<Finding> {
    let mut hits = Hits::new("target_judged_wrong");
    for item in items {
        // Some benchmarks show reasoning in examples only (MMLU-Pro): then the bare answers are all there is.
        let target = Some(&item.target).filter(|target| !target.trim().is_empty());
        let Some(target) = target else { continue };
        let judged = judge.judge(target, &item.answers);
        let wrong = right(&judged).position(|right| !right).map(|at| &judged[at]);
        hits.see(wrong.is_some(), || wrong.map(|judged| shown(target, judged)).unwrap_or_default());
        // Examples do not bring the bare answer along, but there must be one to find.
        for shot in item.shots.iter() {
            let judged = judge.judge(&shot.answer, &item.answers);
            let nothing = judged.iter().find(|judged| judged.extracted.is_none());
            hits.see(nothing.is_some(), || {
                nothing.map(|judged| shown(&shot.answer, judged)).unwrap_or_default()
            });
        }
    }
    let fix = "correct extract.regex and normalise, or generation.target, so that the target is judged right";
    hits.by_share(subject, "the target itself is judged wrong", fix)
}

fn shown(text: &str, judged: &Judged) -> String {
    let found = judged.extracted.as_ref().map_or("nothing".into(), |found| format!("{found:?}"));
    format!("{text:?}: {} finds {found}", judged.metric)
}

fn accepted(subject: Subject<'_>, form: &Generation, judge: &Judge, items: &[Item]) -> Option<Finding> {
    // Of several that must all occur, one alone is not the answer; a bare answer need not have the form to extract from.
    // Without a list, the target is all that is accepted, and checked as such.
    if form.metric == Compare::ContainsAll || !form.extract.is_empty() || form.answers.is_none() {
        return None;
    }
    let mut hits = Hits::new("accepted_judged_wrong");
    for (item, answer) in items.iter().flat_map(|item| item.answers.iter().map(move |a| (item, a))) {
        let judged = judge.judge(answer, &item.answers);
        hits.see(!right(&judged).any(|right| right), || {
            judged.first().map(|judged| shown(answer, judged)).unwrap_or_default()
        });
    }
    let fix = "correct generation.answers or normalise, so that every accepted answer is judged right";
    hits.by_share(subject, "an accepted answer is judged wrong", fix)
}

/// An answer of which normalisation leaves nothing is equal to any other such text, the empty one first.
/// What an extraction finds is not empty, so that an answer that was empty before does no harm there.
fn vanishing(subject: Subject<'_>, form: &Generation, judge: &Judge, items: &[Item]) -> Option<Finding> {
    let mut hits = Hits::new("answer_vanishes");
    for answer in items.iter().flat_map(|item| &item.answers) {
        let harmful = form.extract.is_empty() || !answer.trim().is_empty();
        hits.see(harmful && judge.normalised(answer).trim().is_empty(), || format!("{answer:?}"));
    }
    let fix = "forgive less in normalise, or leave such rows out with dataset.filter";
    hits.by_share(subject, "normalisation leaves nothing of an accepted answer", fix)
}

/// A target that is cut at a stop string and then judged wrong cannot be written.
fn stops(subject: Subject<'_>, form: &Generation, judge: &Judge, items: &[Item]) -> Option<Finding> {
    let mut hits = Hits::new("stop_within_target");
    for item in items {
        let target = &item.target;
        // A model that follows the examples writes the delimiter too.
        let mut text = format!("{}{target}", item.delimiter);
        let bad = cut_at_stop(&mut text, &form.stop)
            && right(&judge.judge(target, &item.answers))
                .zip(right(&judge.judge(&text, &item.answers)))
                .any(|(a, b)| a && !b);
        hits.see(bad, || format!("{target:?} becomes {text:?}"));
    }
    let fix = "take the string out of generation.stop, or another delimiter";
    hits.by_share(subject, "a stop string cuts the target short", fix)
}

/// Checks what was written and how it was judged, under the score that speaks for the task.
pub fn written(task: &Task, samples: &[Sample]) -> Vec<Finding> {
    let subject = Subject { task, formulation: Formulation::Generation };
    let Some(form) = &task.generation else { return Vec::new() };
    let Ok(judge) = Judge::new(form) else { return Vec::new() };
    let primary = task.primary(Formulation::Generation);
    let answers: Vec<Answer<'_>> = samples
        .iter()
        .flat_map(|sample| sample.written.iter().map(move |written| (sample, written)))
        // Reasoning that never ended is a finding of its own; there is nothing in it to extract.
        .filter(|(_, written)| written.reasoning != Reasoning::Unclosed)
        .filter_map(|(sample, written)| {
            let judged = written.judged.iter().find(|judged| judged.metric == primary)?;
            Some(Answer { sample, text: answer(sample, written), judged })
        })
        .collect();
    if answers.len() < FEWEST {
        return Vec::new();
    }
    [
        nothing_found(subject, &answers),
        always_the_same(subject, &answers),
        right_but_judged_wrong(subject, form, &judge, &answers),
    ]
    .into_iter()
    .flatten()
    .collect()
}

struct Answer<'s> {
    sample: &'s Sample,
    /// What was judged.
    text: Cow<'s, str>,
    judged: &'s Judged,
}

/// What was written without its reasoning, where that was cut off.
fn answer<'s>(sample: &Sample, written: &'s Written) -> Cow<'s, str> {
    let text = &written.generated.text;
    match written.reasoning {
        Reasoning::Absent => Cow::Borrowed(text),
        _ => Cow::Owned(reasoning::split_after(&sample.prompt, text).answer),
    }
}

impl Answer<'_> {
    fn text(&self) -> &str {
        &self.text
    }

    fn shown(&self) -> String {
        format!(
            "item {}: {}; accepted {:?}",
            self.sample.id,
            shown(self.text(), self.judged),
            self.sample.answers
        )
    }
}

fn nothing_found(subject: Subject<'_>, answers: &[Answer<'_>]) -> Option<Finding> {
    let mut hits = Hits::new("nothing_extracted");
    for answer in answers {
        let text = answer.text().trim();
        hits.see(answer.judged.extracted.is_none() && !text.is_empty(), || answer.shown());
    }
    let share = hits.share();
    let severity = if share > 0.5 { Severity::Error } else { Severity::Warning };
    let fix = "read the answers: correct extract.regex, or show the form of an answer in examples";
    hits.with(severity, subject, "the extraction finds nothing in answers", fix)
        .filter(|_| share >= SYSTEMATIC)
}

/// The most frequent of some texts, and how often it is there.
fn most_frequent<'a>(texts: impl Iterator<Item = &'a str>) -> (&'a str, usize) {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    texts.for_each(|text| *counts.entry(text).or_default() += 1);
    counts.into_iter().fold(("", 0), |best, next| if next.1 > best.1 { next } else { best })
}

fn always_the_same(subject: Subject<'_>, answers: &[Answer<'_>]) -> Option<Finding> {
    let (same, count) = most_frequent(answers.iter().filter_map(|a| a.judged.extracted.as_deref()));
    let (_, gold) =
        most_frequent(answers.iter().filter_map(|a| a.sample.answers.first().map(String::as_str)));
    let (_, written) = most_frequent(answers.iter().map(Answer::text));
    let limit = NEARLY_ALWAYS * answers.len() as f64;
    if (count as f64) < limit || gold as f64 >= limit {
        return None;
    }
    let mut hits = Hits::new("always_the_same");
    for answer in answers {
        hits.see(answer.judged.extracted.as_deref() == Some(same), || answer.shown());
    }
    // A model that always writes the same is at fault itself.
    let severity = if written as f64 >= limit { Severity::Warning } else { Severity::Error };
    let fix = "correct extract.regex or `which`: it should find what differs between answers";
    hits.with(severity, subject, &format!("the extraction finds {same:?} in answers that differ"), fix)
}

/// Wrong answers that hold the right one, against how many hold the right one of another item.
fn right_but_judged_wrong(
    subject: Subject<'_>,
    form: &Generation,
    judge: &Judge,
    answers: &[Answer<'_>],
) -> Option<Finding> {
    if !matches!(form.metric, Compare::ExactMatch | Compare::F1) {
        return None;
    }
    let holds = |answer: &Answer<'_>, sample: &Sample| {
        let text = judge.normalised(answer.text());
        sample.answers.iter().any(|accepted| has_words(&text, &judge.normalised(accepted)))
    };
    let mut own = Hits::new("right_but_judged_wrong");
    let mut other = 0usize;
    for (i, answer) in answers.iter().enumerate().filter(|(_, answer)| answer.judged.value == 0.0) {
        let next = &answers[(i + answers.len() / 2) % answers.len()].sample;
        other += usize::from(next.answers != answer.sample.answers && holds(answer, next));
        own.see(holds(answer, answer.sample), || answer.shown());
    }
    let (n, share) = (own.of as f64, own.share());
    let chance = other as f64 / n.max(1.0);
    let error = ((share * (1.0 - share) + chance * (1.0 - chance)) / n.max(1.0)).sqrt();
    if own.of < FEWEST || share - chance <= SIGMA * error || share < SYSTEMATIC {
        return None;
    }
    let severity = if share >= HELD_BY_WRONG { Severity::Error } else { Severity::Warning };
    let problem = format!(
        "answers judged wrong hold an accepted answer, {:.1} % that of another item by chance",
        100.0 * chance
    );
    own.with(
        severity,
        subject,
        &problem,
        "correct extract.regex, normalise, or the stop strings: read the answers",
    )
}
