//! What colour is the ball, and which thing is red?

use super::super::Skill;
use super::super::scene::{Asked, Draw, Scene, fill, others};
use super::super::words::{COLOURS, OBJECTS, PEOPLE};

const OWNS: [&str; 3] = ["{0} has a {1} {2}.", "The {2} of {0} is {1}.", "{0} saw a {2}, and it was {1}."];
const ASK_OBJECT: [&str; 2] = ["What colour is the {2}?", "Which colour does the {2} have?"];
const ASK_PERSON: &str = "What colour is the {2} of {0}?";
const ASK_THING: [&str; 2] = ["Which thing is {1}?", "What is {1}?"];

pub(super) fn scene(draw: &mut Draw) -> Scene {
    let mut facts = Vec::new();
    let (mut people, mut objects, mut colours) = (Vec::new(), Vec::new(), Vec::new());
    let n = draw.facts(1, 4);
    while facts.len() < n {
        let person = draw.below(PEOPLE.len());
        let object = draw.other(OBJECTS.len(), &objects);
        let colour = draw.other(COLOURS.len(), &colours);
        if let Some(fact) = draw.admits(Skill::Attribute, &[person, object, colour]) {
            facts.push(fact);
            people.push(person);
            objects.push(object);
            colours.push(colour);
        }
    }
    let words: Vec<[&str; 3]> =
        (0..n).map(|i| [PEOPLE[people[i]], COLOURS[colours[i]], OBJECTS[objects[i]]]).collect();
    let context: Vec<String> = words.iter().map(|words| fill(draw.pick(&OWNS), words)).collect();
    let asked = draw
        .both_ways(n, 35)
        .into_iter()
        .map(|(i, thing)| {
            if thing {
                let say = |object: usize| format!("It is the {}.", OBJECTS[object]);
                let question = fill(draw.pick(&ASK_THING), &words[i]);
                return Asked::new(draw, question, say(objects[i]), others(&objects, objects[i], say))
                    .told(fill("The {1} thing is the {2}.", &words[i]));
            }
            let wording = if draw.coin() { ASK_PERSON } else { draw.pick(&ASK_OBJECT) };
            let say = |colour: usize| format!("It is {}.", COLOURS[colour]);
            Asked::new(draw, fill(wording, &words[i]), say(colours[i]), others(&colours, colours[i], say))
                .told(fill("The {2} is {1}.", &words[i]))
        })
        .collect();
    Scene { context: context.join(" "), asked, facts }
}
