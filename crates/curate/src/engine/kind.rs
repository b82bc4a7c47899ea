//! What kind of content a text is, by its characters: coarse, cheap, and enough to see that a rule deletes one kind.
//!
//! FineMath's first version lost to its baseline because a rule against `{` had silently removed every page with LaTeX
//! (spec `CLN-03`); a table by source would not have shown it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The first that fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Fewer than 200 bytes.
    Short,
    /// Has LaTeX commands or display formulas.
    Math,
    /// Has tags.
    Markup,
    /// Lines end as code does, or are indented.
    Code,
    /// Mostly lines of a few words.
    List,
    /// More than a third of its letters are outside Latin script.
    OtherScript,
    /// All else.
    Prose,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Short => "short",
            Self::Math => "math",
            Self::Markup => "markup",
            Self::Code => "code",
            Self::List => "list",
            Self::OtherScript => "other script",
            Self::Prose => "prose",
        })
    }
}

/// Only so much of a text is looked at.
const LOOKED_AT: usize = 16 << 10;

impl Kind {
    /// Of a text.
    pub fn of(text: &str) -> Self {
        let mut end = text.len().min(LOOKED_AT);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let text = &text[..end];
        if text.len() < 200 {
            return Self::Short;
        }
        let bytes = text.as_bytes();
        if per_kilobyte(latex_marks(bytes), bytes.len()) >= 1.0 {
            return Self::Math;
        }
        if per_kilobyte(tags(bytes), bytes.len()) >= 5.0 {
            return Self::Markup;
        }
        let (mut lines, mut code, mut brief) = (0u32, 0u32, 0u32);
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            lines += 1;
            let end = line.trim_end();
            let indented = line.starts_with("    ") || line.starts_with('\t');
            code += u32::from(indented || end.ends_with([';', '{', '}', ')', ',', '=', '\\']));
            brief += u32::from(line.len() < 40);
        }
        match () {
            () if lines >= 5 && code * 2 > lines => Self::Code,
            () if foreign_letters(text) => Self::OtherScript,
            () if lines >= 5 && brief * 5 > lines * 4 => Self::List,
            () => Self::Prose,
        }
    }
}

fn per_kilobyte(count: usize, bytes: usize) -> f64 {
    count as f64 * 1024.0 / bytes as f64
}

/// `\word{`, `\(`, `\[` and `$$`.
fn latex_marks(bytes: &[u8]) -> usize {
    let pairs =
        bytes.windows(2).filter(|pair| [b"\\(", b"\\[", b"$$"].iter().any(|mark| mark == pair)).count();
    let commands = bytes.iter().enumerate().filter(|(at, byte)| {
        let letters = bytes[at + 1..].iter().take(20).take_while(|b| b.is_ascii_alphabetic()).count();
        **byte == b'\\' && letters >= 2 && bytes.get(at + 1 + letters) == Some(&b'{')
    });
    pairs + commands.count()
}

fn tags(bytes: &[u8]) -> usize {
    bytes
        .windows(2)
        .filter(|pair| pair[0] == b'<' && (pair[1] == b'/' || pair[1].is_ascii_alphabetic()))
        .count()
}

fn foreign_letters(text: &str) -> bool {
    if text.is_ascii() {
        return false;
    }
    let (mut letters, mut foreign) = (0u32, 0u32);
    for c in text.chars().filter(|c| c.is_alphabetic()) {
        letters += 1;
        foreign += u32::from(c >= '\u{0370}' && !('\u{1E00}'..='\u{1EFF}').contains(&c));
    }
    foreign * 3 > letters
}

#[cfg(test)]
mod tests {
    use super::Kind;
    use proptest::prelude::*;

    #[test]
    fn kinds_are_told_apart() {
        let prose = "It was a bright cold day, and the clocks were striking. ".repeat(8);
        assert_eq!(Kind::of(&prose), Kind::Prose);
        assert_eq!(Kind::of("too little"), Kind::Short);
        assert_eq!(Kind::of(&format!("{prose} so \\frac{{a}}{{b}} and $$x$$")), Kind::Math);
        assert_eq!(Kind::of(&"<p>One</p>\n<p>two words</p>\n".repeat(20)), Kind::Markup);
        assert_eq!(Kind::of(&"fn a() {\n    let b = 1;\n    c(b);\n}\n".repeat(12)), Kind::Code);
        assert_eq!(Kind::of(&"an item\n".repeat(40)), Kind::List);
        assert_eq!(Kind::of(&"這是一個很長的句子，".repeat(40)), Kind::OtherScript);
        assert_eq!(Kind::of(&"Các bạn có thể tìm hiểu thêm ở đây. ".repeat(10)), Kind::Prose);
    }

    proptest! {
        #[test]
        fn any_text_has_one(text in ".{0,400}") {
            Kind::of(&text);
        }
    }
}
