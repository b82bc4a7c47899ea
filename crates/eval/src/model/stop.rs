//! Where a text ends: before the first of its stop strings.

use super::Writing;
use crate::score::reasoning;
use std::ops::Range;

/// The strings that end an answer, and whether they do so within its reasoning.
#[derive(Clone, Copy)]
pub(crate) struct Stops<'a> {
    strings: &'a [String],
    after_reasoning: bool,
}

impl<'a> Stops<'a> {
    /// Of an answer that is written so.
    pub(crate) fn of(writing: &'a Writing) -> Stops<'a> {
        Stops { strings: &writing.stop, after_reasoning: writing.stop_after_reasoning }
    }

    /// Cuts a text before the first of them; whether there was one. `open` is the tag with which the prompt ended, where it
    /// opened a block of reasoning.
    pub(crate) fn cut(self, text: &mut String, open: Option<&str>) -> bool {
        if !self.after_reasoning {
            return cut_at_stop(text, self.strings);
        }
        let first = reasoning::outside(text, open).into_iter().find_map(|part| self.first(text, part));
        if let Some(at) = first {
            text.truncate(at);
        }
        first.is_some()
    }

    /// The first that begins in a part of a text. Models leave lines empty between reasoning and answer: those end nothing.
    fn first(self, text: &str, part: Range<usize>) -> Option<usize> {
        let after = &text[part.start..];
        let space = if part.start == 0 { 0 } else { after.len() - after.trim_start().len() };
        let places = self.strings.iter().filter(|stop| !stop.is_empty()).filter_map(|stop| {
            let found = after.match_indices(stop.as_str()).map(|(at, _)| at);
            found.take_while(|&at| at < part.len()).find(|at| at + stop.len() > space)
        });
        places.min().map(|at| part.start + at)
    }
}

/// Cuts a text before the first of its stop strings; whether there was one.
pub(crate) fn cut_at_stop(text: &mut String, stop: &[String]) -> bool {
    let first = stop.iter().filter(|stop| !stop.is_empty()).filter_map(|stop| text.find(stop.as_str())).min();
    if let Some(at) = first {
        text.truncate(at);
    }
    first.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stops_count_outside_of_reasoning() {
        let strings = ["\n".to_owned(), "Q:".to_owned()];
        let cut = |text: &str, open: Option<&str>| {
            let mut text = text.to_owned();
            let found = Stops { strings: &strings, after_reasoning: true }.cut(&mut text, open);
            (text, found)
        };
        let whole = |text: &str| (text.to_owned(), false);
        let open = Some("<think>");
        assert_eq!(cut("4\nQ: 5", None), ("4".into(), true));
        assert_eq!(cut("<think>\nQ: 2+2", None), whole("<think>\nQ: 2+2"), "still open");
        assert_eq!(cut("2+2\nQ: is", open), whole("2+2\nQ: is"), "opened by the prompt");
        assert_eq!(cut("2+2\n</think>\n\n4\n5", open), ("2+2\n</think>\n\n4".into(), true));
        assert_eq!(cut("<think>\n</think>\n\n", None), whole("<think>\n</think>\n\n"), "no answer yet");
        assert_eq!(cut("<think>\n</think>\n\nQ: 5", None), ("<think>\n</think>\n\n".into(), true));
        assert_eq!(cut("so\n</think>4Q:", None), ("so\n</think>4".into(), true), "opened by who knows whom");
        assert_eq!(cut("4\n<think>\n", None), ("4".into(), true), "before the block");
        let mut text = "<think>\n".to_owned();
        assert!(Stops { strings: &strings, after_reasoning: false }.cut(&mut text, None));
        assert_eq!(text, "<think>");
    }
}
