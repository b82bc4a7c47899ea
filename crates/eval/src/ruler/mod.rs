//! RULER: long contexts tested by tasks that are made, not collected, at any length and for any tokenizer (spec EVL-12).
//!
//! After Hsieh et al., "RULER: What's the Real Context Size of Your Long-Context Language Models?" (2024), and the
//! settings, sizes, answer allowances and scores of NVIDIA/RULER. Prompts, noise and words are our own and the texts are the
//! caller's, so scores compare with each other and not with published ones. Also new against it: an item's text begins at a
//! sentence of its own (there, all items share one beginning, and their errors with it); every item is fitted by itself; an
//! item's needles are the same at all lengths; and below 4,096 tokens tasks shrink, so that they go down to 256.
//!
//! An item is a pure function of kind, length, seed, index, tokenizer and text.

mod common;
mod draw;
mod fit;
mod frequent;
mod haystack;
mod needles;
mod questions;
mod report;
mod tracking;

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use smolt_run::error::{Exit, ExitKind, FileError};
use smolt_run::random::Stream;
use smolt_text::tokenizer::Tokenizer;

use fit::{Drafts, Room};

pub use questions::{Questions, fuzz_questions};
pub use report::{Cell, LLAMA_2_7B_AT_4K, NeedleGrid, NotRun, RulerReport};

/// The largest length that can be asked for, tokens: bounds what a number in a recipe can claim.
pub const MAX_LENGTH: usize = 1 << 24;

/// A task of RULER.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A number under a word, in repeated noise.
    #[serde(rename = "niah_single_1")]
    NiahSingle1,
    /// A number under a word, in text.
    #[serde(rename = "niah_single_2")]
    NiahSingle2,
    /// A UUID under a word, in text.
    #[serde(rename = "niah_single_3")]
    NiahSingle3,
    /// One of four numbers under words, in text.
    #[serde(rename = "niah_multikey_1")]
    NiahMultikey1,
    /// A number under a word, among nothing but others like it.
    #[serde(rename = "niah_multikey_2")]
    NiahMultikey2,
    /// A UUID under a UUID, among nothing but others like it.
    #[serde(rename = "niah_multikey_3")]
    NiahMultikey3,
    /// All four numbers under one word, in text.
    NiahMultivalue,
    /// All four numbers under four words, in text.
    NiahMultiquery,
    /// Every variable along a chain of assignments, in repeated noise.
    Vt,
    /// The ten most common words of a list.
    Cwe,
    /// The three most frequent coded words.
    Fwe,
    /// A question of SQuAD's, its paragraph among others.
    #[serde(rename = "qa_1")]
    Qa1,
    /// A question of HotpotQA's, its paragraphs among others.
    #[serde(rename = "qa_2")]
    Qa2,
}

impl Kind {
    /// All of them, in RULER's order.
    pub const ALL: [Self; 13] = [
        Self::NiahSingle1,
        Self::NiahSingle2,
        Self::NiahSingle3,
        Self::NiahMultikey1,
        Self::NiahMultikey2,
        Self::NiahMultikey3,
        Self::NiahMultivalue,
        Self::NiahMultiquery,
        Self::Vt,
        Self::Cwe,
        Self::Fwe,
        Self::Qa1,
        Self::Qa2,
    ];

    /// RULER's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::NiahSingle1 => "niah_single_1",
            Self::NiahSingle2 => "niah_single_2",
            Self::NiahSingle3 => "niah_single_3",
            Self::NiahMultikey1 => "niah_multikey_1",
            Self::NiahMultikey2 => "niah_multikey_2",
            Self::NiahMultikey3 => "niah_multikey_3",
            Self::NiahMultivalue => "niah_multivalue",
            Self::NiahMultiquery => "niah_multiquery",
            Self::Vt => "vt",
            Self::Cwe => "cwe",
            Self::Fwe => "fwe",
            Self::Qa1 => "qa_1",
            Self::Qa2 => "qa_2",
        }
    }

    /// Whether it is a needle in a haystack, which alone is no evidence of a long context (spec EVL-12).
    pub fn is_needle(self) -> bool {
        !matches!(self, Self::Vt | Self::Cwe | Self::Fwe | Self::Qa1 | Self::Qa2)
    }

    /// Whether it needs a file of questions.
    pub fn needs_questions(self) -> bool {
        matches!(self, Self::Qa1 | Self::Qa2)
    }

    /// Tokens that RULER gives the answer; items below 4,096 tokens may give fewer.
    pub fn max_tokens(self) -> usize {
        match self {
            Self::Vt => 30,
            Self::Cwe => 120,
            Self::Fwe => 50,
            Self::Qa1 | Self::Qa2 => 32,
            _ => 128,
        }
    }

    /// The score of a prediction, 0..=1, case ignored: the share of `answers` that are in it, RULER's `string_match_all`; for
    /// questions whether any is, its `string_match_part`. No answers score 0.
    pub fn score(self, prediction: &str, answers: &[String]) -> f64 {
        let prediction = prediction.to_lowercase();
        let found = answers.iter().filter(|answer| prediction.contains(&answer.to_lowercase())).count();
        match self.needs_questions() {
            true => f64::from(u8::from(found > 0)),
            false => found as f64 / answers.len().max(1) as f64,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Kind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let named = Self::ALL.into_iter().find(|kind| kind.name() == name);
        named.ok_or_else(|| Error::UnknownKind(name.chars().take(40).collect()))
    }
}

/// One test: what the model reads, and what it should say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// Kind, length and index; unique.
    pub id: String,
    /// Context and question: all that a base model reads before `answer_prefix`, or the user's turn of a chat.
    pub prompt: String,
    /// The beginning of the answer, right behind the prompt (its space included) or at the head of the assistant's turn.
    pub answer_prefix: String,
    /// What the answer should contain; see [`Kind::score`].
    pub answers: Vec<String>,
    /// Tokens to generate; `prompt`, `answer_prefix` and they fit the length.
    pub max_tokens: usize,
    /// Where the needle that is asked for lies, 0 = at the beginning, 1 = at the end; `None` where several or none are.
    pub depth: Option<f64>,
}

/// Tokens of a prompt and of the beginning of its answer.
pub type Whole<'a> = dyn Fn(&str, &str) -> usize + 'a;

/// How an item is measured against its length.
#[derive(Clone, Copy)]
pub struct Measure<'a> {
    /// What makes tokens of texts.
    pub tokenizer: &'a Tokenizer,
    /// Tokens of a prompt and a beginning of the answer as they are read, where that is not in one piece: through a chat
    /// template.
    pub whole: Option<&'a Whole<'a>>,
}

/// Why tests could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The length is too short for the task.
    #[error(
        "{kind} does not fit {length} tokens: its smallest prompt and answer take {needed}; choose a longer length or leave the task out"
    )]
    TooShort {
        /// The task.
        kind: Kind,
        /// The length asked for.
        length: usize,
        /// Tokens that this task takes at this length without any more hay.
        needed: usize,
    },
    /// The length is beyond [`MAX_LENGTH`].
    #[error("a length of {0} tokens is more than the {MAX_LENGTH} allowed; choose a shorter one")]
    TooLong(usize),
    /// The text has no word.
    #[error("the haystack is empty; give a text with words in it")]
    EmptyHaystack,
    /// A list of words cannot fill the length.
    #[error(
        "cwe at {length} tokens: all {words} words do not fill it; give a haystack with more distinct words"
    )]
    FewWords {
        /// The length asked for.
        length: usize,
        /// Distinct words there are.
        words: usize,
    },
    /// The task asks questions of a file, and none was given, or one of another format.
    #[error(
        "{0} needs a file of questions: qa_1 SQuAD's (such as dev-v2.0.json), qa_2 HotpotQA's (such as hotpot_dev_distractor_v1.json)"
    )]
    NeedsQuestions(Kind),
    /// A file of questions that cannot be used.
    #[error("{}: {problem}", path.display())]
    Questions {
        /// The file.
        path: PathBuf,
        /// What is wrong and how to repair it.
        problem: String,
    },
    /// No such task.
    #[error(
        "no task `{0}`; name one of niah_single_1, …, niah_multikey_1, …, niah_multivalue, niah_multiquery, vt, cwe, fwe, qa_1, qa_2"
    )]
    UnknownKind(String),
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
}

impl ExitKind for Error {
    fn exit(&self) -> Exit {
        match self {
            Self::File(error) => error.exit(),
            _ => Exit::BadInput,
        }
    }
}

/// `count` items of a kind whose prompt, prefix and answer take at most `length_tokens`; with the largest haystack that fits.
///
/// `haystack` is the text in which needles lie, and whose words [`Kind::Cwe`] lists beside our own; other kinds ignore it.
///
/// # Errors
/// A length that is too short for the task, a text without words or with too few, or a kind that needs questions: for those
/// see [`generate_questions`].
pub fn generate(
    kind: Kind,
    length_tokens: usize,
    count: usize,
    seed: u64,
    measure: Measure<'_>,
    haystack: &str,
) -> Result<Vec<Item>, Error> {
    let room = Room::new(checked(length_tokens)?, measure);
    let generator = Generator::new(kind, seed, room, haystack, None)?;
    (0..count as u64).map(|index| generator.item(index)).collect()
}

/// [`Kind::NiahSingle2`] with the needle at `depth` (0 = at the beginning, 1 = at the end), for a grid of depths and lengths.
///
/// # Errors
/// As for [`generate`].
pub fn generate_at_depth(
    depth: f64,
    length_tokens: usize,
    count: usize,
    seed: u64,
    measure: Measure<'_>,
    haystack: &str,
) -> Result<Vec<Item>, Error> {
    let room = Room::new(checked(length_tokens)?, measure);
    let generator = Generator::new(Kind::NiahSingle2, seed, room, haystack, Some(depth))?;
    (0..count as u64).map(|index| generator.item(index)).collect()
}

/// Up to `count` items that ask `questions`; the kind is [`Questions::kind`].
///
/// Fewer than `count` where the file has no more questions whose documents fit the length.
///
/// # Errors
/// A length into which no question fits.
pub fn generate_questions(
    questions: &Questions,
    length_tokens: usize,
    count: usize,
    seed: u64,
    measure: Measure<'_>,
) -> Result<Vec<Item>, Error> {
    let room = Room::new(checked(length_tokens)?, measure);
    asked(&Generator::of_questions(questions, seed, room), questions.len(), count)
}

fn asked(generator: &Generator<'_>, questions: usize, count: usize) -> Result<Vec<Item>, Error> {
    let (mut items, mut skipped) = (Vec::new(), None);
    for index in 0..questions as u64 {
        if items.len() == count {
            break;
        }
        match generator.item(index) {
            Ok(item) => items.push(item),
            Err(error @ Error::TooShort { .. }) => drop(skipped.get_or_insert(error)),
            Err(error) => return Err(error),
        }
    }
    match skipped {
        Some(error) if items.is_empty() => Err(error),
        _ => Ok(items),
    }
}

fn checked(length: usize) -> Result<usize, Error> {
    if length > MAX_LENGTH { Err(Error::TooLong(length)) } else { Ok(length) }
}

/// What an item is made of.
enum Task<'a> {
    Needles(needles::Shape<'a>, Option<f64>),
    Tracking(tracking::Shape),
    Common(common::Shape<'a>),
    Frequent,
    Questions(&'a Questions, Vec<usize>),
}

/// Makes items of one kind and length, each a pure function of its index.
struct Generator<'a> {
    kind: Kind,
    seed: u64,
    room: Room<'a>,
    task: Task<'a>,
    /// The size that fits item 0, from where other sizes are looked for.
    hint: usize,
}

impl<'a> Generator<'a> {
    /// Of any kind but those that ask questions.
    fn new(kind: Kind, seed: u64, room: Room<'a>, text: &'a str, depth: Option<f64>) -> Result<Self, Error> {
        let task = match kind {
            Kind::Vt => Task::Tracking(tracking::Shape::new(&room)),
            Kind::Cwe => Task::Common(common::Shape::new(&room, text)),
            Kind::Fwe => Task::Frequent,
            Kind::Qa1 | Kind::Qa2 => return Err(Error::NeedsQuestions(kind)),
            kind => Task::Needles(needles::Shape::new(kind, room.length, text)?, depth),
        };
        let mut generator = Self { kind, seed, room, task, hint: 0 };
        generator.hint = generator.size(0)?;
        Ok(generator)
    }

    fn of_questions(questions: &'a Questions, seed: u64, room: Room<'a>) -> Self {
        let task = Task::Questions(questions, questions.order(seed));
        let mut generator = Self { kind: questions.kind(), seed, room, task, hint: 0 };
        // A first question that does not fit says nothing of the others.
        generator.hint = generator.size(0).unwrap_or(0);
        generator
    }

    /// Drafts of an item at any size, and the sizes that it may have.
    fn drafts(&self, index: u64) -> (RangeInclusive<usize>, Drafts<'_>) {
        let stream = move || Stream::new(self.seed, &format!("ruler {}", self.kind), index);
        // More pieces than any tokenizer makes of so many tokens: a piece is at least a byte.
        let most = self.room.length.saturating_mul(8);
        match &self.task {
            Task::Needles(shape, depth) => {
                (1..=most, Box::new(move |size| shape.draft(stream(), *depth, size)))
            }
            Task::Tracking(shape) => {
                let example = move || Stream::new(self.seed, "ruler vt example", index);
                (1..=most, Box::new(move |size| shape.draft(stream(), example(), size)))
            }
            Task::Common(shape) => (shape.sizes(), Box::new(move |size| shape.draft(stream(), size))),
            Task::Frequent => {
                let words = frequent::vocabulary(self.room.length, self.kind.max_tokens());
                (frequent::LEAST..=most, Box::new(move |size| frequent::draft(words, stream(), size)))
            }
            Task::Questions(questions, order) => {
                let question = order[index as usize % order.len()];
                let sizes = questions.sizes(question, self.room.length);
                (sizes, Box::new(move |size| questions.draft(question, stream(), size)))
            }
        }
    }

    fn size(&self, index: u64) -> Result<usize, Error> {
        let (sizes, draft) = self.drafts(index);
        let size = self.room.size(self.kind, &sizes, self.hint, &draft)?;
        match &self.task {
            Task::Common(_) if size == *sizes.end() => {
                Err(Error::FewWords { length: self.room.length, words: size })
            }
            _ => Ok(size),
        }
    }

    fn item(&self, index: u64) -> Result<Item, Error> {
        let size = self.size(index)?;
        let (_, draft) = self.drafts(index);
        let draft = draft(size);
        let max_tokens = self.room.allowance(self.kind, &draft);
        Ok(Item {
            id: format!("{}-{}-{index:04}", self.kind, self.room.length),
            prompt: draft.prompt,
            answer_prefix: draft.answer_prefix,
            answers: draft.answers,
            max_tokens,
            depth: draft.depth,
        })
    }
}

#[cfg(test)]
mod tests;
