//! A model with a key–value cache: rows of several sequences in, logits of the wanted ones out.

use smolt_model::Transformer;
use smolt_model::transformer::DecodePass;
use smolt_tensor::Cpu;
use smolt_tensor::gemm::Precision;
use smolt_tensor::tape::{KvCache, Run};
use std::collections::BTreeMap;

/// Rows fed to the model at once; longer prompts are fed in pieces.
pub const MAX_ROWS: usize = 256;

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
}

/// A model with room for several growing sequences.
pub struct Decoder<'m> {
    cpu: &'m Cpu,
    model: &'m Transformer,
    weights: &'m [f32],
    precision: Precision,
    cache: KvCache,
    passes: BTreeMap<(usize, usize), DecodePass>,
}

impl<'m> Decoder<'m> {
    /// Room for `slots` sequences of up to `capacity` tokens (at most the model's own limit).
    pub fn new(
        cpu: &'m Cpu,
        model: &'m Transformer,
        weights: &'m [f32],
        precision: Precision,
        slots: usize,
        capacity: usize,
    ) -> Decoder<'m> {
        let c = model.config();
        let capacity = capacity.min(c.max_position_embeddings);
        let cache = model.cache(slots, capacity);
        Decoder { cpu, model, weights, precision, cache, passes: BTreeMap::new() }
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

    /// Feeds `rows` (each slot's positions ascending) and calls `logits(i, &[vocab])` for every wanted
    /// row `rows[i]`, in order.
    ///
    /// Rows of one call see each other only along their own slot, so the grouping of sequences does
    /// not change what a sequence sees.
    pub fn feed(&mut self, rows: &[Row], mut logits: impl FnMut(usize, &[f32])) -> Result<(), Error> {
        let (capacity, vocab_size) = (self.capacity(), self.vocab_size());
        for row in rows {
            if row.position as usize >= capacity {
                return Err(Error::TooLong { needed: row.position as usize + 1, capacity });
            }
            if row.token as usize >= vocab_size {
                return Err(Error::UnknownToken { token: row.token, vocab_size });
            }
            assert!((row.slot as usize) < self.cache.slots, "slot {} of {}", row.slot, self.cache.slots);
        }
        for (piece, rows) in rows.chunks(MAX_ROWS).enumerate() {
            self.feed_piece(rows, |i, l| logits(piece * MAX_ROWS + i, l));
        }
        Ok(())
    }

    fn feed_piece(&mut self, rows: &[Row], mut logits: impl FnMut(usize, &[f32])) {
        let wanted: Vec<usize> = (0..rows.len()).filter(|&i| rows[i].wanted).collect();
        // Shapes are rounded up to powers of two, so that a handful of programs serves every call.
        let shape = (rows.len().next_power_of_two(), wanted.len().max(1).next_power_of_two());
        let pass = self
            .passes
            .entry(shape)
            .or_insert_with(|| self.model.decode_pass(shape.0, shape.1, self.precision));
        let padded = |value: fn(&Row) -> u32, padding: u32| {
            rows.iter().map(value).chain(std::iter::repeat_n(padding, shape.0 - rows.len()))
        };
        for (to, token) in pass.program.input_mut(pass.tokens).iter_mut().zip(padded(|r| r.token, 0)) {
            *to = token;
        }
        for (to, slot) in pass.program.input_mut(pass.slots).iter_mut().zip(padded(|r| r.slot, u32::MAX)) {
            *to = slot;
        }
        for (to, at) in pass.program.input_mut(pass.positions).iter_mut().zip(padded(|r| r.position, 0)) {
            *to = at;
        }
        let indices: &mut [u32] = pass.program.input_mut(pass.wanted);
        indices.fill(0);
        indices.iter_mut().zip(&wanted).for_each(|(to, &i)| *to = i as u32);
        pass.program.run(Run {
            cpu: self.cpu,
            layout: self.model.layout(),
            weights: self.weights,
            grads: None,
            cache: Some(&mut self.cache),
        });
        let vocab = self.model.config().vocab_size;
        let out: &[f32] = pass.program.output(pass.logits);
        for (row, i) in out.chunks_exact(vocab).zip(wanted) {
            logits(i, row);
        }
    }
}
