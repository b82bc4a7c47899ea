//! How many apples? Two people have some; each gets more or loses a few. Or: how many things are named.

use super::super::Skill;
use super::super::scene::{Asked, Draw, Scene, fill, wrong_numbers};
use super::super::split::Fact;
use super::super::words::{FOODS, OBJECTS, PEOPLE, amount};

const HAVE: [&str; 2] = ["{0} had {1}.", "There were {1} on the plate of {0}."];
const GAIN: [&str; 3] = ["{0} found {1} more.", "{0} got {1} more.", "Then {0} bought {1} more."];
const LOSE: [&str; 3] = ["{0} ate {1} of them.", "{0} lost {1} of them.", "Then {0} gave {1} of them away."];
const ASK: [&str; 2] = ["How many {1} does {0} have?", "How many {1} does {0} have now?"];
const ASK_THINGS: &str = "How many things does {0} have?";

struct Account {
    person: usize,
    start: usize,
    gain: bool,
    change: usize,
}

impl Account {
    fn end(&self) -> usize {
        if self.gain { self.start + self.change } else { self.start - self.change }
    }
}

fn account(draw: &mut Draw, food: usize, taken: &[usize], facts: &mut Vec<Fact>) -> Account {
    loop {
        let person = draw.other(PEOPLE.len(), taken);
        let (start, gain, change) = (draw.between(2, 9), draw.coin(), draw.between(1, 4));
        if !gain && change > start {
            continue;
        }
        if let Some(fact) = draw.admits(Skill::Counting, &[0, person, food, start, usize::from(gain), change])
        {
            facts.push(fact);
            return Account { person, start, gain, change };
        }
    }
}

pub(super) fn scene(draw: &mut Draw) -> Scene {
    if draw.chance(30) { things(draw) } else { accounts(draw) }
}

fn accounts(draw: &mut Draw) -> Scene {
    let (mut facts, food) = (Vec::new(), draw.below(FOODS.len()));
    let one = account(draw, food, &[], &mut facts);
    let mut accounts = vec![one];
    if draw.facts(1, 2) == 2 {
        let taken = accounts[0].person;
        accounts.push(account(draw, food, &[taken], &mut facts));
    }
    let mut sentences = Vec::new();
    for a in &accounts {
        sentences.push(fill(draw.pick(&HAVE), &[PEOPLE[a.person], &amount(a.start, food)]));
    }
    draw.shuffle(&mut accounts);
    for a in &accounts {
        let wording = if a.gain { draw.pick(&GAIN) } else { draw.pick(&LOSE) };
        sentences.push(fill(wording, &[PEOPLE[a.person], &a.change.to_string()]));
    }
    draw.shuffle(&mut accounts);
    let mut numbers = vec![accounts[0].start];
    numbers.extend(accounts.get(1).into_iter().flat_map(|a| [a.end(), a.start]));
    let asked = accounts
        .iter()
        .map(|a| {
            let question = fill(draw.pick(&ASK), &[PEOPLE[a.person], FOODS[food].1]);
            let wrong = wrong_numbers(draw, a.end(), &numbers);
            Asked::new(draw, question, format!("{}.", a.end()), wrong).told(format!(
                "{} has {}.",
                PEOPLE[a.person],
                amount(a.end(), food)
            ))
        })
        .collect();
    Scene { context: sentences.join(" "), asked, facts }
}

/// Anna has a ball, a cup and a key: three things.
fn things(draw: &mut Draw) -> Scene {
    let (mut facts, mut sentences, mut asked) = (Vec::new(), Vec::new(), Vec::new());
    let people: [usize; 2] = draw.distinct(PEOPLE.len());
    let told = draw.facts(1, 2);
    for &person in &people[..told] {
        let (count, objects) = loop {
            let objects: [usize; 5] = draw.distinct(OBJECTS.len());
            let count = draw.between(2, 5);
            let mut parts = vec![1, person, objects[0], objects[1]];
            parts.extend(objects[2..count].iter());
            if let Some(fact) = draw.admits(Skill::Counting, &parts) {
                facts.push(fact);
                break (count, objects);
            }
        };
        let named: Vec<String> = objects[..count].iter().map(|&o| format!("a {}", OBJECTS[o])).collect();
        sentences.push(format!(
            "{} has {} and {}.",
            PEOPLE[person],
            named[..count - 1].join(", "),
            named[count - 1]
        ));
        let wrong = wrong_numbers(draw, count, &[]);
        asked.push(
            Asked::new(draw, fill(ASK_THINGS, &[PEOPLE[person]]), format!("{count}."), wrong)
                .told(format!("{} has {count} things.", PEOPLE[person])),
        );
    }
    draw.shuffle(&mut asked);
    Scene { context: sentences.join(" "), asked, facts }
}
