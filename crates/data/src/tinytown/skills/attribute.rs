//! What colour is the ball, and which thing is red?

use super::super::Skill;
use super::super::scene::{Asked, Draw, Scene, fill, three_others};
use super::super::words::{COLOURS, OBJECTS, PEOPLE};

const OWNS: [&str; 3] = ["{0} has a {1} {2}.", "The {2} of {0} is {1}.", "{0} saw a {2}, and it was {1}."];
const ASK_OBJECT: [&str; 2] = ["What colour is the {2}?", "Which colour does the {2} have?"];
const ASK_PERSON: &str = "What colour is the {2} of {0}?";
const ASK_THING: [&str; 2] = ["Which thing is {1}?", "What is {1}?"];

pub(super) fn scene(draw: &mut Draw) -> Scene {
    let mut facts = Vec::new();
    let (mut people, mut objects, mut colours) = ([0; 4], [usize::MAX; 4], [usize::MAX; 4]);
    // From one fact, which is only read, to four, of which the right one is to be found.
    let n = draw.between(1, 4);
    while facts.len() < n {
        let i = facts.len();
        people[i] = draw.below(PEOPLE.len());
        objects[i] = draw.other(OBJECTS.len(), &objects[..i]);
        colours[i] = draw.other(COLOURS.len(), &colours[..i]);
        facts.extend(draw.admits(Skill::Attribute, &[people[i], objects[i], colours[i]]));
    }
    let words: Vec<[&str; 3]> =
        (0..n).map(|i| [PEOPLE[people[i]], COLOURS[colours[i]], OBJECTS[objects[i]]]).collect();
    let context: Vec<String> = words.iter().map(|words| fill(draw.pick(&OWNS), words)).collect();
    let mut rows: Vec<usize> = (0..n).collect();
    draw.shuffle(&mut rows);
    rows.truncate(3);
    let asked = rows
        .into_iter()
        .map(|i| {
            if draw.chance(35) {
                let say = |object: usize| format!("It is the {}.", OBJECTS[object]);
                let question = fill(draw.pick(&ASK_THING), &words[i]);
                let wrong = three_others(draw, &objects[..n], objects[i], OBJECTS.len(), say);
                return Asked::new(draw, question, say(objects[i]), wrong);
            }
            let wording = if draw.coin() { ASK_PERSON } else { draw.pick(&ASK_OBJECT) };
            let say = |colour: usize| format!("It is {}.", COLOURS[colour]);
            let wrong = three_others(draw, &colours[..n], colours[i], COLOURS.len(), say);
            Asked::new(draw, fill(wording, &words[i]), say(colours[i]), wrong)
        })
        .collect();
    Scene { context: context.join(" "), asked, facts }
}
