//! Which facts are for training, and which are kept for the tests.
//!
//! A *fact* is the combination of entities that decides an answer: who gave what to whom, which two numbers are added.
//! A keyed hash puts each fact into exactly one split, and every fact of a text belongs to the split of the text.
//! So a test item cannot be answered from memory: its combination never occurs in training, in any wording.

use smolt_run::random::{Philox, key};

use super::Skill;

/// What a text is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Split {
    /// Six facts in eight.
    Train,
    /// One in eight, for the validation loss.
    Valid,
    /// One in eight, for the test items.
    Test,
}

impl Split {
    /// The name used in document ids and random streams.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Valid => "valid",
            Self::Test => "test",
        }
    }
}

/// A fact in canonical form: the skill, and up to seven numbers each below 65,536 (indices into `words`, or amounts).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Fact {
    pub(crate) skill: Skill,
    pub(crate) parts: [u16; 7],
}

impl Fact {
    pub(crate) fn new(skill: Skill, parts: &[usize]) -> Self {
        let mut fact = Self { skill, parts: [u16::MAX; 7] };
        for (slot, &part) in fact.parts.iter_mut().zip(parts) {
            *slot = part as u16;
        }
        fact
    }
}

/// The keyed hash that deals the facts out.
#[derive(Clone, Debug)]
pub(crate) struct Splitter(Philox);

impl Splitter {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Philox::new(key(seed, "tinytown/split")))
    }

    /// The one split `fact` may appear in.
    pub(crate) fn split_of(&self, fact: &Fact) -> Split {
        let packed = fact.parts.iter().fold(fact.skill as u128, |sum, &part| (sum << 16) | u128::from(part));
        match self.0.block(packed)[0] >> 29 {
            0 => Split::Test,
            1 => Split::Valid,
            _ => Split::Train,
        }
    }
}
