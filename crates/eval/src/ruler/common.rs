//! Common words: which words of a numbered list occur most often.

use std::collections::BTreeSet;

use smolt_run::random::Stream;

use super::draw::{ADJECTIVES, NOUNS, VERBS, words};
use super::fit::{Draft, FULL};
use super::haystack::Haystack;

/// How the task is made at one length.
pub(super) struct Shape<'t> {
    /// Every word that may be in a list, in the order of their letters.
    pool: Vec<&'t str>,
    /// Words asked for.
    common: usize,
    /// How often they and the others occur.
    often: usize,
    seldom: usize,
    /// The same of the solved example, and its distinct words.
    example: (usize, usize, usize),
}

impl<'t> Shape<'t> {
    /// RULER's ten words are one for every 128 tokens below 1,280, and at least two. From 4,096 tokens on they occur 30 times
    /// and the others 3 times, 10 and 3 in an example of four words for each that is asked for; in shorter lists 6 times and
    /// once, 3 and 1 in an example of two.
    pub(super) fn new(length: usize, text: &'t str) -> Self {
        let mut pool: BTreeSet<&str> = [ADJECTIVES, NOUNS, VERBS].into_iter().flat_map(words).collect();
        pool.extend(Haystack::words(text));
        let common = (length / 128).clamp(2, 10);
        let (often, seldom, example) = match length {
            FULL.. => (30, 3, (10, 3, 4 * common)),
            _ => (6, 1, (3, 1, 2 * common)),
        };
        Self { pool: pool.into_iter().collect(), common, often, seldom, example }
    }

    /// The fewest and the most distinct words of a list.
    pub(super) fn sizes(&self) -> std::ops::RangeInclusive<usize> {
        self.common + 1..=self.pool.len().saturating_sub(self.example.2)
    }

    /// A list of `size` distinct words behind a solved example of other words.
    pub(super) fn draft(&self, mut stream: Stream, size: usize) -> Draft {
        let mut pool = self.pool.clone();
        let drawn = (size + self.example.2).min(pool.len());
        // The first places of a shuffle, the example's before the list's, so that its words do not change with the size.
        for at in 0..drawn {
            let from = at + stream.below((pool.len() - at) as u64) as usize;
            pool.swap(at, from);
        }
        let (example, list) = pool[..drawn].split_at(self.example.2.min(drawn));
        let (often, seldom, _) = self.example;
        let solved = self.pose(&mut stream, example, often, seldom);
        let mut draft = self.pose(&mut stream, list, self.often, self.seldom);
        draft.prompt = format!("{}{} {}\n{}", solved.prompt, solved.answer_prefix, solved.said, draft.prompt);
        draft
    }

    fn pose(&self, stream: &mut Stream, words: &[&str], often: usize, seldom: usize) -> Draft {
        let (common, others) = words.split_at(self.common.min(words.len()));
        let mut list: Vec<&str> = [common.repeat(often), others.repeat(seldom)].concat();
        stream.shuffle(&mut list);
        let count = self.common;
        Draft {
            prompt: format!(
                "Here is a numbered list of words. Some of them occur more often than others. Remember those that occur most \
                 often.\n{}\nQuestion: Which {count} words occur most often in the list above?",
                numbered(&list)
            ),
            answer_prefix: format!(" Answer: The {count} words that occur most often in the list are:"),
            said: numbered(common),
            answers: common.iter().map(|&word| word.to_owned()).collect(),
            depth: None,
        }
    }
}

/// `1. one 2. two`.
fn numbered(words: &[&str]) -> String {
    let items: Vec<String> =
        words.iter().enumerate().map(|(at, word)| format!("{}. {word}", at + 1)).collect();
    items.join(" ")
}
