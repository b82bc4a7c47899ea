//! Batched generation: prompts take turns in the cache's slots until each has ended.

use crate::decoder::{Decoder, Error, Row};
use crate::sampling::Sampling;
use smolt_run::random::Stream;

/// When and how to generate.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Most tokens per answer.
    pub max_tokens: usize,
    /// Tokens that end an answer.
    pub stop: Vec<u32>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Key of the random streams: prompt `i` draws from its own, so batching does not change it.
    pub seed: u64,
}

/// An answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Generation {
    /// The tokens, without the one that stopped it.
    pub tokens: Vec<u32>,
    /// Whether a stop token ended it.
    pub stopped: bool,
}

struct Active {
    prompt: usize,
    slot: u32,
    position: u32,
    stream: Stream,
    /// Tokens to feed next: the whole prompt at first, then one.
    pending: Vec<u32>,
}

/// Answers every prompt, in order of the prompts; `on_token(prompt, token)` sees tokens as they come.
///
/// # Errors
/// A prompt that is empty is answered with nothing; one that leaves no room for `max_tokens` is an error.
pub fn generate(
    decoder: &mut Decoder<'_>,
    prompts: &[Vec<u32>],
    settings: &Settings,
    mut on_token: impl FnMut(usize, u32),
) -> Result<Vec<Generation>, Error> {
    let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
    if longest + settings.max_tokens > decoder.capacity() + 1 {
        return Err(Error::TooLong { needed: longest + settings.max_tokens, capacity: decoder.capacity() });
    }
    let mut answers = vec![Generation::default(); prompts.len()];
    let mut waiting = (0..prompts.len()).filter(|&i| !prompts[i].is_empty() && settings.max_tokens > 0);
    let mut free: Vec<u32> = (0..decoder.slots() as u32).rev().collect();
    let mut active: Vec<Active> = Vec::new();
    loop {
        while let Some(&slot) = free.last() {
            let Some(prompt) = waiting.next() else { break };
            free.pop();
            let stream = Stream::new(settings.seed, "sampling", prompt as u64);
            active.push(Active { prompt, slot, position: 0, stream, pending: prompts[prompt].clone() });
        }
        if active.is_empty() {
            return Ok(answers);
        }
        let mut rows = Vec::new();
        let mut owner = Vec::new();
        for (a, sequence) in active.iter_mut().enumerate() {
            let last = sequence.pending.len() - 1;
            for (i, token) in sequence.pending.drain(..).enumerate() {
                let position = sequence.position + i as u32;
                rows.push(Row { slot: sequence.slot, position, token, wanted: i == last });
                owner.push(a);
            }
            sequence.position += last as u32 + 1;
        }
        decoder.feed(&rows, |row, logits| {
            let sequence = &mut active[owner[row]];
            let token = settings.sampling.choose(logits, &mut sequence.stream);
            let answer = &mut answers[sequence.prompt];
            answer.stopped = settings.stop.contains(&token);
            if !answer.stopped {
                answer.tokens.push(token);
                on_token(sequence.prompt, token);
                if answer.tokens.len() < settings.max_tokens {
                    sequence.pending.push(token);
                }
            }
        })?;
        active.retain(|sequence| {
            let live = !sequence.pending.is_empty();
            if !live {
                free.push(sequence.slot);
            }
            live
        });
    }
}
