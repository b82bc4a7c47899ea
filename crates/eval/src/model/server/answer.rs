//! What a server answers, read as untrusted bytes.

use super::echo::ROUNDING;
use crate::model::stop::Stops;
use crate::model::{Finish, Generated};
use serde::Deserialize;
use std::collections::BTreeMap;

/// The most of an answer that is shown in an error, characters.
const SHOWN: usize = 200;

/// An answer of `/v1/completions`, with log-probabilities `L`.
#[derive(Debug, Deserialize)]
pub(super) struct Completions<L> {
    pub(super) choices: Vec<TextChoice<L>>,
    pub(super) usage: Option<Usage>,
}

#[derive(Debug, Deserialize)]
pub(super) struct TextChoice<L> {
    text: Option<String>,
    pub(super) logprobs: Option<L>,
    finish_reason: Option<String>,
    stop_reason: Option<serde_json::Value>,
}

/// Log-probabilities of a text, token by token. Lists may be missing: llama.cpp's server gives another, of what it wrote.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct LogProbs {
    /// The tokens as text.
    pub(super) tokens: Vec<String>,
    /// ln P of each; none of the first.
    pub(super) token_logprobs: Vec<Option<f64>>,
    /// The likeliest tokens in its place.
    pub(super) top_logprobs: Option<Vec<Option<BTreeMap<String, f64>>>>,
    /// Where each begins, in characters; negative where the server does not know (SGLang's −1).
    pub(super) text_offset: Vec<i64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Usage {
    pub(super) completion_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct Conversation {
    choices: Vec<ChatChoice>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct ChatChoice {
    message: ChatMessage,
    logprobs: Option<serde_json::Value>,
    finish_reason: Option<String>,
    stop_reason: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct ChatMessage {
    content: Option<String>,
    /// Where servers cut reasoning off the answer themselves.
    reasoning_content: Option<String>,
    reasoning: Option<String>,
}

#[derive(Deserialize)]
struct Models {
    data: Vec<ModelEntry>,
}

/// A model that a server has.
#[derive(Debug, Deserialize)]
pub(super) struct ModelEntry {
    pub(super) id: String,
    /// Most tokens of a prompt with its answer, where the server says it: vLLM's word.
    max_model_len: Option<u64>,
    meta: Option<Meta>,
}

#[derive(Debug, Deserialize)]
struct Meta {
    /// llama.cpp's word for it.
    n_ctx: Option<u64>,
}

impl ModelEntry {
    /// Most tokens of a prompt with its answer, where the server says it.
    pub(super) fn context_length(&self) -> Option<u64> {
        self.max_model_len.or_else(|| self.meta.as_ref()?.n_ctx)
    }
}

/// Reads an answer; what cannot be read is told with its beginning.
fn read<'a, T: Deserialize<'a>>(body: &'a [u8], what: &str) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| {
        let text = String::from_utf8_lossy(&body[..body.len().min(4 * SHOWN)]);
        let begin: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SHOWN).collect();
        format!("its answer is not {what} ({error}); it begins: {begin}")
    })
}

pub(super) fn completions<'a, L: Deserialize<'a>>(body: &'a [u8]) -> Result<Completions<L>, String> {
    read(body, "a completion")
}

pub(super) fn models(body: &[u8]) -> Result<Vec<ModelEntry>, String> {
    read(body, "a list of models").map(|models: Models| models.data)
}

/// The texts of a completion; `open` is the tag with which the prompt ended, where it opened a block of reasoning.
pub(super) fn texts(body: &[u8], stops: Stops<'_>, open: Option<&str>) -> Result<Vec<Generated>, String> {
    let answer = completions::<serde_json::Value>(body)?;
    let written = answer.choices.into_iter().map(|choice| {
        Ok(Written {
            text: choice.text.ok_or("a choice has no `text`")?,
            finish: choice.finish_reason,
            stop_reason: choice.stop_reason,
            log_likelihood: choice.logprobs.as_ref().and_then(log_likelihood),
        })
    });
    generated(written.collect::<Result<_, String>>()?, answer.usage, stops, open)
}

/// The texts of a conversation's next turn. Reasoning that the server cut off stands before its answer again, as the
/// model wrote it.
pub(super) fn turns(body: &[u8], stops: Stops<'_>) -> Result<Vec<Generated>, String> {
    let answer: Conversation = read(body, "a chat completion")?;
    let written = answer.choices.into_iter().map(|choice| {
        let message = choice.message;
        let content = message.content.unwrap_or_default();
        let reasoning = message.reasoning_content.or(message.reasoning).filter(|text| !text.is_empty());
        let text = match reasoning {
            Some(reasoning) if content.is_empty() => format!("<think>{reasoning}"),
            Some(reasoning) => format!("<think>{reasoning}</think>{content}"),
            None => content,
        };
        Written {
            text,
            finish: choice.finish_reason,
            stop_reason: choice.stop_reason,
            log_likelihood: choice.logprobs.as_ref().and_then(log_likelihood),
        }
    });
    generated(written.collect(), answer.usage, stops, None)
}

/// An answer before it is judged how it ended.
struct Written {
    text: String,
    finish: Option<String>,
    stop_reason: Option<serde_json::Value>,
    log_likelihood: Option<f64>,
}

/// ln P of what was written, in either of the spellings of OpenAI's interface; none where that of a token is missing.
fn log_likelihood(logs: &serde_json::Value) -> Option<f64> {
    let tokens = logs["token_logprobs"].as_array().or_else(|| logs["content"].as_array())?;
    let each = tokens.iter().map(|token| token.as_f64().or_else(|| token["logprob"].as_f64()));
    let each: Vec<f64> = each.collect::<Option<_>>()?;
    let all_are = each.iter().all(|ln| ln.is_finite() && *ln <= ROUNDING);
    (!each.is_empty() && all_are).then(|| each.iter().sum())
}

/// Answers with why they ended. Servers count the tokens of all choices together: each gets its share.
fn generated(
    written: Vec<Written>,
    usage: Option<Usage>,
    stops: Stops<'_>,
    open: Option<&str>,
) -> Result<Vec<Generated>, String> {
    if written.is_empty() {
        return Err("its answer has no choices".into());
    }
    let counted = usage.and_then(|usage| usage.completion_tokens);
    let tokens = counted.ok_or("its answer has no `usage.completion_tokens`")? / written.len() as u64;
    let tokens = usize::try_from(tokens).map_err(|_| "it counts more tokens than there can be")?;
    written
        .into_iter()
        .map(|Written { mut text, finish, stop_reason, log_likelihood }| {
            let cut = stops.cut(&mut text, open);
            let finish = match finish.as_deref() {
                _ if cut => Finish::StopString,
                // Says which string it was, where the server has the word at all.
                Some("stop") if stop_reason.is_some_and(|reason| reason.is_string()) => Finish::StopString,
                Some("stop") => Finish::EndToken,
                // A filter's cut leaves an answer that is not whole, as the limit does.
                Some("length" | "content_filter") => Finish::Length,
                Some(other) => {
                    return Err(format!("it ended an answer with {other:?}, which is no way to end a text"));
                }
                None => return Err("a choice has no `finish_reason`".into()),
            };
            Ok(Generated { text, finish, tokens, log_likelihood, dropped_tokens: 0 })
        })
        .collect()
}
