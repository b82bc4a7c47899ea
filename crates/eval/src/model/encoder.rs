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

    /// Refuses a tokenizer that counts the tags of reasoning among its special tokens: those are left out of answers, and all
    /// thinking with them.
    ///
    /// # Errors
    /// The fix.
    pub fn check_tags(&self) -> Result<(), ModelError> {
        let tags = "<think></think>";
        let shown = self.tokenizer.decode(&self.tokenizer.encode(tags, false), true);
        if shown.contains("<think>") && shown.contains("</think>") {
            return Ok(());
        }
        Err(ModelError::Request(
            "the tokenizer leaves <think> and </think> out of what it decodes; set their `special` to false in \
             tokenizer.json"
                .into(),
        ))
    }

    /// The tokens of a prompt, at least one.
    pub fn prompt(&self, prompt: &Prompt) -> Result<Vec<u32>, ModelError> {
        let (text, templated) = self.text(prompt)?;
        let tokens = self.tokenizer.encode(&text, !templated);
        if tokens.is_empty() { Ok(vec![self.prefix_token()?]) } else { Ok(tokens) }
    }

    /// The prompt as the model reads it, special tokens included, without the first `dropped`.
    pub fn shown(&self, prompt: &Prompt, dropped: usize) -> Result<String, ModelError> {
        let (text, templated) = self.text(prompt)?;
        let tokens = self.tokenizer.encode(&text, !templated);
        Ok(self.tokenizer.decode(tokens.get(dropped..).unwrap_or_default(), false))
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
    pub(super) fn text(&self, prompt: &Prompt) -> Result<(String, bool), ModelError> {
        match prompt {
            Prompt::Text(text) => Ok((text.clone(), false)),
            Prompt::Chat(messages) => {
                let none = "this model has no chat_template.jinja; evaluate it without --chat";
                let template = self.template.ok_or_else(|| ModelError::Request(none.into()))?;
                let known = self.tokenizer.special_tokens_map();
                let variables = known.iter().map(|(k, v)| (k.clone(), v.clone().into())).collect();
                let (messages, begun) = match messages.split_last() {
                    Some((last, before)) if last.role == "assistant" => (before, last.content.as_str()),
                    _ => (messages.as_slice(), ""),
                };
                Ok((template.render(messages, true, &variables)?.text + begun, true))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smolt_text::template::Message;
    use std::path::Path;

    #[test]
    fn an_answer_that_is_begun_stands_in_the_assistants_turn_and_cut_prompts_are_shown_cut() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/text/tokenizer");
        let tokenizer = Tokenizer::load(&folder.join("tokenizer.json")).unwrap();
        let source = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}\
            {% if add_generation_prompt %}[assistant] {% endif %}";
        let template = ChatTemplate::new(source).unwrap();
        let encoder = Encoder { tokenizer: &tokenizer, template: Some(&template), end_tokens: Vec::new() };
        let user = Message::new("user", "Which?");
        let begun = Prompt::Chat(vec![user.clone(), Message::new("assistant", "It is")]);
        assert_eq!(encoder.shown(&begun, 0).unwrap(), "[user] Which?\n[assistant] It is");
        assert_eq!(encoder.shown(&Prompt::Chat(vec![user]), 0).unwrap(), "[user] Which?\n[assistant] ");
        encoder.check_tags().unwrap();
        let all = encoder.prompt(&begun).unwrap();
        assert_eq!(
            encoder.shown(&begun, all.len() - 1).unwrap(),
            tokenizer.decode(&all[all.len() - 1..], false)
        );
    }

    #[test]
    fn tags_among_the_special_tokens_are_refused() {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/text/tokenizer/tokenizer.json");
        let mut json: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let mut token = json["added_tokens"][0].clone();
        token["id"] = json["model"]["vocab"].as_object().unwrap().len().into();
        token["content"] = "</think>".into();
        json["added_tokens"].as_array_mut().unwrap().push(token);
        let tokenizer = Tokenizer::from_json(json.to_string().as_bytes(), &path).unwrap();
        let encoder = Encoder { tokenizer: &tokenizer, template: None, end_tokens: Vec::new() };
        assert!(encoder.check_tags().unwrap_err().to_string().contains("`special` to false"));
    }
}
