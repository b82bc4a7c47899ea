//! An n-gram model over tokens: the baseline that knows the text's surface and nothing else.

use super::encoder::Encoder;
use super::{
    Continuation, Generated, Heard, Model, ModelError, OnDone, Prompt, Request, Scored, TextScore, Writing,
};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Interpolated Witten–Bell n-grams: at each order, P = (count + types·P_lower) / (total + types).
///
/// Contexts are keyed by a 64-bit hash; lookups only, so the maps' order reaches no output.
pub struct NGram {
    order: usize,
    vocab_size: usize,
    /// Hash of (context, token) → count, all orders together.
    counts: Counts<u32>,
    /// Hash of context → (total, distinct tokens).
    contexts: Counts<(u32, u32)>,
}

type Counts<T> = HashMap<u64, T, BuildHasherDefault<Mixed>>;

/// Keys are hashes already.
#[derive(Default)]
struct Mixed(u64);

impl Hasher for Mixed {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&b| self.0 = self.0.rotate_left(8) ^ u64::from(b));
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

fn hash(tokens: &[u32]) -> u64 {
    // FNV-1a over whole tokens with a final mix; the length separates orders.
    let mixed = tokens.iter().fold(0xcbf2_9ce4_8422_2325 ^ tokens.len() as u64, |h, &t| {
        (h ^ u64::from(t)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
    });
    // Tables index by the low bits and tag by the high ones: both must depend on every token.
    let mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    mixed ^ (mixed >> 32)
}

impl NGram {
    /// Counts all n-grams up to `order`, at least 1, within each document.
    pub fn train<'a>(
        order: usize,
        vocab_size: usize,
        documents: impl IntoIterator<Item = &'a [u32]>,
    ) -> NGram {
        let order = order.max(1);
        let mut model = NGram { order, vocab_size, counts: Counts::default(), contexts: Counts::default() };
        for document in documents {
            for end in 1..=document.len() {
                for n in 1..=order.min(end) {
                    model.count(&document[end - n..end]);
                }
            }
        }
        model
    }

    fn count(&mut self, gram: &[u32]) {
        let seen = self.counts.entry(hash(gram)).or_insert(0);
        *seen += 1;
        let new = *seen == 1;
        let (total, types) = self.contexts.entry(hash(&gram[..gram.len() - 1]) ^ 1).or_insert((0, 0));
        *total += 1;
        *types += u32::from(new);
    }

    /// P(token | context), of which the last `order − 1` tokens count.
    pub fn probability(&self, context: &[u32], token: u32) -> f64 {
        let mut p = 1.0 / self.vocab_size as f64;
        let longest = context.len().min(self.order - 1);
        let mut gram = Vec::with_capacity(self.order);
        for n in 0..=longest {
            let context = &context[context.len() - n..];
            let Some(&(total, types)) = self.contexts.get(&(hash(context) ^ 1)) else { break };
            gram.clear();
            gram.extend_from_slice(context);
            gram.push(token);
            let count = self.counts.get(&hash(&gram)).copied().unwrap_or(0);
            p = (f64::from(count) + f64::from(types) * p) / f64::from(total + types);
        }
        p
    }
}

/// An n-gram model that reads text as a language model does. It is a baseline of likelihood: it writes nothing.
pub struct NGramModel<'m> {
    ngram: &'m NGram,
    encoder: Encoder<'m>,
}

impl<'m> NGramModel<'m> {
    /// Reads text as the model does beside which it stands.
    pub fn new(ngram: &'m NGram, encoder: Encoder<'m>) -> NGramModel<'m> {
        NGramModel { ngram, encoder }
    }

    /// ln P of every token of `tokens` after `context`.
    fn logs(&self, context: &[u32], tokens: &[u32]) -> Vec<f64> {
        let all: Vec<u32> = context.iter().chain(tokens).copied().collect();
        let at = context.len()..all.len();
        at.map(|end| self.ngram.probability(&all[..end], all[end]).ln()).collect()
    }
}

impl Model for NGramModel<'_> {
    fn score(&mut self, requests: &[Request], on_done: OnDone<'_>) -> Result<Vec<Scored>, ModelError> {
        let mut answers = Vec::with_capacity(requests.len());
        for (at, request) in requests.iter().enumerate() {
            let question = self.encoder.question(request)?;
            // What it would write takes the whole vocabulary to say, and nobody asks.
            let continuation = |choice: &Vec<u32>| Continuation {
                log_likelihood: self.logs(&question.prompt, choice).iter().sum(),
                tokens: choice.len(),
                greedy: false,
            };
            let continuations: Vec<_> = question.choices.iter().map(continuation).collect();
            let answer = Scored { continuations, dropped_tokens: 0 };
            on_done(at + 1, Heard::Scored(at, &answer));
            answers.push(answer);
        }
        Ok(answers)
    }

    fn write(&mut self, _: &[Prompt], _: &Writing, _: OnDone<'_>) -> Result<Vec<Vec<Generated>>, ModelError> {
        Err(ModelError::Request("an n-gram model is asked for likelihoods alone".into()))
    }

    fn read(&mut self, texts: &[String], on_done: OnDone<'_>) -> Result<Vec<TextScore>, ModelError> {
        let prefix = self.encoder.prefix_token()?;
        let mut scores = Vec::with_capacity(texts.len());
        for text in texts {
            let tokens = self.encoder.tokenizer.encode(text, false);
            let log_likelihood = self.logs(&[prefix], &tokens).iter().sum();
            scores.push(TextScore { log_likelihood, tokens: tokens.len(), bytes: text.len() });
            on_done(scores.len(), Heard::Nothing);
        }
        Ok(scores)
    }

    fn shown(&self, prompt: &Prompt, dropped: usize) -> Result<String, ModelError> {
        self.encoder.shown(prompt, dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_sum_to_one_and_follow_the_text() {
        let text: Vec<u32> = (0..3000).map(|i| [1, 2, 3, 1, 2, 4, 0][i % 7]).collect();
        let model = NGram::train(5, 8, [text.as_slice()]);
        for context in [&[][..], &[1], &[1, 2], &[3, 1, 2], &[7, 7, 7]] {
            let sum: f64 = (0..8).map(|t| model.probability(context, t)).sum();
            assert!((sum - 1.0).abs() < 1e-9, "{context:?}: {sum}");
        }
        assert!(model.probability(&[0, 1, 2], 3) > 0.9 && model.probability(&[3, 1, 2], 4) > 0.9);
        assert!(model.probability(&[7, 1, 2], 3) > 0.3, "backs off to the shorter context");
    }
}
