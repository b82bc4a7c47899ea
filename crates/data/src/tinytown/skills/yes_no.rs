//! Does Tom like plums? Each of two people likes one of two things and not the other, or both alike; two sentences say
//! yes and two say no, so counting them tells nothing.

use super::super::Skill;
use super::super::scene::{Asked, Draw, Scene, fill};
use super::super::words::{FOODS, PEOPLE};

const LIKES: [&str; 3] = ["{0} likes {1}.", "{0} loves {1}.", "{0} is fond of {1}."];
const LIKES_NOT: [&str; 3] = ["{0} does not like {1}.", "{0} hates {1}.", "{0} never eats {1}."];
const ASK: &str = "Does {0} like {1}?";

pub(super) fn scene(draw: &mut Draw) -> Scene {
    let (people, foods, liked, fact) = loop {
        let mut people: [usize; 2] = draw.distinct(PEOPLE.len());
        let mut foods: [usize; 2] = draw.distinct(FOODS.len());
        let mut liked = [true, true, false, false];
        draw.shuffle(&mut liked);
        // Canonical order: the sentences are shuffled below, so nothing is lost.
        people.sort_unstable();
        foods.sort_unstable();
        let bits = liked.iter().fold(0, |bits, &yes| bits * 2 + usize::from(yes));
        if let Some(fact) = draw.admits(Skill::YesNo, &[people[0], people[1], foods[0], foods[1], bits]) {
            break (people, foods, liked, fact);
        }
    };
    let mut rows = [0, 1, 2, 3];
    draw.shuffle(&mut rows);
    let words = |row: usize| [PEOPLE[people[row / 2]], FOODS[foods[row % 2]].1];
    // The easiest, to train on: two of the four.
    let told = if draw.facts(2, 4) == 2 { 2 } else { 4 };
    let context: Vec<String> = rows[..told]
        .iter()
        .map(|&row| fill(if liked[row] { draw.pick(&LIKES) } else { draw.pick(&LIKES_NOT) }, &words(row)))
        .collect();
    draw.shuffle(&mut rows[..told]);
    let asked = rows[..told]
        .iter()
        .map(|&row| {
            let (right, wrong) = if liked[row] { ("Yes.", "No.") } else { ("No.", "Yes.") };
            Asked::new(draw, fill(ASK, &words(row)), right.into(), vec![wrong.into()])
                .told(fill(if liked[row] { LIKES[0] } else { LIKES_NOT[0] }, &words(row)))
        })
        .collect();
    Scene { context: context.join(" "), asked, facts: vec![fact] }
}
