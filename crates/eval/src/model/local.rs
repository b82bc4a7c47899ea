//! A model in memory, read from a Hugging Face folder.

use super::encoder::Encoder;
use super::stop::Stops;
use super::{
    Continuation, Finish, Generated, Heard, Model, ModelError, OnDone, Prompt, Request, Scored, TextScore,
    Writing,
};
use crate::score::reasoning;
use smolt_infer::decoder::Error;
use smolt_infer::sampling::Sampling;
use smolt_infer::{Choice, Decoder, Question, Said, Settings, generate, rolling, score};
use smolt_model::Transformer;
use smolt_tensor::Cpu;
use smolt_tensor::gemm::Precision;
use smolt_tensor::ops::linear_log_probs::of_logits;
use std::ops::ControlFlow;

/// Sequences that share the cache: more of short ones, because full passes need less padding and packing of weights, and
/// no fewer of long ones than this.
const FEWEST_SLOTS: usize = 16;
/// No more of short ones than this.
const MOST_SLOTS: usize = 32;
/// Tokens that all of them hold, unless the fewest hold more.
const CACHE_TOKENS: usize = 8 << 10;

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
    /// From text to its tokens.
    pub encoder: Encoder<'m>,
    /// Most tokens of a sequence; prompts that leave no room for what follows them are cut from the left.
    pub context: usize,
}

impl<'m> LocalModel<'m> {
    /// A decoder with room for sequences of `longest` tokens: caches of a long context are large.
    fn decoder(&self, longest: usize) -> Decoder<'m> {
        let capacity = longest.next_multiple_of(64).min(self.context);
        let slots = (CACHE_TOKENS / capacity.max(1)).clamp(FEWEST_SLOTS, MOST_SLOTS);
        Decoder::new(self.cpu, self.model, self.weights, self.precision, slots, capacity)
    }

    /// A request as tokens, cut to the context; how many tokens were cut.
    fn question(&self, request: &Request) -> Result<(Question, usize), ModelError> {
        let mut question = self.encoder.question(request)?;
        let longest = question.choices.iter().map(Vec::len).max().unwrap_or(0);
        let dropped = self.cut(&mut question.prompt, longest.saturating_sub(1))?;
        Ok((question, dropped))
    }

    /// Prompts as tokens, cut to leave room for answers.
    fn begin(&self, prompts: &[Prompt], writing: &Writing) -> Result<Vec<Begun>, ModelError> {
        let begun = |prompt: &Prompt| {
            let mut tokens = self.encoder.prompt(prompt)?;
            let dropped = self.cut(&mut tokens, writing.max_tokens.saturating_sub(1))?;
            let open = reasoning::opened(&self.encoder.text(prompt)?.0);
            if open.is_some() && writing.stop_after_reasoning {
                // Without its closing tag, no answer would ever begin.
                self.encoder.check_tags()?;
            }
            Ok(Begun { tokens, dropped, open })
        };
        prompts.iter().map(begun).collect()
    }

    /// Cuts a prompt from the left so that `after` more tokens fit; how many were cut.
    fn cut(&self, prompt: &mut Vec<u32>, after: usize) -> Result<usize, ModelError> {
        let capacity = self.context;
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

/// A prompt that an answer is written to.
struct Begun {
    tokens: Vec<u32>,
    /// Tokens cut from its left.
    dropped: usize,
    /// The tag with which it ends, where it opens a block of reasoning.
    open: Option<&'static str>,
}

impl From<smolt_infer::Finish> for Finish {
    fn from(finish: smolt_infer::Finish) -> Finish {
        match finish {
            smolt_infer::Finish::Stop => Finish::EndToken,
            smolt_infer::Finish::Caller => Finish::StopString,
            smolt_infer::Finish::Length => Finish::Length,
        }
    }
}

impl Model for LocalModel<'_> {
    fn score(&mut self, requests: &[Request], on_done: OnDone<'_>) -> Result<Vec<Scored>, ModelError> {
        let posed = requests.iter().map(|request| self.question(request)).collect::<Result<Vec<_>, _>>()?;
        let (questions, dropped): (Vec<Question>, Vec<usize>) = posed.into_iter().unzip();
        let longest = questions.iter().map(Question::room).max().unwrap_or(1);
        let continuation = |choice: &Choice| Continuation {
            log_likelihood: choice.log_likelihood,
            tokens: choice.tokens.len(),
            greedy: choice.greedy,
        };
        let mut scored = vec![Scored::default(); requests.len()];
        let mut done = 0;
        score(&mut self.decoder(longest), &questions, |at, choices| {
            done += 1;
            let continuations = choices.iter().map(continuation).collect();
            scored[at] = Scored { continuations, dropped_tokens: dropped[at] };
            on_done(done, Heard::Scored(at, &scored[at]));
        })?;
        Ok(scored)
    }

    fn write(
        &mut self,
        prompts: &[Prompt],
        writing: &Writing,
        on_done: OnDone<'_>,
    ) -> Result<Vec<Vec<Generated>>, ModelError> {
        let samples = writing.samples.max(1);
        let (stops, read) = (Stops::of(writing), self.begin(prompts, writing)?);
        let encoded: Vec<Vec<u32>> =
            read.iter().flat_map(|begun| std::iter::repeat_n(begun.tokens.clone(), samples)).collect();
        let settings = Settings {
            max_tokens: writing.max_tokens,
            stop: self.encoder.end_tokens.clone(),
            sampling: Sampling { temperature: writing.temperature, top_k: 0, top_p: writing.top_p },
            seed: writing.seed,
        };
        let mut texts = vec![String::new(); encoded.len()];
        let mut streams: Vec<_> = encoded.iter().map(|_| self.encoder.tokenizer.stream_decoder()).collect();
        let mut written: Vec<Option<Generated>> = vec![None; encoded.len()];
        let (mut tokens, mut logs) = (vec![0; encoded.len()], vec![0.0; encoded.len()]);
        let isa = self.cpu.isa;
        let mut done = 0;
        let longest = encoded.iter().map(Vec::len).max().unwrap_or(0) + writing.max_tokens;
        let generated = generate(&mut self.decoder(longest), &encoded, &settings, |at, said| match said {
            Said::Token(token, logits) => {
                tokens[at] += 1;
                logs[at] += of_logits(isa, logits, token);
                texts[at].push_str(&streams[at].push(token));
                match stops.cut(&mut texts[at], read[at / samples].open) {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            }
            Said::End(finish) => {
                let prompt = at / samples;
                let mut text = std::mem::take(&mut texts[at]);
                let finish = Finish::from(finish);
                if finish != Finish::StopString {
                    text.push_str(&streams[at].finish());
                }
                done += 1;
                let dropped_tokens = read[prompt].dropped;
                let log_likelihood = Some(logs[at]);
                let answer = Generated { text, finish, tokens: tokens[at], log_likelihood, dropped_tokens };
                on_done(done / samples, Heard::Written(prompt, at % samples, &answer));
                written[at] = Some(answer);
                ControlFlow::Continue(())
            }
        });
        match generated {
            Err(Error::NotANumber { prompt }) => {
                let prompt = prompt / samples;
                let shown = self.shown(&prompts[prompt], read[prompt].dropped)?;
                return Err(ModelError::not_a_number(&shown));
            }
            generated => generated?,
        };
        let all: Vec<Generated> = written.into_iter().flatten().collect();
        Ok(all.chunks(samples).map(<[Generated]>::to_vec).collect())
    }

    fn read(&mut self, texts: &[String], on_done: OnDone<'_>) -> Result<Vec<TextScore>, ModelError> {
        let encoded: Vec<Vec<u32>> =
            texts.iter().map(|text| self.encoder.tokenizer.encode(text, false)).collect();
        let total: usize = encoded.iter().map(Vec::len).sum();
        let (mut done, prefix) = (0, self.encoder.prefix_token()?);
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

    fn shown(&self, prompt: &Prompt, dropped: usize) -> Result<String, ModelError> {
        self.encoder.shown(prompt, dropped)
    }

    fn tokens(&self, text: &str) -> Option<usize> {
        Some(self.encoder.tokenizer.encode(text, false).len())
    }
}
