//! Which prompt is next, and in which slot: prompts that begin alike follow each other, so that what they share is
//! computed once.

use crate::decoder::{Decoder, Reuse};
use std::cmp::Reverse;
use std::collections::VecDeque;

/// Tokens that must be saved for a prompt to wait until one that begins alike has been fed.
const WORTH_WAITING: usize = 16;

/// Prompts that are looked at for one that need not wait.
const LOOK_AHEAD: usize = 64;

/// Prompts that have not begun, sorted by their tokens.
pub(crate) struct Queue<'q> {
    waiting: VecDeque<(usize, &'q [u32])>,
}

/// A prompt that begins.
pub(crate) struct Start {
    /// Its number.
    pub(crate) index: usize,
    /// Where it goes.
    pub(crate) slot: u32,
    /// How many of its tokens are there already; at least the last is not, because what it predicts is wanted.
    pub(crate) held: usize,
}

impl<'q> Queue<'q> {
    /// Of numbered prompts, none empty.
    pub(crate) fn new(prompts: impl Iterator<Item = (usize, &'q [u32])>) -> Self {
        let mut waiting: Vec<_> = prompts.collect();
        waiting.sort_by_key(|&(_, prompt)| prompt);
        Queue { waiting: waiting.into() }
    }

    /// The next prompt that should begin now, in the free slot that holds most of it. `coming` are prompts that are being
    /// fed: those that begin like one of them wait for it.
    pub(crate) fn next(
        &mut self,
        decoder: &mut Decoder<'_>,
        free: &mut Vec<u32>,
        coming: &[&[u32]],
    ) -> Option<Start> {
        let chosen = match (free.is_empty(), decoder.reuse) {
            (true, _) => None,
            (false, Reuse::None) => Some(0),
            (false, Reuse::Prefix) => {
                let looked_at = self.waiting.iter().take(LOOK_AHEAD);
                looked_at.map(|&(_, prompt)| prompt).position(|p| !should_wait(decoder, p, coming))
            }
        };
        let (index, prompt) = self.waiting.remove(chosen?)?;
        let reused = &prompt[..prompt.len() - 1];
        let held = |i: usize| common(decoder.held(free[i]), reused);
        let best = (0..free.len()).max_by_key(|&i| (held(i), Reverse(free[i])))?;
        let slot = free.remove(best);
        Some(Start { index, slot, held: decoder.begin(slot, reused) })
    }
}

/// Whether a prompt that is being fed will have more of this one than any slot has now.
fn should_wait(decoder: &Decoder<'_>, prompt: &[u32], coming: &[&[u32]]) -> bool {
    let reused = &prompt[..prompt.len() - 1];
    let most = coming.iter().map(|other| common(other, reused)).max().unwrap_or(0);
    most >= WORTH_WAITING && {
        let slots = 0..decoder.slots() as u32;
        let now = slots.map(|slot| common(decoder.held(slot), reused)).max().unwrap_or(0);
        most >= now + WORTH_WAITING
    }
}

/// Tokens that both begin with.
pub(crate) fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
