//! Training WordPiece: BPE over letters, of which those that continue a word are marked `##`; the merges are forgotten.

use super::super::TokenizerError;
use super::super::write::CONTINUING_PREFIX;
use super::count::Words;
use super::{Made, TrainSettings, bpe, letters};
use std::collections::HashMap;

/// The vocabulary: special tokens, letters that begin words and that continue them, and what merging adds.
pub(super) fn train(
    words: Words,
    settings: &TrainSettings,
    special: &[String],
) -> Result<Made, TokenizerError> {
    let sorted = words.sorted();
    let room = settings.vocab_size - special.len();
    let letters = letters::covering(&sorted, room / 4);
    let initial: Vec<Vec<u8>> = letters
        .iter()
        .map(|c| c.to_string().into_bytes())
        .chain(letters.iter().map(|c| format!("{CONTINUING_PREFIX}{c}").into_bytes()))
        .collect();
    let ids: HashMap<char, u32> = letters.iter().copied().zip(0..).collect();
    let mut corpus = bpe::Corpus::with_capacity(words.len(), words.byte_len());
    for (word, count) in sorted {
        let text = String::from_utf8_lossy(word);
        let known: Option<Vec<u32>> = text.chars().map(|c| ids.get(&c).copied()).collect();
        // A word with an unknown letter is encoded as one unknown token: no piece of it is ever used.
        if let Some(known) = known {
            let first_or_continuing = |(i, id)| if i == 0 { id } else { id + letters.len() as u32 };
            corpus.push(known.into_iter().enumerate().map(first_or_continuing), count);
        }
    }
    let goal = bpe::Goal {
        vocab_size: room,
        min_frequency: settings.min_frequency,
        continuing_prefix: CONTINUING_PREFIX,
    };
    let learned = bpe::learn(corpus, initial, &goal).tokens;
    let spelled = learned.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    Ok(Made {
        tokens: special.iter().cloned().chain(spelled).collect(),
        merges: Vec::new(),
        scores: Vec::new(),
    })
}
