//! Who came first, who right after Mia?

use super::super::Skill;
use super::super::scene::{Asked, Draw, Scene, fill, others};
use super::super::split::Fact;
use super::super::words::PEOPLE;

const DEEDS: [&str; 8] =
    ["came in", "sang a song", "jumped", "waved", "told a joke", "went home", "sat down", "climbed the hill"];
const TOLD: [[&str; 4]; 3] = [
    ["First {0} {1}.", "Then {0} {1}.", "Then {0} {1}.", "Last of all {0} {1}."],
    ["{0} {1}.", "Then {0} {1}.", "Then {0} {1}.", "Then {0} {1}."],
    ["{0} {1}.", "After that {0} {1}.", "Next {0} {1}.", "In the end {0} {1}."],
];
const FIRST: &str = "Who {0} first?";
const LAST: &str = "Who {0} last?";
const AFTER: &str = "Who {0} right after {1}?";
const BEFORE: &str = "Who {0} right before {1}?";

/// `n` people such that each pair of neighbours is an admitted fact.
fn row(draw: &mut Draw, deed: usize, n: usize) -> (Vec<usize>, Vec<Fact>) {
    'again: loop {
        let mut row = vec![usize::MAX; n];
        row[0] = draw.below(PEOPLE.len());
        let mut facts = Vec::new();
        for place in 1..n {
            let fact = (0..64).find_map(|_| {
                row[place] = draw.other(PEOPLE.len(), &row[..place]);
                draw.admits(Skill::Order, &[deed, row[place - 1], row[place]])
            });
            let Some(fact) = fact else { continue 'again };
            facts.push(fact);
        }
        return (row, facts);
    }
}

pub(super) fn scene(draw: &mut Draw) -> Scene {
    let deed = draw.below(DEEDS.len());
    let n = draw.facts(2, 4);
    let (row, facts) = row(draw, deed, n);
    let told = draw.pick(&TOLD);
    let wordings = told[..n - 1].iter().chain(&told[3..]);
    let context: Vec<String> =
        wordings.zip(&row).map(|(wording, &person)| fill(wording, &[PEOPLE[person], DEEDS[deed]])).collect();
    let asked = draw
        .both_ways(n, 50)
        .into_iter()
        .map(|(place, way)| {
            // The place of the answer is drawn first, so that each is right equally often.
            let (wording, anchor) = match (place, way) {
                (0, true) => (FIRST, None),
                (0, false) => (BEFORE, Some(1)),
                (last, true) if last == n - 1 => (LAST, None),
                (last, false) if last == n - 1 => (AFTER, Some(last - 1)),
                (_, true) => (BEFORE, Some(place + 1)),
                (_, false) => (AFTER, Some(place - 1)),
            };
            let question = fill(wording, &[DEEDS[deed], anchor.map_or("", |at: usize| PEOPLE[row[at]])]);
            let say = |person: usize| format!("It is {}.", PEOPLE[person]);
            // Nobody is right before or after themselves, but leaving the anchor in keeps four candidates.
            Asked::new(draw, question, say(row[place]), others(&row, row[place], say)).told(
                match (wording, anchor) {
                    (FIRST, _) => format!("The first was {}.", PEOPLE[row[place]]),
                    (LAST, _) => format!("The last was {}.", PEOPLE[row[place]]),
                    (AFTER, Some(at)) => format!("After {} came {}.", PEOPLE[row[at]], PEOPLE[row[place]]),
                    (_, at) => {
                        format!("Before {} came {}.", PEOPLE[row[at.unwrap_or(0)]], PEOPLE[row[place]])
                    }
                },
            )
        })
        .collect();
    Scene { context: context.join(" "), asked, facts }
}
