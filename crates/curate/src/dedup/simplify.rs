//! The text as deduplication compares it: datatrove 0.10.1's `simplify_text`, in one pass over the bytes.
//!
//! In this order: lower case; every number (digits of any script, with one decimal part) is `0`; punctuation is a space;
//! whitespace is one space, none at the ends; canonical decomposition without nonspacing marks. Where Python's Unicode
//! tables and Rust's are of different versions, characters new between them can differ.

use std::borrow::Cow;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::canonical_combining_class;
use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

/// datatrove's list, without the control characters, which [`is_punctuation`] adds.
const PUNCTUATION: &str =
    "!/—”:％１〈&(、━\\【#%「」，】；+^]~“《„';’{|∶´[=-`*．（–？！：$～«〉,><》)?）。…@_.\"}►»";

const WEEKDAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

/// What makes two texts the same; names and defaults are those of datatrove's `TextNormConfig`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TextNorm {
    /// Lower case.
    pub lowercase: bool,
    /// Runs of whitespace are one space.
    pub norm_whitespace: bool,
    /// Punctuation and control characters are spaces.
    pub remove_punctuation: bool,
    /// Canonical decomposition, nonspacing marks left out.
    pub norm_unicode_diacritics: bool,
    /// Numbers are `0`.
    pub norm_numbers: bool,
    /// English weekdays are `WEEKDAY`.
    pub norm_weekdays: bool,
    /// English months are `MONTH`.
    pub norm_monthnames: bool,
}

impl Default for TextNorm {
    fn default() -> Self {
        Self {
            lowercase: true,
            norm_whitespace: true,
            remove_punctuation: true,
            norm_unicode_diacritics: true,
            norm_numbers: true,
            norm_weekdays: false,
            norm_monthnames: false,
        }
    }
}

/// What to do with a character; depends on the settings.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Stays as it is.
    Copy,
    /// Becomes a space that joins its neighbours.
    Space,
    /// Becomes a space of its own.
    LoneSpace,
    Digit,
    /// Is not ASCII, and changes or is left out.
    Change,
}

/// What becomes of each byte; [`STOP`] where that depends on more than the byte.
type Plain = [u8; 256];

const STOP: u8 = 0xFF;

/// Bytes that room is made for at once.
const CHUNK: usize = 1 << 10;

/// [`TextNorm`] made ready.
pub struct Simplifier {
    norm: TextNorm,
    plain: Plain,
    /// The same for a text that is in lower case already, with names of days in capitals.
    prepared: Plain,
    wide: OnceLock<Vec<Class>>,
}

impl Simplifier {
    /// For these settings.
    pub fn new(norm: TextNorm) -> Self {
        let mut simplifier = Self { norm, plain: [STOP; 256], prepared: [STOP; 256], wide: OnceLock::new() };
        for byte in 0..128u8 {
            let (plain, prepared) = match simplifier.classify(char::from(byte)) {
                // A space that is to stay must not join.
                Class::Copy if byte == b' ' => continue,
                Class::Copy if norm.lowercase => (byte.to_ascii_lowercase(), byte),
                Class::Copy => (byte, byte),
                Class::Space => (b' ', b' '),
                _ => continue,
            };
            simplifier.plain[usize::from(byte)] = plain;
            simplifier.prepared[usize::from(byte)] = prepared;
        }
        simplifier
    }

    fn classify(&self, c: char) -> Class {
        let norm = &self.norm;
        if norm.norm_numbers && is_digit(c) {
            return Class::Digit;
        }
        let punctuation = norm.remove_punctuation && is_punctuation(c);
        if norm.norm_whitespace && (punctuation || is_space(c)) {
            return Class::Space;
        }
        if punctuation {
            return Class::LoneSpace;
        }
        // ASCII is lowered by its table.
        let lowers = norm.lowercase && !c.is_ascii() && !c.to_lowercase().eq([c]);
        let decomposes = norm.norm_unicode_diacritics
            && (canonical_combining_class(c) != 0 || is_nonspacing(c) || !std::iter::once(c).nfd().eq([c]));
        if lowers || decomposes { Class::Change } else { Class::Copy }
    }

    fn class(&self, c: char) -> Class {
        // Once for the first 65,536 characters, where nearly all text is; it takes some milliseconds.
        let wide = self.wide.get_or_init(|| {
            (0..=0xFFFF).map(|code| char::from_u32(code).map_or(Class::Copy, |c| self.classify(c))).collect()
        });
        wide.get(c as usize).copied().unwrap_or_else(|| self.classify(c))
    }

    /// Replaces `out` with the simplified `text`.
    pub fn simplify(&self, text: &str, out: &mut String) {
        let text = self.prepare(text);
        let plain = if matches!(text, Cow::Borrowed(_)) { &self.plain } else { &self.prepared };
        let mut written = std::mem::take(out).into_bytes();
        written.clear();
        let mut at = 0;
        // Spaces join as they do before marks are left out: two around a lone mark stay two.
        let mut spaced = true;
        while at < text.len() {
            at = copy_plain(text.as_bytes(), at, plain, &mut written, &mut spaced);
            if at == text.len() {
                break;
            }
            let c = char_at(&text, at);
            let class = if c.is_ascii() { self.classify(c) } else { self.class(c) };
            at = match class {
                Class::Digit => {
                    written.push(b'0');
                    end_of_number(&text, at)
                }
                Class::Change => self.change(&text, at, &mut written),
                Class::Copy => {
                    push(&mut written, c);
                    at + c.len_utf8()
                }
                Class::Space | Class::LoneSpace => {
                    if class == Class::LoneSpace || !spaced {
                        written.push(b' ');
                    }
                    at + c.len_utf8()
                }
            };
            spaced = class == Class::Space;
        }
        // Only whole characters were written, so this copies nothing.
        *out = String::from_utf8(written)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
        out.truncate(out.trim_end_matches(is_space).len());
        let start = out.len() - out.trim_start_matches(is_space).len();
        out.drain(..start);
    }

    /// The text in lower case where a character's lower case depends on its neighbours, with names of days and months
    /// replaced. A text that needs neither stays as it is.
    fn prepare<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let names = self.norm.norm_weekdays || self.norm.norm_monthnames;
        let depends = self.norm.lowercase && text.contains('Σ');
        if !names && !depends {
            return Cow::Borrowed(text);
        }
        let mut text = if self.norm.lowercase { text.to_lowercase() } else { text.to_owned() };
        if self.norm.norm_weekdays {
            text = replace_names(&text, &WEEKDAYS, "WEEKDAY");
        }
        if self.norm.norm_monthnames {
            text = replace_names(&text, &MONTHS, "MONTH");
        }
        Cow::Owned(text)
    }

    /// A run of characters that change together: marks are ordered within it.
    fn change(&self, text: &str, at: usize, out: &mut Vec<u8>) -> usize {
        let run = text[at..].char_indices().find(|&(_, c)| self.class(c) != Class::Change);
        let end = run.map_or(text.len(), |(length, _)| at + length);
        let chars = text[at..end].chars();
        let decompose = self.norm.norm_unicode_diacritics;
        if self.norm.lowercase {
            extend(out, chars.flat_map(char::to_lowercase), decompose);
        } else {
            extend(out, chars, decompose);
        }
        end
    }
}

fn extend(out: &mut Vec<u8>, chars: impl Iterator<Item = char>, decompose: bool) {
    if decompose {
        chars.nfd().filter(|&c| !is_nonspacing(c)).for_each(|c| push(out, c));
    } else {
        chars.for_each(|c| push(out, c));
    }
}

fn push(out: &mut Vec<u8>, c: char) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

/// Copies what needs no second look: letters, and spaces that join. Returns where it stopped.
fn copy_plain(text: &[u8], mut at: usize, plain: &Plain, out: &mut Vec<u8>, spaced: &mut bool) -> usize {
    while at < text.len() {
        let chunk = &text[at..text.len().min(at + CHUNK)];
        let before = out.len();
        out.resize(before + chunk.len(), 0);
        let room = &mut out[before..];
        let mut written = 0;
        let mut read = 0;
        while read < chunk.len() {
            let byte = plain[usize::from(chunk[read])];
            if byte == STOP {
                break;
            }
            let space = byte == b' ';
            room[written] = byte;
            written += usize::from(!(space && *spaced));
            *spaced = space;
            read += 1;
        }
        out.truncate(before + written);
        at += read;
        if read < chunk.len() {
            break;
        }
    }
    at
}

fn char_at(text: &str, at: usize) -> char {
    text[at..].chars().next().unwrap_or('\0')
}

/// After digits and at most one separator followed by digits.
fn end_of_number(text: &str, at: usize) -> usize {
    let digits = |at: usize| {
        let rest = &text[at..];
        at + rest.find(|c| !is_digit(c)).unwrap_or(rest.len())
    };
    let end = digits(at);
    let separator = text[end..].chars().next().filter(|&c| is_decimal_separator(c));
    let Some(separator) = separator else { return end };
    let fraction = end + separator.len_utf8();
    match digits(fraction) {
        end_of_fraction if end_of_fraction > fraction => end_of_fraction,
        _ => end,
    }
}

fn replace_names(text: &str, names: &[&str], with: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if let Some(after) = names.iter().find_map(|name| rest.strip_prefix(name)) {
            out.push_str(with);
            rest = after;
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    out
}

fn is_decimal_separator(c: char) -> bool {
    matches!(c, '.' | ',' | '\u{060C}' | '\u{066B}' | '\u{2396}'..='\u{2398}')
}

fn is_digit(c: char) -> bool {
    c.is_ascii_digit() || (!c.is_ascii() && c.general_category() == GeneralCategory::DecimalNumber)
}

fn is_nonspacing(c: char) -> bool {
    !c.is_ascii() && c.general_category() == GeneralCategory::NonspacingMark
}

fn is_punctuation(c: char) -> bool {
    matches!(c, '\0'..='\u{8}' | '\u{B}'..='\u{1F}' | '\u{7F}'..='\u{9F}') || PUNCTUATION.contains(c)
}

/// As Python's `str.isspace`.
fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1C}'..='\u{1F}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::LazyLock;

    /// The definition, one pass for each rule.
    fn plainly(text: &str, norm: TextNorm) -> String {
        let mut text = if norm.lowercase { text.to_lowercase() } else { text.to_owned() };
        if norm.norm_numbers {
            let mut out = String::new();
            let mut at = 0;
            while at < text.len() {
                let c = char_at(&text, at);
                let (next, push) =
                    if is_digit(c) { (end_of_number(&text, at), '0') } else { (at + c.len_utf8(), c) };
                out.push(push);
                at = next;
            }
            text = out;
        }
        for (on, names, with) in
            [(norm.norm_weekdays, &WEEKDAYS[..], "WEEKDAY"), (norm.norm_monthnames, &MONTHS[..], "MONTH")]
        {
            if on {
                text = replace_names(&text, names, with);
            }
        }
        if norm.remove_punctuation {
            text = text.chars().map(|c| if is_punctuation(c) { ' ' } else { c }).collect();
        }
        if norm.norm_whitespace {
            text = text.split(is_space).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
        }
        if norm.norm_unicode_diacritics {
            text = text.nfd().filter(|&c| !is_nonspacing(c)).collect();
        }
        text.trim_matches(is_space).to_owned()
    }

    fn check(text: &str, simplifier: &Simplifier) {
        let mut out = String::from("left over");
        simplifier.simplify(text, &mut out);
        assert_eq!(out, plainly(text, simplifier.norm), "{text:?} {:?}", simplifier.norm);
    }

    #[test]
    fn known_texts() {
        let mut out = String::new();
        let simplifier = Simplifier::new(TextNorm::default());
        for (text, expected) in [
            ("", ""),
            (" \u{1C}Hello,\n\tWORLD!! ", "hello world"),
            ("1|2|3 costs 1,234.5 or 7.", "0 0 0 costs 0 0 or 0"),
            ("Crème brûlée — Ångström", "creme brulee angstrom"),
            ("ΟΔΟΣ", "οδος"),
            ("٣٫١٤ и ４２", "0 и 0"),
            ("\u{1F600}\u{301}", "\u{1F600}"),
            ("한", "\u{1112}\u{1161}\u{11AB}"),
        ] {
            simplifier.simplify(text, &mut out);
            assert_eq!(out, expected, "{text:?}");
        }
        let norm = TextNorm { norm_weekdays: true, norm_monthnames: true, ..TextNorm::default() };
        Simplifier::new(norm).simplify("On Monday, 3 May", &mut out);
        assert_eq!(out, "on WEEKDAY 0 MONTH");
    }

    fn norms() -> impl Strategy<Value = TextNorm> {
        any::<[bool; 7]>().prop_map(|on| TextNorm {
            lowercase: on[0],
            norm_whitespace: on[1],
            remove_punctuation: on[2],
            norm_unicode_diacritics: on[3],
            norm_numbers: on[4],
            norm_weekdays: on[5],
            norm_monthnames: on[6],
        })
    }

    proptest! {
        // Few, as each makes its tables anew.
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn one_pass_equals_one_pass_per_rule(
            text in "([a-zA-Z0-9 .,]|MAY|Sunday|[\u{300}-\u{36F}ΣσςÀ-ÿ٠-٩،٫\u{1C}\u{85}、１]|\\PC|\\s){0,40}",
            norm in norms(),
        ) {
            static DEFAULT: LazyLock<Simplifier> = LazyLock::new(|| Simplifier::new(TextNorm::default()));
            check(&text, &DEFAULT);
            check(&text, &Simplifier::new(norm));
        }
    }
}
