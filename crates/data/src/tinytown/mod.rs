//! Tinytown: a small closed world that writes its own training text and its own exam.
//!
//! Two dozen people give each other things, walk about, count apples, drop hats in the mud and run toy programs. From
//! the same scenes come stories, question–answer pages and chats to train on, from their words recitals, and
//! [`TEST_ITEMS`] items per [`Skill`] whose answers can be checked exactly. Answers follow from the item's own context or from the rules of the world,
//! never from memory: a keyed hash keeps every combination of entities and facts in one [`Split`].
//!
//! Everything is a pure function of (seed, kind of text, split, index), so any part can be written anywhere.

mod chat;
mod page;
mod scene;
mod skills;
mod split;
mod words;
mod write;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde::Serialize;
use smolt_run::random::Stream;

pub use self::split::Split;
pub use self::write::{Settings, Written, write_jsonl};
pub use crate::corpus::Document;
use scene::{Draw, Scene};
use split::Splitter;

/// Items per skill.
pub const TEST_ITEMS: usize = 1000;

/// Prompts that [`World::chat_prompts`] gives.
pub const CHAT_PROMPTS: usize = 500;

/// Pages that between them have every word of the world but the rarest.
const PAGES_OF_WORDS: u64 = 3000;

/// What a text of Tinytown trains and a test item tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Skill {
    /// Who has the ball, after it changed hands.
    Possession,
    /// Where someone is, after walking about.
    Location,
    /// How many apples are left; how many things were named.
    Counting,
    /// What a deed does to a thing, and which deed did it.
    Cause,
    /// Who was first, last, right before, right after.
    Order,
    /// Which colour a thing has, which thing has a colour.
    Attribute,
    /// Whether somebody likes something, with negations.
    YesNo,
    /// Sums and differences up to 50.
    Arithmetic,
    /// What three assignments and a print do.
    Program,
    /// Lists backwards and in order.
    List,
}

impl Skill {
    /// All skills, in the order of reports.
    pub const ALL: [Self; 10] = [
        Self::Possession,
        Self::Location,
        Self::Counting,
        Self::Cause,
        Self::Order,
        Self::Attribute,
        Self::YesNo,
        Self::Arithmetic,
        Self::Program,
        Self::List,
    ];

    /// The name in file names and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Possession => "possession",
            Self::Location => "location",
            Self::Counting => "counting",
            Self::Cause => "cause",
            Self::Order => "order",
            Self::Attribute => "attribute",
            Self::YesNo => "yes_no",
            Self::Arithmetic => "arithmetic",
            Self::Program => "program",
            Self::List => "list",
        }
    }

    /// Whether its scenes can be told as a story.
    fn is_told(self) -> bool {
        !matches!(self, Self::Arithmetic | Self::Program | Self::List)
    }
}

/// One turn of a chat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    /// `user` or `assistant`.
    pub role: &'static str,
    /// What is said.
    pub content: String,
}

/// A chat to learn from, or (without the last turn) to answer. Serialises as `{"messages": [{"role", "content"}, …]}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Chat {
    /// User and assistant in turn.
    pub messages: Vec<Message>,
}

/// A question with exactly one right answer among candidates (spec `EVL-03`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TestItem {
    /// `location-0042`.
    pub id: String,
    /// [`Skill::name`].
    pub skill: &'static str,
    /// Context and question; a continuation is `" "` and a choice.
    pub prompt: String,
    /// Four candidates, or `Yes.` and `No.`.
    pub choices: Vec<String>,
    /// Index of the right one.
    pub answer: usize,
    /// The right choice itself: what a chat model must say, to the letter.
    pub answer_text: String,
    /// The same item as the user's turn of a chat.
    pub chat: Vec<Message>,
}

/// A world: the seed decides which facts are for training and what every text says.
#[derive(Clone, Debug)]
pub struct World {
    seed: u64,
    splitter: Splitter,
}

impl World {
    /// The world of `seed`.
    pub fn new(seed: u64) -> Self {
        Self { seed, splitter: Splitter::new(seed) }
    }

    /// `n` recitals: some words of the world in no order, said two or three times. They tell no facts; only looking back
    /// foretells the words said again.
    pub fn recitals(&self, n: u64, split: Split) -> impl Iterator<Item = Document> + '_ {
        let words = self.words();
        (0..n).map(move |i| self.document("recital", i, split, |draw| page::recital(draw, &words)))
    }

    /// The words of the world's first pages, in alphabetical order.
    fn words(&self) -> Vec<String> {
        let pages = self.qa(PAGES_OF_WORDS, Split::Train);
        let mut words = BTreeSet::new();
        for page in pages {
            words.extend(page::words(&page.text).map(str::to_owned));
        }
        words.into_iter().collect()
    }

    /// `n` stories: an opening, a scene, sometimes a closing, and up to three questions with answers.
    pub fn stories(&self, n: u64, split: Split) -> impl Iterator<Item = Document> + '_ {
        (0..n).map(move |i| self.document("story", i, split, page::story))
    }

    /// `n` pages of a scene with its questions and answers, laid out as the test items are.
    pub fn qa(&self, n: u64, split: Split) -> impl Iterator<Item = Document> + '_ {
        (0..n).map(move |i| self.document("qa", i, split, page::questions))
    }

    /// `n` chats about scenes, with small talk around some of them.
    pub fn chats(&self, n: u64, split: Split) -> impl Iterator<Item = Chat> + '_ {
        (0..n).map(move |i| Chat { messages: chat::chat(&mut self.draw("chat", i, split)) })
    }

    /// The [`TEST_ITEMS`] items of `skill`, no two prompts alike.
    pub fn test_items(&self, skill: Skill) -> Vec<TestItem> {
        let mut seen = std::collections::HashSet::new();
        let mut items = Vec::with_capacity(TEST_ITEMS);
        for index in 0.. {
            let scene = self.test_scene(skill, index);
            let asked = &scene.asked[0];
            let prompt = scene.prompt(asked);
            if seen.insert(prompt.clone()) {
                items.push(TestItem {
                    id: format!("{}-{:04}", skill.name(), items.len()),
                    skill: skill.name(),
                    prompt,
                    choices: asked.choices.clone(),
                    answer: asked.answer,
                    answer_text: asked.answer_text().to_owned(),
                    chat: vec![chat::user(scene.chat_turn(asked))],
                });
            }
            if items.len() == TEST_ITEMS {
                break;
            }
        }
        items
    }

    /// The [`CHAT_PROMPTS`] chats that await an answer: test items of every skill, and one in eight small talk.
    pub fn chat_prompts(&self) -> Vec<Chat> {
        (0..CHAT_PROMPTS as u64)
            .map(|i| Chat { messages: chat::prompt(&mut self.draw("prompt", i, Split::Test), i as usize) })
            .collect()
    }

    fn test_scene(&self, skill: Skill, index: u64) -> Scene {
        skills::scene(skill, &mut self.draw(skill.name(), index, Split::Test))
    }

    fn draw(&self, kind: &str, index: u64, split: Split) -> Draw<'_> {
        let name = format!("tinytown/{kind}/{}", split.name());
        Draw::new(Stream::new(self.seed, &name, index), &self.splitter, split)
    }

    fn document(&self, kind: &str, index: u64, split: Split, page: impl Fn(&mut Draw) -> String) -> Document {
        let text = page(&mut self.draw(kind, index, split));
        Document { id: format!("{kind}-{}-{index}", split.name()), source: "tinytown".to_owned(), text }
    }
}
