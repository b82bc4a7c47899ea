//! Reasoning before an answer is not the answer (spec PEV-08).

use serde::{Deserialize, Serialize};

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

/// The answer without its reasoning. A template may have opened the block in the prompt, so a closing tag suffices.
pub fn strip(text: &str) -> (String, Reasoning) {
    let (mut rest, mut answer, mut found) = (text, String::new(), Reasoning::Absent);
    loop {
        let next = TAGS
            .iter()
            .flat_map(|(open, close)| [(rest.find(open), *open, *close), (rest.find(close), *close, *close)])
            .filter_map(|(at, tag, close)| at.map(|at| (at, tag, close)))
            .min_by_key(|(at, _, _)| *at);
        let Some((at, tag, close)) = next else {
            answer.push_str(rest);
            return (answer, found);
        };
        if tag == close {
            // All before a lone closing tag was reasoning.
            (answer, rest, found) = (String::new(), &rest[at + tag.len()..], Reasoning::Closed);
            continue;
        }
        answer.push_str(&rest[..at]);
        let inside = &rest[at + tag.len()..];
        match inside.find(close) {
            Some(end) => (rest, found) = (&inside[end + close.len()..], Reasoning::Closed),
            None => return (answer, Reasoning::Unclosed),
        }
    }
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

    proptest::proptest! {
        #[test]
        fn no_tag_is_left(parts in proptest::collection::vec("(<think>|</think>|<thinking>|</thinking>|a|é)", 0..12)) {
            let (answer, _) = strip(&parts.concat());
            proptest::prop_assert!(!answer.contains("<think>") && !answer.contains("</think>"));
        }
    }
}
