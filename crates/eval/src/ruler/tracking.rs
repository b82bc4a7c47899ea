//! Variable tracking: a chain of assignments hidden in noise, to be followed to every variable of one value.

use smolt_run::random::Stream;

use super::draw::Draw;
use super::fit::{Draft, Room, largest};
use super::needles::{NOISE, among};

/// The most tokens of the solved example before the question.
const EXAMPLE: usize = 500;

/// Below this length there is no example.
const LEAST_WITH_EXAMPLE: usize = 1024;

/// How the task is made at one length.
pub(super) struct Shape {
    /// Assignments after the first.
    hops: usize,
    /// Lines of noise in the solved example; `None` without one.
    example: Option<usize>,
}

impl Shape {
    /// RULER's four hops are one for every 128 tokens below 512, and at least two. Its example of at most 500 tokens takes
    /// at most a quarter of the length, but for one line of noise, and is left out below 1,024.
    pub(super) fn new(room: &Room<'_>) -> Self {
        let mut shape = Self { hops: (room.length / 128).clamp(2, 4), example: None };
        if room.length >= LEAST_WITH_EXAMPLE {
            let limit = (room.length / 4).min(EXAMPLE);
            let fits =
                |lines: usize| room.tokens(&shape.solved(Stream::new(0, "example", 0), lines)) <= limit;
            let lines = largest(&(1..=limit), 1, fits).unwrap_or(1);
            shape.example = Some(lines);
        }
        shape
    }

    /// The question in `size` lines of noise, behind the example if there is one.
    pub(super) fn draft(&self, stream: Stream, example: Stream, size: usize) -> Draft {
        let mut draft = self.question(&mut Draw::new(stream), 5, size);
        if let Some(lines) = self.example {
            draft.prompt = format!("{}\n\n{}", self.solved(example, lines), draft.prompt);
        }
        draft
    }

    /// A solved question; its variables have three letters, so none is one of the question's.
    fn solved(&self, stream: Stream, lines: usize) -> String {
        let Draft { prompt, answer_prefix, said, .. } = self.question(&mut Draw::new(stream), 3, lines);
        format!("{prompt}{answer_prefix} {said}")
    }

    fn question(&self, draw: &mut Draw, letters: usize, size: usize) -> Draft {
        let variables: Vec<String> = (0..=self.hops).map(|_| draw.letters(letters, b'A')).collect();
        let value = 10_000 + draw.stream.below(90_000);
        let mut chain = vec![format!("VAR {} = {value}", variables[0])];
        chain.extend(variables.windows(2).map(|pair| format!("VAR {} = VAR {}", pair[1], pair[0])));
        let mut depths: Vec<f64> = chain.iter().map(|_| draw.stream.uniform()).collect();
        depths.sort_unstable_by(f64::total_cmp);
        let placed: Vec<(f64, &str)> =
            depths.into_iter().zip(&chain).map(|(depth, line)| (depth, line.as_str())).collect();
        let context = among(&vec![NOISE.to_owned(); size], &placed);
        let count = variables.len();
        Draft {
            prompt: format!(
                "Follow the chain of assignments that is hidden in the text below.\n\n{context}\n\
                 Question: Which variables hold the value {value} in the text above?"
            ),
            answer_prefix: format!(
                " Answer: By the chain of assignments in the text above, {count} variables hold the value {value}, namely:"
            ),
            said: variables.join(" "),
            answers: variables,
            depth: None,
        }
    }
}
