//! Chats to fine-tune on. An answer is the bare canonical answer of the scene, so it can be compared to the letter.

use super::scene::{Draw, Scene};
use super::skills;
use super::words::PEOPLE;
use super::{Message, Skill, page};

/// What people say, and what the model says to it.
const SMALL_TALK: [(&str, &str); 16] = [
    ("Hello!", "Hello! What would you like to know?"),
    ("Hi!", "Hello! What would you like to know?"),
    ("Good morning!", "Good morning! What would you like to know?"),
    ("Good evening!", "Good evening! What would you like to know?"),
    ("Who are you?", "I am a very small language model from Tinytown."),
    ("What are you?", "I am a very small language model from Tinytown."),
    ("Where do you come from?", "I come from Tinytown."),
    ("What is your name?", "I am called smolt."),
    ("How are you?", "I am well, thank you."),
    ("What can you do?", "I can answer questions about small stories, count, and run tiny programs."),
    ("Can you help me?", "Yes. Tell me a story and ask me about it."),
    ("Do you like stories?", "Yes, I like small stories."),
    ("Thank you!", "You are welcome."),
    ("Thanks a lot!", "You are welcome."),
    ("Goodbye!", "Goodbye!"),
    ("See you soon!", "Goodbye!"),
];
const GREETINGS: usize = 4;
const THANKS: std::ops::Range<usize> = 12..14;
const STORY: [&str; 2] = ["Tell me a story.", "Please tell me a story."];
const NOBODY: &str = "What does the story say about {0}?";
const NOT_SAID: &str = "The story does not say.";

pub(super) fn user(content: impl Into<String>) -> Message {
    Message { role: "user", content: content.into() }
}

fn assistant(content: impl Into<String>) -> Message {
    Message { role: "assistant", content: content.into() }
}

fn small_talk(messages: &mut Vec<Message>, line: usize) {
    let (said, reply) = SMALL_TALK[line];
    messages.extend([user(said), assistant(reply)]);
}

/// A whole chat: one in eight is small talk alone, the others are about a scene, with follow-ups.
pub(super) fn chat(draw: &mut Draw) -> Vec<Message> {
    let mut messages = Vec::new();
    if draw.chance(12) {
        if draw.chance(25) {
            let scene = page::told_scene(draw);
            messages.extend([user(draw.pick(&STORY)), assistant(page::tell(draw, &scene))]);
        }
        for _ in 0..draw.between(1, 2) {
            small_talk(&mut messages, draw.below(SMALL_TALK.len()));
        }
        return messages;
    }
    if draw.chance(15) {
        small_talk(&mut messages, draw.below(GREETINGS));
    }
    let skill = draw.skill();
    let scene = skills::scene(skill, draw);
    let follow_ups = draw.between(1, scene.asked.len());
    for (turn, asked) in scene.asked[..follow_ups].iter().enumerate() {
        let said = if turn == 0 { scene.chat_turn(asked) } else { asked.question.clone() };
        messages.extend([user(said), assistant(asked.answer_text())]);
    }
    if skill.is_told() && draw.chance(10) {
        messages.extend([user(nobody(draw, &scene)), assistant(NOT_SAID)]);
    }
    if draw.chance(10) {
        small_talk(&mut messages, draw.between(THANKS.start, THANKS.end - 1));
    }
    messages
}

/// A question about somebody the story does not name.
fn nobody(draw: &mut Draw, scene: &Scene) -> String {
    loop {
        let person = draw.pick(&PEOPLE);
        if !scene.context.contains(person) {
            return super::scene::fill(NOBODY, &[person]);
        }
    }
}

/// A chat that awaits its answer: number `index` decides the skill, and each eighth is small talk.
pub(super) fn prompt(draw: &mut Draw, index: usize) -> Vec<Message> {
    if index % 8 == 7 {
        return vec![user(SMALL_TALK[draw.below(SMALL_TALK.len())].0)];
    }
    let scene = skills::scene(Skill::ALL[index % Skill::ALL.len()], draw);
    vec![user(scene.chat_turn(&scene.asked[0]))]
}
