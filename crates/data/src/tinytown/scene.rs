//! A scene: a few sentences, the facts in them, and questions whose answers follow from them.

use smolt_run::random::Stream;

use super::Skill;
use super::split::{Fact, Split, Splitter};

/// A question, its candidates, and which of them is right.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) question: String,
    pub(crate) choices: Vec<String>,
    pub(crate) answer: usize,
    /// Question and answer in one sentence, where there is one.
    pub(crate) told: Option<String>,
}

impl Asked {
    /// Shuffles `right` among `wrong`.
    pub(crate) fn new(draw: &mut Draw, question: String, right: String, wrong: Vec<String>) -> Self {
        let answer = draw.below(wrong.len() + 1);
        let mut choices = wrong;
        draw.shuffle(&mut choices);
        choices.insert(answer, right);
        Self { question, choices, answer, told: None }
    }

    /// The same with the sentence that says both.
    pub(crate) fn told(self, sentence: String) -> Self {
        Self { told: Some(sentence), ..self }
    }

    pub(crate) fn answer_text(&self) -> &str {
        &self.choices[self.answer]
    }
}

/// What a skill draws: every question can be answered from the context (or, without one, from the rules of the world).
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    pub(crate) context: String,
    /// At least one; the first is the one a test item asks.
    pub(crate) asked: Vec<Asked>,
    /// All of them belong to one split; the tests hold every skill to that.
    #[cfg_attr(not(test), expect(dead_code, reason = "read by the tests of the split"))]
    pub(crate) facts: Vec<Fact>,
}

impl Scene {
    /// Context and question, ready to be completed with `" " + answer`.
    pub(crate) fn prompt(&self, asked: &Asked) -> String {
        let gap = if self.context.is_empty() { "" } else { "\n" };
        format!("{}{gap}Question: {}\nAnswer:", self.context, asked.question)
    }

    /// The same as a person would type it in a chat.
    pub(crate) fn chat_turn(&self, asked: &Asked) -> String {
        let gap = if self.context.is_empty() { "" } else { "\n" };
        format!("{}{gap}{}", self.context, asked.question)
    }
}

/// A random stream that knows which facts it may use.
pub(crate) struct Draw<'w> {
    rng: Stream,
    splitter: &'w Splitter,
    split: Split,
}

impl<'w> Draw<'w> {
    pub(crate) fn new(rng: Stream, splitter: &'w Splitter, split: Split) -> Self {
        Self { rng, splitter, split }
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.rng.below(n as u64) as usize
    }

    /// Uniform in `low..=high`.
    pub(crate) fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    pub(crate) fn coin(&mut self) -> bool {
        self.rng.next_u32() & 1 == 1
    }

    /// True `percent` times in a hundred.
    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// Whether the text is to train on. Only then may a scene be easier, or ask otherwise, than those of the tests.
    pub(crate) fn trains(&self) -> bool {
        self.split == Split::Train
    }

    /// A skill to write about. In training text those with the shortest texts, or that look up most, come more often.
    pub(crate) fn skill(&mut self) -> Skill {
        let more = [Skill::List, Skill::Program, Skill::Order, Skill::Location, Skill::Possession];
        let index = self.below(Skill::ALL.len() + if self.trains() { more.len() } else { 0 });
        Skill::ALL.get(index).copied().unwrap_or_else(|| more[index - Skill::ALL.len()])
    }

    /// How many facts a scene tells: `full`, or in training text anything from `least` on and most often two. The
    /// choice between two is where finding the right one is learnt; from there it goes on to more.
    pub(crate) fn facts(&mut self, least: usize, full: usize) -> usize {
        match self.trains() {
            true if self.coin() => 2,
            true => self.between(least, full),
            false => full,
        }
    }

    /// One of a table that is not empty.
    pub(crate) fn pick<T: Copy>(&mut self, table: &[T]) -> T {
        table[self.below(table.len())]
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        self.rng.shuffle(items);
    }

    /// Every one of `n` rows twice, once each way, in random order: a row's first way is `true` in `percent` of cases.
    pub(crate) fn both_ways(&mut self, n: usize, percent: usize) -> Vec<(usize, bool)> {
        let mut first: Vec<(usize, bool)> = (0..n).map(|row| (row, self.chance(percent))).collect();
        let mut second: Vec<(usize, bool)> = first.iter().map(|&(row, way)| (row, !way)).collect();
        self.shuffle(&mut first);
        self.shuffle(&mut second);
        first.append(&mut second);
        first
    }

    /// `N` different indices below `n`.
    pub(crate) fn distinct<const N: usize>(&mut self, n: usize) -> [usize; N] {
        let mut drawn = [usize::MAX; N];
        for i in 0..N {
            drawn[i] = self.other(n, &drawn[..i]);
        }
        drawn
    }

    /// An index below `n` that is not in `taken`.
    pub(crate) fn other(&mut self, n: usize, taken: &[usize]) -> usize {
        loop {
            let index = self.below(n);
            if !taken.contains(&index) {
                return index;
            }
        }
    }

    /// Whether the split of this text may contain the fact.
    pub(crate) fn admits(&self, skill: Skill, parts: &[usize]) -> Option<Fact> {
        let fact = Fact::new(skill, parts);
        (self.splitter.split_of(&fact) == self.split).then_some(fact)
    }
}

/// Puts `words` into the places `{0}`, `{1}`, … of `template`.
pub(crate) fn fill(template: &str, words: &[&str]) -> String {
    let mut out = String::with_capacity(template.len() + 16);
    let mut rest = template;
    while let Some(open) = rest.find('{') {
        out.push_str(&rest[..open]);
        let slot = usize::from(rest.as_bytes()[open + 1] - b'0');
        out.push_str(words[slot]);
        rest = &rest[open + 3..];
    }
    out.push_str(rest);
    out
}

/// Three wrong numbers for `right`: those in `near` first (they stand in the context), then neighbours. The rank of the
/// right one among the four is even, so that "the middle number" is no better than a guess.
pub(crate) fn wrong_numbers(draw: &mut Draw, right: usize, near: &[usize]) -> Vec<String> {
    let below = draw.below(4).min(right);
    let mut wrong: Vec<usize> = Vec::with_capacity(3);
    let side = |wrong: &mut Vec<usize>, want: usize, draw: &mut Draw, low: bool| {
        for &number in near {
            let fits = if low { number < right } else { number > right };
            if wrong.len() < want && fits && !wrong.contains(&number) {
                wrong.push(number);
            }
        }
        while wrong.len() < want {
            let step = draw.pick(&[1, 1, 2, 2, 3, 4, 10]);
            let number = if low { right.checked_sub(step) } else { Some(right + step) };
            if let Some(number) = number.filter(|n| !wrong.contains(n)) {
                wrong.push(number);
            }
        }
    };
    side(&mut wrong, below, draw, true);
    side(&mut wrong, 3, draw, false);
    wrong.iter().map(|number| format!("{number}.")).collect()
}

/// The entries of `all` other than `right`, as answers through `say`.
pub(crate) fn others(all: &[usize], right: usize, say: impl Fn(usize) -> String) -> Vec<String> {
    all.iter().filter(|&&entry| entry != right).map(|&entry| say(entry)).collect()
}
