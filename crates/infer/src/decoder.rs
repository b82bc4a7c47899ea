//! A model with a key–value cache: rows of several sequences in, logits or log-probabilities of the wanted ones out.

use crate::prefix::common;
use smolt_model::Transformer;
use smolt_model::transformer::DecodePass;
use smolt_tensor::Cpu;
use smolt_tensor::gemm::{FEW_ROWS, Precision};
use smolt_tensor::ops::linear_log_probs::{LogProb, Query};
use smolt_tensor::tape::{KvCache, Run, Var};
use std::cmp::Reverse;

/// Rows fed to the model at once; more are fed in pieces. So many that packing the weights, which each pass does anew,
/// costs little beside multiplying them.
pub const MAX_ROWS: usize = 1024;

/// Logits that exist at one time (16 MiB), if [`FEWEST`] rows have no more.
const LOGITS: usize = 4 << 20;

/// Rows whose logits may exist at one time in any case.
const FEWEST: usize = 32;

/// Compiled passes that are kept; each holds the activations of its rows.
const PASSES: usize = 8;

/// A token of a sequence to feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The sequence's place in the cache.
    pub slot: u32,
    /// The token's position in its sequence. Feeding a position again replaces it.
    pub position: u32,
    /// The token.
    pub token: u32,
    /// Whether its logits are wanted.
    pub wanted: bool,
}

/// Whether prompts that begin alike are computed once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reuse {
    /// What a slot of the cache holds already is not fed again, and copied between slots.
    #[default]
    Prefix,
    /// Every prompt is fed whole: for measuring what reuse saves.
    None,
}

/// Why rows cannot be fed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// A sequence outgrew the cache or the model.
    #[error(
        "a sequence of {needed} tokens does not fit the context of {capacity}; shorten the prompt or max_tokens"
    )]
    TooLong {
        /// Tokens needed.
        needed: usize,
        /// Tokens there is room for.
        capacity: usize,
    },
    /// A token the model has no embedding for.
    #[error(
        "token {token} is beyond the model's vocabulary of {vocab_size}; model and tokenizer do not belong together"
    )]
    UnknownToken {
        /// The token.
        token: u32,
        /// The vocabulary.
        vocab_size: usize,
    },
    /// Logits that are no numbers: whatever is chosen by them is no choice of the model's.
    #[error("what the model predicts is not a number; its weights are damaged or it diverged")]
    NotANumber {
        /// After which prompt, counted from 0.
        prompt: usize,
    },
    /// A continuation of nothing.
    #[error(
        "question {question} has an empty prompt, which predicts nothing; begin it with the tokenizer's bos or eos token"
    )]
    EmptyPrompt {
        /// Which, counted from 0.
        question: usize,
    },
}

/// A model with room for several growing sequences.
pub struct Decoder<'m> {
    cpu: &'m Cpu,
    model: &'m Transformer,
    weights: &'m [f32],
    precision: Precision,
    cache: KvCache,
    /// By number of rows, the last used last.
    passes: Vec<(usize, DecodePass)>,
    /// What each slot holds from position 0 on, as far as it was computed by wide passes.
    held: Vec<Vec<u32>>,
    logits: Vec<f32>,
    rows_fed: u64,
    /// Whether [`score`](crate::score()) and [`generate`](crate::generate()) compute prompts that begin alike once.
    pub reuse: Reuse,
}

impl<'m> Decoder<'m> {
    /// Room for `slots` sequences of up to `capacity` tokens, at least one of each and at most what the model has positions
    /// for.
    pub fn new(
        cpu: &'m Cpu,
        model: &'m Transformer,
        weights: &'m [f32],
        precision: Precision,
        slots: usize,
        capacity: usize,
    ) -> Decoder<'m> {
        let c = model.config();
        let (slots, capacity) = (slots.max(1), capacity.min(c.longest_sequence()).max(1));
        let cache = model.cache(slots, capacity);
        Decoder {
            cpu,
            model,
            weights,
            precision,
            cache,
            passes: Vec::new(),
            held: vec![Vec::new(); slots],
            logits: Vec::new(),
            rows_fed: 0,
            reuse: Reuse::default(),
        }
    }

    /// Sequences there is room for.
    pub fn slots(&self) -> usize {
        self.cache.slots
    }

    /// Tokens per sequence there is room for.
    pub fn capacity(&self) -> usize {
        self.cache.capacity
    }

    /// Vocabulary size.
    pub fn vocab_size(&self) -> usize {
        self.model.config().vocab_size
    }

    /// Rows that were computed since the decoder was made, padding not counted: what reuse saves is missing from it.
    pub fn rows_fed(&self) -> u64 {
        self.rows_fed
    }

    /// Feeds `rows` (each slot's positions ascending) and calls `logits(i, &[vocab])` for every wanted
    /// row `rows[i]`, in order.
    ///
    /// Rows of one call see each other only along their own slot, so the grouping of sequences does
    /// not change what a sequence sees.
    pub fn feed(&mut self, rows: &[Row], logits: impl FnMut(usize, &[f32])) -> Result<(), Error> {
        self.feed_by(rows, false, logits)
    }

    /// [`Decoder::feed`]; with `wide`, by passes in which a row has the same bits whatever the rows beside it.
    pub(crate) fn feed_by(
        &mut self,
        rows: &[Row],
        wide: bool,
        mut logits: impl FnMut(usize, &[f32]),
    ) -> Result<(), Error> {
        for row in rows {
            self.check_length(row.position as usize + 1)?;
            self.check_token(row.token)?;
            assert!((row.slot as usize) < self.slots(), "slot {} of {}", row.slot, self.slots());
        }
        let vocab = self.vocab_size();
        for (piece, rows) in rows.chunks(MAX_ROWS).enumerate() {
            let wanted: Vec<u32> = (0..rows.len() as u32).filter(|&i| rows[i as usize].wanted).collect();
            let (cpu, model, weights) = (self.cpu, self.model, self.weights);
            let mut buffer = std::mem::take(&mut self.logits);
            let pass = self.run(rows, wide);
            for some in wanted.chunks((LOGITS / vocab.max(1)).max(FEWEST)) {
                let mut asked = some.to_vec();
                if wide {
                    asked.resize(asked.len().max(FEW_ROWS + 1), some[0]);
                }
                buffer.resize(asked.len() * vocab, 0.0);
                pass.logits(cpu, model, weights, &asked, &mut buffer);
                for (row, &i) in buffer.chunks_exact(vocab).zip(some) {
                    logits(piece * MAX_ROWS + i as usize, row);
                }
            }
            self.logits = buffer;
        }
        Ok(())
    }

    /// Feeds up to [`MAX_ROWS`] checked rows by a wide pass and answers queries about them, one after another.
    pub(crate) fn log_probs(&mut self, rows: &[Row], queries: &[Query]) -> Vec<LogProb> {
        let mut answers = vec![LogProb::default(); queries.len()];
        let (cpu, model, weights) = (self.cpu, self.model, self.weights);
        self.run(rows, true).log_probs(cpu, model, weights, queries, &mut answers);
        answers
    }

    /// Refuses sequences that outgrow the cache.
    pub(crate) fn check_length(&self, needed: usize) -> Result<(), Error> {
        let capacity = self.capacity();
        if needed > capacity { Err(Error::TooLong { needed, capacity }) } else { Ok(()) }
    }

    /// Refuses tokens beyond the vocabulary.
    pub(crate) fn check_token(&self, token: u32) -> Result<(), Error> {
        let vocab_size = self.vocab_size();
        if token as usize >= vocab_size { Err(Error::UnknownToken { token, vocab_size }) } else { Ok(()) }
    }

    /// The beginning of a slot's sequence that another one may be given.
    pub(crate) fn held(&self, slot: u32) -> &[u32] {
        &self.held[slot as usize]
    }

    /// Lets `slot` begin with as many of `tokens` as any slot holds, copied if need be; returns how many.
    pub(crate) fn begin(&mut self, slot: u32, tokens: &[u32]) -> usize {
        if self.reuse == Reuse::None {
            return 0;
        }
        let slot = slot as usize;
        let own = common(&self.held[slot], tokens);
        let all = self.held.iter().map(|held| common(held, tokens)).enumerate();
        match all.max_by_key(|&(other, len)| (len, Reverse(other))) {
            Some((other, len)) if len > own => {
                self.cache.copy(other, slot, own..len);
                self.held[slot].truncate(own);
                self.held[slot].extend_from_slice(&tokens[own..len]);
                len
            }
            _ => own,
        }
    }

    /// Runs one pass over up to [`MAX_ROWS`] rows and returns it.
    fn run(&mut self, rows: &[Row], wide: bool) -> &DecodePass {
        let shape = shape(rows.len(), wide);
        let at = match self.passes.iter().position(|&(n, _)| n == shape) {
            Some(at) => at,
            None => {
                if self.passes.len() == PASSES {
                    self.passes.remove(0);
                }
                self.passes.push((shape, self.model.decode_pass(shape, self.precision)));
                self.passes.len() - 1
            }
        };
        self.passes[at..].rotate_left(1);
        let last = self.passes.len() - 1;
        let pass = &mut self.passes[last].1;
        fill(pass, rows);
        pass.program.run(Run {
            cpu: self.cpu,
            layout: self.model.layout(),
            weights: self.weights,
            grads: None,
            cache: Some(&mut self.cache),
        });
        self.rows_fed += rows.len() as u64;
        for row in rows {
            let (held, position) = (&mut self.held[row.slot as usize], row.position as usize);
            held.truncate(position);
            if held.len() == position && shape > FEW_ROWS {
                held.push(row.token);
            }
        }
        &self.passes[last].1
    }
}

/// Rows of the pass that serves so many: few different ones, and little padding where rows are many.
fn shape(rows: usize, wide: bool) -> usize {
    match rows {
        0..=FEW_ROWS if !wide => rows.next_power_of_two(),
        0..=32 => 32,
        _ => rows.next_multiple_of(64),
    }
}

/// Fills the inputs of a pass, the rest with padding.
fn fill(pass: &mut DecodePass, rows: &[Row]) {
    let mut set = |input: Var, value: fn(&Row) -> u32, padding: u32| {
        let values = rows.iter().map(value).chain(std::iter::repeat(padding));
        pass.program.input_mut(input).iter_mut().zip(values).for_each(|(to, value)| *to = value);
    };
    set(pass.tokens, |row| row.token, 0);
    set(pass.slots, |row| row.slot, u32::MAX);
    set(pass.positions, |row| row.position, 0);
}

#[cfg(test)]
mod tests {
    use super::{FEW_ROWS, MAX_ROWS, shape};

    #[test]
    fn shapes_hold_their_rows_with_little_padding_and_wide_ones_are_wide() {
        for rows in 1..=MAX_ROWS {
            let (narrow, wide) = (shape(rows, false), shape(rows, true));
            assert!(narrow >= rows && wide >= rows && wide > FEW_ROWS && wide <= MAX_ROWS);
            assert!(narrow < 2 * rows && (rows < 256 || 4 * narrow < 5 * rows), "{rows} → {narrow}");
            assert!(narrow <= FEW_ROWS || narrow == wide, "a pass of many rows is wide");
        }
    }
}
