//! Lists backwards and in order.

use super::super::Skill;
use super::super::scene::{Asked, Draw, Scene};
use super::super::words::OBJECTS;

const BACKWARDS: &str = "What is the list backwards?";
const IN_ORDER: &str = "What is the list in order?";

fn written(start: &str, list: &[usize], say: fn(usize) -> String) -> String {
    let words: Vec<String> = list.iter().map(|&entry| say(entry)).collect();
    format!("{start} is {}.", words.join(" "))
}

/// Three wrong answers: the list as it stands, then shuffled ones; or, where the right answer is sorted, sorted ones with
/// one digit exchanged, because any sorted list would look more usual than a shuffled one.
fn wrong(
    draw: &mut Draw,
    list: &[usize],
    right: &[usize],
    in_order: bool,
    say: fn(usize) -> String,
) -> Vec<String> {
    let mut wrong: Vec<Vec<usize>> = Vec::new();
    let mut next = list.to_vec();
    while wrong.len() < 3 {
        if next != right && !wrong.contains(&next) {
            wrong.push(next);
        }
        next = list.to_vec();
        if in_order {
            let place = draw.below(next.len());
            next[place] = draw.other(10, list);
            next.sort_unstable();
        } else {
            draw.shuffle(&mut next);
        }
    }
    wrong.iter().map(|order| written("It", order, say)).collect()
}

pub(super) fn scene(draw: &mut Draw) -> Scene {
    let digits = draw.chance(65);
    let say: fn(usize) -> String = if digits { |d| d.to_string() } else { |o| OBJECTS[o].to_owned() };
    let (list, fact) = loop {
        let all: [usize; 4] = draw.distinct(if digits { 10 } else { OBJECTS.len() });
        let list = all[..draw.between(3, 4)].to_vec();
        // A list and its mirror image are one fact: each is the answer to the other.
        let mirror: Vec<usize> = list.iter().rev().copied().collect();
        let mut parts = vec![usize::from(digits)];
        parts.extend(list.clone().min(mirror));
        if let Some(fact) = draw.admits(Skill::List, &parts) {
            break (list, fact);
        }
    };
    let backwards: Vec<usize> = list.iter().rev().copied().collect();
    let mut sorted = list.clone();
    sorted.sort_unstable();
    let mut questions = vec![(BACKWARDS, backwards)];
    if digits {
        questions.push((IN_ORDER, sorted));
        draw.shuffle(&mut questions);
    }
    let asked = questions
        .into_iter()
        .map(|(question, right)| {
            let wrong = wrong(draw, &list, &right, question == IN_ORDER, say);
            Asked::new(draw, question.to_owned(), written("It", &right, say), wrong)
        })
        .collect();
    Scene { context: written("The list", &list, say), asked, facts: vec![fact] }
}
