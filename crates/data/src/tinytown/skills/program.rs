//! What does the program print? Three assignments in a toy language, and a print.

use super::super::Skill;
use super::super::scene::{Asked, Draw, Scene, wrong_numbers};

const NAMES: [&str; 8] = ["a", "b", "c", "n", "m", "x", "y", "z"];
const ASK: [&str; 2] = ["What does the program print?", "What is printed?"];

/// `left + step` or `left - step`, kept within 0 to 18.
fn apply(left: usize, plus: bool, step: usize) -> Option<usize> {
    if plus { Some(left + step).filter(|&sum| sum <= 18) } else { left.checked_sub(step) }
}

pub(super) fn scene(draw: &mut Draw) -> Scene {
    loop {
        let (first, one, two) = (draw.between(0, 9), draw.between(1, 9), draw.between(1, 9));
        let (plus_one, plus_two, from) = (draw.coin(), draw.coin(), draw.below(2));
        let Some(second) = apply(first, plus_one, one) else { continue };
        let values = [first, second];
        let Some(third) = apply(values[from], plus_two, two) else { continue };
        let values = [first, second, third];
        let printed = draw.below(3);
        let code = usize::from(plus_one) * 2 + usize::from(plus_two);
        let Some(fact) = draw.admits(Skill::Program, &[first, one, two, code, from, printed]) else {
            continue;
        };
        let names: [usize; 3] = draw.distinct(NAMES.len());
        let name = |i: usize| NAMES[names[i]];
        let sign = |plus: bool| if plus { '+' } else { '-' };
        let context = format!(
            "{} = {first}\n{} = {} {} {one}\n{} = {} {} {two}\nprint({})",
            name(0),
            name(1),
            name(0),
            sign(plus_one),
            name(2),
            name(from),
            sign(plus_two),
            name(printed)
        );
        let ask = |draw: &mut Draw, question: String, i: usize| {
            let wrong = wrong_numbers(draw, values[i], &values);
            Asked::new(draw, question, format!("{}.", values[i]), wrong).told(format!(
                "{} = {}.",
                name(i),
                values[i]
            ))
        };
        let (mut facts, question) = (vec![fact], draw.pick(&ASK).to_owned());
        let mut asked = vec![ask(draw, question, printed)];
        // What a variable holds is the same fact as that a program prints it.
        for i in if draw.trains() { 0..3 } else { 0..0 } {
            if let Some(fact) = draw.admits(Skill::Program, &[first, one, two, code, from, i]) {
                facts.push(fact);
                asked.push(ask(draw, format!("What is {}?", name(i)), i));
            }
        }
        return Scene { context, asked, facts };
    }
}
