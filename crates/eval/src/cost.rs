//! What a task takes before anything is asked of a model (spec EVL-11, PEV-20), and how many items fit a time.
//!
//! Texts are counted in bytes, because making tokens of every prompt twice would take a good part of the time of the whole
//! evaluation; some questions tell how many bytes a token has. What prompts and candidates begin with as others do counts
//! once, as it is computed.

use crate::evaluate::{How, longest_answer, prompts, requests};
use crate::model::{Model, Prompt, Request};
use crate::task::pose::Item;
use crate::task::{Formulation, Task};
use serde::Serialize;

/// Questions that tell how many bytes a token has.
const LOOKED_AT: usize = 32;

/// Bytes of a token where there is no tokenizer to ask.
const USUAL: f64 = 4.0;

/// Fewer items per task say too little to be proposed.
const FEWEST: usize = 20;

/// What a task takes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Cost {
    /// Questions.
    pub questions: usize,
    /// Tokens that the model reads, about: prompts, and candidates but for the last token of each.
    pub tokens_read: u64,
    /// Tokens that it writes at most.
    pub tokens_written: u64,
}

/// Counts what `items` take. `context` is the most tokens of a prompt that are read; 0 where it is not known.
pub fn of(task: &Task, items: &[Item], how: &How, context: usize, model: &dyn Model) -> Cost {
    let bytes = bytes_per_token(items, model);
    let tokens = |length: usize| length as f64 / bytes;
    let most = if context == 0 { f64::INFINITY } else { context as f64 };
    let (texts, mut read, written) = match how.formulation {
        Formulation::Generation => {
            let longest = longest_answer(task, how);
            let samples = how.samples.max(1) * items.len();
            // All but the first sample of a question read the last token of its prompt only.
            let again = samples - items.len();
            (prompts(items, how), again as f64, samples * longest)
        }
        _ => {
            let (requests, _) = requests(task, items, how);
            let read = requests.iter().map(|request| candidates(request, bytes)).sum::<f64>();
            (requests.into_iter().map(|request| request.prompt).collect(), read, 0)
        }
    };
    let mut texts: Vec<String> = texts.iter().map(text).collect();
    texts.sort_unstable();
    let mut before = "";
    for text in &texts {
        // A prompt that is cut from its left begins like no other.
        let own = if tokens(text.len()) > most { most } else { tokens(text.len() - common(before, text)) };
        // What its last token predicts is wanted in any case.
        read += own.max(1.0);
        before = text;
    }
    Cost { questions: items.len(), tokens_read: read.round() as u64, tokens_written: written as u64 }
}

/// Tokens of a question's candidates that are read: what they begin with alike once, the last of each not at all.
fn candidates(request: &Request, bytes: f64) -> f64 {
    let mut all: Vec<&str> = request.continuations.iter().map(String::as_str).collect();
    all.sort_unstable();
    let (mut before, mut read) = ("", 0.0);
    for text in all {
        read += ((text.len() - common(before, text)) as f64 / bytes - 1.0).max(0.0);
        before = text;
    }
    read
}

/// The text of a prompt, without what a template puts around it.
fn text(prompt: &Prompt) -> String {
    match prompt {
        Prompt::Text(text) => text.clone(),
        Prompt::Chat(messages) => messages.iter().map(|m| format!("{}\n{}\n", m.role, m.content)).collect(),
    }
}

/// Bytes that both begin with.
fn common(a: &str, b: &str) -> usize {
    a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count()
}

/// Mean bytes of a token in questions and what follows them.
fn bytes_per_token(items: &[Item], model: &dyn Model) -> f64 {
    let step = items.len().div_ceil(LOOKED_AT).max(1);
    let (mut bytes, mut tokens) = (0, 0);
    for item in items.iter().step_by(step) {
        let follows = item.continuations.first().or(item.answers.first());
        let text = format!("{} {}", item.questions.concat(), follows.map_or("", String::as_str));
        let Some(count) = model.tokens(&text) else { return USUAL };
        (bytes, tokens) = (bytes + text.len(), tokens + count);
    }
    if tokens == 0 { USUAL } else { bytes as f64 / tokens as f64 }
}

/// The most items of each task with which a suite takes no longer than `seconds`, where each of `tasks` (items, seconds) took so
/// long and everything else took `rest` (spec PEV-20). None where that would be all of them, or too few to say anything.
pub fn fitting(tasks: &[(usize, f64)], rest: f64, seconds: f64) -> Option<usize> {
    let share = |items: usize, limit: usize| limit.min(items) as f64 / items.max(1) as f64;
    let takes = |limit: usize| rest + tasks.iter().map(|&(n, s)| s * share(n, limit)).sum::<f64>();
    let all = tasks.iter().map(|&(items, _)| items).max()?;
    let (mut fits, mut beyond) = (0, all + 1);
    while beyond - fits > 1 {
        let middle = fits + (beyond - fits) / 2;
        if takes(middle) <= seconds { fits = middle } else { beyond = middle }
    }
    (FEWEST..all).contains(&fits).then_some(fits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Generated, ModelError, OnDone, Scored, TextScore, Writing};
    use crate::task::builtin;
    use crate::task::pose::{Row, pose};
    use serde_json::json;

    /// Every byte is a token.
    struct Bytes;

    impl Model for Bytes {
        fn tokens(&self, text: &str) -> Option<usize> {
            Some(text.len())
        }

        fn score(&mut self, _: &[Request], _: OnDone<'_>) -> Result<Vec<Scored>, ModelError> {
            Ok(Vec::new())
        }

        fn write(
            &mut self,
            _: &[Prompt],
            _: &Writing,
            _: OnDone<'_>,
        ) -> Result<Vec<Vec<Generated>>, ModelError> {
            Ok(Vec::new())
        }

        fn read(&mut self, _: &[String], _: OnDone<'_>) -> Result<Vec<TextScore>, ModelError> {
            Ok(Vec::new())
        }

        fn shown(&self, _: &Prompt, _: usize) -> Result<String, ModelError> {
            Ok(String::new())
        }
    }

    fn how(formulation: Formulation) -> How {
        How {
            formulation,
            chat: false,
            system_prompt: None,
            strip_reasoning: true,
            samples: 1,
            temperature: 0.0,
            top_p: 1.0,
            max_tokens: None,
            seed: 0,
        }
    }

    fn items(task: &Task, formulation: Formulation, rows: &[serde_json::Value]) -> Vec<Item> {
        let rows: Vec<Row> = rows.iter().map(|row| row.as_object().unwrap().clone()).collect();
        pose(task, formulation, &rows, None).unwrap()
    }

    #[test]
    fn what_prompts_and_candidates_share_counts_once() {
        let task = builtin("piqa", &[]).unwrap();
        let rows = [
            json!({"goal": "ab", "sol1": "xy1", "sol2": "xyz2", "label": 0}),
            json!({"goal": "ac", "sol1": "u", "sol2": "v", "label": 0}),
        ];
        let cloze = how(Formulation::Cloze);
        let items = items(&task, Formulation::Cloze, &rows);
        let prompt = items[0].prompt(0).len();
        // The second prompt differs from the first in its goal's second letter, and in what follows it.
        let second = prompt - items[0].prompt(0).find("ab").unwrap() - 1;
        // " xy1" but for its last byte; of " xyz2" "z"; of " u" the space, of " v" nothing.
        let want = prompt + second + 3 + 1 + 1;
        let cost = of(&task, &items, &cloze, 0, &Bytes);
        assert_eq!(cost, Cost { questions: 2, tokens_read: want as u64, tokens_written: 0 });
        let cut = of(&task, &items, &cloze, 5, &Bytes);
        assert_eq!(cut.tokens_read, 5 + 5 + 5, "no more of a prompt is read than the context holds");
    }

    #[test]
    fn samples_read_a_prompt_once_and_write_at_most_the_limit() {
        let task = builtin("gsm8k", &["few_shot.count=0".to_owned()]).unwrap();
        let formulation = Formulation::Generation;
        let items = items(&task, formulation, &[json!({"question": "q", "answer": "#### 4"})]);
        let prompt = items[0].prompt(0).len() as u64;
        let of = |how: &How| of(&task, &items, how, 0, &Bytes);
        let one = how(formulation);
        assert_eq!(of(&one), Cost { questions: 1, tokens_read: prompt, tokens_written: 256 });
        let four = How { samples: 4, max_tokens: Some(10), ..one };
        assert_eq!(of(&four), Cost { questions: 1, tokens_read: prompt + 3, tokens_written: 40 });
    }

    #[test]
    fn the_limit_that_fits_leaves_short_tasks_whole() {
        let suite = [(1000, 100.0), (100, 10.0)];
        assert_eq!(fitting(&suite, 5.0, 45.0), Some(300), "5 + 30 + 10");
        assert_eq!(fitting(&suite, 5.0, 200.0), None, "it fits as it is");
        assert_eq!(fitting(&suite, 5.0, 6.0), None, "too few items to say anything");
        assert_eq!(fitting(&[], 5.0, 6.0), None);
    }
}
