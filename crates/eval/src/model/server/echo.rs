//! The likelihood of a continuation, out of a text that a server echoes with the log-probabilities of its tokens.

use super::answer::LogProbs;
use crate::model::Continuation;
use std::collections::BTreeMap;

/// Rounding may lift a probability a little above one.
pub(super) const ROUNDING: f64 = 1e-3;

/// A text and what the server says of its tokens.
pub(super) struct Echo<'a> {
    logs: &'a LogProbs,
    /// Tokens of the text; those after it were generated.
    count: usize,
    text: &'a str,
}

impl<'a> Echo<'a> {
    /// Checks that the lists belong together. `generated`: the tokens that the server says it wrote after the text.
    pub(super) fn new(logs: &'a LogProbs, text: &'a str, generated: usize) -> Result<Echo<'a>, String> {
        let n = logs.tokens.len();
        let same = logs.token_logprobs.len() == n
            && logs.text_offset.len() == n
            && logs.top_logprobs.as_ref().is_none_or(|top| top.len() == n);
        if !same {
            return Err(format!("its lists of log-probabilities, offsets and {n} tokens differ in length"));
        }
        if logs.text_offset.windows(2).any(|pair| pair[0] > pair[1]) {
            return Err("its `text_offset` goes backwards".into());
        }
        match n.checked_sub(generated) {
            Some(count) if count > 0 => Ok(Echo { logs, count, text }),
            _ => Err("it echoes no tokens of the text".into()),
        }
    }

    /// What the server thinks of what follows the first `stem` bytes of the text. A token across the border belongs to
    /// what follows.
    pub(super) fn after(&self, stem: usize) -> Result<Continuation, String> {
        let start = self.by_offsets(stem).or_else(|| self.by_strings(stem));
        self.sum(start.ok_or_else(|| self.misplaced())?)
    }

    /// What the server thinks of the whole text from the first token on that it says anything of, and the bytes before that:
    /// none where the server puts a token of its own before the text.
    pub(super) fn whole(&self) -> Result<(Continuation, usize), String> {
        let logs = &self.logs.token_logprobs[..self.count];
        let first = logs.iter().position(Option::is_some).ok_or("it has no log-probabilities")?;
        let before = self.before_by_offsets(first).or_else(|| self.before_by_strings(first));
        Ok((self.sum(first)?, before.ok_or_else(|| self.misplaced())?))
    }

    fn misplaced(&self) -> String {
        let tokens: Vec<&String> = self.logs.tokens[..self.count].iter().rev().take(4).rev().collect();
        format!("its `text_offset` does not fit the text, which ends in the tokens {tokens:?}")
    }

    /// Whether the last token is this one, and another is named as likelier in its place.
    pub(super) fn prefers_another_to(&self, token: &str) -> bool {
        let last = self.count - 1;
        self.logs.tokens[last] == token && self.top(last).is_some() && !self.greedy(last)
    }

    fn sum(&self, start: usize) -> Result<Continuation, String> {
        let mut sum = Continuation { log_likelihood: 0.0, tokens: self.count - start, greedy: true };
        for at in start..self.count {
            sum.log_likelihood += self.log_prob(at)?;
            sum.greedy &= self.greedy(at);
        }
        Ok(sum)
    }

    fn log_prob(&self, at: usize) -> Result<f64, String> {
        match self.logs.token_logprobs[at] {
            Some(value) if value.is_finite() && value <= ROUNDING => Ok(value),
            Some(value) => Err(format!("{value} is no log-probability")),
            None if at == 0 => {
                Err("nothing stands before the text, and it does not say how likely its first token is"
                    .into())
            }
            None => Err(format!("it has no log-probability for the token {:?}", self.logs.tokens[at])),
        }
    }

    /// Whether no other token is likelier. A server that does not name the likeliest tokens leaves it at no.
    fn greedy(&self, at: usize) -> bool {
        let value = self.logs.token_logprobs[at].unwrap_or(f64::NEG_INFINITY);
        self.top(at).is_some_and(|top| top.values().all(|&other| other <= value))
    }

    fn top(&self, at: usize) -> Option<&BTreeMap<String, f64>> {
        self.logs.top_logprobs.as_ref()?[at].as_ref().filter(|top| !top.is_empty())
    }

    /// The offset at which the text begins, such that its last token ends where the text does, and its first token: the
    /// second where the first is the server's own (`<s>`).
    fn base(&self) -> Option<(u64, usize)> {
        let known = |&offset: &i64| u64::try_from(offset).ok();
        let offsets: Vec<u64> =
            self.logs.text_offset[..self.count].iter().map(known).collect::<Option<_>>()?;
        let (first, last) = (&self.logs.tokens[0], &self.logs.tokens[self.count - 1]);
        let total = self.text.chars().count() as u64;
        let fits = |base: u64| {
            let begin = offsets[self.count - 1].checked_sub(base)?;
            let end = begin.checked_add(last.chars().count() as u64)?;
            // Of a token that is a part of a character, the length in characters says nothing.
            let fits = if complete(last) { end == total } else { begin < total };
            fits.then_some(base)
        };
        let own =
            self.count > 1 && self.logs.token_logprobs[0].is_none() && !self.text.starts_with(first.as_str());
        let second = if own { fits(offsets[1]) } else { None };
        second.map(|base| (base, 1)).or_else(|| fits(offsets[0]).map(|base| (base, 0)))
    }

    /// The first token after `stem` by where it begins.
    fn by_offsets(&self, stem: usize) -> Option<usize> {
        let (base, first) = self.base()?;
        let stem = self.text.get(..stem)?.chars().count() as u64 + base;
        let begin = |at: usize| self.logs.text_offset[at].unsigned_abs();
        // Parts of one character begin at the same offset, so a token may end where it begins.
        let follows = |at: usize| begin(at) >= stem || at + 1 == self.count || begin(at + 1) > stem;
        (first..self.count).find(|&at| follows(at))
    }

    /// Bytes of the text before a token, by where it begins.
    fn before_by_offsets(&self, token: usize) -> Option<usize> {
        let (base, _) = self.base()?;
        let characters = self.logs.text_offset[token].unsigned_abs().saturating_sub(base);
        let before = self.text.chars().take(usize::try_from(characters).unwrap_or(usize::MAX));
        Some(before.map(char::len_utf8).sum())
    }

    /// The same by the tokens' text.
    fn before_by_strings(&self, token: usize) -> Option<usize> {
        let mut tokens = self.logs.tokens[token..self.count].iter().rev();
        tokens.try_fold(self.text, |rest, token| rest.strip_suffix(token.as_str())).map(str::len)
    }

    /// The first token after `stem` by the tokens' text, from the end; for servers that give no offsets, or count parts of characters as
    /// characters in them.
    fn by_strings(&self, stem: usize) -> Option<usize> {
        let (mut rest, mut at) = (self.text, self.count);
        while rest.len() > stem {
            at = at.checked_sub(1)?;
            rest = rest.strip_suffix(self.logs.tokens[at].as_str())?;
        }
        (at < self.count).then_some(at)
    }
}

/// Whether a token is whole characters, as far as its text tells.
fn complete(token: &str) -> bool {
    !token.contains('\u{fffd}') && !token.starts_with("bytes:")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logs(tokens: &[(&str, i64, Option<f64>)]) -> LogProbs {
        LogProbs {
            tokens: tokens.iter().map(|t| t.0.to_owned()).collect(),
            text_offset: tokens.iter().map(|t| t.1).collect(),
            token_logprobs: tokens.iter().map(|t| t.2).collect(),
            top_logprobs: None,
        }
    }

    fn after(tokens: &[(&str, i64, Option<f64>)], text: &str, stem: usize) -> Result<(f64, usize), String> {
        let logs = logs(tokens);
        Echo::new(&logs, text, 0)?.after(stem).map(|c| (c.log_likelihood, c.tokens))
    }

    #[test]
    fn a_border_within_a_token_and_a_beginning_of_the_servers_own() {
        let plain = [("The", 0, None), (" sky", 3, Some(-2.0)), (" is", 7, Some(-1.0))];
        assert_eq!(after(&plain, "The sky is", 7), Ok((-1.0, 1)));
        assert_eq!(after(&plain, "The sky is", 5), Ok((-3.0, 2)), "the token across the border follows");
        let bos = [("<s>", 0, None), ("The", 3, Some(-4.0)), (" sky", 6, Some(-2.0))];
        assert_eq!(after(&bos, "The sky", 3), Ok((-2.0, 1)));
        assert_eq!(after(&bos, "The sky", 0), Ok((-6.0, 2)), "its own token is nobody's");
        let hidden = [("<s>", 0, None), ("The", 0, Some(-4.0)), (" sky", 3, Some(-2.0))];
        assert_eq!(after(&hidden, "The sky", 3), Ok((-2.0, 1)));
        assert_eq!(after(&hidden, "The sky", 0), Ok((-6.0, 2)));
        assert!(after(&plain, "The sky is", 0).unwrap_err().contains("nothing stands before"));
    }

    #[test]
    fn without_offsets_the_tokens_themselves_say_where_they_are() {
        let tokens = [("<s>", -1, None), ("The", -1, Some(-4.0)), (" sky", -1, Some(-2.0))];
        assert_eq!(after(&tokens, "The sky", 3), Ok((-2.0, 1)));
        let whole = |tokens: &[(&str, i64, Option<f64>)]| {
            let logs = logs(tokens);
            let (all, before) = Echo::new(&logs, "The sky", 0)?.whole()?;
            Ok::<_, String>((all.log_likelihood, before))
        };
        assert_eq!(whole(&tokens), Ok((-6.0, 0)));
        assert_eq!(whole(&[("The", -1, None), (" sky", -1, Some(-2.0))]), Ok((-2.0, 3)));
        assert!(whole(&[("The", -1, None), (" sea", -1, Some(-2.0))]).unwrap_err().contains("does not fit"));
    }

    #[test]
    fn parts_of_characters() {
        let bytes = [
            ("a", 0, None),
            ("bytes:\\xe6\\xb0", 1, Some(-1.0)),
            ("bytes:\\xb4", 1, Some(-2.0)),
            (" b", 2, Some(-4.0)),
        ];
        assert_eq!(after(&bytes, "a水 b", 1), Ok((-7.0, 3)));
        assert_eq!(after(&bytes, "a水 b", 4), Ok((-4.0, 1)));
        assert_eq!(after(&bytes[..3], "a水", 1), Ok((-3.0, 2)));
        let drifted =
            [("a", 0, None), ("\u{fffd}", 1, Some(-1.0)), ("\u{fffd}", 2, Some(-2.0)), (" b", 3, Some(-4.0))];
        assert_eq!(after(&drifted, "a水 b", 4), Ok((-4.0, 1)), "found by its text, from the end");
        assert!(after(&drifted, "a水 b", 1).unwrap_err().contains("does not fit"));
    }

    #[test]
    fn nonsense_is_refused() {
        let text = "The sky";
        let bad = |tokens: &[(&str, i64, Option<f64>)]| after(tokens, text, 3).unwrap_err();
        assert!(bad(&[]).contains("echoes no tokens"));
        assert!(bad(&[("The", 5, None), (" sky", 3, Some(-1.0))]).contains("backwards"));
        assert!(bad(&[("The", 0, None), (" sea", 9, Some(-1.0))]).contains("does not fit"));
        assert!(bad(&[("The", 0, None), (" sky", 3, Some(0.5))]).contains("0.5 is no log-probability"));
        assert!(bad(&[("The", 0, None), (" sky", 3, None)]).contains("no log-probability for"));
        let mut uneven = logs(&[("The", 0, None), (" sky", 3, Some(-1.0))]);
        uneven.text_offset.pop();
        assert!(Echo::new(&uneven, text, 0).is_err_and(|e| e.contains("differ in length")));
    }
}
