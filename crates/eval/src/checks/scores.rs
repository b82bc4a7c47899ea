//! Scores that are too bad to be true, or mean nothing yet.

use super::{FEWEST, Finding, Hits, NEARLY_ALWAYS, SIGMA, SYSTEMATIC, Severity, Subject};
use crate::evaluate::{Sample, TaskScores};
use crate::model::Finish;
use crate::score::reasoning::Reasoning;
use crate::stats::Score;
use crate::task::{Formulation, Task};

/// Checks the scores of a task and the samples behind them.
pub fn scores(
    task: &Task,
    formulation: Formulation,
    scores: &TaskScores,
    samples: &[Sample],
) -> Vec<Finding> {
    let subject = Subject { task, formulation };
    let mut found: Vec<Finding> = Vec::new();
    if subject.is_choice() {
        found.extend(equal_likelihoods(subject, samples));
        if let Some(score) = scores.primary().filter(|score| score.n >= FEWEST) {
            found.extend(below_random(subject, scores, score));
            found.extend(one_choice(subject, scores, score, samples));
            found.extend(no_better_than_frequent(subject, scores, score));
            found.extend(letters_at_chance(subject, scores, score));
        }
    }
    found.extend(cut_answers(subject, samples));
    found.extend(cut_prompts(subject, samples));
    found
}

/// Error of a guess on as many items, or of the score where clusters make it larger.
fn error(score: Score, chance: f64) -> f64 {
    (chance * (1.0 - chance) / score.n.max(1) as f64).sqrt().max(score.stderr)
}

fn of_score(
    check: &str,
    severity: Severity,
    subject: Subject<'_>,
    score: Score,
    problem: String,
    fix: &str,
) -> Finding {
    Finding {
        check: check.into(),
        severity,
        task: subject.name(),
        count: score.n,
        of: score.n,
        problem,
        example: String::new(),
        fix: fix.into(),
    }
}

fn beside(score: Score, chance: f64) -> String {
    format!("{:.1}±{:.1} %, a guess {:.1} %", 100.0 * score.value, 100.0 * score.stderr, 100.0 * chance)
}

fn below_random(subject: Subject<'_>, scores: &TaskScores, score: Score) -> Option<Finding> {
    let chance = scores.random_baseline;
    let below = (chance - score.value) / error(score, chance).max(f64::MIN_POSITIVE);
    let problem = || format!("below random by {below:.1} standard errors: {}", beside(score, chance));
    let fix =
        "look at `item.answer` (counted from 0?) and the labels: they are shifted or the wrong way round";
    (below > SIGMA).then(|| of_score("below_random", Severity::Error, subject, score, problem(), fix))
}

fn one_choice(
    subject: Subject<'_>,
    scores: &TaskScores,
    score: Score,
    samples: &[Sample],
) -> Option<Finding> {
    let chance = scores.random_baseline;
    let pick = |sample: &Sample| sample.picks.get(&scores.primary).copied();
    let most = samples.iter().filter_map(|s| s.candidates.len().checked_sub(1)).max()?;
    let count = |place: usize| samples.iter().filter(|sample| pick(sample) == Some(place)).count();
    let place = (0..=most).max_by_key(|&place| (count(place), std::cmp::Reverse(place)))?;
    if (score.value - chance).abs() > error(score, chance)
        || (count(place) as f64) < NEARLY_ALWAYS * samples.len() as f64
    {
        return None;
    }
    let mut hits = Hits::new("one_choice");
    for sample in samples {
        hits.see(pick(sample) == Some(place), || format!("item {}: {}", sample.id, sample.prompt));
    }
    // A model that does not understand letters yet prefers one; a place means nothing where options are not shown.
    let letters = subject.formulation == Formulation::MultipleChoice;
    let severity = if letters { Severity::Warning } else { Severity::Error };
    let fix = match letters {
        true => "the model does not tell the options apart yet: compare by cloze",
        false => "look at the candidates in `smolt eval prompts`: they do not reach the model as they should",
    };
    let problem = format!("at chance ({}) and always candidate {place} (from 0)", beside(score, chance));
    hits.with(severity, subject, &problem, fix)
}

fn no_better_than_frequent(subject: Subject<'_>, scores: &TaskScores, score: Score) -> Option<Finding> {
    let frequent = scores.most_frequent?;
    let problem = || {
        let share = 100.0 * frequent;
        format!(
            "no better than always the most frequent answer, {share:.1} %: {}",
            beside(score, scores.random_baseline)
        )
    };
    let fix = "do not decide by it: train longer, or take a task that the model can already do";
    let beaten = score.value - frequent > score.stderr;
    (!beaten).then(|| of_score("most_frequent_not_beaten", Severity::Warning, subject, score, problem(), fix))
}

/// Lettered options say nothing before they are above chance (spec EVL-05).
fn letters_at_chance(subject: Subject<'_>, scores: &TaskScores, score: Score) -> Option<Finding> {
    let chance = scores.random_baseline;
    let used = subject.formulation == Formulation::MultipleChoice;
    let at_chance = score.value - chance <= SIGMA * error(score, chance);
    let problem = || format!("lettered options are not above random: {}", beside(score, chance));
    let fix = "compare by cloze until they are (--formulation cloze)";
    (used && at_chance)
        .then(|| of_score("letters_at_chance", Severity::Warning, subject, score, problem(), fix))
}

/// Likelihoods that are no numbers, or the same for each candidate: candidates that the model did not read.
fn equal_likelihoods(subject: Subject<'_>, samples: &[Sample]) -> Option<Finding> {
    let mut hits = Hits::new("equal_likelihoods");
    for sample in samples.iter().filter(|sample| sample.candidates.len() > 1) {
        let first = &sample.candidates[0];
        let distinct = sample.candidates.iter().any(|c| c.continuation != first.continuation);
        let equal = distinct && sample.candidates.iter().all(|c| c.log_likelihood == first.log_likelihood);
        let bad = equal || sample.candidates.iter().any(|c| !c.log_likelihood.is_finite());
        hits.see(bad, || {
            let all: Vec<String> = sample
                .candidates
                .iter()
                .map(|c| format!("{:?} {}", c.continuation, c.log_likelihood))
                .collect();
            format!("item {}: {}", sample.id, all.join(", "))
        });
    }
    let fix = "look at the candidates in `smolt eval prompts` and at the model's weights";
    hits.by_share(subject, "likelihoods are no numbers, or the same for every candidate", fix)
}

fn cut_answers(subject: Subject<'_>, samples: &[Sample]) -> Vec<Finding> {
    let mut truncated = Hits::new("answers_truncated");
    let mut unclosed = Hits::new("reasoning_unclosed");
    let mut limited = 0usize;
    for (sample, written) in samples.iter().flat_map(|s| s.written.iter().map(move |w| (s, w))) {
        let shown = || format!("item {}: {}", sample.id, written.generated.text);
        truncated.see(written.generated.finish == Finish::Length, shown);
        let open = written.reasoning == Reasoning::Unclosed;
        unclosed.see(open, shown);
        limited += usize::from(open && written.generated.finish == Finish::Length);
    }
    let fix = "raise generation.max_tokens, or add the string that ends an answer to generation.stop";
    let more = match 2 * limited >= unclosed.count {
        true => "raise generation.max_tokens: reasoning must end before there is an answer",
        false => {
            "read the answers: the model, or a stop string (generation.stop), ended them within the reasoning, so more \
             tokens do not help"
        }
    };
    [
        mostly(truncated, subject, "answers ran into the token limit", fix),
        mostly(unclosed, subject, "reasoning never ended", more),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// An error where it is most of them; a few are left to the counts beside the score.
fn mostly(hits: Hits, subject: Subject<'_>, problem: &str, fix: &str) -> Option<Finding> {
    let share = hits.share();
    let severity = if share > 0.5 { Severity::Error } else { Severity::Warning };
    hits.with(severity, subject, problem, fix).filter(|_| share >= SYSTEMATIC)
}

fn cut_prompts(subject: Subject<'_>, samples: &[Sample]) -> Option<Finding> {
    let mut hits = Hits::new("prompts_truncated");
    for sample in samples {
        hits.see(sample.dropped_tokens > 0, || {
            format!("item {}: {} tokens", sample.id, sample.dropped_tokens)
        });
    }
    let fix = "fewer examples (--few-shot), or a model with a longer context";
    hits.by_share(subject, "prompts were cut from the left to fit the context", fix)
}
