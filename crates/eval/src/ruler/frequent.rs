//! Frequent words: the three coded words that occur most often where frequencies follow a zeta distribution.

use smolt_run::random::Stream;

use super::draw::Draw;
use super::fit::Draft;

/// Letters of a coded word.
const LETTERS: usize = 6;

/// Words asked for.
const ASKED: usize = 3;

/// The least draws at which the three words occur more often than any other.
pub(super) const LEAST: usize = 27;

/// The most frequent word, which says nothing.
const DOTS: &str = "...";

/// How often the word of a rank (from 1) occurs in `draws` draws: RULER's share `rank⁻² / ζ(2)`, rounded down.
fn times(draws: usize, rank: usize) -> usize {
    let zeta = std::f64::consts::PI * std::f64::consts::PI / 6.0;
    (draws as f64 / (rank * rank) as f64 / zeta) as usize
}

/// The next smaller number of draws in which the last word asked for occurs more often than the first that is not.
fn untied(mut draws: usize) -> usize {
    while draws > LEAST && times(draws, ASKED + 1) <= times(draws, ASKED + 2) {
        draws -= 1;
    }
    draws
}

/// Words of the vocabulary: RULER's one for every 50 tokens of the prompt, but never fewer than 12.
pub(super) fn vocabulary(length: usize, answer: usize) -> usize {
    (length.saturating_sub(answer) / 50).max(12)
}

/// A text of about `size` words out of a vocabulary of `vocabulary`, or of fewer where words would tie.
pub(super) fn draft(vocabulary: usize, stream: Stream, size: usize) -> Draft {
    let mut draw = Draw::new(stream);
    let draws = untied(size);
    // As many words as occur at all: ranks behind them would be drawn for nothing.
    let ranks = (1..=vocabulary.max(ASKED + 2)).take_while(|&rank| times(draws, rank) > 0).count();
    let mut words = vec![DOTS.to_owned()];
    words.extend((1..ranks.max(ASKED + 1)).map(|_| draw.letters(LETTERS, b'a')));
    let mut text: Vec<&str> = Vec::new();
    for (at, word) in words.iter().enumerate() {
        text.extend(std::iter::repeat_n(word.as_str(), times(draws, at + 1)));
    }
    // Drawn last: the words then are the same at every size.
    draw.stream.shuffle(&mut text);
    let answers: Vec<String> = words[1..=ASKED].to_vec();
    Draft {
        prompt: format!(
            "The text below is in code. Count how often each coded word occurs, and find the three that occur most often. {}\n\
             Question: Give no explanation, and pass over the dots '...'. Which three coded words occur most often in the \
             text above?",
            text.join(" ")
        ),
        answer_prefix: " Answer: The three coded words that occur most often in the text above are:"
            .to_owned(),
        said: answers.join(" "),
        answers,
        depth: None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn three_words_lead_at_every_size() {
        for size in (LEAST..200).chain([1_000, 10_000]) {
            let draft = draft(vocabulary(size, 50), Stream::new(1, "frequent", 0), size);
            let (_, text) = draft.prompt.split_once("occur most often. ").unwrap();
            let (text, _) = text.split_once('\n').unwrap();
            let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
            for word in text.split(' ').filter(|word| *word != DOTS) {
                *counts.entry(word).or_default() += 1;
            }
            let asked: Vec<usize> =
                draft.answers.iter().map(|word| counts.remove(word.as_str()).unwrap()).collect();
            let others = counts.values().max().copied().unwrap_or(0);
            assert!(asked.iter().all(|&times| times > others), "{size}: {asked:?} {others}");
        }
        assert_eq!((times(1000, 1), times(1000, 2), times(1000, 4)), (607, 151, 37));
    }
}
