//! Where is Tom? People go from place to place; only the last place counts.

use super::super::Skill;
use super::super::scene::{Asked, Draw, Scene, fill};
use super::super::split::Fact;
use super::super::words::{PEOPLE, PLACES};

/// {0} goes from {1} to {2}. Half of the wordings end with the place left behind.
const GO: [&str; 4] = [
    "{0} went from the {1} to the {2}.",
    "{0} left the {1} and went to the {2}.",
    "{0} came to the {2} from the {1}.",
    "{0} is in the {2} and not in the {1}.",
];
const ASK: [&str; 2] = ["Where is {0}?", "Where is {0} now?"];

struct Walk {
    person: usize,
    from: usize,
    to: usize,
}

/// A walk by `person` (or someone not in `taken`) starting at `from` (or anywhere) whose fact is admitted; `None` where
/// luck has left no such place.
fn walk(
    draw: &mut Draw,
    person: Option<usize>,
    from: Option<usize>,
    taken: &[usize],
) -> Option<(Walk, Fact)> {
    for _ in 0..64 {
        let person = person.unwrap_or_else(|| draw.other(PEOPLE.len(), taken));
        let from = from.unwrap_or_else(|| draw.below(PLACES.len()));
        let to = draw.other(PLACES.len(), &[from]);
        if let Some(fact) = draw.admits(Skill::Location, &[person, from, to]) {
            return Some((Walk { person, from, to }, fact));
        }
    }
    None
}

/// Two or three people, of whom one walks twice, and at least four places; to train on also one or two
/// who walk once.
fn walks(draw: &mut Draw) -> Option<(Vec<Walk>, Vec<Fact>)> {
    let (first, fact) = walk(draw, None, None, &[])?;
    let (mut walks, mut facts, mut people) = (vec![first], vec![fact], vec![]);
    people.push(walks[0].person);
    let easy = draw.facts(1, 4);
    if easy == 1 {
        return Some((walks, facts));
    }
    for _ in 0..if easy == 2 { 1 } else { draw.between(1, 2) } {
        let (next, fact) = walk(draw, None, None, &people)?;
        people.push(next.person);
        walks.push(next);
        facts.push(fact);
    }
    if easy == 2 {
        return Some((walks, facts));
    }
    let again = draw.below(walks.len());
    let (second, fact) = walk(draw, Some(walks[again].person), Some(walks[again].to), &[])?;
    facts.push(fact);
    let place = draw.between(again + 1, walks.len());
    walks.insert(place, second);
    Some((walks, facts))
}

pub(super) fn scene(draw: &mut Draw) -> Scene {
    loop {
        let Some((walks, facts)) = walks(draw) else { continue };
        let mut places: Vec<usize> = Vec::new();
        for place in walks.iter().flat_map(|w| [w.from, w.to]) {
            if !places.contains(&place) {
                places.push(place);
            }
        }
        if places.len() < 2 * walks.len().min(2) {
            continue;
        }
        let context: Vec<String> = walks
            .iter()
            .map(|w| fill(draw.pick(&GO), &[PEOPLE[w.person], PLACES[w.from], PLACES[w.to]]))
            .collect();
        let mut last: Vec<&Walk> = Vec::new();
        for walk in walks.iter().rev() {
            if last.iter().all(|seen| seen.person != walk.person) {
                last.push(walk);
            }
        }
        draw.shuffle(&mut last);
        let asked = last.iter().map(|w| ask(draw, w, &places)).collect();
        return Scene { context: context.join(" "), asked, facts };
    }
}

fn ask(draw: &mut Draw, walk: &Walk, places: &[usize]) -> Asked {
    let say = |place: usize| format!("In the {}.", PLACES[place]);
    let mut rest: Vec<usize> = places.iter().copied().filter(|&p| p != walk.to).collect();
    draw.shuffle(&mut rest);
    // The place just left is the distractor that matters.
    if let Some(at) = rest.iter().position(|&p| p == walk.from) {
        rest.swap(0, at);
    }
    rest.truncate(3);
    let question = fill(draw.pick(&ASK), &[PEOPLE[walk.person]]);
    Asked::new(draw, question, say(walk.to), rest.into_iter().map(say).collect())
        .told(fill("{0} is in the {1}.", &[PEOPLE[walk.person], PLACES[walk.to]]))
}
