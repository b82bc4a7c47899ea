//! Log-likelihoods of continuations (spec EVL-03, EVL-04), and of whole texts.
//!
//! Questions are answered in whatever order lets them share what their prompts begin with: a few-shot prefix is computed
//! once. Candidates of a question share its prompt, and what they themselves begin with, and take turns on the positions
//! after it; the last token of each is asked about, not fed, so that candidates of one token cost nothing but their
//! prompt. Passes are filled with rows of as many questions as there are slots.

use crate::decoder::{Decoder, Error, MAX_ROWS, Reuse, Row};
use crate::prefix::{Queue, common};
use smolt_tensor::ops::linear_log_probs::{LogProb, Query};

/// A prompt and its candidate continuations, as tokens; none empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// Tokens before the continuation.
    pub prompt: Vec<u32>,
    /// Tokens of each candidate.
    pub choices: Vec<Vec<u32>>,
}

/// What the model thinks of a continuation.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// ln P(continuation | prompt).
    pub log_likelihood: f64,
    /// Whether every token is the likeliest after those before it.
    pub greedy: bool,
    /// ln P of each token.
    pub tokens: Vec<f32>,
}

impl Question {
    /// Positions of the cache that it takes: what [`Decoder::capacity`] must be at least.
    pub fn room(&self) -> usize {
        let longest = self.choices.iter().map(Vec::len).max().unwrap_or(0);
        self.prompt.len() + longest.saturating_sub(1)
    }

    /// The position after the last that is fed for a candidate.
    fn end(&self, choice: usize) -> usize {
        self.prompt.len() + self.choices[choice].len().saturating_sub(1)
    }

    /// The token at a position of the prompt and a candidate after it.
    fn token(&self, choice: usize, at: usize) -> u32 {
        match at.checked_sub(self.prompt.len()) {
            None => self.prompt[at],
            Some(at) => self.choices[choice][at],
        }
    }
}

impl Choice {
    fn add(&mut self, answer: LogProb) {
        self.log_likelihood += answer.value;
        self.greedy &= answer.greedy;
        self.tokens.push(answer.value as f32);
    }
}

/// ln P of every candidate of every question, in their order; `on_done(i, …)` sees question `i` as soon as it is answered.
///
/// The answers have the same bits for any number of slots and threads, and with and without [`Reuse`](crate::Reuse),
/// unless the model has experts, of which each multiplies as many rows as happen to come to it: then they are equal to
/// rounding.
///
/// # Errors
/// A question that takes more room than the decoder has, an empty prompt, a token beyond the vocabulary.
pub fn score(
    decoder: &mut Decoder<'_>,
    questions: &[Question],
    mut on_done: impl FnMut(usize, &[Choice]),
) -> Result<Vec<Vec<Choice>>, Error> {
    check(decoder, questions)?;
    let nothing = |_: &Vec<u32>| Choice { log_likelihood: 0.0, greedy: true, tokens: Vec::new() };
    let mut answers: Vec<Vec<Choice>> =
        questions.iter().map(|q| q.choices.iter().map(nothing).collect()).collect();
    let (asked, empty): (Vec<usize>, Vec<usize>) =
        (0..questions.len()).partition(|&i| !questions[i].choices.is_empty());
    empty.into_iter().for_each(|i| on_done(i, &[]));
    let mut queue = Queue::new(asked.into_iter().map(|i| (i, questions[i].prompt.as_slice())));
    let mut free: Vec<u32> = (0..decoder.slots() as u32).collect();
    let mut jobs: Vec<Job> = Vec::new();
    loop {
        start(&mut queue, decoder, questions, &mut free, &mut jobs);
        if jobs.is_empty() {
            return Ok(answers);
        }
        let pass = Pass::new(questions, &mut jobs);
        for (&(question, choice), answer) in
            pass.asked.iter().zip(decoder.log_probs(&pass.rows, &pass.queries))
        {
            answers[question][choice].add(answer);
        }
        jobs.retain_mut(|job| {
            let goes_on = job.goes_on(&questions[job.question]);
            if !goes_on {
                free.push(job.slot);
                on_done(job.question, &answers[job.question]);
            }
            goes_on
        });
    }
}

fn check(decoder: &Decoder<'_>, questions: &[Question]) -> Result<(), Error> {
    for (i, question) in questions.iter().enumerate() {
        if question.prompt.is_empty() {
            return Err(Error::EmptyPrompt { question: i });
        }
        decoder.check_length(question.room())?;
        question
            .choices
            .iter()
            .flatten()
            .chain(&question.prompt)
            .try_for_each(|&t| decoder.check_token(t))?;
    }
    Ok(())
}

/// A candidate's turn.
struct Turn {
    choice: usize,
    /// Tokens that it begins with as the one before it does.
    shared: usize,
    /// How many of them the one before it leaves in the cache.
    held: usize,
}

/// The candidates in the order of their tokens: each shares with the one before it as much as with any.
fn turns(question: &Question, reuse: Reuse) -> Vec<Turn> {
    let choices = &question.choices;
    let mut order: Vec<usize> = (0..choices.len()).collect();
    if reuse == Reuse::Prefix {
        order.sort_by_key(|&choice| &choices[choice]);
    }
    let mut before: &[u32] = &[];
    let turn = |choice: usize| {
        let shared = if reuse == Reuse::Prefix { common(before, &choices[choice]) } else { 0 };
        // The last token of neither is fed.
        let fed = before.len().min(choices[choice].len()).saturating_sub(1);
        before = &choices[choice];
        Turn { choice, shared, held: shared.min(fed) }
    };
    order.into_iter().map(turn).collect()
}

/// A question at work.
struct Job {
    question: usize,
    slot: u32,
    turns: Vec<Turn>,
    /// Whose turn it is.
    turn: usize,
    /// Positions of the prompt and the candidate that are in the cache.
    fed: usize,
}

impl Job {
    fn choice(&self) -> usize {
        self.turns[self.turn].choice
    }

    /// Goes on to the next candidate of which anything must be fed, where this one is done; false if there is none.
    fn goes_on(&mut self, question: &Question) -> bool {
        while self.fed == question.end(self.choice()) {
            if self.turn + 1 == self.turns.len() {
                return false;
            }
            self.turn += 1;
            self.fed = question.prompt.len() + self.turns[self.turn].held;
        }
        true
    }
}

/// Gives free slots questions.
fn start(
    queue: &mut Queue<'_>,
    decoder: &mut Decoder<'_>,
    questions: &[Question],
    free: &mut Vec<u32>,
    jobs: &mut Vec<Job>,
) {
    let prompt = |job: &Job| questions[job.question].prompt.as_slice();
    let mut coming: Vec<&[u32]> = jobs.iter().filter(|job| job.fed < prompt(job).len()).map(prompt).collect();
    while let Some(start) = queue.next(decoder, free, &coming) {
        let turns = turns(&questions[start.index], decoder.reuse);
        let job = Job { question: start.index, slot: start.slot, turns, turn: 0, fed: start.held };
        coming.push(prompt(&job));
        jobs.push(job);
    }
}

/// Rows that are fed at once, and what is asked about them.
#[derive(Default)]
struct Pass {
    rows: Vec<Row>,
    queries: Vec<Query>,
    /// Question and candidate of each query.
    asked: Vec<(usize, usize)>,
}

impl Pass {
    /// As many rows of the jobs as fit, those that began first before others. A candidate's turn comes in another pass
    /// than the one before it, because it takes its place in the cache.
    fn new(questions: &[Question], jobs: &mut [Job]) -> Pass {
        let mut pass = Pass::default();
        for job in jobs {
            let question = &questions[job.question];
            let end = question.end(job.choice()).min(job.fed + MAX_ROWS - pass.rows.len());
            (job.fed..end).for_each(|at| pass.push(question, job, at));
            job.fed = end;
        }
        pass
    }

    fn push(&mut self, question: &Question, job: &Job, at: usize) {
        let (row, token) = (self.rows.len() as u32, question.token(job.choice(), at));
        self.rows.push(Row { slot: job.slot, position: at as u32, token, wanted: false });
        let Some(next) = (at + 1).checked_sub(question.prompt.len()) else { return };
        // This candidate, and those whose turn is to come that begin with the same `next` tokens.
        let (this, later) = (&job.turns[job.turn], &job.turns[job.turn + 1..]);
        for turn in std::iter::once(this).chain(later.iter().take_while(|turn| turn.shared >= next)) {
            if let Some(&token) = question.choices[turn.choice].get(next) {
                self.queries.push(Query { row, token });
                self.asked.push((job.question, turn.choice));
            }
        }
    }
}

/// ln P of every token of each text, in order, for bits per byte; `on_tokens(n)` is told of every `n` that are done.
///
/// Windows are as long as the decoder's capacity and predict every token once: the first begins with `prefix` (the
/// tokenizer's bos or eos token), each other with the token before those that it predicts, and the last reaches back as
/// far as a window is long, as `loglikelihood_rolling` of lm-evaluation-harness has them.
///
/// # Errors
/// A token beyond the vocabulary.
pub fn rolling(
    decoder: &mut Decoder<'_>,
    prefix: u32,
    texts: &[Vec<u32>],
    mut on_tokens: impl FnMut(usize),
) -> Result<Vec<Vec<f32>>, Error> {
    let length = decoder.capacity();
    let counts: Vec<usize> = texts.iter().map(|text| text.len().div_ceil(length)).collect();
    let questions: Vec<Question> = texts.iter().flat_map(|text| windows(prefix, text, length)).collect();
    let answers = score(decoder, &questions, |i, _| on_tokens(questions[i].choices[0].len()))?;
    let mut tokens = answers.into_iter().flatten().map(|choice| choice.tokens);
    Ok(counts.into_iter().map(|count| tokens.by_ref().take(count).flatten().collect()).collect())
}

/// A text as windows of up to `length` tokens that are fed.
fn windows(prefix: u32, text: &[u32], length: usize) -> impl Iterator<Item = Question> {
    (0..text.len()).step_by(length).map(move |start| {
        let end = text.len().min(start + length);
        let prompt = match start {
            0 => vec![prefix],
            _ => text[end - length - 1..start].to_vec(),
        };
        Question { prompt, choices: vec![text[start..end].to_vec()] }
    })
}
