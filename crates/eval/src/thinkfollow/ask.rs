//! Asking turn by turn, and the verdict of each.

use super::{FirstFlag, How, Mode, Planned, Step};
use crate::model::{Finish, Generated, Heard, Model, ModelError, Prompt, Writing};
use crate::running::Mean;
use crate::score::reasoning::{Parts, Reasoning, split_after, whole};
use serde::{Deserialize, Serialize};
use smolt_text::template::Message;

/// A turn and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// Id of the conversation.
    pub id: String,
    /// Place of the conversation in the split.
    pub row: usize,
    /// Of the conversation.
    pub language: Option<String>,
    /// Counted from 1.
    pub turn: usize,
    /// How it was to be answered.
    pub mode: Mode,
    /// The flag that stands here; none where an earlier one is still in force.
    pub flag: Option<String>,
    /// As the model read it, special tokens and earlier turns included.
    pub prompt: String,
    /// All that was written.
    pub answer: String,
    /// What stands in the think block.
    pub block: String,
    /// Whether there was a block, and whether it ended.
    pub reasoning: Reasoning,
    /// Whether something was said besides.
    pub said: bool,
    /// Why the answer ended.
    pub finish: Finish,
    /// Tokens of the answer.
    pub tokens: usize,
    /// Tokens cut from the left of the prompt.
    pub dropped_tokens: usize,
    /// The verdict.
    pub passed: bool,
}

/// Asks all conversations, each turn of all of them at once. `on_done` hears how many turns of how many are answered, and the
/// share that passed so far.
///
/// # Errors
/// Those of the model.
pub fn ask(
    planned: &[Planned],
    how: &How,
    model: &mut dyn Model,
    on_done: &mut dyn FnMut(usize, usize, Option<f64>),
) -> Result<Vec<Turn>, ModelError> {
    let total = planned.iter().map(|conversation| conversation.steps.len()).sum();
    let longest = planned.iter().map(|conversation| conversation.steps.len()).max().unwrap_or(0);
    let mut histories: Vec<Vec<Message>> = vec![Vec::new(); planned.len()];
    let mut turns: Vec<Turn> = Vec::with_capacity(total);
    for turn in 0..longest {
        let here: Vec<usize> = (0..planned.len()).filter(|&at| planned[at].steps.len() > turn).collect();
        for &at in &here {
            histories[at].extend(messages(&planned[at].steps[turn], turn, how.first_flag));
        }
        let prompts: Vec<Prompt> = here.iter().map(|&at| Prompt::Chat(histories[at].clone())).collect();
        let shown = prompts.iter().map(|prompt| model.shown(prompt, 0)).collect::<Result<Vec<_>, _>>()?;
        let mut so_far = Mean::default();
        turns.iter().for_each(|turn| so_far.add(f64::from(u8::from(turn.passed))));
        let answers = model.write(&prompts, &writing(how, turn), &mut |done, heard| {
            if let Heard::Written(i, _, answer) = heard {
                let step = &planned[here[i]].steps[turn];
                so_far.add(f64::from(u8::from(passes(
                    step.mode,
                    &split_after(&shown[i], &answer.text).reasoning,
                ))));
            }
            on_done(turns.len() + done, total, so_far.value());
        })?;
        let mut answers = answers.into_iter();
        for ((&at, mut shown), prompt) in here.iter().zip(shown).zip(&prompts) {
            let answer = answers.next().and_then(|answers| answers.into_iter().next());
            let answer = answer.ok_or_else(|| ModelError::Request("an answer got lost".into()))?;
            if answer.dropped_tokens > 0 {
                shown = model.shown(prompt, answer.dropped_tokens)?;
            }
            let parts = split_after(&shown, &answer.text);
            histories[at].push(earlier(&shown, &answer.text, &parts, how));
            turns.push(judged(&planned[at], turn, shown, answer, parts));
        }
    }
    Ok(turns)
}

/// How a turn is written: from another seed than the turn before, since draws that repeat would tie turns together.
fn writing(how: &How, turn: usize) -> Writing {
    Writing {
        max_tokens: how.max_tokens,
        stop: Vec::new(),
        stop_after_reasoning: false,
        temperature: how.temperature,
        top_p: how.top_p,
        samples: 1,
        seed: how.seed.wrapping_add(turn as u64),
    }
}

/// An answer as later prompts show it.
fn earlier(prompt: &str, answer: &str, parts: &Parts, how: &How) -> Message {
    match how.keep_reasoning {
        true => Message::new("assistant", whole(prompt, answer).trim()),
        false => Message::new("assistant", parts.answer.trim()),
    }
}

/// What the user says, with its flag.
fn messages(step: &Step, turn: usize, first: FirstFlag) -> Vec<Message> {
    let flag = step.mode.flag();
    match (step.given, turn == 0 && first == FirstFlag::System) {
        (true, true) => vec![Message::new("system", flag), Message::new("user", &*step.text)],
        (true, false) => vec![Message::new("user", format!("{} {flag}", step.text.trim_end()))],
        (false, _) => vec![Message::new("user", &*step.text)],
    }
}

/// The verdict (spec F-05).
pub(super) fn passes(mode: Mode, block: &str) -> bool {
    block.trim().is_empty() == (mode == Mode::NoThink)
}

fn judged(planned: &Planned, turn: usize, prompt: String, answer: Generated, parts: Parts) -> Turn {
    let step = &planned.steps[turn];
    Turn {
        id: planned.id.clone(),
        row: planned.row,
        language: planned.language.clone(),
        turn: turn + 1,
        mode: step.mode,
        flag: step.given.then(|| step.mode.flag().to_owned()),
        prompt,
        passed: passes(step.mode, &parts.reasoning),
        block: parts.reasoning,
        reasoning: parts.found,
        said: !parts.answer.trim().is_empty(),
        answer: answer.text,
        finish: answer.finish,
        tokens: answer.tokens,
        dropped_tokens: answer.dropped_tokens,
    }
}
