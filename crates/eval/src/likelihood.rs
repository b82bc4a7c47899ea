//! Scoring candidates by likelihood (spec EVL-04).

use crate::items::{Format, Item};
use smolt_infer::decoder::{Decoder, Error, Row};
use smolt_infer::sampling::log_probability;
use smolt_text::tokenizer::Tokenizer;

/// A prompt and its candidate continuations as tokens.
pub struct Question {
    /// Tokens before the continuation, not empty.
    pub prompt: Vec<u32>,
    /// Tokens of each candidate, none empty.
    pub choices: Vec<Vec<u32>>,
    /// Characters of each candidate, the leading space not counted.
    pub chars: Vec<usize>,
    /// Index of the right one.
    pub answer: usize,
}

impl Question {
    /// Poses an item; `bos` goes before the prompt if given.
    pub fn new(item: &Item, format: Format, tokenizer: &Tokenizer, bos: Option<u32>) -> Question {
        let (prompt, choices) = format.pose(item);
        Question {
            prompt: bos.into_iter().chain(tokenizer.encode_ordinary(&prompt)).collect(),
            chars: choices.iter().map(|c| c.trim_start().chars().count()).collect(),
            choices: choices.iter().map(|c| tokenizer.encode_ordinary(c)).collect(),
            answer: item.answer,
        }
    }

    /// The candidate with the largest log-likelihood per character; the first of equals.
    pub fn pick(&self, log_likelihoods: &[f64]) -> usize {
        let score = |i: usize| log_likelihoods[i] / self.chars[i].max(1) as f64;
        (1..self.choices.len()).fold(0, |best, i| if score(i) > score(best) { i } else { best })
    }
}

/// Something that gives text a likelihood.
pub trait LanguageModel {
    /// ln P(candidate | prompt) of every candidate of every question.
    fn log_likelihoods(&mut self, questions: &[Question]) -> Result<Vec<Vec<f64>>, Error>;
}

/// Whether the model picks the right candidate of each question.
pub fn grade(model: &mut dyn LanguageModel, questions: &[Question]) -> Result<Vec<bool>, Error> {
    let scores = model.log_likelihoods(questions)?;
    Ok(questions.iter().zip(scores).map(|(q, s)| q.pick(&s) == q.answer).collect())
}

impl LanguageModel for Decoder<'_> {
    /// The prompt is fed once; candidates then take turns on the positions after it.
    fn log_likelihoods(&mut self, questions: &[Question]) -> Result<Vec<Vec<f64>>, Error> {
        let mut scores: Vec<Vec<f64>> = questions.iter().map(|q| vec![0.0; q.choices.len()]).collect();
        let slots = self.slots();
        for (questions, scores) in questions.chunks(slots).zip(scores.chunks_mut(slots)) {
            let mut rows = Vec::new();
            for (slot, q) in questions.iter().enumerate() {
                let last = q.prompt.len() - 1;
                rows.extend(q.prompt.iter().enumerate().map(|(i, &token)| row(slot, i, token, i == last)));
            }
            self.feed(&rows, |i, logits| {
                let slot = rows[i].slot as usize;
                for (score, choice) in scores[slot].iter_mut().zip(&questions[slot].choices) {
                    *score = log_probability(logits, choice[0]);
                }
            })?;
            for c in 0..questions.iter().map(|q| q.choices.len()).max().unwrap_or(0) {
                score_rest(self, questions, scores, c)?;
            }
        }
        Ok(scores)
    }
}

/// Adds the tokens after the first of candidate `c` to its score.
fn score_rest(
    d: &mut Decoder<'_>,
    questions: &[Question],
    scores: &mut [Vec<f64>],
    c: usize,
) -> Result<(), Error> {
    let (mut rows, mut next) = (Vec::new(), Vec::new());
    for (slot, q) in questions.iter().enumerate() {
        let Some(choice) = q.choices.get(c) else { continue };
        for (i, pair) in choice.windows(2).enumerate() {
            rows.push(row(slot, q.prompt.len() + i, pair[0], true));
            next.push(pair[1]);
        }
    }
    d.feed(&rows, |i, logits| scores[rows[i].slot as usize][c] += log_probability(logits, next[i]))
}

fn row(slot: usize, position: usize, token: u32, wanted: bool) -> Row {
    Row { slot: slot as u32, position: position as u32, token, wanted }
}
