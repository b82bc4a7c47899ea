//! Batched generation: prompts take turns in the cache's slots until each has ended.

use crate::decoder::{Decoder, Error, Row};
use crate::prefix::Queue;
use crate::sampling::Sampling;
use smolt_run::hash;
use smolt_run::random::Stream;
use std::collections::HashMap;
use std::ops::ControlFlow;

/// When and how to generate.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Most tokens per answer.
    pub max_tokens: usize,
    /// Tokens that end an answer.
    pub stop: Vec<u32>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Key of the random streams. A prompt draws from its own, which its tokens and the number of equal prompts before it
    /// decide: neither batching nor what else is asked changes what it draws.
    pub seed: u64,
}

/// What ended an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Finish {
    /// A stop token.
    Stop,
    /// The caller.
    Caller,
    /// The limit of tokens.
    #[default]
    Length,
}

/// What is told of an answer while it is written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Said<'a> {
    /// The next token, and the logits that it was chosen by, `[vocab]`.
    Token(u32, &'a [f32]),
    /// It is whole.
    End(Finish),
}

/// An answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Generation {
    /// The tokens, without a stop token that ended it.
    pub tokens: Vec<u32>,
    /// What ended it.
    pub finish: Finish,
}

struct Active {
    prompt: usize,
    slot: u32,
    position: u32,
    stream: Stream,
    /// Tokens to feed next: what is not in the cache of the prompt at first, then one.
    pending: Vec<u32>,
    /// Whether the prompt has been fed.
    begun: bool,
}

impl Active {
    /// The pending tokens as rows, of which the last is wanted.
    fn rows(&mut self) -> impl Iterator<Item = Row> + use<> {
        let (slot, first, count) = (self.slot, self.position, self.pending.len() as u32);
        self.position += count;
        let rows = (first..).zip(std::mem::take(&mut self.pending));
        rows.map(move |(position, token)| Row {
            slot,
            position,
            token,
            wanted: position + 1 == first + count,
        })
    }
}

/// Answers every prompt, in order of the prompts; `on_said(prompt, said)` sees tokens as they come, may end the answer with
/// the token it was told, and is told the end of each. Prompts that begin alike, or are the same, share the computation of what they
/// share, unless [`Decoder::reuse`] says otherwise.
///
/// # Errors
/// A prompt that is empty is answered with nothing; one that leaves no room for `max_tokens` is an error, and so are logits
/// that are not numbers.
pub fn generate(
    decoder: &mut Decoder<'_>,
    prompts: &[Vec<u32>],
    settings: &Settings,
    mut on_said: impl FnMut(usize, Said<'_>) -> ControlFlow<()>,
) -> Result<Vec<Generation>, Error> {
    check_room(decoder, prompts, settings.max_tokens)?;
    let mut answers = vec![Generation::default(); prompts.len()];
    let (asked, silent): (Vec<usize>, Vec<usize>) =
        (0..prompts.len()).partition(|&i| !prompts[i].is_empty() && settings.max_tokens > 0);
    for prompt in silent {
        let _ = on_said(prompt, Said::End(Finish::Length));
    }
    let mut queue = Queue::new(asked.into_iter().map(|i| (i, prompts[i].as_slice())));
    let mut free: Vec<u32> = (0..decoder.slots() as u32).collect();
    let mut active: Vec<Active> = Vec::new();
    let streams = streams(prompts, settings.seed);
    let mut broken: Option<usize> = None;
    loop {
        start(&mut queue, decoder, (prompts, &streams), &mut free, &mut active);
        if active.is_empty() {
            return Ok(answers);
        }
        let (rows, owner) = pending(&mut active);
        // Prompts by wide passes, which let others have what they hold; a few tokens by narrow ones, which are faster.
        let wide = active.iter().any(|sequence| !sequence.begun);
        decoder.feed_by(&rows, wide, |row, logits| {
            let sequence = &mut active[owner[row]];
            sequence.begun = true;
            let token = settings.sampling.choose(logits, &mut sequence.stream);
            if !is_choice(token, logits) {
                broken.get_or_insert(sequence.prompt);
                return;
            }
            let answer = &mut answers[sequence.prompt];
            if settings.stop.contains(&token) {
                answer.finish = Finish::Stop;
                return;
            }
            answer.tokens.push(token);
            if on_said(sequence.prompt, Said::Token(token, logits)).is_break() {
                answer.finish = Finish::Caller;
            } else if answer.tokens.len() < settings.max_tokens {
                sequence.pending.push(token);
            }
        })?;
        if let Some(prompt) = broken {
            return Err(Error::NotANumber { prompt });
        }
        active.retain(|sequence| {
            let live = !sequence.pending.is_empty();
            if !live {
                free.push(sequence.slot);
                let _ = on_said(sequence.prompt, Said::End(answers[sequence.prompt].finish));
            }
            live
        });
    }
}

/// The rows of all sequences, and which sequence each belongs to.
fn pending(active: &mut [Active]) -> (Vec<Row>, Vec<usize>) {
    let (mut rows, mut owner) = (Vec::new(), Vec::new());
    for (a, sequence) in active.iter_mut().enumerate() {
        rows.extend(sequence.rows());
        owner.resize(rows.len(), a);
    }
    (rows, owner)
}

/// Refuses prompts that leave no room for an answer.
fn check_room(decoder: &Decoder<'_>, prompts: &[Vec<u32>], max_tokens: usize) -> Result<(), Error> {
    let needed = prompts.iter().map(Vec::len).max().unwrap_or(0) + max_tokens;
    let capacity = decoder.capacity();
    if needed > capacity + 1 { Err(Error::TooLong { needed, capacity }) } else { Ok(()) }
}

/// Whether a token was chosen by numbers: among NaNs any is as good as another.
fn is_choice(token: u32, logits: &[f32]) -> bool {
    logits[token as usize].is_finite() && !logits.iter().any(|logit| logit.is_nan())
}

/// What each prompt draws from.
fn streams(prompts: &[Vec<u32>], seed: u64) -> Vec<Stream> {
    let mut met: HashMap<&[u32], u64> = HashMap::new();
    let mut streams = Vec::with_capacity(prompts.len());
    for prompt in prompts {
        let equal = met.entry(prompt).or_default();
        let bytes: Vec<u8> = prompt.iter().flat_map(|token| token.to_le_bytes()).collect();
        streams.push(Stream::new(seed, &format!("sampling {}", hash::bytes(&bytes)), *equal));
        *equal += 1;
    }
    streams
}

/// Gives free slots prompts.
fn start(
    queue: &mut Queue<'_>,
    decoder: &mut Decoder<'_>,
    (prompts, streams): (&[Vec<u32>], &[Stream]),
    free: &mut Vec<u32>,
    active: &mut Vec<Active>,
) {
    let mut coming: Vec<&[u32]> = Vec::new();
    while let Some(start) = queue.next(decoder, free, &coming) {
        let prompt = prompts[start.index].as_slice();
        coming.push(prompt);
        active.push(Active {
            prompt: start.index,
            slot: start.slot,
            position: start.held as u32,
            stream: streams[start.index].clone(),
            pending: prompt[start.held..].to_vec(),
            begun: false,
        });
    }
}
