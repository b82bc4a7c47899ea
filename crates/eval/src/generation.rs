//! Free-form generation (FG): greedy answers in chat form, compared with the exact answer.

use crate::items::Item;
use smolt_infer::decoder::{Decoder, Error};
use smolt_infer::{Finish, Generation, Settings, generate};
use smolt_text::template::{ChatTemplate, TemplateError};
use smolt_text::tokenizer::Tokenizer;
use std::ops::ControlFlow;

/// Why answers could not be generated.
#[derive(Debug, thiserror::Error)]
pub enum GenerationError {
    /// The model or its context.
    #[error(transparent)]
    Decoder(#[from] Error),
    /// The chat template.
    #[error(transparent)]
    Template(#[from] TemplateError),
}

/// What the model said to an item.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The text, trimmed.
    pub text: String,
    /// Whether it ended with the end token within the limit.
    pub ended: bool,
}

/// Greedy answers to conversations that await the assistant.
pub fn answers<'a>(
    decoder: &mut Decoder<'_>,
    tokenizer: &Tokenizer,
    template: &ChatTemplate,
    chats: impl IntoIterator<Item = &'a [smolt_text::template::Message]>,
    settings: &Settings,
) -> Result<Vec<Answer>, GenerationError> {
    let prompts = chats
        .into_iter()
        .map(|messages| Ok(template.encode(tokenizer, messages, true)?.ids))
        .collect::<Result<Vec<_>, TemplateError>>()?;
    let generations = generate(decoder, &prompts, settings, |_, _| ControlFlow::Continue(()))?;
    let text = |g: Generation| Answer {
        text: tokenizer.decode(&g.tokens, true).trim().to_string(),
        ended: g.finish == Finish::Stop,
    };
    Ok(generations.into_iter().map(text).collect())
}

/// Whether an answer is exactly right: equal up to case, surrounding space and a final full stop.
pub fn exact_match(item: &Item, answer: &Answer) -> bool {
    normalise(&answer.text) == normalise(&item.answer_text)
}

fn normalise(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").trim_end_matches('.').to_lowercase()
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_case_space_and_the_final_stop_are_forgiven() {
        let same = |a: &str, b: &str| super::normalise(a) == super::normalise(b);
        assert!(same(" the  Park.", "The park") && !same("the parks", "the park") && !same("3", "13"));
    }
}
