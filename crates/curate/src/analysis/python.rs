//! Text as Python sees it: its white space, its lines. The filters' references are written in Python, and a form feed
//! or a no-break space at the end of a line decides what they keep.

use memchr::memchr;

/// Whether `str.isspace` says yes: Unicode's white space and the four ASCII separators.
pub fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// [`is_space`] for a byte of ASCII.
pub const fn is_ascii_space(byte: u8) -> bool {
    matches!(byte, b'\t'..=b'\r' | 0x1c..=0x1f | b' ')
}

/// The length of the white space character at `at` in bytes, 0 when there is another; `at` must be a character's start.
pub(crate) fn space_at(bytes: &[u8], at: usize) -> usize {
    match bytes[at] {
        byte if byte < 0x80 => usize::from(is_ascii_space(byte)),
        0xc2 => 2 * usize::from(matches!(bytes.get(at + 1), Some(0x85 | 0xa0))),
        lead @ 0xe1..=0xe3 => {
            let (Some(&second), Some(&third)) = (bytes.get(at + 1), bytes.get(at + 2)) else { return 0 };
            let space = match (lead, second) {
                (0xe1, 0x9a) | (0xe3, 0x80) => third == 0x80,
                (0xe2, 0x80) => matches!(third, 0x80..=0x8a | 0xa8 | 0xa9 | 0xaf),
                (0xe2, 0x81) => third == 0x9f,
                _ => false,
            };
            3 * usize::from(space)
        }
        _ => 0,
    }
}

/// `str.strip()`.
pub fn strip(text: &str) -> &str {
    strip_end(strip_start(text))
}

/// `str.lstrip()`.
pub fn strip_start(text: &str) -> &str {
    match text.as_bytes().first() {
        Some(first) if first.is_ascii_graphic() => text,
        _ => text.trim_start_matches(is_space),
    }
}

/// `str.rstrip()`.
pub fn strip_end(text: &str) -> &str {
    match text.as_bytes().last() {
        Some(last) if last.is_ascii_graphic() => text,
        _ => text.trim_end_matches(is_space),
    }
}

/// `len(text)`: code points.
pub fn len(text: &str) -> usize {
    text.chars().count()
}

/// `str.splitlines()`: lines end at more characters than `\n`.
pub fn split_lines(text: &str) -> SplitLines<'_> {
    SplitLines { rest: text, only_newlines: !has_rare_breaks(text.as_bytes()) }
}

/// See [`split_lines`].
pub struct SplitLines<'t> {
    rest: &'t str,
    only_newlines: bool,
}

impl<'t> Iterator for SplitLines<'t> {
    type Item = &'t str;

    #[inline]
    fn next(&mut self) -> Option<&'t str> {
        let bytes = self.rest.as_bytes();
        if bytes.is_empty() {
            return None;
        }
        let found = match self.only_newlines {
            true => memchr(b'\n', bytes).map(|at| (at, 1)),
            false => line_break(bytes),
        };
        let (end, width) = found.unwrap_or((bytes.len(), 0));
        let line = &self.rest[..end];
        self.rest = &self.rest[end + width..];
        Some(line)
    }
}

const fn may_break(byte: u8) -> bool {
    matches!(byte, 0x0b..=0x0d | 0x1c..=0x1e | 0xc2 | 0xe2)
}

fn has_rare_breaks(bytes: &[u8]) -> bool {
    // Whole blocks without a branch, so that the compiler can use vectors.
    bytes.chunks(64).any(|block| block.iter().fold(false, |any, &byte| any | may_break(byte)))
}

/// The next line break: where, and how many bytes it takes.
fn line_break(bytes: &[u8]) -> Option<(usize, usize)> {
    bytes.iter().enumerate().filter(|&(_, &byte)| byte == b'\n' || may_break(byte)).find_map(|(at, &byte)| {
        let next = |offset: usize| bytes.get(at + offset).copied();
        match byte {
            b'\r' if next(1) == Some(b'\n') => Some((at, 2)),
            0xc2 => (next(1) == Some(0x85)).then_some((at, 2)),
            0xe2 => (next(1) == Some(0x80) && matches!(next(2), Some(0xa8 | 0xa9))).then_some((at, 3)),
            _ => Some((at, 1)),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_end_where_python_ends_them() {
        let text = "a\nb\r\nc\rd\x0be\x0cf\x1cg\x1dh\x1ei\u{85}j\u{2028}k\u{2029}l\x1fm\n\n";
        let lines: Vec<_> = split_lines(text).collect();
        assert_eq!(lines, ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l\x1fm", ""]);
        assert_eq!(split_lines("").count(), 0);
        assert_eq!(split_lines("a\n\nb").collect::<Vec<_>>(), ["a", "", "b"]);
        assert_eq!(split_lines("é\u{a0}…\n").collect::<Vec<_>>(), ["é\u{a0}…"]);
    }

    #[test]
    fn white_space_is_pythons() {
        assert_eq!(strip("\x1c \u{a0}a\u{3000}\n"), "a");
        assert_eq!(strip(" \t"), "");
        assert_eq!(strip("\u{200b}"), "\u{200b}");
        for c in (0..=0x10ffff).filter_map(char::from_u32) {
            let text = c.to_string();
            let expected = if is_space(c) { c.len_utf8() } else { 0 };
            assert_eq!(space_at(text.as_bytes(), 0), expected, "{c:?}");
        }
    }

    proptest! {
        #[test]
        fn lines_lose_only_breaks(text in "[a\n\r\u{b}\u{85}é\u{2028}\u{a0}]{0,40}") {
            let joined: String = split_lines(&text).collect();
            let rest: String = text.chars().filter(|c| !"\n\r\u{b}\u{85}\u{2028}".contains(*c)).collect();
            prop_assert_eq!(joined, rest);
        }
    }
}
