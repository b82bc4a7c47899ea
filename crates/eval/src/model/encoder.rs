//! From prompts to the tokens that a model reads.

use super::{ModelError, Prompt, Request};
use smolt_infer::Question;
use smolt_text::template::ChatTemplate;
use smolt_text::tokenizer::Tokenizer;

/// How a model's text becomes tokens. Special tokens around a text are those that the tokenizer's file says, as in
/// transformers.
pub struct Encoder<'m> {
    /// The tokenizer.
    pub tokenizer: &'m Tokenizer,
    /// The chat template, where there is one.
    pub template: Option<&'m ChatTemplate>,
    /// Tokens that end an answer; the first also stands before text that has nothing before it.
    pub end_tokens: Vec<u32>,
}

impl Encoder<'_> {
    /// Stands before text that has nothing before it.
    pub fn prefix_token(&self) -> Result<u32, ModelError> {
        let bos = self.tokenizer.encode("", true).first().copied();
        let none =
            "the model has neither a beginning nor an end token, so a text has nothing to be predicted from";
        bos.or(self.end_tokens.first().copied()).ok_or_else(|| ModelError::Request(none.into()))
    }

    /// The tokens of a prompt, at least one.
    pub fn prompt(&self, prompt: &Prompt) -> Result<Vec<u32>, ModelError> {
        let (text, templated) = self.text(prompt)?;
        let tokens = self.tokenizer.encode(&text, !templated);
        if tokens.is_empty() { Ok(vec![self.prefix_token()?]) } else { Ok(tokens) }
    }

    /// The prompt as the model reads it, special tokens included.
    pub fn shown(&self, prompt: &Prompt) -> Result<String, ModelError> {
        let (text, templated) = self.text(prompt)?;
        Ok(self.tokenizer.decode(&self.tokenizer.encode(&text, !templated), false))
    }

    /// A request as tokens. White space at the end of the prompt belongs to the continuation, which is what is left of
    /// prompt and continuation, encoded together, after the tokens of the prompt.
    pub fn question(&self, request: &Request) -> Result<Question, ModelError> {
        let (text, templated) = self.text(&request.prompt)?;
        let stem = if templated { text.as_str() } else { text.trim_end() };
        let space = &text[stem.len()..];
        let mut prompt = self.tokenizer.encode(stem, !templated);
        let mut choices = Vec::with_capacity(request.continuations.len());
        for continuation in &request.continuations {
            let whole = self.tokenizer.encode(&format!("{stem}{space}{continuation}"), !templated);
            let rest = whole.get(prompt.len()..).filter(|rest| !rest.is_empty());
            let alone = || self.tokenizer.encode(&format!("{space}{continuation}"), false);
            let rest = rest.map_or_else(alone, <[u32]>::to_vec);
            if rest.is_empty() {
                return Err(ModelError::Request(format!("the candidate {continuation:?} has no tokens")));
            }
            choices.push(rest);
        }
        if prompt.is_empty() {
            prompt.push(self.prefix_token()?);
        }
        Ok(Question { prompt, choices })
    }

    /// The text of a prompt, and whether the template already wrote its special tokens.
    fn text(&self, prompt: &Prompt) -> Result<(String, bool), ModelError> {
        match prompt {
            Prompt::Text(text) => Ok((text.clone(), false)),
            Prompt::Chat(messages) => {
                let none = "this model has no chat_template.jinja; evaluate it without --chat";
                let template = self.template.ok_or_else(|| ModelError::Request(none.into()))?;
                let known = self.tokenizer.special_tokens_map();
                let variables = known.iter().map(|(k, v)| (k.clone(), v.clone().into())).collect();
                Ok((template.render(messages, true, &variables)?.text, true))
            }
        }
    }
}
