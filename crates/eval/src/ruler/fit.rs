//! How much haystack fits: the largest that leaves room for the answer, found by bisection with the tokenizer.

use std::ops::RangeInclusive;

use super::{Error, Kind, Measure, Whole};

/// Below this length, which is RULER's shortest, answers get what they need and not RULER's fixed allowance.
pub(super) const FULL: usize = 4096;

/// An item at one size of its haystack.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) prompt: String,
    pub(super) answer_prefix: String,
    pub(super) answers: Vec<String>,
    /// The right answer in the words in which a model would give it.
    pub(super) said: String,
    pub(super) depth: Option<f64>,
}

/// A draft for every size of its haystack, the same draws behind each.
pub(super) type Drafts<'a> = Box<dyn Fn(usize) -> Draft + 'a>;

/// A length in tokens, and how texts are measured against it.
pub(super) struct Room<'a> {
    pub(super) length: usize,
    count: Box<dyn Fn(&str) -> usize + 'a>,
    /// Of prompt and prefix, where they are not read in one piece.
    whole: Option<&'a Whole<'a>>,
}

impl<'a> Room<'a> {
    /// Counts what the tokenizer makes of a text, with the tokens that it puts around one.
    pub(super) fn new(length: usize, measure: Measure<'a>) -> Self {
        let Measure { tokenizer, whole } = measure;
        let around = tokenizer.encode("", true).len();
        Self { length, count: Box::new(move |text| tokenizer.encode_ordinary(text).len() + around), whole }
    }

    /// Any other measure, for tests.
    #[cfg(test)]
    pub(super) fn counted(length: usize, count: impl Fn(&str) -> usize + 'a) -> Self {
        Self { length, count: Box::new(count), whole: None }
    }

    pub(super) fn tokens(&self, text: &str) -> usize {
        (self.count)(text)
    }

    /// Tokens of prompt and prefix, as the model reads them.
    pub(super) fn read(&self, draft: &Draft) -> usize {
        match self.whole {
            Some(whole) => whole(&draft.prompt, &draft.answer_prefix),
            None => self.tokens(&format!("{}{}", draft.prompt, draft.answer_prefix)),
        }
    }

    /// Tokens that the answer may take: RULER's number, and at short lengths no more than half as much again as the right
    /// answer takes, and 8.
    pub(super) fn allowance(&self, kind: Kind, draft: &Draft) -> usize {
        let full = kind.max_tokens();
        if self.length >= FULL {
            return full;
        }
        full.min(self.tokens(&format!(" {}", draft.said)) * 3 / 2 + 8)
    }

    /// The largest size in `sizes` whose draft fits beside its answer, looked for from `hint` on.
    pub(super) fn size(
        &self,
        kind: Kind,
        sizes: &RangeInclusive<usize>,
        hint: usize,
        draft: &Drafts<'_>,
    ) -> Result<usize, Error> {
        let smallest = draft(*sizes.start());
        let answer = self.allowance(kind, &smallest);
        let fits = |size: usize| self.read(&draft(size)).saturating_add(answer) <= self.length;
        largest(sizes, hint, fits).ok_or_else(|| Error::TooShort {
            kind,
            length: self.length,
            needed: self.read(&smallest).saturating_add(answer),
        })
    }
}

/// The largest size that fits, by steps that double away from `hint` and a bisection between the last two.
///
/// A longer haystack takes more tokens but for the odd token where a needle has moved, so which of two neighbouring sizes
/// is found may depend on the hint; what is found fits.
pub(super) fn largest(
    sizes: &RangeInclusive<usize>,
    hint: usize,
    fits: impl Fn(usize) -> bool,
) -> Option<usize> {
    let (least, most) = (*sizes.start(), *sizes.end());
    if least > most {
        return None;
    }
    let hint = hint.clamp(least, most);
    let mut step = hint / 64 + 1;
    let (mut good, mut bad);
    if fits(hint) {
        good = hint;
        loop {
            let next = good.saturating_add(step).min(most);
            if next == good {
                return Some(good);
            }
            if !fits(next) {
                bad = next;
                break;
            }
            (good, step) = (next, step.saturating_mul(2));
        }
    } else {
        bad = hint;
        loop {
            if bad == least {
                return None;
            }
            let next = bad.saturating_sub(step).max(least);
            if fits(next) {
                good = next;
                break;
            }
            (bad, step) = (next, step.saturating_mul(2));
        }
    }
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        if fits(middle) { good = middle } else { bad = middle }
    }
    Some(good)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_largest_is_found_from_any_hint(least in 0usize..50, span in 0usize..3000, edge in 0usize..3100, hint in 0usize..4000) {
            let sizes = least..=least + span;
            let expected = (edge >= least).then(|| edge.min(least + span));
            prop_assert_eq!(largest(&sizes, hint, |size| size <= edge), expected);
        }
    }
}
