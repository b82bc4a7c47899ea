//! What kind of character it is: the tables that datatrove 0.10.1 and spaCy 3.8 decide by, as ranges of code points.

use icu_properties::CodePointMapData;
use icu_properties::props::GeneralCategory;

/// Marks that end a sentence in any script, without ASCII's: datatrove's `TERMINAL_PUNCTUATION`.
const TERMINAL: &[(u32, u32)] = &[
    (0x589, 0x589),
    (0x61d, 0x61f),
    (0x6d4, 0x6d4),
    (0x700, 0x702),
    (0x7f9, 0x7f9),
    (0x837, 0x837),
    (0x839, 0x839),
    (0x83d, 0x83e),
    (0x964, 0x965),
    (0x104a, 0x104b),
    (0x1362, 0x1362),
    (0x1367, 0x1368),
    (0x166e, 0x166e),
    (0x1735, 0x1736),
    (0x17d4, 0x17d6),
    (0x17d9, 0x17da),
    (0x1803, 0x1803),
    (0x1809, 0x1809),
    (0x1944, 0x1945),
    (0x1aa8, 0x1aab),
    (0x1b5a, 0x1b5b),
    (0x1b5e, 0x1b5f),
    (0x1b7d, 0x1b7e),
    (0x1c3b, 0x1c3c),
    (0x1c7e, 0x1c7f),
    (0x203c, 0x203d),
    (0x2047, 0x2049),
    (0x2e2e, 0x2e2e),
    (0x2e3c, 0x2e3c),
    (0x2e53, 0x2e54),
    (0x3002, 0x3002),
    (0xa4ff, 0xa4ff),
    (0xa60e, 0xa60f),
    (0xa6f3, 0xa6f3),
    (0xa6f7, 0xa6f7),
    (0xa876, 0xa877),
    (0xa8ce, 0xa8cf),
    (0xa92f, 0xa92f),
    (0xa9c8, 0xa9c9),
    (0xaa5d, 0xaa5f),
    (0xaaf0, 0xaaf1),
    (0xabeb, 0xabeb),
    (0xfe52, 0xfe52),
    (0xfe56, 0xfe57),
    (0xff01, 0xff01),
    (0xff0e, 0xff0e),
    (0xff1f, 0xff1f),
    (0xff61, 0xff61),
    (0x10a56, 0x10a57),
    (0x10f55, 0x10f59),
    (0x10f86, 0x10f89),
    (0x11047, 0x11048),
    (0x110be, 0x110c1),
    (0x11141, 0x11143),
    (0x111c5, 0x111c6),
    (0x111cd, 0x111cd),
    (0x111de, 0x111df),
    (0x11238, 0x11239),
    (0x1123b, 0x1123c),
    (0x112a9, 0x112a9),
    (0x1144b, 0x1144c),
    (0x115c2, 0x115c3),
    (0x115c9, 0x115d7),
    (0x11641, 0x11642),
    (0x1173c, 0x1173e),
    (0x11944, 0x11944),
    (0x11946, 0x11946),
    (0x11a42, 0x11a43),
    (0x11a9b, 0x11a9c),
    (0x11c41, 0x11c42),
    (0x11ef7, 0x11ef8),
    (0x11f43, 0x11f44),
    (0x16a6e, 0x16a6f),
    (0x16af5, 0x16af5),
    (0x16b37, 0x16b38),
    (0x16b44, 0x16b44),
    (0x16e98, 0x16e98),
    (0x1bc9f, 0x1bc9f),
    (0x1da88, 0x1da88),
];

/// Those of [`TERMINAL`] that spaCy's sentencizer does not know.
const NOT_OF_SENTENCES: &[(u32, u32)] = &[
    (0x61d, 0x61e),
    (0x837, 0x837),
    (0x839, 0x839),
    (0x83d, 0x83e),
    (0x17d4, 0x17d6),
    (0x17d9, 0x17da),
    (0x1b7d, 0x1b7e),
    (0x2e53, 0x2e54),
    (0x10f55, 0x10f59),
    (0x10f86, 0x10f89),
    (0x11944, 0x11944),
    (0x11946, 0x11946),
    (0x11ef7, 0x11ef8),
    (0x11f43, 0x11f44),
    (0x16e98, 0x16e98),
];

/// The rest of datatrove's `PUNCTUATION` beyond ASCII. A full-width `１` is among them.
const OTHER_PUNCTUATION: &[(u32, u32)] = &[
    (0x80, 0x9f),
    (0xab, 0xab),
    (0xb4, 0xb4),
    (0xbb, 0xbb),
    (0x2013, 0x2014),
    (0x2019, 0x2019),
    (0x201c, 0x201e),
    (0x2026, 0x2026),
    (0x2236, 0x2236),
    (0x2501, 0x2501),
    (0x25ba, 0x25ba),
    (0x3001, 0x3001),
    (0x3008, 0x300d),
    (0x3010, 0x3011),
    (0xff05, 0xff05),
    (0xff08, 0xff09),
    (0xff0c, 0xff0c),
    (0xff11, 0xff11),
    (0xff1a, 0xff1b),
    (0xff5e, 0xff5e),
];

/// Blocks of letters with two cases that spaCy's rules for the marks between letters know. Georgian is not among them.
const CASED: &[(u32, u32)] = &[
    (0xc0, 0x2af),
    (0x386, 0x3ce),
    (0x400, 0x45f),
    (0x490, 0x4e9),
    (0x1d00, 0x1d9a),
    (0x1e00, 0x1eff),
    (0x2c60, 0x2c7f),
    (0xa722, 0xa7ff),
    (0xab30, 0xab64),
    (0xff21, 0xff3a),
    (0xff41, 0xff5a),
];

/// Blocks of scripts without cases that those rules know: Hebrew, Arabic, some of India's, Ethiopic, Hangul, kana, Han.
/// All their characters count as letters, vowel signs too.
const CASELESS: &[(u32, u32)] = &[
    (0x591, 0x5f4),
    (0x620, 0x64a),
    (0x66e, 0x6d5),
    (0x6e5, 0x6ff),
    (0x750, 0x77f),
    (0x8a0, 0x8bd),
    (0x900, 0x9ff),
    (0xb80, 0xcff),
    (0xd80, 0xdff),
    (0x1100, 0x137f),
    (0x2e80, 0x30ff),
    (0x31c0, 0x4dbf),
    (0x4e00, 0x9fff),
    (0xac00, 0xd7af),
    (0xf900, 0xfaff),
    (0xfb1d, 0xfbb1),
    (0xfbd3, 0xfdfb),
    (0xfe30, 0xfe4f),
    (0xfe70, 0xfefc),
    (0x1ee00, 0x1eebb),
    (0x20000, 0x2fa1f),
];

fn within(ranges: &[(u32, u32)], c: char) -> bool {
    let c = c as u32;
    let after = ranges.partition_point(|&(first, _)| first <= c);
    after > 0 && c <= ranges[after - 1].1
}

/// Whether datatrove takes it for a mark that ends a sentence: `.`, `!`, `?` and their kin in every script.
pub fn is_terminal(c: char) -> bool {
    match c.is_ascii() {
        true => matches!(c, '.' | '!' | '?'),
        false => within(TERMINAL, c),
    }
}

/// Whether it ends a sentence for spaCy's sentencizer, which knows fewer than [`is_terminal`].
pub(crate) fn ends_sentence(c: char) -> bool {
    is_terminal(c) && !within(NOT_OF_SENTENCES, c)
}

/// Whether datatrove counts it as a symbol; a word of nothing else is not counted among a document's words.
pub fn is_symbol(c: char) -> bool {
    match c.is_ascii() {
        true => !c.is_ascii_alphanumeric() && !matches!(c, ' ' | '\t' | '\n'),
        false => within(OTHER_PUNCTUATION, c) || within(TERMINAL, c),
    }
}

fn category(c: char) -> GeneralCategory {
    CodePointMapData::<GeneralCategory>::new().get(c)
}

/// `str.isalpha`: a letter by its general category. A vowel sign of Thai or Hindi is none.
pub fn is_letter(c: char) -> bool {
    use GeneralCategory::{LowercaseLetter, ModifierLetter, OtherLetter, TitlecaseLetter, UppercaseLetter};
    if c.is_ascii() {
        return c.is_ascii_alphabetic();
    }
    matches!(category(c), LowercaseLetter | UppercaseLetter | OtherLetter | ModifierLetter | TitlecaseLetter)
}

/// A letter between or after which spaCy's rules look for marks.
pub(crate) fn is_alpha(c: char) -> bool {
    match c.is_ascii() {
        true => c.is_ascii_alphabetic(),
        false => within(CASELESS, c) || (within(CASED, c) && c.is_alphabetic()),
    }
}

/// An [`is_alpha`] that is not lower case.
pub(crate) fn is_upper(c: char) -> bool {
    c.is_ascii_uppercase() || (!c.is_ascii() && is_alpha(c) && !c.is_lowercase())
}

/// An [`is_alpha`] that is not upper case.
pub(crate) fn is_lower(c: char) -> bool {
    c.is_ascii_lowercase() || (!c.is_ascii() && is_alpha(c) && !c.is_uppercase())
}

/// A decimal digit of any script, as `\d` in Python's `re`.
pub fn is_digit(c: char) -> bool {
    if c.is_ascii() { c.is_ascii_digit() } else { category(c) == GeneralCategory::DecimalNumber }
}

/// A punctuation mark by its general category (`P…`); `$`, `+`, `<`, `=`, `>`, `^`, `` ` ``, `|` and `~` are none.
pub(crate) fn is_punctuation(c: char) -> bool {
    use GeneralCategory::{
        ClosePunctuation, ConnectorPunctuation, DashPunctuation, FinalPunctuation, InitialPunctuation,
        OpenPunctuation, OtherPunctuation,
    };
    if c.is_ascii() {
        return c.is_ascii_punctuation() && !matches!(c, '$' | '+' | '<'..='>' | '^' | '`' | '|' | '~');
    }
    matches!(
        category(c),
        ClosePunctuation
            | ConnectorPunctuation
            | DashPunctuation
            | FinalPunctuation
            | InitialPunctuation
            | OpenPunctuation
            | OtherPunctuation
    )
}

/// A pictogram, a box-drawing line and the like (`So`), which spaCy splits off wherever it stands.
pub(crate) fn is_icon(c: char) -> bool {
    !c.is_ascii() && category(c) == GeneralCategory::OtherSymbol
}

/// Whether it belongs to a script that writes words without spaces between them, so that a dictionary must find them.
pub(crate) fn is_unspaced(c: char) -> bool {
    matches!(c as u32,
        0xe00..=0xeff // Thai, Lao
        | 0x1000..=0x109f | 0xa9e0..=0xa9ff | 0xaa60..=0xaa7f // Myanmar
        | 0x1780..=0x17ff // Khmer
        | 0x3005..=0x3007 | 0x3041..=0x30ff | 0x31f0..=0x31ff | 0xff66..=0xff9f // kana
        | 0x3400..=0x4dbf | 0x4e00..=0x9fff | 0xf900..=0xfaff | 0x20000..=0x3ffff) // Han
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_in_order() {
        for table in [TERMINAL, NOT_OF_SENTENCES, OTHER_PUNCTUATION, CASED, CASELESS] {
            assert!(table.iter().all(|(first, last)| first <= last));
            assert!(table.windows(2).all(|pair| pair[0].1 < pair[1].0));
        }
    }

    #[test]
    fn kinds() {
        assert!(['.', '。', '؟', '\u{1da88}'].into_iter().all(is_terminal));
        assert!([',', 'a', '、', '…'].into_iter().all(|c| !is_terminal(c)));
        assert!(ends_sentence('。') && !ends_sentence('៕') && is_terminal('៕'));
        assert!(['|', '~', '\0', '\x7f', '»', '１', '。'].into_iter().all(is_symbol));
        assert!(['a', '0', ' ', '\n', '\t', '２', '•'].into_iter().all(|c| !is_symbol(c)));
        assert!(['é', 'ß', 'ª', '字', 'ก'].into_iter().all(is_letter));
        assert!(['1', 'Ⅷ', '\u{e34}', '_'].into_iter().all(|c| !is_letter(c)));
        assert!(is_icon('★') && is_icon('°') && !is_icon('→') && !is_icon('a'));
        assert!(is_punctuation('—') && is_punctuation('_') && !is_punctuation('=') && !is_punctuation('€'));
    }
}
