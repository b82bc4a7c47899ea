//! The marks that spaCy's English rules cut off the front, the back and out of the middle of a chunk.

use super::chars::{is_alpha, is_icon, is_lower, is_upper};

const FRONT: u8 = 1;
const BACK: u8 = 2;
/// A lower-case letter, a digit or a mark after which a full stop is cut off.
const BEFORE_STOP: u8 = 4;
/// May part the middle.
const INSIDE: u8 = 8;
const QUOTE: u8 = 16;

const ASCII: [u8; 128] = {
    let mut table = [0; 128];
    let groups: [(&[u8], u8); 7] = [
        (b",:;!?()[]{}<>_#*&'\"`", FRONT | BACK | BEFORE_STOP),
        (b"%=+$", FRONT),
        (b"%-+|", BEFORE_STOP),
        (b"0123456789", BEFORE_STOP),
        (b"abcdefghijklmnopqrstuvwxyz", BEFORE_STOP),
        (b".,+-*^~:<>=/", INSIDE),
        (b"'\"`,", QUOTE),
    ];
    let mut group = 0;
    while group < groups.len() {
        let (bytes, flag) = groups[group];
        let mut index = 0;
        while index < bytes.len() {
            table[bytes[index] as usize] |= flag;
            index += 1;
        }
        group += 1;
    }
    table
};

fn is_quote(c: char) -> bool {
    match c.is_ascii() {
        true => ASCII[c as usize] & QUOTE != 0,
        false => "”“‘´’‚„»«「」『』（）〔〕【】《》〈〉\u{2329}\u{232a}⟦⟧".contains(c),
    }
}

fn is_mark(c: char) -> bool {
    "…¿؟¡。？！，、；：～·।،۔؛٪".contains(c)
}

fn is_currency(c: char) -> bool {
    c == '$' || "£€¥฿₽﷼".contains(c) || ('₠'..='₿').contains(&c)
}

/// How many bytes to cut off the front, 0 for none.
pub(super) fn prefix(text: &str) -> usize {
    let bytes = text.as_bytes();
    let Some(&first) = bytes.first() else { return 0 };
    match first {
        b'.' => Some(dots(bytes)).filter(|&dots| dots > 1).unwrap_or(0),
        b'+' => usize::from(!bytes.get(1).is_some_and(u8::is_ascii_digit)),
        b'U' | b'C' | b'A' => {
            ["US$", "C$", "A$"].iter().find(|sign| text.starts_with(**sign)).map_or(0, |sign| sign.len())
        }
        0..0x80 => usize::from(ASCII[usize::from(first)] & FRONT != 0),
        _ => text.chars().next().filter(|&c| is_front(c)).map_or(0, char::len_utf8),
    }
}

fn is_front(c: char) -> bool {
    is_mark(c) || is_quote(c) || is_currency(c) || matches!(c, '§' | '—' | '–') || is_icon(c)
}

fn dots(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|&&byte| byte == b'.').count()
}

/// How many bytes to cut off the back, 0 for none; the most that any rule allows.
pub(super) fn suffix(text: &str) -> usize {
    let bytes = text.as_bytes();
    let Some(&last) = bytes.last() else { return 0 };
    match last {
        b'.' => full_stops(text),
        b's' | b'S' if text[..text.len() - 1].ends_with('\'') => 2,
        b's' | b'S' if text[..text.len() - 1].ends_with('’') => 1 + '’'.len_utf8(),
        b'+' => usize::from(digit_before(bytes, 1)),
        b'$' => currency(text, '$'),
        _ if last.is_ascii_alphabetic() || last == b'%' => unit(bytes),
        0..0x80 => usize::from(ASCII[usize::from(last)] & BACK != 0),
        _ => text.chars().next_back().map_or(0, |c| wide_suffix(text, c)),
    }
}

fn wide_suffix(text: &str, last: char) -> usize {
    if text.ends_with("……") {
        return 2 * last.len_utf8();
    }
    if is_mark(last) || is_quote(last) || matches!(last, '—' | '–') || is_icon(last) {
        return last.len_utf8();
    }
    if matches!(last, '²' | '³') { unit(text.as_bytes()) } else { currency(text, last) }
}

fn full_stops(text: &str) -> usize {
    let many = text.bytes().rev().take_while(|&byte| byte == b'.').count();
    if many > 1 {
        return many;
    }
    let mut before = text[..text.len() - 1].chars().rev();
    let Some(c) = before.next() else { return 0 };
    let cuts = match c {
        _ if c.is_ascii_uppercase() => {
            let second = before.next();
            second.is_some_and(is_upper) || (matches!(c, 'F' | 'C' | 'K') && second == Some('°'))
        }
        _ if c.is_ascii() => ASCII[c as usize] & BEFORE_STOP != 0,
        '²' => true,
        _ => is_lower(c) || is_mark(c) || is_quote(c) || (is_upper(c) && before.next().is_some_and(is_upper)),
    };
    usize::from(cuts)
}

fn digit_before(bytes: &[u8], back: usize) -> bool {
    bytes.len() > back && bytes[bytes.len() - back - 1].is_ascii_digit()
}

fn currency(text: &str, sign: char) -> usize {
    if !is_currency(sign) {
        return 0;
    }
    let bytes = text.as_bytes();
    let signs = ["US$", "C$", "A$"].iter().filter(|signs| text.ends_with(**signs)).map(|signs| signs.len());
    signs.chain([sign.len_utf8()]).find(|&width| digit_before(bytes, width)).unwrap_or(0)
}

/// Units are cut off a number; the longest that has a digit before it.
fn unit(bytes: &[u8]) -> usize {
    const UNITS: &str = " km km² km³ m m² m³ dm dm² dm³ cm cm² cm³ mm mm² mm³ ha µm nm yd in ft kg g mg µg t lb oz m/s \
        km/h kmh mph hPa Pa mbar mb MB kb KB gb GB tb TB T G M K % ";
    let longest = bytes.len().saturating_sub(1).min(4);
    // A digit within reach is rare, and all else can wait for it.
    let Some(width) = (1..=longest).rev().find(|&width| digit_before(bytes, width)) else { return 0 };
    (1..=width)
        .rev()
        .filter(|&width| digit_before(bytes, width))
        .find(|&width| {
            let end = &bytes[bytes.len() - width..];
            UNITS
                .as_bytes()
                .windows(width + 2)
                .any(|unit| unit[0] == b' ' && unit[width + 1] == b' ' && &unit[1..=width] == end)
        })
        .unwrap_or(0)
}

/// How many bytes part the middle at `at`, 0 for none. `at` may lie inside a character.
#[inline]
pub(super) fn infix_at(text: &str, at: usize) -> usize {
    let bytes = text.as_bytes();
    match bytes[at] {
        byte if byte < 0x80 => match ASCII[usize::from(byte)] & INSIDE {
            0 => 0,
            _ => ascii_infix(text, at),
        },
        // Every character that parts has one of these lead bytes: °, ©, –, —, …, icons.
        0xc2.. if text.is_char_boundary(at) => wide_infix(text, at),
        _ => 0,
    }
}

fn before(text: &str, at: usize) -> char {
    match at.checked_sub(1).map(|before| text.as_bytes()[before]) {
        None => '\0',
        Some(byte) if byte < 0x80 => char::from(byte),
        Some(_) => text[..at].chars().next_back().unwrap_or('\0'),
    }
}

fn after(text: &str, at: usize) -> char {
    match text.as_bytes().get(at) {
        None => '\0',
        Some(&byte) if byte < 0x80 => char::from(byte),
        Some(_) => text[at..].chars().next().unwrap_or('\0'),
    }
}

fn is_alpha_or_digit(c: char) -> bool {
    c.is_ascii_digit() || is_alpha(c)
}

fn ascii_infix(text: &str, at: usize) -> usize {
    let bytes = text.as_bytes();
    let (last, next) = (before(text, at), after(text, at + 1));
    let parts = match bytes[at] {
        b'.' if next == '.' => return dots(&bytes[at..]),
        b'.' => (is_lower(last) || is_quote(last)) && (is_upper(next) || is_quote(next)),
        b',' => is_alpha(last) && is_alpha(next),
        b':' | b'<' | b'>' | b'=' | b'/' => is_alpha_or_digit(last) && is_alpha(next),
        b'~' => is_alpha_or_digit(last) && is_alpha(next),
        b'-' => return hyphens(text, at),
        // + * ^
        _ => last.is_ascii_digit() && (next.is_ascii_digit() || next == '-'),
    };
    usize::from(parts)
}

fn hyphens(text: &str, at: usize) -> usize {
    let (last, next) = (before(text, at), after(text, at + 1));
    if last.is_ascii_digit() && (next.is_ascii_digit() || next == '-') {
        return 1;
    }
    let run = text.as_bytes()[at..].iter().take(3).take_while(|&&byte| byte == b'-').count();
    match is_alpha_or_digit(last) {
        true => (1..=run).find(|&width| is_alpha(after(text, at + width))).unwrap_or(0),
        false => 0,
    }
}

fn wide_infix(text: &str, at: usize) -> usize {
    let c = after(text, at);
    let width = c.len_utf8();
    match c {
        '…' => width,
        '–' | '—' => {
            let double = 2 * width * usize::from(c == '—' && after(text, at + width) == '—');
            let widths = [width, double.max(width)];
            let fits = |&width: &usize| is_alpha(after(text, at + width));
            if is_alpha_or_digit(before(text, at)) { widths.into_iter().find(fits).unwrap_or(0) } else { 0 }
        }
        _ if is_icon(c) => width,
        _ => 0,
    }
}
