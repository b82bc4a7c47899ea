use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::scene::Draw;
use super::*;

const SEEDS: [u64; 2] = [0, 71];

fn train_text(world: &World, n: u64) -> Vec<String> {
    let chats = world.chats(n, Split::Train).map(|chat| {
        let turns: Vec<String> = chat.messages.into_iter().map(|message| message.content).collect();
        turns.join("\n")
    });
    let pages = world.stories(n, Split::Train).chain(world.qa(n, Split::Train));
    let pages = pages.chain(world.recitals(n, Split::Train)).map(|page| page.text);
    pages.chain(chats).collect()
}

#[test]
fn every_fact_of_a_text_is_in_the_split_of_the_text() {
    for seed in SEEDS {
        let world = World::new(seed);
        let mut seen: HashMap<split::Fact, Split> = HashMap::new();
        for split in [Split::Train, Split::Valid, Split::Test] {
            for skill in Skill::ALL {
                for i in 0..1500 {
                    let scene = skills::scene(skill, &mut world.draw(skill.name(), i, split));
                    assert!(!scene.facts.is_empty() && !scene.asked.is_empty());
                    for fact in scene.facts {
                        assert_eq!(*seen.entry(fact).or_insert(split), split, "{fact:?}");
                    }
                }
            }
        }
        let share = seen.values().filter(|&&split| split == Split::Test).count() as f64 / seen.len() as f64;
        assert!(share > 0.05, "{share}");
    }
}

/// The facts of stories, pages and chats, read back from their scenes, never are the facts of a test item; nor does any
/// test context or question-only prompt occur in them as a string.
#[test]
fn no_test_context_occurs_in_training_text() {
    let world = World::new(0);
    let mut tests: HashMap<String, Vec<String>> = HashMap::new();
    for skill in Skill::ALL {
        for item in world.test_items(skill) {
            let context = item.prompt.strip_suffix("\nAnswer:").unwrap();
            let needle = match context.split_once("\nQuestion: ") {
                Some((context, _)) => context.to_owned(),
                None => context.strip_prefix("Question: ").unwrap().to_owned(),
            };
            let start = needle.chars().take(8).collect();
            tests.entry(start).or_default().push(needle);
        }
    }
    for text in train_text(&world, 8_000) {
        for (at, _) in text.char_indices() {
            let Some(start) = text.get(at..at + 8) else { continue };
            for needle in tests.get(start).into_iter().flatten() {
                assert!(!text[at..].starts_with(needle.as_str()), "{needle:?} in {text:?}");
            }
        }
    }
}

#[test]
fn items_are_well_formed_fixed_and_all_different() {
    let world = World::new(0);
    for skill in Skill::ALL {
        let items = world.test_items(skill);
        assert_eq!(items.len(), TEST_ITEMS);
        assert_eq!(items, world.test_items(skill));
        let prompts: HashSet<&str> = items.iter().map(|item| item.prompt.as_str()).collect();
        assert_eq!(prompts.len(), TEST_ITEMS);
        for item in &items {
            assert_eq!(item.choices.len(), if skill == Skill::YesNo { 2 } else { 4 }, "{item:?}");
            assert_eq!(item.choices.iter().collect::<HashSet<_>>().len(), item.choices.len(), "{item:?}");
            assert_eq!(item.choices[item.answer], item.answer_text);
            assert!(item.prompt.ends_with("\nAnswer:") && item.answer_text.ends_with('.'));
            assert!(!item.prompt.contains(['{', '}']));
            assert_eq!(item.chat.len(), 1);
        }
    }
}

/// The word by which a choice can be found in a context.
fn key(choice: &str) -> &str {
    choice
        .trim_end_matches('.')
        .trim_start_matches("In the ")
        .trim_start_matches("It is ")
        .trim_start_matches("the ")
}

fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).map(str::to_lowercase).collect()
}

/// Accuracy of a rule that scores each candidate; ties share the point.
fn accuracy(items: &[TestItem], score: impl Fn(&TestItem, &str) -> f64) -> f64 {
    let right = items.iter().map(|item| {
        let scores: Vec<f64> = item.choices.iter().map(|choice| score(item, choice)).collect();
        let best = scores.iter().copied().fold(f64::MIN, f64::max);
        let ties = scores.iter().filter(|&&s| s == best).count();
        if scores[item.answer] == best { 1.0 / ties as f64 } else { 0.0 }
    });
    right.sum::<f64>() / items.len() as f64
}

/// A model that only looks at where and how often a candidate stands in the context is near chance.
#[test]
fn position_and_frequency_tell_little() {
    let world = World::new(0);
    let mut usual: HashMap<String, f64> = HashMap::new();
    for page in world.qa(20_000, Split::Train) {
        for answer in page.text.lines().filter_map(|line| line.strip_prefix("Answer: ")) {
            *usual.entry(answer.to_owned()).or_default() += 1.0;
        }
    }
    for skill in Skill::ALL {
        let items = world.test_items(skill);
        let context = |item: &TestItem| words(item.prompt.split("\nQuestion:").next().unwrap());
        let find = |item: &TestItem, choice: &str| {
            let (context, key) = (context(item), words(key(choice)));
            let hits: Vec<usize> =
                (0..context.len()).filter(|&i| context[i..].starts_with(&key)).map(|i| i + 1).collect();
            (hits.first().copied(), hits.last().copied(), hits.len())
        };
        if matches!(skill, Skill::Possession | Skill::Location | Skill::Order | Skill::Attribute) {
            let named = |item: &TestItem| item.choices.iter().all(|choice| find(item, choice).2 > 0);
            assert!(items.iter().all(named), "{skill:?}: a candidate is not in the text");
        }
        let first = accuracy(&items, |item, choice| find(item, choice).0.map_or(f64::MIN, |at| -(at as f64)));
        let last = accuracy(&items, |item, choice| find(item, choice).1.map_or(-1.0, |at| at as f64));
        let often = accuracy(&items, |item, choice| find(item, choice).2 as f64);
        let seldom = accuracy(&items, |item, choice| -(find(item, choice).2 as f64));
        let usual = accuracy(&items, |_, choice| usual.get(choice).copied().unwrap_or(0.0));
        let longest = accuracy(&items, |_, choice| choice.len() as f64);
        let place = accuracy(&items, |item, choice| f64::from(u8::from(item.choices[0] == choice)));
        println!(
            "{:12} first {first:.3} last {last:.3} often {often:.3} seldom {seldom:.3} usual {usual:.3} long {longest:.3} A {place:.3}",
            skill.name()
        );
        let chance = if skill == Skill::YesNo { 0.5 } else { 0.25 };
        for heuristic in [first, last, often, seldom, usual, longest, place] {
            assert!(heuristic < chance + 0.15, "{skill:?}: {heuristic}");
        }
    }
}

/// Answers recomputed from the text alone, by another route than the generator's.
#[test]
fn answers_follow_from_the_text() {
    let world = World::new(3);
    for item in world.test_items(Skill::Program) {
        let mut values: HashMap<&str, i64> = HashMap::new();
        let mut printed = None;
        for line in item.prompt.lines().take_while(|line| !line.starts_with("Question")) {
            if let Some(name) = line.strip_prefix("print(") {
                printed = values.get(name.trim_end_matches(')')).copied();
            } else {
                let (name, value) = line.split_once(" = ").unwrap();
                let parts: Vec<&str> = value.split(' ').collect();
                let read = |word: &str| word.parse().unwrap_or_else(|_| values[word]);
                let result = match parts[..] {
                    [one] => read(one),
                    [left, "+", right] => read(left) + read(right),
                    [left, _, right] => read(left) - read(right),
                    _ => panic!("{line}"),
                };
                values.insert(name, result);
            }
        }
        assert_eq!(item.answer_text, format!("{}.", printed.unwrap()), "{}", item.prompt);
    }
    for item in world.test_items(Skill::Possession) {
        let (story, question) = item.prompt.split_once("\nQuestion: Who has the ").unwrap();
        let object = question.split([' ', '?']).next().unwrap();
        let mut holder = "";
        for sentence in story.split_terminator('.') {
            let w: Vec<&str> = sentence.split_whitespace().collect();
            if w[3] == object {
                holder = if matches!(w[1], "gave" | "handed") { w[5] } else { w[0] };
            }
        }
        assert_eq!(item.answer_text, format!("It is {holder}."), "{}", item.prompt);
    }
}

#[test]
fn a_text_depends_on_its_own_index_only() {
    let world = World::new(5);
    let few: Vec<Document> = world.stories(10, Split::Train).collect();
    let many: Vec<Document> = World::new(5).stories(40, Split::Train).skip(3).take(7).collect();
    assert_eq!(few[3..], many[..]);
    assert_ne!(few, World::new(6).stories(10, Split::Train).collect::<Vec<_>>());
}

#[test]
fn a_recital_says_the_same_different_words_again() {
    for recital in World::new(0).recitals(500, Split::Train) {
        let said: Vec<&str> = recital.text.split_inclusive('.').map(str::trim).collect();
        assert!(
            (2..=3).contains(&said.len()) && said.iter().all(|again| *again == said[0]),
            "{}",
            recital.text
        );
        let words: Vec<&str> = said[0].trim_end_matches('.').split(' ').collect();
        assert!((4..=20).contains(&words.len()), "{}", recital.text);
        assert_eq!(words.iter().collect::<HashSet<_>>().len(), words.len(), "{}", recital.text);
    }
}

#[test]
fn recitals_know_all_but_the_rarest_words_of_the_world() {
    let world = World::new(3);
    let known: HashSet<String> = world.words().into_iter().collect();
    let (mut words, mut unknown) = (0, 0);
    for page in world.qa(12_000, Split::Train) {
        for word in page::words(&page.text) {
            words += 1;
            unknown += usize::from(!known.contains(word));
        }
    }
    assert!(
        known.len() > 150 && unknown * 10_000 < words,
        "{unknown} of {words} unknown, {} known",
        known.len()
    );
}

#[test]
fn chats_take_turns_and_prompts_await_an_answer() {
    let world = World::new(0);
    for chat in world.chats(2000, Split::Train) {
        assert!(chat.messages.len() >= 2 && chat.messages.len().is_multiple_of(2));
        for (i, message) in chat.messages.iter().enumerate() {
            assert_eq!(message.role, if i % 2 == 0 { "user" } else { "assistant" });
            assert!(!message.content.is_empty());
        }
    }
    let prompts = world.chat_prompts();
    assert_eq!(prompts.len(), CHAT_PROMPTS);
    assert!(prompts.iter().all(|chat| chat.messages.last().unwrap().role == "user"));
}

#[test]
fn files_have_the_lines_asked_for_and_the_same_bytes_each_time() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { seed: 1, recitals: 30, stories: 40, qa: 60, chats: 20 };
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    let written = write_jsonl(&one, &settings).unwrap();
    assert_eq!(written, write_jsonl(&two, &settings).unwrap());
    assert_eq!(
        written.lines,
        30 + 2 + 40 + 2 + 60 + 3 + 20 + 1 + 10 * TEST_ITEMS as u64 + CHAT_PROMPTS as u64
    );
    for file in [
        "stories.train.jsonl",
        "qa.valid.jsonl",
        "chats.train.jsonl",
        "test/cause.jsonl",
        "chat_prompts.jsonl",
    ] {
        let text = std::fs::read_to_string(one.join(file)).unwrap();
        assert_eq!(text, std::fs::read_to_string(two.join(file)).unwrap());
        for line in text.lines() {
            serde_json::from_str::<serde_json::Value>(line).unwrap();
        }
    }
    let blocked = dir.path().join("one/qa.train.jsonl");
    assert!(write_jsonl(&blocked, &settings).unwrap_err().to_string().contains("qa.train.jsonl"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    /// Any seed, any index: a scene is drawn (no endless search, no index out of a table) and its answers are choices.
    #[test]
    fn any_seed_draws_scenes(seed in any::<u64>(), index in any::<u64>(), which in 0usize..10, kept in 0usize..3) {
        let world = World::new(seed);
        let split = [Split::Train, Split::Valid, Split::Test][kept];
        let mut draw: Draw = world.draw("any", index, split);
        let scene = skills::scene(Skill::ALL[which], &mut draw);
        for asked in &scene.asked {
            prop_assert!(asked.answer < asked.choices.len());
        }
    }
}
