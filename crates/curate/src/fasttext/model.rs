//! A model in memory: its settings, its dictionary, and how a text becomes rows of the input matrix.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use super::quantized::Quantized;

/// The word that ends every text.
pub(super) const END: &[u8] = b"</s>";

/// What marks a label in fastText's files.
pub(super) const LABEL: &[u8] = b"__label__";

/// How scores become probabilities; the discriminants are those of the file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// A binary tree of logistic decisions, built from the counts of the labels.
    HierarchicalSoftmax = 1,
    /// One logistic decision per label, trained against samples.
    NegativeSampling = 2,
    /// Probabilities sum to 1.
    Softmax = 3,
    /// One logistic decision per label; any number of labels may hold.
    OneVsAll = 4,
}

/// The settings that the format stores; only some matter after training.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Args {
    pub(super) dim: usize,
    pub(super) window: i32,
    pub(super) epochs: i32,
    pub(super) min_count: i32,
    pub(super) negatives: i32,
    pub(super) word_ngrams: usize,
    pub(super) loss: Loss,
    pub(super) bucket: u32,
    pub(super) minn: usize,
    pub(super) maxn: usize,
    pub(super) lr_update_rate: i32,
    pub(super) sampling: f64,
}

/// A word or a label.
pub(super) struct Entry {
    pub(super) word: Box<[u8]>,
    pub(super) count: i64,
}

/// Words, then labels; word → place without a second copy of the words.
pub(super) struct Dictionary {
    pub(super) entries: Vec<Entry>,
    pub(super) words: usize,
    pub(super) tokens: i64,
    /// Hashed n-gram → row after the words, in models whose n-grams were pruned.
    pub(super) pruned: Option<HashMap<u32, u32>>,
    table: Vec<u32>,
    // Keyed at random: a hostile file cannot choose words that collide.
    hasher: RandomState,
}

impl Dictionary {
    pub(super) fn new(
        entries: Vec<Entry>,
        words: usize,
        tokens: i64,
        pruned: Option<HashMap<u32, u32>>,
    ) -> Self {
        let mut dictionary =
            Self { entries, words, tokens, pruned, table: Vec::new(), hasher: RandomState::new() };
        dictionary.table = vec![u32::MAX; (dictionary.entries.len() * 2).next_power_of_two()];
        for place in 0..dictionary.entries.len() {
            let slot = dictionary.slot(&dictionary.entries[place].word);
            dictionary.table[slot] = place as u32;
        }
        dictionary
    }

    /// The slot of `word`, or the free one where it would be. The table is never full.
    fn slot(&self, word: &[u8]) -> usize {
        let mask = self.table.len() - 1;
        let mut slot = self.hasher.hash_one(word) as usize & mask;
        while self.table[slot] != u32::MAX && &*self.entries[self.table[slot] as usize].word != word {
            slot = (slot + 1) & mask;
        }
        slot
    }

    pub(super) fn find(&self, word: &[u8]) -> Option<usize> {
        let place = self.table[self.slot(word)];
        (place != u32::MAX).then_some(place as usize)
    }

    pub(super) fn labels(&self) -> &[Entry] {
        &self.entries[self.words..]
    }
}

/// Rows of numbers.
pub(super) enum Matrix {
    Dense { columns: usize, values: Vec<f32> },
    Quantized(Quantized),
}

impl Matrix {
    /// Adds row `row` to `sum`.
    #[inline]
    pub(super) fn add_row(&self, row: usize, sum: &mut [f32]) {
        match self {
            Self::Dense { columns, values } => {
                let row = &values[row * columns..][..*columns];
                sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
            }
            Self::Quantized(matrix) => matrix.add_row(row, sum),
        }
    }

    /// The product of row `row` and `vector`.
    #[inline]
    pub(super) fn dot_row(&self, row: usize, vector: &[f32]) -> f32 {
        match self {
            Self::Dense { columns, values } => {
                values[row * columns..][..*columns].iter().zip(vector).map(|(a, b)| a * b).sum()
            }
            Self::Quantized(matrix) => matrix.dot_row(row, vector),
        }
    }
}

/// A supervised model.
pub struct Model {
    pub(super) args: Args,
    pub(super) dictionary: Dictionary,
    pub(super) input: Matrix,
    pub(super) output: Matrix,
    pub(super) labels: Vec<String>,
    /// Children of the inner nodes of the tree, where the loss is one: node `labels + i` has `tree[i]`.
    pub(super) tree: Vec<[u32; 2]>,
}

impl Model {
    /// The labels, without fastText's prefix; a prediction's label is a place in it.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// How its probabilities are made.
    pub fn loss(&self) -> Loss {
        self.args.loss
    }

    /// Length of its vectors.
    pub fn dim(&self) -> usize {
        self.args.dim
    }

    /// Number of words in its dictionary.
    pub fn words(&self) -> usize {
        self.dictionary.words
    }

    /// Calls `row` with each row of the input matrix that `text` stands for, in fastText's own order.
    pub(super) fn features(&self, text: &str, mut row: impl FnMut(usize)) {
        features(&self.args, &self.dictionary, text, &mut row);
    }
}

/// FNV-1a as fastText has it: bytes are sign-extended.
#[inline]
pub(super) fn hash(bytes: &[u8]) -> u32 {
    bytes.iter().fold(2_166_136_261, |hash, &byte| add_to_hash(hash, byte))
}

#[inline]
fn add_to_hash(hash: u32, byte: u8) -> u32 {
    (hash ^ byte as i8 as u32).wrapping_mul(16_777_619)
}

/// Line breaks count as spaces: a document is one text, ended by [`END`], also where its own words say so.
pub(super) fn tokens(text: &str) -> impl Iterator<Item = &[u8]> {
    let space = |byte: &u8| matches!(byte, b' ' | b'\n' | b'\r' | b'\t' | 0x0B | 0x0C | 0);
    let words = text.as_bytes().split(space).filter(|word| !word.is_empty());
    words.take_while(|&word| word != END).chain(std::iter::once(END))
}

pub(super) fn features(args: &Args, dictionary: &Dictionary, text: &str, row: &mut impl FnMut(usize)) {
    let mut hashes: Vec<u32> = Vec::new();
    for token in tokens(text) {
        let place = dictionary.find(token);
        let is_label = match place {
            Some(place) => place >= dictionary.words,
            None => token.starts_with(LABEL),
        };
        if is_label {
            continue;
        }
        if let Some(place) = place {
            row(place);
        }
        if args.maxn > 0 && token != END {
            subwords(args, dictionary, token, row);
        }
        if args.word_ngrams > 1 {
            hashes.push(hash(token));
        }
    }
    // fastText keeps these hashes in signed words, so they are sign-extended into the 64-bit product.
    let wide = |hash: u32| i64::from(hash as i32) as u64;
    for first in 0..hashes.len() {
        let mut joined = wide(hashes[first]);
        for &next in hashes.iter().skip(first + 1).take(args.word_ngrams.saturating_sub(1)) {
            joined = joined.wrapping_mul(116_049_371).wrapping_add(wide(next));
            hashed_row(dictionary, (joined % u64::from(args.bucket)) as u32, row);
        }
    }
}

#[inline]
fn hashed_row(dictionary: &Dictionary, hashed: u32, row: &mut impl FnMut(usize)) {
    match &dictionary.pruned {
        None => row(dictionary.words + hashed as usize),
        Some(kept) => {
            if let Some(&place) = kept.get(&hashed) {
                row(dictionary.words + place as usize);
            }
        }
    }
}

/// Character n-grams of `<token>`; the lone `<` and `>` are none.
fn subwords(args: &Args, dictionary: &Dictionary, token: &[u8], row: &mut impl FnMut(usize)) {
    let length = token.len() + 2;
    let byte = |at: usize| match at {
        0 => b'<',
        at if at + 1 == length => b'>',
        at => token[at - 1],
    };
    let continues = |at: usize| at < length && byte(at) & 0xC0 == 0x80;
    for start in 0..length {
        if continues(start) {
            continue;
        }
        let (mut end, mut hash) = (start, 2_166_136_261);
        for n in 1..=args.maxn {
            if end >= length {
                break;
            }
            hash = add_to_hash(hash, byte(end));
            end += 1;
            while continues(end) {
                hash = add_to_hash(hash, byte(end));
                end += 1;
            }
            if n >= args.minn && !(n == 1 && (start == 0 || end == length)) {
                hashed_row(dictionary, hash % args.bucket, row);
            }
        }
    }
}
