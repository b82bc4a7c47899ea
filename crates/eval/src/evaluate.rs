//! One task, one formulation, one model: ask, judge, sum up.

use crate::baselines;
use crate::chrf::{self, Variant};
use crate::model::{Generated, Heard, Model, ModelError, Prompt, Request, Scored, Writing};
use crate::running::{Candidates, Mean};
use crate::score::choice::pick;
use crate::score::generation::{Judge, Judged};
use crate::score::reasoning::{self, Reasoning};
use crate::stats::Score;
use crate::task::pose::{Item, PoseError};
use crate::task::{Compare, Formulation, Task};
use serde::{Deserialize, Serialize};
use smolt_text::template::Message;
use std::collections::BTreeMap;

/// How a task is put to a model, beyond what the task says; stored with the score (spec PEV-07).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct How {
    /// Which formulation.
    pub formulation: Formulation,
    /// Through the chat template.
    pub chat: bool,
    /// System prompt of the conversation.
    pub system_prompt: Option<String>,
    /// Cut reasoning off before judging (spec PEV-08).
    pub strip_reasoning: bool,
    /// Answers per question (avg@k, spec PEV-06).
    pub samples: usize,
    /// 0 is greedy.
    pub temperature: f64,
    /// Only the likeliest tokens whose probabilities sum to this.
    pub top_p: f64,
    /// Instead of the task's limit.
    pub max_tokens: Option<usize>,
    /// Seed of the samples.
    pub seed: u64,
}

/// A candidate and what the model thinks of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// What it was asked after, where each candidate has a prompt of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// Text, with its delimiter.
    pub continuation: String,
    /// ln P(continuation | prompt).
    pub log_likelihood: f64,
    /// ln P(continuation | prompt without the question).
    pub unconditional: Option<f64>,
    /// Its tokens.
    pub tokens: usize,
    /// Whether greedy decoding would write it.
    pub greedy: bool,
}

/// One answer that the model wrote, and its verdict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Written {
    /// All that was written.
    #[serde(flatten)]
    pub generated: Generated,
    /// Whether it reasoned, and came to an end of it.
    pub reasoning: Reasoning,
    /// What was found, per score.
    pub judged: Vec<Judged>,
}

/// Everything about one item (spec PEV-15, PEV-22).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Of the item.
    pub id: String,
    /// Place in the split.
    pub row: usize,
    /// Part of the benchmark.
    pub subset: Option<String>,
    /// Items that share it are not independent.
    pub cluster: Option<String>,
    /// As the model read it, special tokens included; the first candidate's, where each has its own.
    pub prompt: String,
    /// Candidates, where there are any.
    pub candidates: Vec<Candidate>,
    /// Index of the right candidate.
    pub answer: Option<usize>,
    /// Accepted answers, where the model wrote.
    pub answers: Vec<String>,
    /// What the model wrote.
    pub written: Vec<Written>,
    /// Picked candidate under each score.
    pub picks: BTreeMap<String, usize>,
    /// What the item is worth under each score.
    pub values: BTreeMap<String, f64>,
    /// Tokens cut from the left of the prompt.
    pub dropped_tokens: usize,
}

/// Counts of answers that are no answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Items whose prompt was cut from the left to fit the context.
    pub truncated_prompts: usize,
    /// Answers that ran into the token limit.
    pub truncated_answers: usize,
    /// Answers whose reasoning never ended.
    pub unclosed_reasoning: usize,
    /// Answers in which an extraction found nothing, those left out whose reasoning never ended.
    pub nothing_extracted: usize,
}

/// The scores of a task in one formulation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskScores {
    /// Items asked.
    pub items: usize,
    /// Every score over all items.
    pub metrics: BTreeMap<String, Score>,
    /// The one that speaks for the task.
    pub primary: String,
    /// Every score per subset, where there are subsets.
    pub subsets: BTreeMap<String, BTreeMap<String, Score>>,
    /// The mean of the subsets' means, each counting the same.
    pub macro_average: BTreeMap<String, Score>,
    /// What a guess scores.
    pub random_baseline: f64,
    /// What always giving the most frequent answer scores.
    pub most_frequent: Option<f64>,
    /// Answers that are no answers.
    pub counts: Counts,
}

impl TaskScores {
    /// The score that speaks for the task.
    pub fn primary(&self) -> Option<Score> {
        self.metrics.get(&self.primary).copied()
    }
}

/// Why a task could not be evaluated.
#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    /// A row.
    #[error(transparent)]
    Pose(#[from] PoseError),
    /// The model.
    #[error("task `{task}`: {source}")]
    Model {
        /// The task.
        task: String,
        /// What happened.
        source: ModelError,
    },
    /// The task's rules.
    #[error("task `{task}`: {problem}")]
    Task {
        /// The task.
        task: String,
        /// What is wrong.
        problem: String,
    },
}

impl EvaluateError {
    /// Whether no other task will be answered either, such as by a server that is gone.
    pub fn is_final(&self) -> bool {
        matches!(self, EvaluateError::Model { source, .. } if source.is_final())
    }
}

impl smolt_run::error::ExitKind for EvaluateError {
    fn exit(&self) -> smolt_run::error::Exit {
        match self {
            EvaluateError::Model { source, .. } => source.exit(),
            _ => smolt_run::error::Exit::BadInput,
        }
    }
}

/// Asks every item and judges the answers. `on_done` hears how many requests of how many are answered, and the primary
/// score so far where there is one.
pub fn evaluate(
    task: &Task,
    items: &[Item],
    how: &How,
    model: &mut dyn Model,
    on_done: &mut dyn FnMut(usize, usize, Option<f64>),
) -> Result<Vec<Sample>, EvaluateError> {
    let failed = |source| EvaluateError::Model { task: task.name.clone(), source };
    match how.formulation {
        Formulation::Generation => {
            let form = task.generation.as_ref().ok_or_else(|| EvaluateError::Task {
                task: task.name.clone(),
                problem: "it has no [generation]".into(),
            })?;
            let judge = Judge::new(form)
                .map_err(|problem| EvaluateError::Task { task: task.name.clone(), problem })?;
            let prompts = prompts(items, how);
            let writing = Writing {
                max_tokens: longest_answer(task, how),
                stop: form.stop.clone(),
                stop_after_reasoning: how.strip_reasoning,
                temperature: how.temperature,
                top_p: how.top_p,
                samples: how.samples.max(1),
                seed: how.seed,
            };
            let shown = show(model, &prompts).map_err(failed)?;
            let (primary, mut so_far) = (task.primary(how.formulation), Mean::default());
            let mut hear = |done: usize, heard: Heard<'_>| {
                if let Heard::Written(at, _, answer) = heard {
                    let judged = judge.judge(&answer_of(&shown[at], answer, how).0, &items[at].answers);
                    judged.iter().filter(|j| j.metric == primary).for_each(|j| so_far.add(j.value));
                }
                on_done(done, prompts.len(), so_far.value());
            };
            let answers = model.write(&prompts, &writing, &mut hear).map_err(failed)?;
            let mut samples = Vec::with_capacity(items.len());
            for (((item, prompt), shown), answers) in items.iter().zip(&prompts).zip(shown).zip(answers) {
                let shown = match answers.first().map_or(0, |answer| answer.dropped_tokens) {
                    0 => shown,
                    dropped => model.shown(prompt, dropped).map_err(failed)?,
                };
                samples.push(written(item, shown, answers, &judge, how));
            }
            Ok(samples)
        }
        _ => score_candidates(task, items, how, model, on_done).map_err(failed),
    }
}

/// Most tokens of an answer to a task.
pub(crate) fn longest_answer(task: &Task, how: &How) -> usize {
    how.max_tokens.or(task.generation.as_ref().map(|form| form.max_tokens)).unwrap_or(0)
}

/// What is asked where the model writes.
pub(crate) fn prompts(items: &[Item], how: &How) -> Vec<Prompt> {
    items.iter().map(|item| prompt(item, how, 0)).collect()
}

/// What is asked for candidate `choice`.
pub fn prompt(item: &Item, how: &How, choice: usize) -> Prompt {
    match how.chat {
        true => Prompt::Chat(item.messages(how.system_prompt.as_deref(), choice)),
        false => Prompt::Text(item.prompt(choice)),
    }
}

/// The prompt without the question, put as the question is.
fn unconditional(before: &str, how: &How) -> Prompt {
    if !how.chat {
        return Prompt::Text(before.to_owned());
    }
    let system = how.system_prompt.iter().map(|text| Message::new("system", text.as_str()));
    Prompt::Chat(system.chain([Message::new("user", before)]).collect())
}

fn show(model: &dyn Model, prompts: &[Prompt]) -> Result<Vec<String>, ModelError> {
    prompts.iter().map(|prompt| model.shown(prompt, 0)).collect()
}

/// Candidate `choice` as it is scored. The delimiter of plain text has no place after a chat template's prompt.
pub fn continuation(item: &Item, how: &How, choice: usize) -> String {
    let delimiter = if how.chat { "" } else { item.delimiter.as_str() };
    format!("{delimiter}{}", item.continuations[choice])
}

/// What is asked where candidates are scored: those of the items, in order, and behind them, from the number returned on, what
/// is likely anyway.
pub(crate) fn requests(task: &Task, items: &[Item], how: &How) -> (Vec<Request>, usize) {
    let mut requests = Vec::new();
    for item in items {
        let all: Vec<String> = (0..item.continuations.len()).map(|i| continuation(item, how, i)).collect();
        if item.questions.len() == 1 {
            requests.push(Request { prompt: prompt(item, how, 0), continuations: all });
        } else {
            requests.extend(
                all.into_iter()
                    .enumerate()
                    .map(|(i, text)| Request { prompt: prompt(item, how, i), continuations: vec![text] }),
            );
        }
    }
    let conditional = requests.len();
    if let Some(before) = task.unconditional(how.formulation) {
        let prompt = unconditional(before, how);
        requests.extend(items.iter().map(|item| Request {
            prompt: prompt.clone(),
            continuations: (0..item.continuations.len()).map(|i| continuation(item, how, i)).collect(),
        }));
    }
    (requests, conditional)
}

fn score_candidates(
    task: &Task,
    items: &[Item],
    how: &How,
    model: &mut dyn Model,
    on_done: &mut dyn FnMut(usize, usize, Option<f64>),
) -> Result<Vec<Sample>, ModelError> {
    let (requests, conditional) = requests(task, items, how);
    let total = requests.len();
    let primary = task.primary(how.formulation);
    let mut so_far = Candidates::new(items, &primary);
    let mut hear = |done: usize, heard: Heard<'_>| {
        if let Heard::Scored(request, answer) = heard {
            so_far.hear(request, &answer.continuations);
        }
        on_done(done, total, so_far.value());
    };
    let mut scored = model.score(&requests, &mut hear)?;
    let wrong = |s: &Scored| s.continuations.iter().any(|c| !c.log_likelihood.is_finite());
    if let Some(at) = scored.iter().position(wrong) {
        return Err(ModelError::not_a_number(&model.shown(&requests[at].prompt, scored[at].dropped_tokens)?));
    }
    let unconditional = scored.split_off(conditional);
    let (mut scored, mut asked) = (scored.into_iter(), requests.iter());
    let mut samples = Vec::with_capacity(items.len());
    for (i, item) in items.iter().enumerate() {
        let count = item.questions.len();
        let parts: Vec<Scored> = scored.by_ref().take(count).collect();
        let prompts = asked.by_ref().take(count).zip(&parts);
        let shown = prompts
            .map(|(request, part)| model.shown(&request.prompt, part.dropped_tokens))
            .collect::<Result<Vec<_>, _>>()?;
        samples.push(picked(item, how, &shown, parts, unconditional.get(i)));
    }
    Ok(samples)
}

pub(crate) fn sample(item: &Item, prompt: String) -> Sample {
    Sample {
        id: item.id.clone(),
        row: item.row,
        subset: item.subset.clone(),
        cluster: item.cluster.clone(),
        prompt,
        candidates: Vec::new(),
        answer: item.answer,
        answers: item.answers.clone(),
        written: Vec::new(),
        picks: BTreeMap::new(),
        values: BTreeMap::new(),
        dropped_tokens: 0,
    }
}

fn picked(
    item: &Item,
    how: &How,
    shown: &[String],
    parts: Vec<Scored>,
    unconditional: Option<&Scored>,
) -> Sample {
    let mut sample = sample(item, shown.first().cloned().unwrap_or_default());
    sample.dropped_tokens = parts.iter().map(|part| part.dropped_tokens).max().unwrap_or(0);
    let scored: Vec<_> = parts.into_iter().flat_map(|part| part.continuations).collect();
    let before = unconditional.map(|u| u.continuations.as_slice());
    let result = pick(item, &scored, before);
    for (by, choice) in result.picks {
        sample.picks.insert(by.metric().to_owned(), choice);
        sample.values.insert(by.metric().to_owned(), f64::from(u8::from(Some(choice) == item.answer)));
    }
    sample.values.insert("answer_bits_per_byte".into(), result.answer_bits_per_byte);
    sample.candidates = scored
        .into_iter()
        .enumerate()
        .map(|(i, c)| Candidate {
            prompt: shown.get(i).filter(|_| shown.len() > 1).cloned(),
            continuation: continuation(item, how, i),
            log_likelihood: c.log_likelihood,
            unconditional: before.and_then(|b| b.get(i)).map(|b| b.log_likelihood),
            tokens: c.tokens,
            greedy: c.greedy,
        })
        .collect();
    sample
}

/// What of a text is the answer to a prompt.
fn answer_of(prompt: &str, generated: &Generated, how: &How) -> (String, Reasoning) {
    match how.strip_reasoning {
        true => {
            let parts = reasoning::split_after(prompt, &generated.text);
            (parts.answer, parts.found)
        }
        false => (generated.text.clone(), Reasoning::Absent),
    }
}

fn written(item: &Item, shown: String, answers: Vec<Generated>, judge: &Judge, how: &How) -> Sample {
    let mut sample = sample(item, shown);
    sample.dropped_tokens = answers.iter().map(|a| a.dropped_tokens).max().unwrap_or(0);
    for generated in answers {
        let (text, reasoning) = answer_of(&sample.prompt, &generated, how);
        let judged = judge.judge(&text, &item.answers);
        sample.written.push(Written { generated, reasoning, judged });
    }
    let n = sample.written.len().max(1) as f64;
    for judged in sample.written.iter().flat_map(|written| &written.judged) {
        *sample.values.entry(judged.metric.clone()).or_default() += judged.value / n;
    }
    sample
}

/// Sums up the samples of a task.
pub fn summarise(task: &Task, formulation: Formulation, items: &[Item], samples: &[Sample]) -> TaskScores {
    let all: Vec<&Sample> = samples.iter().collect();
    let mut parts: BTreeMap<String, Vec<&Sample>> = BTreeMap::new();
    for sample in samples {
        if let Some(subset) = &sample.subset {
            parts.entry(subset.clone()).or_default().push(sample);
        }
    }
    let subsets: BTreeMap<String, BTreeMap<String, Score>> =
        parts.into_iter().map(|(name, samples)| (name, scores(&samples))).collect();
    let mut macro_average: BTreeMap<String, Vec<Score>> = BTreeMap::new();
    for (metric, score) in subsets.values().flatten() {
        macro_average.entry(metric.clone()).or_default().push(*score);
    }
    let choices = formulation != Formulation::Generation;
    let mut metrics = scores(&all);
    let form = task.generation.as_ref().filter(|form| !choices && form.metric == Compare::Chrf);
    if let Some(judge) = form.and_then(|form| Judge::new(form).ok()) {
        // chrF of a corpus is not the mean of its sentences; their spread is still the best guess of its error.
        for (name, score) in &mut metrics {
            score.value = corpus_chrf(name, samples, &judge);
        }
    }
    TaskScores {
        items: samples.len(),
        metrics,
        primary: task.primary(formulation),
        subsets,
        macro_average: macro_average.into_iter().map(|(m, s)| (m, Score::macro_average(&s))).collect(),
        random_baseline: task
            .random_baseline
            .unwrap_or_else(|| if choices { baselines::chance(items).value } else { 0.0 }),
        most_frequent: choices.then(|| {
            let texts = baselines::most_frequent_answer(items).value;
            texts.max(baselines::most_frequent_place(items).value)
        }),
        counts: counts(samples),
    }
}

/// chrF++ of all that was extracted for a score, without what the task forgives.
fn corpus_chrf(metric: &str, samples: &[Sample], judge: &Judge) -> f64 {
    let mut pairs = Vec::new();
    for sample in samples {
        let reference = judge.normalised(sample.answers.first().map_or("", String::as_str));
        let judged = sample.written.iter().flat_map(|written| &written.judged).filter(|j| j.metric == metric);
        let texts = judged.map(|j| judge.normalised(j.extracted.as_deref().unwrap_or("")));
        pairs.extend(texts.map(|text| (text, reference.clone())));
    }
    chrf::corpus(Variant::ChrfPlusPlus, pairs.iter().map(|(a, b)| (a.as_str(), b.as_str()))) / 100.0
}

fn counts(samples: &[Sample]) -> Counts {
    let written = || samples.iter().flat_map(|sample| &sample.written);
    let answered = |written: &Written| written.reasoning != Reasoning::Unclosed;
    let missing = |judged: &Judged| judged.extracted.is_none();
    Counts {
        truncated_prompts: samples.iter().filter(|sample| sample.dropped_tokens > 0).count(),
        truncated_answers: written().filter(|w| w.generated.finish == crate::model::Finish::Length).count(),
        unclosed_reasoning: written().filter(|w| !answered(w)).count(),
        nothing_extracted: written().filter(|w| answered(w) && w.judged.iter().any(missing)).count(),
    }
}

/// Every score over some samples, with errors that know of clusters.
fn scores(samples: &[&Sample]) -> BTreeMap<String, Score> {
    let mut values: BTreeMap<&str, (Vec<f64>, Vec<&str>)> = BTreeMap::new();
    for sample in samples {
        for (metric, value) in &sample.values {
            let (values, clusters) = values.entry(metric).or_default();
            values.push(*value);
            clusters.extend(sample.cluster.as_deref());
        }
    }
    values
        .into_iter()
        .map(|(metric, (values, clusters))| (metric.to_owned(), Score::fitting(&values, &clusters)))
        .collect()
}

#[cfg(test)]
pub(crate) mod tests;
