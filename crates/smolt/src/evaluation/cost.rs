//! What a suite takes, said before its first question (spec EVL-11, PEV-20): counted, and timed by a short start.

use super::{Job, Posed};
use crate::output::{self, note, thousands};
use serde::Serialize;
use smolt_eval::cost::{self, Cost};
use smolt_eval::evaluate::{How, evaluate};
use smolt_eval::model::Model;
use smolt_eval::record::Results;
use smolt_eval::task::Formulation;
use std::time::Instant;

/// A start that took so long tells how fast the rest will be.
const LONG_ENOUGH: f64 = 0.5;

/// Questions of a start, at most.
const MOST_ASKED: usize = 64;

/// Prompts that answers are begun to: as many as are written at once in any case.
const BEGUN: usize = 16;

/// Tokens of a begun answer.
const BEGINNING: usize = 16;

/// A server is not asked twice for suites with fewer questions.
const WORTH_A_START: usize = 100;

/// A task in one formulation.
#[derive(Clone, Debug, Serialize)]
struct Part {
    task: String,
    formulation: Formulation,
    #[serde(flatten)]
    cost: Cost,
    /// Where answers are written: at most, if all of them run into their limit.
    seconds: Option<f64>,
}

/// All tasks that are still to be asked.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Suite {
    parts: Vec<Part>,
    /// All of them; none where nothing could be timed.
    seconds: Option<f64>,
    /// Tasks that the folder of results holds already.
    known: usize,
    /// Texts to predict, which are not counted.
    texts: usize,
}

/// Tokens a second.
#[derive(Clone, Copy, Debug, Default)]
struct Speed {
    read: Option<f64>,
    written: Option<f64>,
}

impl Speed {
    /// How long something takes, where it is known for all that it takes.
    fn seconds(self, cost: &Cost) -> Option<f64> {
        let over = |tokens: u64, speed: Option<f64>| match tokens {
            0 => Some(0.0),
            tokens => Some(tokens as f64 / speed?),
        };
        Some(over(cost.tokens_read, self.read)? + over(cost.tokens_written, self.written)?)
    }
}

/// Says what is to be asked and how long it will take.
pub(super) fn tell(job: &Job, posed: &[Posed<'_>], results: &Results, model: &mut dyn Model) {
    let suite = Suite::new(job, posed, results, model);
    if !suite.parts.is_empty() {
        note!("{}", suite.table());
    }
}

impl Suite {
    pub(super) fn new(job: &Job, posed: &[Posed<'_>], results: &Results, model: &mut dyn Model) -> Suite {
        let known = |posed: &&Posed<'_>| {
            let result = posed.result(job);
            let same = |task: &&smolt_eval::record::TaskResult| task.name() == result.name();
            let held = results.tasks.iter().find(same);
            job.out.is_some() && held.is_some_and(|held| held.comparable(&result).is_ok())
        };
        let (known, open): (Vec<&Posed<'_>>, Vec<&Posed<'_>>) = posed.iter().partition(known);
        let context = results.model.context_length;
        let costs: Vec<Cost> =
            open.iter().map(|posed| cost_of(job, posed, usize::MAX, context, model)).collect();
        let questions: usize = costs.iter().map(|cost| cost.questions).sum();
        let speed = match job.server.given() {
            Some(_) if questions < WORTH_A_START => Speed::default(),
            _ => speed(job, &open, &costs, context, model),
        };
        let part = |(posed, cost): (&&Posed<'_>, &Cost)| Part {
            task: posed.prepared.task.name.clone(),
            formulation: posed.formulation,
            cost: *cost,
            seconds: speed.seconds(cost),
        };
        let parts: Vec<Part> = open.iter().zip(&costs).map(part).collect();
        let seconds = parts.iter().map(|part| part.seconds).sum();
        Suite { parts, seconds, known: known.len(), texts: job.asked.texts().len() }
    }

    /// For people: what each task takes, and how long all of them.
    pub(crate) fn table(&self) -> String {
        let about = |part: &Part| {
            let most = if part.cost.tokens_written > 0 { "at most " } else { "" };
            part.seconds.map(|seconds| format!("{most}{}", output::duration(seconds)))
        };
        let row = |part: &Part| {
            vec![
                part.task.clone(),
                part.formulation.name().into(),
                thousands(part.cost.questions as u64),
                thousands(part.cost.tokens_read),
                match part.cost.tokens_written {
                    0 => "-".into(),
                    most => thousands(most),
                },
                about(part).unwrap_or_else(|| "unknown".into()),
            ]
        };
        let header = ["task", "formulation", "questions", "tokens to read", "to write at most", "about"];
        let rows: Vec<Vec<String>> = self.parts.iter().map(row).collect();
        let mut text = if rows.is_empty() { String::new() } else { output::table(&header, &rows) + "\n" };
        if self.known > 0 {
            text += &format!("{} more are known already\n", self.known);
        }
        if self.texts > 0 {
            text += &format!("{} texts to predict, which are not counted\n", self.texts);
        }
        let writes = self.parts.iter().any(|part| part.cost.tokens_written > 0);
        let most = if writes { "at most " } else { "" };
        text + &match self.seconds {
            _ if rows.is_empty() => "no question is left to ask".to_owned(),
            Some(seconds) => format!("{most}about {} in all", output::duration(seconds)),
            None => "how long it takes is not known".to_owned(),
        }
    }
}

/// What the first questions of a task take.
fn cost_of(job: &Job, posed: &Posed<'_>, first: usize, context: usize, model: &dyn Model) -> Cost {
    let items = &posed.items[..first.min(posed.items.len())];
    cost::of(&posed.prepared.task, items, &job.asked.how(posed.formulation), context, model)
}

/// Times the beginnings of the tasks that take most. Held-out questions are left alone: nobody said yet that they are opened.
fn speed(job: &Job, open: &[&Posed<'_>], costs: &[Cost], context: usize, model: &mut dyn Model) -> Speed {
    let most = |writes: bool, of: fn(&Cost) -> u64| {
        let all = open.iter().zip(costs).filter(|(posed, _)| !posed.prepared.task.held_out);
        let all = all.filter(|(posed, _)| (posed.formulation == Formulation::Generation) == writes);
        all.max_by_key(|(_, cost)| of(cost)).map(|(posed, _)| *posed)
    };
    let mut speed = Speed::default();
    if let Some(posed) = most(false, |cost| cost.tokens_read) {
        speed.read = reading(job, posed, context, model);
    }
    if let Some(posed) = most(true, |cost| cost.tokens_written) {
        let (read, written) = writing(job, posed, context, model).unzip();
        speed = Speed { read: speed.read.or(read), written };
    }
    speed
}

/// Asks more and more of a task's questions until that takes long enough to tell.
fn reading(job: &Job, posed: &Posed<'_>, context: usize, model: &mut dyn Model) -> Option<f64> {
    let how = job.asked.how(posed.formulation);
    let mut first = 1;
    loop {
        let (seconds, _) = timed(posed, first, &how, model)?;
        let all = first >= posed.items.len().min(MOST_ASKED);
        if seconds >= LONG_ENOUGH || all {
            return rate(cost_of(job, posed, first, context, model).tokens_read as f64, seconds);
        }
        first *= 2;
    }
}

/// Begins answers, with a token and with more: how fast prompts are read and answers written.
fn writing(job: &Job, posed: &Posed<'_>, context: usize, model: &mut dyn Model) -> Option<(f64, f64)> {
    let how =
        |max_tokens| How { max_tokens: Some(max_tokens), samples: 1, ..job.asked.how(posed.formulation) };
    let first = BEGUN.min(posed.items.len());
    let (one, few) = timed(posed, first, &how(1), model)?;
    let (all, many) = timed(posed, first, &how(1 + BEGINNING), model)?;
    let read = rate(cost_of(job, posed, first, context, model).tokens_read as f64, one)?;
    // Answers that end with their first token, or clocks that are too coarse, leave nothing to tell the two apart.
    let grown = many.checked_sub(few).and_then(|more| rate(more as f64, all - one));
    Some((read, grown.or_else(|| rate(many.max(first) as f64, all))?))
}

/// Seconds that the first questions of a task take, and the tokens that were written. None where they cannot be asked, which
/// will be told when they are.
fn timed(posed: &Posed<'_>, first: usize, how: &How, model: &mut dyn Model) -> Option<(f64, usize)> {
    let items = &posed.items[..first.min(posed.items.len())];
    let started = Instant::now();
    let samples = evaluate(&posed.prepared.task, items, how, model, &mut |_, _, _| {}).ok()?;
    let written = samples.iter().flat_map(|sample| &sample.written).map(|written| written.generated.tokens);
    Some((started.elapsed().as_secs_f64(), written.sum()))
}

fn rate(tokens: f64, seconds: f64) -> Option<f64> {
    (tokens > 0.0 && seconds > 0.0).then(|| tokens / seconds)
}
