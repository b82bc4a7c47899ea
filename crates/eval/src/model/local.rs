//! A model in memory, read from a Hugging Face folder.

use super::{
    Continuation, Finish, Generated, Heard, Model, ModelError, OnDone, Prompt, Request, Scored, TextScore,
    Writing,
};
use smolt_infer::sampling::Sampling;
use smolt_infer::{Choice, Decoder, Question, Said, Settings, generate, rolling, score};
use smolt_model::Transformer;
use smolt_tensor::Cpu;
use smolt_tensor::gemm::Precision;
use smolt_text::template::ChatTemplate;
use smolt_text::tokenizer::Tokenizer;
use std::ops::ControlFlow;

/// Whether a beginning-of-text token goes before prompts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bos {
    /// Whatever the tokenizer's file says, as transformers does.
    #[default]
    Tokenizer,
    /// This one.
    Always(u32),
}

/// A model with its tokenizer.
pub struct LocalModel<'m> {
    /// Where it runs.
    pub cpu: &'m Cpu,
    /// The architecture.
    pub model: &'m Transformer,
    /// Its weights.
    pub weights: &'m [f32],
    /// Arithmetic of products.
    pub precision: Precision,
    /// Sequences that share the cache.
    pub slots: usize,
    /// Its tokenizer.
    pub tokenizer: &'m Tokenizer,
    /// Its chat template, where it has one.
    pub template: Option<&'m ChatTemplate>,
    /// What goes before a text.
    pub bos: Bos,
    /// Tokens that end an answer; the first also stands before text that has nothing before it.
    pub end_tokens: Vec<u32>,
}

impl<'m> LocalModel<'m> {
    /// Most tokens of a sequence.
    fn context(&self) -> usize {
        self.model.config().max_position_embeddings
    }

    /// A decoder with room for sequences of `longest` tokens: caches of a long context are large.
    fn decoder(&self, longest: usize) -> Decoder<'m> {
        let capacity = longest.next_multiple_of(64).min(self.context());
        Decoder::new(self.cpu, self.model, self.weights, self.precision, self.slots, capacity)
    }

    /// A whole text as tokens, with what goes before it.
    fn encode(&self, text: &str) -> Vec<u32> {
        match self.bos {
            Bos::Tokenizer => self.tokenizer.encode(text, true),
            Bos::Always(bos) => std::iter::once(bos).chain(self.tokenizer.encode(text, false)).collect(),
        }
    }

    /// Stands before text that has nothing before it.
    fn prefix_token(&self) -> Result<u32, ModelError> {
        let bos = match self.bos {
            Bos::Always(bos) => Some(bos),
            Bos::Tokenizer => self.tokenizer.encode("", true).first().copied(),
        };
        let none =
            "the model has neither a beginning nor an end token, so a text has nothing to be predicted from";
        bos.or(self.end_tokens.first().copied()).ok_or_else(|| ModelError::Request(none.into()))
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

    fn tokens(&self, text: &str, templated: bool) -> Vec<u32> {
        if templated { self.tokenizer.encode(text, false) } else { self.encode(text) }
    }

    /// A request as tokens. White space at the end of the prompt belongs to the continuation, which is what is left of
    /// prompt and continuation, encoded together, after the tokens of the prompt.
    fn question(&self, request: &Request) -> Result<(Question, usize), ModelError> {
        let (text, templated) = self.text(&request.prompt)?;
        let stem = if templated { text.as_str() } else { text.trim_end() };
        let space = &text[stem.len()..];
        let mut prompt = self.tokens(stem, templated);
        let mut choices = Vec::with_capacity(request.continuations.len());
        for continuation in &request.continuations {
            let whole = self.tokens(&format!("{stem}{space}{continuation}"), templated);
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
        let longest = choices.iter().map(Vec::len).max().unwrap_or(0);
        let dropped = self.cut(&mut prompt, longest.saturating_sub(1))?;
        Ok((Question { prompt, choices }, dropped))
    }

    /// Cuts a prompt from the left so that `after` more tokens fit; how many were cut.
    fn cut(&self, prompt: &mut Vec<u32>, after: usize) -> Result<usize, ModelError> {
        let capacity = self.context();
        if after >= capacity {
            return Err(ModelError::Request(format!(
                "{after} tokens after the prompt do not fit a context of {capacity}"
            )));
        }
        let dropped = (prompt.len() + after).saturating_sub(capacity);
        prompt.drain(..dropped);
        Ok(dropped)
    }
}

impl Model for LocalModel<'_> {
    fn score(&mut self, requests: &[Request], on_done: OnDone<'_>) -> Result<Vec<Scored>, ModelError> {
        let posed = requests.iter().map(|request| self.question(request)).collect::<Result<Vec<_>, _>>()?;
        let (questions, dropped): (Vec<Question>, Vec<usize>) = posed.into_iter().unzip();
        let longest = questions.iter().map(Question::room).max().unwrap_or(1);
        let mut done = 0;
        let continuation = |choice: &Choice| Continuation {
            log_likelihood: choice.log_likelihood,
            tokens: choice.tokens.len(),
            greedy: choice.greedy,
        };
        let scores = score(&mut self.decoder(longest), &questions, |at, choices| {
            done += 1;
            on_done(done, Heard::Scored(at, &choices.iter().map(continuation).collect::<Vec<_>>()));
        })?;
        Ok(scores
            .into_iter()
            .zip(dropped)
            .map(|(choices, dropped_tokens)| Scored {
                continuations: choices.iter().map(continuation).collect(),
                dropped_tokens,
            })
            .collect())
    }

    fn write(
        &mut self,
        prompts: &[Prompt],
        writing: &Writing,
        on_done: OnDone<'_>,
    ) -> Result<Vec<Vec<Generated>>, ModelError> {
        let samples = writing.samples.max(1);
        let mut encoded = Vec::with_capacity(prompts.len() * samples);
        let mut dropped = Vec::with_capacity(prompts.len());
        for prompt in prompts {
            let (text, templated) = self.text(prompt)?;
            let mut tokens = self.tokens(&text, templated);
            if tokens.is_empty() {
                tokens.push(self.prefix_token()?);
            }
            dropped.push(self.cut(&mut tokens, writing.max_tokens.saturating_sub(1))?);
            encoded.extend(std::iter::repeat_n(tokens, samples));
        }
        let settings = Settings {
            max_tokens: writing.max_tokens,
            stop: self.end_tokens.clone(),
            sampling: Sampling { temperature: writing.temperature, top_k: 0, top_p: writing.top_p },
            seed: writing.seed,
        };
        let mut texts = vec![String::new(); encoded.len()];
        let mut streams: Vec<_> = encoded.iter().map(|_| self.tokenizer.stream_decoder()).collect();
        let mut written: Vec<Option<Generated>> = vec![None; encoded.len()];
        let mut tokens = vec![0; encoded.len()];
        let mut done = 0;
        let longest = encoded.iter().map(Vec::len).max().unwrap_or(0) + writing.max_tokens;
        generate(&mut self.decoder(longest), &encoded, &settings, |at, said| match said {
            Said::Token(token) => {
                tokens[at] += 1;
                texts[at].push_str(&streams[at].push(token));
                match cut_at_stop(&mut texts[at], &writing.stop) {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            }
            Said::End(finish) => {
                let prompt = at / samples;
                let mut text = std::mem::take(&mut texts[at]);
                let finish = match finish {
                    smolt_infer::Finish::Stop => Finish::EndToken,
                    smolt_infer::Finish::Caller => Finish::StopString,
                    smolt_infer::Finish::Length => Finish::Length,
                };
                if finish != Finish::StopString {
                    text.push_str(&streams[at].finish());
                }
                done += 1;
                let answer = Generated { text, finish, tokens: tokens[at], dropped_tokens: dropped[prompt] };
                on_done(done / samples, Heard::Written(prompt, &answer));
                written[at] = Some(answer);
                ControlFlow::Continue(())
            }
        })?;
        let all: Vec<Generated> = written.into_iter().flatten().collect();
        Ok(all.chunks(samples).map(<[Generated]>::to_vec).collect())
    }

    fn read(&mut self, texts: &[String], on_done: OnDone<'_>) -> Result<Vec<TextScore>, ModelError> {
        let encoded: Vec<Vec<u32>> = texts.iter().map(|text| self.tokenizer.encode(text, false)).collect();
        let total: usize = encoded.iter().map(Vec::len).sum();
        let (mut done, prefix) = (0, self.prefix_token()?);
        let longest = encoded.iter().map(Vec::len).max().unwrap_or(1);
        let logs = rolling(&mut self.decoder(longest), prefix, &encoded, |tokens| {
            done += tokens;
            // Progress is told in texts; tokens are what takes time.
            on_done(texts.len() * done / total.max(1), Heard::Nothing);
        })?;
        let score = |(text, logs): (&String, Vec<f32>)| TextScore {
            log_likelihood: logs.iter().map(|&ln| f64::from(ln)).sum(),
            tokens: logs.len(),
            bytes: text.len(),
        };
        Ok(texts.iter().zip(logs).map(score).collect())
    }

    fn shown(&self, prompt: &Prompt) -> Result<String, ModelError> {
        let (text, templated) = self.text(prompt)?;
        Ok(self.tokenizer.decode(&self.tokens(&text, templated), false))
    }
}

/// Cuts a text before the first of its stop strings; whether there was one.
pub(crate) fn cut_at_stop(text: &mut String, stop: &[String]) -> bool {
    let first = stop.iter().filter(|stop| !stop.is_empty()).filter_map(|stop| text.find(stop.as_str())).min();
    if let Some(at) = first {
        text.truncate(at);
    }
    first.is_some()
}
