//! Common words: which words of a numbered list occur most often.

use std::collections::BTreeSet;

use smolt_run::random::Stream;

use super::Kind;
use super::draw::{ADJECTIVES, NOUNS, VERBS, words};
use super::fit::{Draft, FULL, Room};
use super::haystack::Haystack;

/// The most words that are asked for.
const ASKED: usize = 10;

/// How the task is made at one length.
pub(super) struct Shape<'t> {
    /// Every word that may be in a list, in the order of their letters.
    pool: Vec<&'t str>,
    /// Words asked for.
    common: usize,
    list: Times,
    /// A solved list before the question, and its distinct words.
    example: Option<(Times, usize)>,
}

/// How often words occur in a list: those that are asked for, and the others.
#[derive(Clone, Copy)]
struct Times {
    often: usize,
    seldom: usize,
}

impl<'t> Shape<'t> {
    /// RULER's two shapes: from 4,096 tokens on ten words occur 30 times and the others 3 times, 10 and 3 in an example of 40
    /// words; below, 6 times and once, 3 and 1 in an example of 20.
    ///
    /// The first that leaves an eighth of the length for more words is taken. Where neither does, fewer words are asked for,
    /// in an example of twice as many; at last two, without an example.
    pub(super) fn new(room: &Room<'_>, text: &'t str) -> Self {
        let mut pool: BTreeSet<&str> = [ADJECTIVES, NOUNS, VERBS].into_iter().flat_map(words).collect();
        pool.extend(Haystack::words(text));
        let short = Times { often: 6, seldom: 1 };
        let mut shape = Self {
            pool: pool.into_iter().collect(),
            common: ASKED,
            list: Times { often: 30, seldom: 3 },
            example: Some((Times { often: 10, seldom: 3 }, 4 * ASKED)),
        };
        if room.length >= FULL && shape.leaves_room(room) {
            return shape;
        }
        shape.list = short;
        for common in (2..=ASKED).rev() {
            shape.common = common;
            shape.example = Some((Times { often: 3, seldom: 1 }, 2 * common));
            if shape.leaves_room(room) {
                return shape;
            }
        }
        shape.example = None;
        shape
    }

    fn leaves_room(&self, room: &Room<'_>) -> bool {
        let smallest = self.draft(Stream::new(0, "example", 0), *self.sizes().start());
        let taken = room.read(&smallest) + room.allowance(Kind::Cwe, &smallest);
        taken <= room.length - room.length / 8
    }

    /// The fewest and the most distinct words of a list.
    pub(super) fn sizes(&self) -> std::ops::RangeInclusive<usize> {
        let example = self.example.map_or(0, |(_, words)| words);
        self.common + 1..=self.pool.len().saturating_sub(example)
    }

    /// A list of `size` distinct words, behind a solved example of other words if there is one.
    pub(super) fn draft(&self, mut stream: Stream, size: usize) -> Draft {
        let mut pool = self.pool.clone();
        let before = self.example.map_or(0, |(_, words)| words).min(pool.len());
        let drawn = (size + before).min(pool.len());
        // The first places of a shuffle, the example's before the list's, so that its words do not change with the size.
        for at in 0..drawn {
            let from = at + stream.below((pool.len() - at) as u64) as usize;
            pool.swap(at, from);
        }
        let (example, list) = pool[..drawn].split_at(before);
        let Some((times, _)) = self.example else { return self.pose(&mut stream, list, self.list) };
        let Draft { prompt, answer_prefix, said, .. } = self.pose(&mut stream, example, times);
        let mut draft = self.pose(&mut stream, list, self.list);
        draft.prompt = format!("{prompt}{answer_prefix} {said}\n{}", draft.prompt);
        draft
    }

    fn pose(&self, stream: &mut Stream, words: &[&str], times: Times) -> Draft {
        let (common, others) = words.split_at(self.common.min(words.len()));
        let mut list: Vec<&str> = [common.repeat(times.often), others.repeat(times.seldom)].concat();
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
