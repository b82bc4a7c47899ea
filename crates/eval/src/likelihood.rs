//! Scoring candidates by likelihood (spec EVL-04).

use crate::items::{Format, Item};
use smolt_infer::decoder::{Decoder, Error};
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
    fn log_likelihoods(&mut self, questions: &[Question]) -> Result<Vec<Vec<f64>>, Error> {
        let tokens =
            |q: &Question| smolt_infer::Question { prompt: q.prompt.clone(), choices: q.choices.clone() };
        let questions: Vec<smolt_infer::Question> = questions.iter().map(tokens).collect();
        let answers = smolt_infer::score(self, &questions, |_, _| {})?;
        let values = |choices: Vec<smolt_infer::Choice>| choices.iter().map(|c| c.log_likelihood).collect();
        Ok(answers.into_iter().map(values).collect())
    }
}
