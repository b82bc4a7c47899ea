//! Who has the ball? Things pass from hand to hand; only the last one has it.

use super::super::Skill;
use super::super::scene::{Asked, Draw, Scene, fill, others};
use super::super::split::Fact;
use super::super::words::{OBJECTS, PEOPLE};

/// {0} gives the {1} to {2}. Half of the wordings end with the giver, so the last name tells nothing.
const PASS: [&str; 4] = [
    "{0} gave the {1} to {2}.",
    "{0} handed the {1} to {2}.",
    "{2} took the {1} from {0}.",
    "{2} got the {1} from {0}.",
];
const ASK: [&str; 2] = ["Who has the {0}?", "Who has the {0} now?"];

#[derive(Clone, Copy)]
struct Pass {
    from: usize,
    object: usize,
    to: usize,
}

/// A pass drawn by `people` until its fact is admitted.
fn pass(
    draw: &mut Draw,
    taken: &[usize],
    facts: &mut Vec<Fact>,
    people: impl Fn(&mut Draw) -> (usize, usize),
) -> Pass {
    loop {
        let (from, to) = people(draw);
        let object = draw.other(OBJECTS.len(), taken);
        if let Some(fact) = draw.admits(Skill::Possession, &[from, object, to]) {
            facts.push(fact);
            return Pass { from, object, to };
        }
    }
}

/// One thing that passes through three people, with two passes whose facts are both admitted.
fn chain(draw: &mut Draw, facts: &mut Vec<Fact>) -> [Pass; 2] {
    loop {
        let [first, second, third] = draw.distinct(PEOPLE.len());
        let object = draw.below(OBJECTS.len());
        let one = draw.admits(Skill::Possession, &[first, object, second]);
        let two = draw.admits(Skill::Possession, &[second, object, third]);
        if let (Some(one), Some(two)) = (one, two) {
            facts.extend([one, two]);
            return [Pass { from: first, object, to: second }, Pass { from: second, object, to: third }];
        }
    }
}

pub(super) fn scene(draw: &mut Draw) -> Scene {
    match draw.facts(1, 4) {
        easy @ 1..=2 => apart(draw, easy),
        _ => passes(draw),
    }
}

/// The easiest, to train on: `n` things that change hands once, no person twice.
fn apart(draw: &mut Draw, n: usize) -> Scene {
    let (mut facts, mut passes): (Vec<Fact>, Vec<Pass>) = (Vec::new(), Vec::new());
    let (mut people, mut objects) = (Vec::new(), Vec::new());
    for _ in 0..n {
        let known = people.clone();
        let next = pass(draw, &objects, &mut facts, |draw| {
            let from = draw.other(PEOPLE.len(), &known);
            let taken: Vec<usize> = known.iter().copied().chain([from]).collect();
            (from, draw.other(PEOPLE.len(), &taken))
        });
        people.extend([next.from, next.to]);
        objects.push(next.object);
        passes.push(next);
    }
    let context = tell(draw, &passes);
    draw.shuffle(&mut passes);
    let asked = passes.iter().map(|p| ask(draw, p, &people)).collect();
    Scene { context, asked, facts }
}

fn tell(draw: &mut Draw, passes: &[Pass]) -> String {
    let sentences: Vec<String> = passes
        .iter()
        .map(|p| fill(draw.pick(&PASS), &[PEOPLE[p.from], OBJECTS[p.object], PEOPLE[p.to]]))
        .collect();
    sentences.join(" ")
}

/// A chain through three people, and one or two passes of other things between them.
fn passes(draw: &mut Draw) -> Scene {
    let mut facts = Vec::new();
    let long = chain(draw, &mut facts);
    let mut people = vec![long[0].from, long[0].to, long[1].to];
    let (known, out) = (people.clone(), draw.coin());
    // A fourth person and a second thing; sometimes a third thing between any two of the four.
    let short = pass(draw, &[long[0].object], &mut facts, |draw| {
        let (old, new) = (draw.pick(&known), draw.other(PEOPLE.len(), &known));
        if out { (new, old) } else { (old, new) }
    });
    people.push(if out { short.from } else { short.to });
    let mut passes = vec![long[0], long[1]];
    let place = draw.below(3);
    passes.insert(place, short);
    if draw.coin() {
        let third = pass(draw, &[long[0].object, short.object], &mut facts, |draw| {
            let [from, to] = draw.distinct(people.len());
            (people[from], people[to])
        });
        let place = draw.below(4);
        passes.insert(place, third);
    }
    let context = tell(draw, &passes);
    let mut last: Vec<Pass> = passes.iter().filter(|p| p.object != long[0].object).copied().collect();
    last.push(long[1]);
    draw.shuffle(&mut last);
    let asked = last.iter().map(|p| ask(draw, p, &people)).collect();
    Scene { context, asked, facts }
}

fn ask(draw: &mut Draw, last: &Pass, people: &[usize]) -> Asked {
    let question = fill(draw.pick(&ASK), &[OBJECTS[last.object]]);
    let say = |person: usize| format!("It is {}.", PEOPLE[person]);
    Asked::new(draw, question, say(last.to), others(people, last.to, say))
        .told(fill("{0} has the {1}.", &[PEOPLE[last.to], OBJECTS[last.object]]))
}
