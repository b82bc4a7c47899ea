//! What is evaluated: something that gives text a likelihood and writes text.

pub mod encoder;
pub mod journal;
pub mod local;
pub mod ngram;
pub mod server;
pub(crate) mod stop;

use serde::{Deserialize, Serialize};
use smolt_run::error::{Exit, ExitKind};
use smolt_text::template::{Message, TemplateError};

/// What a model reads.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum Prompt {
    /// Text as it is.
    Text(String),
    /// A conversation that awaits the assistant, through the model's chat template. A last message of the assistant's is how
    /// its answer begins.
    Chat(Vec<Message>),
}

/// A prompt and the texts that may follow it.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// What stands before.
    pub prompt: Prompt,
    /// Candidates with their delimiter, at least one, none empty.
    pub continuations: Vec<String>,
}

/// What a model thinks of a continuation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Continuation {
    /// ln P(continuation | prompt).
    pub log_likelihood: f64,
    /// Its tokens.
    pub tokens: usize,
    /// Whether each of its tokens is the likeliest: whether greedy decoding would write it.
    pub greedy: bool,
}

/// The answer to a [`Request`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scored {
    /// As many as were asked for.
    pub continuations: Vec<Continuation>,
    /// Tokens cut from the left of the prompt because it was longer than the context.
    pub dropped_tokens: usize,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// The model's end token.
    EndToken,
    /// One of the task's stop strings.
    StopString,
    /// The limit: the answer is not whole.
    Length,
}

/// A text that a model wrote.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Generated {
    /// Without what ended it.
    pub text: String,
    /// Why it ended.
    pub finish: Finish,
    /// Its tokens.
    pub tokens: usize,
    /// ln P of all of them, at temperature 1; the end token is not among them. None where the model does not say. How many
    /// answers are written at once may change its last digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_likelihood: Option<f64>,
    /// Tokens cut from the left of the prompt.
    pub dropped_tokens: usize,
}

/// How answers are written; part of what a score means (spec PEV-07).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Writing {
    /// Most tokens per answer.
    pub max_tokens: usize,
    /// Strings that end an answer.
    pub stop: Vec<String>,
    /// Those strings end nothing within reasoning, which is not the answer (spec PEV-08).
    pub stop_after_reasoning: bool,
    /// 0 is greedy.
    pub temperature: f64,
    /// Only the likeliest tokens whose probabilities sum to this.
    pub top_p: f64,
    /// Answers per prompt.
    pub samples: usize,
    /// Seed of the samples.
    pub seed: u64,
}

/// A text as a model sees it: for bits per byte.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TextScore {
    /// ln P of all of it.
    pub log_likelihood: f64,
    /// Tokens that were predicted.
    pub tokens: usize,
    /// Bytes of the text.
    pub bytes: usize,
}

/// Why a model did not answer.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The engine refused.
    #[error(transparent)]
    Decoder(#[from] smolt_infer::decoder::Error),
    /// The chat template.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// A server that did not answer, or not as servers do.
    #[error("{0}")]
    Unreachable(String),
    /// A server, or what it cannot do.
    #[error("{0}")]
    Server(String),
    /// A server that answers no question: it does not know us, or not the model.
    #[error("{0}")]
    Refused(String),
    /// A request that this model cannot answer.
    #[error("{0}")]
    Request(String),
}

impl ModelError {
    /// Whether nothing else that is asked of the model will be answered either.
    pub fn is_final(&self) -> bool {
        matches!(self, ModelError::Unreachable(_) | ModelError::Refused(_))
    }

    /// For a model that predicts NaN after this text, which would stand in the records as a number like others.
    pub(crate) fn not_a_number(text: &str) -> ModelError {
        let from = text.char_indices().rev().nth(59).map_or(0, |(at, _)| at);
        ModelError::Request(format!(
            "what the model predicts after {:?} is not a number; its weights are damaged or it diverged",
            &text[from..]
        ))
    }
}

impl ExitKind for ModelError {
    fn exit(&self) -> Exit {
        match self {
            ModelError::Unreachable(_) => Exit::Failed,
            _ => Exit::BadInput,
        }
    }
}

/// What came of a request, where the model can tell while it works.
#[derive(Clone, Copy, Debug)]
pub enum Heard<'a> {
    /// Nothing is told of it.
    Nothing,
    /// The request with this number has this answer.
    Scored(usize, &'a Scored),
    /// The prompt with this number has this answer, of several the one with the second number.
    Written(usize, usize, &'a Generated),
}

/// Called with the number of requests that are done, and what came of one.
pub type OnDone<'a> = &'a mut dyn FnMut(usize, Heard<'_>);

/// Something that can be evaluated.
pub trait Model {
    /// Tokens of a text, where the model has a tokenizer to lend.
    fn tokens(&self, _text: &str) -> Option<usize> {
        None
    }

    /// Likelihoods of every continuation of every request, in order.
    fn score(&mut self, requests: &[Request], on_done: OnDone<'_>) -> Result<Vec<Scored>, ModelError>;

    /// `writing.samples` answers to every prompt, in order. What else is asked does not change the draws of an answer; equal
    /// prompts draw in the order in which they are asked.
    fn write(
        &mut self,
        prompts: &[Prompt],
        writing: &Writing,
        on_done: OnDone<'_>,
    ) -> Result<Vec<Vec<Generated>>, ModelError>;

    /// The likelihood of whole texts, each token predicted once.
    fn read(&mut self, texts: &[String], on_done: OnDone<'_>) -> Result<Vec<TextScore>, ModelError>;

    /// The prompt as the model reads it, special tokens and template included, without the `dropped` tokens that were cut
    /// from its left (spec PEV-15).
    fn shown(&self, prompt: &Prompt, dropped: usize) -> Result<String, ModelError>;
}
