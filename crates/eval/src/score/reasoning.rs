//! Reasoning before an answer is not the answer (spec PEV-08).

use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Tags around reasoning, as chat models write them.
const TAGS: [(&str, &str); 2] = [("<think>", "</think>"), ("<thinking>", "</thinking>")];

/// What was found before the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reasoning {
    /// None.
    Absent,
    /// A block that ended.
    Closed,
    /// A block that never ended: there is no answer, which is not the same as a wrong one.
    Unclosed,
}

/// A text taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// The text without its reasoning.
    pub answer: String,
    /// What stands in its blocks, without their tags.
    pub reasoning: String,
    /// Whether there was a block, and whether it ended.
    pub found: Reasoning,
}

/// Answer and reasoning. A template may have opened the block in the prompt, so a closing tag suffices.
pub fn split(text: &str) -> Parts {
    let mut parts = Parts { answer: String::new(), reasoning: String::new(), found: Reasoning::Absent };
    let mut rest = text;
    loop {
        let Some((at, tag, close)) = first_tag(rest) else {
            parts.answer.push_str(rest);
            return parts;
        };
        parts.answer.push_str(&rest[..at]);
        rest = &rest[at + tag.len()..];
        if tag == close {
            // All before a lone closing tag was reasoning.
            parts.reasoning.push_str(&std::mem::take(&mut parts.answer));
            parts.found = Reasoning::Closed;
            continue;
        }
        let end = rest.find(close);
        // A block that is opened twice, by the template and by the model, has no more in it for that.
        parts.reasoning.push_str(&rest[..end.unwrap_or(rest.len())].replace(tag, ""));
        let Some(end) = end else {
            parts.found = Reasoning::Unclosed;
            return parts;
        };
        (rest, parts.found) = (&rest[end + close.len()..], Reasoning::Closed);
    }
}

/// The first tag with its place, and the tag that closes it, which is the same for closing ones. Each byte is looked at once,
/// or a long text of closing tags would take its length squared.
fn first_tag(text: &str) -> Option<(usize, &'static str, &'static str)> {
    text.match_indices('<').find_map(|(at, _)| {
        let here = &text[at..];
        let tags = TAGS.iter().flat_map(|(open, close)| [(*open, *close), (*close, *close)]);
        tags.filter(|(tag, _)| here.starts_with(tag)).map(|(tag, close)| (at, tag, close)).next()
    })
}

/// The answer without its reasoning.
pub fn strip(text: &str) -> (String, Reasoning) {
    let parts = split(text);
    (parts.answer, parts.found)
}

/// What a model wrote with the tag that its template may have opened for it at the end of the prompt.
pub fn whole(prompt: &str, text: &str) -> String {
    format!("{}{text}", opened(prompt).unwrap_or_default())
}

/// Answer and reasoning of what a model wrote after a prompt.
pub fn split_after(prompt: &str, text: &str) -> Parts {
    split(&whole(prompt, text))
}

/// The parts of a text outside of its blocks: where its answer stands. `open` is the tag that stands before the text.
pub(crate) fn outside(text: &str, open: Option<&str>) -> Vec<Range<usize>> {
    let (mut parts, mut at) = (Vec::new(), 0);
    let mut within = TAGS.iter().find(|(tag, _)| Some(*tag) == open).map(|(_, close)| *close);
    loop {
        if let Some(close) = within.take() {
            let Some(end) = text[at..].find(close) else { return parts };
            at += end + close.len();
        }
        let Some((before, tag, close)) = first_tag(&text[at..]) else {
            parts.push(at..text.len());
            return parts;
        };
        if tag == close {
            // All before a lone closing tag was reasoning.
            parts.clear();
        } else {
            parts.push(at..at + before);
            within = Some(close);
        }
        at += before + tag.len();
    }
}

/// The tag with which a prompt ends, where its template has opened the block that the model goes on with.
pub fn opened(prompt: &str) -> Option<&'static str> {
    let prompt = prompt.trim_end();
    TAGS.iter().map(|(open, _)| *open).find(|open| prompt.ends_with(open))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_cut_and_open_ones_are_told() {
        let of = |text: &str| strip(text);
        assert_eq!(of("4"), ("4".into(), Reasoning::Absent));
        assert_eq!(of("<think>2+2=5?</think>4"), ("4".into(), Reasoning::Closed));
        assert_eq!(of("so 2+2=5?</think>4"), ("4".into(), Reasoning::Closed), "opened by the template");
        assert_eq!(of("<think>5</think>4<thinking>no</thinking>!"), ("4!".into(), Reasoning::Closed));
        assert_eq!(of("<think>2+2 is 5, no,"), (String::new(), Reasoning::Unclosed));
        assert_eq!(of("4<think>or"), ("4".into(), Reasoning::Unclosed));
    }

    /// What a hostile server may send; looking through the rest of the text for each tag would take hours.
    #[test]
    fn a_long_text_of_tags_is_no_trouble() {
        let parts = split(&"</think>".repeat(1 << 19));
        assert!(parts.answer.is_empty() && parts.reasoning.is_empty());
    }

    #[test]
    fn what_stands_in_the_blocks() {
        let of = |text: &str| split(text).reasoning;
        assert_eq!(of("4"), "");
        assert_eq!(of("<think>\n\n</think>4"), "\n\n");
        assert_eq!(of("so 4</think>4"), "so 4");
        assert_eq!(of("<think>a</think>4<thinking>b</thinking>!"), "ab");
        assert_eq!(of("<think>a</think>4</think>!"), "a4");
        assert_eq!(of("<think>a"), "a");
        assert_eq!(of("<think><think></think>4"), "", "opened twice");
        assert_eq!(opened("<|im_start|>assistant\n<think>\n"), Some("<think>"));
        assert_eq!(opened("<|im_start|>assistant\n<think>\n\n</think>\n"), None);
    }

    proptest::proptest! {
        #[test]
        fn no_tag_is_left(parts in proptest::collection::vec("(<think>|</think>|<thinking>|</thinking>|a|é)", 0..12)) {
            let text = parts.concat();
            let Parts { answer, reasoning, found } = split(&text);
            for (open, want) in [(None, answer.clone()), (Some("<think>"), split(&format!("<think>{text}")).answer)] {
                let outside: String = outside(&text, open).into_iter().map(|part| &text[part]).collect();
                proptest::prop_assert_eq!(outside, want);
            }
            proptest::prop_assert!(!answer.contains("<think>") && !answer.contains("</think>"));
            proptest::prop_assert!(found != Reasoning::Absent || reasoning.is_empty());
        }
    }
}
