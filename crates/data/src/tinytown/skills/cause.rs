//! Why is the hat wet? Things done have effects, by the few rules of `RULES`. The story tells only the deeds.

use super::super::Skill;
use super::super::scene::{Asked, Draw, Scene, fill};
use super::super::words::{OBJECTS, PEOPLE};

/// Effect, and two deeds that lead to it ({0} who, {1} what).
const RULES: [(&str, [&str; 2]); 8] = [
    ("wet", ["{0} dropped {1} in the river", "{0} left {1} in the rain"]),
    ("hot", ["{0} left {1} by the fire", "{0} put {1} in the oven"]),
    ("cold", ["{0} left {1} in the snow", "{0} put {1} on the ice"]),
    ("dirty", ["{0} dropped {1} in the mud", "{0} dragged {1} through the dust"]),
    ("clean", ["{0} washed {1} with soap", "{0} wiped {1} with a cloth"]),
    ("flat", ["{0} sat down on {1}", "{0} put a stone on {1}"]),
    ("broken", ["{0} hit {1} with a hammer", "{0} threw {1} at the wall"]),
    ("lost", ["{0} hid {1} in the hay", "{0} forgot {1} on the road"]),
];
const HOW: [&str; 2] = ["How is the {0} now?", "What is the {0} like now?"];
const WHY: &str = "Why is the {0} {1}?";

pub(super) fn scene(draw: &mut Draw) -> Scene {
    let (mut facts, mut deeds) = (Vec::new(), Vec::new());
    let (mut rules, mut objects) = (Vec::new(), Vec::new());
    let n = draw.facts(1, 4);
    while deeds.len() < n {
        let (rule, object) = (draw.other(RULES.len(), &rules), draw.other(OBJECTS.len(), &objects));
        let (person, wording) = (draw.below(PEOPLE.len()), draw.below(2));
        if let Some(fact) = draw.admits(Skill::Cause, &[person, rule, wording, object]) {
            facts.push(fact);
            rules.push(rule);
            objects.push(object);
            let told = |what: &str| fill(RULES[rule].1[wording], &[PEOPLE[person], what]);
            let thing = format!("the {}", OBJECTS[object]);
            deeds.push((object, RULES[rule].0, told(&thing) + ".", format!("Because {}.", told("it"))));
        }
    }
    let context: Vec<&str> = deeds.iter().map(|deed| deed.2.as_str()).collect();
    let context = context.join(" ");
    let asked = draw
        .both_ways(n, 65)
        .into_iter()
        .map(|(i, how)| {
            let (object, effect, _, because) = &deeds[i];
            let rest = deeds.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, deed)| deed);
            if how {
                let wrong = rest.map(|deed| said(deed.1)).collect();
                let question = fill(draw.pick(&HOW), &[OBJECTS[*object]]);
                Asked::new(draw, question, said(effect), wrong)
                    .told(format!("The {} is {effect}.", OBJECTS[*object]))
            } else {
                let wrong = rest.map(|deed| deed.3.clone()).collect();
                Asked::new(draw, fill(WHY, &[OBJECTS[*object], effect]), because.clone(), wrong)
                    .told(format!("The {} is {effect} {}", OBJECTS[*object], because.replacen('B', "b", 1)))
            }
        })
        .collect();
    Scene { context, asked, facts }
}

fn said(effect: &str) -> String {
    format!("It is {effect}.")
}
