//! Pages to pretrain on: recitals, stories, and questions with answers in the layout of the test items.

use super::Skill;
use super::scene::{Draw, Scene};
use super::skills;

const OPENINGS: [&str; 12] = [
    "It was a sunny morning in Tinytown.",
    "It was a windy day in Tinytown.",
    "This is a story from Tinytown.",
    "One day something small happened in Tinytown.",
    "Here is what happened in Tinytown today.",
    "The birds sang and the town woke up.",
    "Once upon a time there was a little town.",
    "It was a quiet evening in the little town.",
    "Everybody in Tinytown was busy that day.",
    "The sun came up over Tinytown.",
    "Listen to this little story.",
    "On Monday the people of Tinytown were up early.",
];
const CLOSINGS: [&str; 6] = [
    "It was a good day.",
    "That is the whole story.",
    "Everybody was happy.",
    "And then the moon came up.",
    "That is all that happened.",
    "What a day it was!",
];

/// The words of a text, without digits and punctuation.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphabetic()).filter(|word| !word.is_empty())
}

/// Words in no order, said two or three times. Heads that find what followed a word before ("induction heads": Olsson et
/// al. 2022) form on such lists within a million tokens, on stories and questions not within seven.
pub(super) fn recital(draw: &mut Draw, world: &[String]) -> String {
    let mut words: Vec<&str> = world.iter().map(String::as_str).collect();
    draw.shuffle(&mut words);
    words.truncate(draw.between(4, 20));
    let said = format!("{}.", words.join(" "));
    vec![said.as_str(); draw.between(2, 3)].join(" ")
}

/// The opening, the scene and sometimes a closing, each a paragraph.
pub(super) fn tell(draw: &mut Draw, scene: &Scene) -> String {
    let mut text = format!("{}\n{}", draw.pick(&OPENINGS), scene.context);
    if draw.coin() {
        text.push('\n');
        text.push_str(draw.pick(&CLOSINGS));
    }
    text
}

/// A scene that can be told.
pub(super) fn told_scene(draw: &mut Draw) -> Scene {
    loop {
        let skill = draw.pick(&Skill::ALL);
        if skill.is_told() {
            return skills::scene(skill, draw);
        }
    }
}

pub(super) fn story(draw: &mut Draw) -> String {
    let scene = told_scene(draw);
    let text = tell(draw, &scene);
    // One story in five is only a story.
    if draw.chance(20) { text } else { answered(text, &scene) }
}

pub(super) fn questions(draw: &mut Draw) -> String {
    let scene = skills::scene(draw.skill(), draw);
    let recap = if draw.trains() && draw.coin() { recap(draw, &scene) } else { None };
    match recap {
        Some(recap) if scene.context.is_empty() => recap,
        Some(recap) => format!("{}\n{recap}", scene.context),
        None => answered(scene.context.clone(), &scene),
    }
}

/// What the questions of the scene ask for, in sentences: each word that is looked up follows what it is looked up by,
/// so a model learns from them to find things sooner than from questions alone.
fn recap(draw: &mut Draw, scene: &Scene) -> Option<String> {
    let mut sentences: Vec<&str> = scene.asked.iter().filter_map(|asked| asked.told.as_deref()).collect();
    draw.shuffle(&mut sentences);
    (!sentences.is_empty()).then(|| sentences.join(" "))
}

fn answered(mut text: String, scene: &Scene) -> String {
    for asked in &scene.asked {
        let gap = if text.is_empty() { "" } else { "\n" };
        text.push_str(gap);
        text.push_str("Question: ");
        text.push_str(&asked.question);
        text.push_str("\nAnswer: ");
        text.push_str(asked.answer_text());
    }
    text
}
