//! What is 12 + 7? Sums and differences of numbers up to 50; `a + b` and `b + a` are one fact.

use super::super::Skill;
use super::super::scene::{Asked, Draw, Scene, fill, wrong_numbers};

const PLUS: [&str; 3] = ["What is {0} + {1}?", "How much is {0} + {1}?", "What is {0} plus {1}?"];
const MINUS: [&str; 3] = ["What is {0} - {1}?", "How much is {0} - {1}?", "What is {0} minus {1}?"];

pub(super) fn scene(draw: &mut Draw) -> Scene {
    let mut facts = Vec::new();
    let asked = (0..draw.between(8, 12))
        .map(|_| {
            let (a, b, plus) = loop {
                let top = draw.pick(&[12, 20, 50]);
                let (a, b, plus) = (draw.between(0, top), draw.between(0, top), draw.coin());
                let (low, high) = (a.min(b), a.max(b));
                if let Some(fact) = draw.admits(Skill::Arithmetic, &[low, high, usize::from(plus)]) {
                    facts.push(fact);
                    break if plus { (a, b, plus) } else { (high, low, plus) };
                }
            };
            let (wording, right) = if plus { (draw.pick(&PLUS), a + b) } else { (draw.pick(&MINUS), a - b) };
            let question = fill(wording, &[&a.to_string(), &b.to_string()]);
            let wrong = wrong_numbers(draw, right, &[]);
            let sign = if plus { '+' } else { '-' };
            Asked::new(draw, question, format!("{right}."), wrong).told(format!("{a} {sign} {b} = {right}."))
        })
        .collect();
    Scene { context: String::new(), asked, facts }
}
