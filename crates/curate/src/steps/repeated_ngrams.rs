//! Repeated n-grams: a document in which a span of 1 to 13 tokens repeats 32 times or more in a row is left out, as in
//! OLMo 2 (spec `CLN-05`). Such documents cause spikes of the loss.

use std::cell::RefCell;

use smolt_data::document::Document;

use crate::analysis::Analysis;
use crate::step::{Rejection, Step, Verdict};

smolt_run::recipe! {
    /// Rejects documents in which a short span of tokens repeats again and again.
    pub struct RepeatedNgramsSettings {
        /// Longest span, in tokens.
        pub max_period: usize = 13,
        /// Fewest repetitions in a row that reject a document.
        pub repeats: usize = 32,
    }
}

/// Appends the tokens of a text.
pub type Tokens = dyn Fn(&str, &mut Vec<u32>) + Send + Sync;

/// The step `repeated_ngrams`.
pub struct RepeatedNgrams {
    max_period: usize,
    repeats: usize,
    tokens: Box<Tokens>,
}

impl RepeatedNgrams {
    /// Over words, see [`words`].
    pub fn new(settings: &RepeatedNgramsSettings) -> Self {
        Self::with_tokens(settings, Box::new(words))
    }

    /// Over the tokens of a tokenizer, as OLMo 2 did.
    pub fn with_tokens(settings: &RepeatedNgramsSettings, tokens: Box<Tokens>) -> Self {
        Self { max_period: settings.max_period, repeats: settings.repeats.max(2), tokens }
    }
}

thread_local! {
    static BUFFER: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}

impl Step for RepeatedNgrams {
    fn apply(&self, document: &mut Document, _: &mut Analysis) -> Verdict {
        let found = BUFFER.with_borrow_mut(|tokens| {
            tokens.clear();
            (self.tokens)(&document.text, tokens);
            (1..=self.max_period).find(|period| repeats(tokens, *period, self.repeats))
        });
        match found {
            None => Verdict::Keep,
            Some(period) => {
                let detail = format!("{period} tokens, {} times or more", self.repeats);
                Verdict::Reject(Rejection { reason: "repeated_ngram", detail })
            }
        }
    }
}

/// Whether somewhere a span of `period` tokens stands `repeats` times in a row: then `tokens[i] == tokens[i - period]`
/// for `period · (repeats − 1)` places together.
fn repeats(tokens: &[u32], period: usize, repeats: usize) -> bool {
    let Some(run) = period.checked_mul(repeats - 1).filter(|run| *run > 0) else { return false };
    let same = |place: usize| tokens[place] == tokens[place - period];
    // A run that long covers every window of its length, so whole windows are skipped: looked at from their ends.
    let mut first = period;
    while first + run <= tokens.len() {
        match (first..first + run).rev().find(|place| !same(*place)) {
            None => return true,
            Some(mismatch) => first = mismatch + 1,
        }
    }
    false
}

/// Words as hashes. A run of one symbol counts as a token per 16, as in tokenizers, so that rulers of dashes are not
/// repetitions; letters of scripts without spaces count each.
pub fn words(text: &str, tokens: &mut Vec<u32>) {
    const START: u32 = 2_166_136_261;
    let add = |hash: u32, c: char| (hash ^ c as u32).wrapping_mul(16_777_619);
    let (mut word, mut symbol, mut length) = (START, '\0', 0);
    for c in text.chars() {
        let joins = (c.is_alphanumeric() || c == '_') && c < '\u{2E80}';
        if joins {
            word = add(word, c);
            symbol = '\0';
            continue;
        }
        if word != START {
            tokens.push(word);
            word = START;
        }
        if c.is_whitespace() {
            symbol = '\0';
        } else if c == symbol && length < 16 && !c.is_alphanumeric() {
            length += 1;
        } else {
            (symbol, length) = (c, 1);
            tokens.push(add(START, c));
        }
    }
    if word != START {
        tokens.push(word);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keeps(text: &str) -> bool {
        let step = RepeatedNgrams::new(&smolt_run::recipe::defaults().unwrap());
        let mut document = Document { text: text.to_owned(), ..Document::default() };
        step.apply(&mut document, &mut Analysis::default()).keeps()
    }

    fn planted(period: usize, times: usize) -> String {
        let unit: String = (0..period).map(|n| format!("w{n} ")).collect();
        format!("before it all {} and after", unit.repeat(times))
    }

    #[test]
    fn planted_repetitions_and_near_misses() {
        for period in 1..=13 {
            assert!(!keeps(&planted(period, 32)), "{period}");
            assert!(keeps(&planted(period, 31)), "{period}");
            // The last repetition lacks its last word.
            let unit: Vec<String> = (0..period).map(|n| format!("w{n}")).collect();
            let mut words: Vec<&str> = (0..32 * period).map(|n| unit[n % period].as_str()).collect();
            words.pop();
            assert!(keeps(&words.join(" ")), "{period}");
        }
        assert!(keeps(&planted(14, 40)));
    }

    #[test]
    fn rulers_stay_and_endless_ones_go() {
        assert!(keeps(&format!("Title\n{}\ntext", "=".repeat(300))));
        assert!(!keeps(&"-".repeat(16 * 32)));
        assert!(!keeps(&"ha ".repeat(33)));
        assert!(!keeps(&"哈".repeat(32)));
        assert!(keeps(&"哈".repeat(31)));
        assert!(keeps("") && keeps("one"));
    }

    #[test]
    fn any_tokenizer_will_do() {
        let settings = RepeatedNgramsSettings { max_period: 2, repeats: 3 };
        let bytes = |text: &str, tokens: &mut Vec<u32>| tokens.extend(text.bytes().map(u32::from));
        let step = RepeatedNgrams::with_tokens(&settings, Box::new(bytes));
        let apply = |text: &str| {
            let mut document = Document { text: text.to_owned(), ..Document::default() };
            step.apply(&mut document, &mut Analysis::default()).keeps()
        };
        assert!(!apply("xababab") && apply("ababxab") && !apply("aaa") && apply("abcabcabc"));
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(tokens in prop::collection::vec(0u32..3, 0..60), period in 1usize..5, times in 2usize..6) {
            let run = period * (times - 1);
            let naive = (period..tokens.len()).any(|start| {
                start + run <= tokens.len() && (start..start + run).all(|i| tokens[i] == tokens[i - period])
            });
            prop_assert_eq!(repeats(&tokens, period, times), naive);
        }
    }
}
