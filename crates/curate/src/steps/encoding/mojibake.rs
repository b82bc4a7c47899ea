//! UTF-8 that was decoded as a character set of one byte per letter.

/// How often text may have been broken; each round of repair undoes one.
const ROUNDS: usize = 4;

/// Lines are repaired by themselves: pages are often joined from sources of which one was broken.
pub(super) fn repair(text: &str) -> Option<String> {
    let mut out: Option<String> = None;
    let mut done = 0;
    for line in text.split_inclusive('\n') {
        let repaired = if line.is_ascii() { None } else { repair_line(line) };
        match (repaired, &mut out) {
            (Some(repaired), Some(out)) => out.push_str(&repaired),
            (Some(repaired), out) => *out = Some(format!("{}{repaired}", &text[..done])),
            (None, Some(out)) => out.push_str(line),
            (None, None) => {}
        }
        done += line.len();
    }
    out
}

fn repair_line(line: &str) -> Option<String> {
    let mut repaired: Option<String> = None;
    for _ in 0..ROUNDS {
        let text = repaired.as_deref().unwrap_or(line);
        let Some(better) = western(text).or_else(|| cyrillic(text)) else { break };
        repaired = Some(better);
    }
    // What is left of C1 controls was Windows-1252 read as Latin-1.
    let text = repaired.as_deref().unwrap_or(line);
    if text.contains(|c| matches!(c, '\u{80}'..='\u{9F}')) {
        repaired =
            Some(text.chars().map(|c| if (c as u32) < 0xA0 { windows_1252(c as u8) } else { c }).collect());
    }
    repaired
}

/// The characters at 0x80–0x9F of Windows-1252; five places are empty and stay controls.
const C1_1252: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8D}', 'Ž', '\u{8F}', '\u{90}',
    '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9D}', 'ž', 'Ÿ',
];

fn windows_1252(byte: u8) -> char {
    match byte {
        0x80..=0x9F => C1_1252[usize::from(byte - 0x80)],
        _ => char::from(byte),
    }
}

fn to_western(c: char) -> Option<u8> {
    match c {
        '\0'..='\u{FF}' => Some(c as u8),
        _ => C1_1252.iter().position(|known| *known == c).map(|place| place as u8 + 0x80),
    }
}

/// Windows-1251, 0x80–0xBF; from 0xC0 on it is А–я.
const HALF_1251: &str = "ЂЃ‚ѓ„…†‡€‰Љ‹ЊЌЋЏђ‘’“”•–—\u{98}™љ›њќћџ\u{A0}ЎўЈ¤Ґ¦§Ё©Є«¬\u{AD}®Ї°±Ііґµ¶·ё№є»јЅѕї";

fn to_cyrillic(c: char) -> Option<u8> {
    match c {
        '\0'..='\x7F' => Some(c as u8),
        'А'..='я' => Some((c as u32 - 'А' as u32 + 0xC0) as u8),
        _ => HALF_1251.chars().position(|known| known == c).map(|place| place as u8 + 0x80),
    }
}

/// A character whose UTF-8 bytes stand in the text as characters `start..start + length`.
struct Sequence {
    start: usize,
    length: usize,
    meant: char,
}

fn sequences(bytes: &[Option<u8>]) -> Vec<Sequence> {
    let mut found = Vec::new();
    let mut start = 0;
    while start < bytes.len() {
        let length = match bytes[start] {
            Some(0xC2..=0xDF) => 2,
            Some(0xE0..=0xEF) => 3,
            Some(0xF0..=0xF4) => 4,
            _ => 1,
        };
        let meant = (length > 1).then(|| decode(bytes.get(start..start + length)?)).flatten();
        start += match meant {
            Some(meant) => {
                found.push(Sequence { start, length, meant });
                length
            }
            None => 1,
        };
    }
    found
}

fn decode(bytes: &[Option<u8>]) -> Option<char> {
    let mut buffer = [0; 4];
    for (to, from) in buffer.iter_mut().zip(bytes) {
        *to = (*from)?;
    }
    std::str::from_utf8(&buffer[..bytes.len()]).ok()?.chars().next()
}

/// One round for Latin-1 and Windows-1252.
fn western(text: &str) -> Option<String> {
    let begins = |c: char| matches!(c, '\u{C2}'..='\u{F4}');
    if !text.contains(begins) {
        return None;
    }
    let letters: Vec<char> = text.chars().collect();
    let bytes: Vec<Option<u8>> = letters.iter().map(|c| to_western(*c)).collect();
    let found = sequences(&bytes);
    let mut sure: Vec<bool> = found.iter().map(|sequence| is_sure(sequence, &letters)).collect();
    // Words of Greek, Cyrillic or Chinese: several sequences without a gap.
    let mut first = 0;
    while first < found.len() {
        let mut end = first + 1;
        while end < found.len() && found[end - 1].start + found[end - 1].length == found[end].start {
            end += 1;
        }
        if end - first >= 3 {
            sure[first..end].fill(true);
        }
        first = end;
    }
    let covered: usize = found.iter().map(|sequence| sequence.length).sum();
    let foreign = letters.iter().filter(|c| !c.is_ascii()).count();
    if covered == foreign && sure.contains(&true) {
        sure.fill(true);
    }
    let mut wrong =
        found.iter().zip(&sure).filter(|(_, sure)| **sure).map(|(sequence, _)| sequence).peekable();
    wrong.peek()?;
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for sequence in wrong {
        out.extend(&letters[done..sequence.start]);
        out.push(sequence.meant);
        done = sequence.start + sequence.length;
    }
    out.extend(&letters[done..]);
    Some(out)
}

/// Punctuation that may well follow a letter in clean text.
fn follows_words(c: char) -> bool {
    "…‘’“”„‚–—«»‹›•\u{A0}™®©°²³¹ºª¡¿¶§·´¨".contains(c)
}

/// Whether no clean text would hold this sequence. The lead of two bytes is a capital letter (or ×), that of three a
/// small one: neither is followed by symbols without reason.
fn is_sure(sequence: &Sequence, letters: &[char]) -> bool {
    let lead = letters[sequence.start];
    let rest = &letters[sequence.start + 1..sequence.start + sequence.length];
    let before = sequence.start.checked_sub(1).map(|place| letters[place]);
    let after = letters.get(sequence.start + sequence.length).copied();
    let in_word = || before.is_some_and(char::is_lowercase) || after.is_some_and(char::is_lowercase);
    match (sequence.length, lead) {
        (2, 'Â') => !before.is_some_and(char::is_uppercase),
        (2, 'Ã') => !follows_words(rest[0]) || in_word() || !before.is_some_and(char::is_alphabetic),
        (2, 'Ä' | 'Å') => !follows_words(rest[0]) || in_word(),
        (2, 'Î' | 'Ï') => !follows_words(rest[0]) && !rest[0].is_alphabetic(),
        (2, _) => false,
        (3, 'â') => !rest.iter().copied().all(follows_words) || rest[0] == '„',
        // U+FEFF and U+FFFD, of files that were damaged before.
        (3, 'ï') => matches!(sequence.meant, '\u{FEFF}' | '\u{FFFD}'),
        // Vietnamese: no word goes on after a quotation mark or ordinal sign.
        (3, 'á') => matches!(sequence.meant, 'Ḁ'..='ỿ') && after.is_some_and(char::is_lowercase),
        (3, _) => false,
        (_, lead) => lead == 'ð',
    }
}

/// One round for Windows-1251: the whole line or nothing, because single pairs of Cyrillic letters say little.
fn cyrillic(text: &str) -> Option<String> {
    if !text.contains(['Р', 'С']) {
        return None;
    }
    let bytes: Option<Vec<u8>> = text.chars().map(to_cyrillic).collect();
    let repaired = String::from_utf8(bytes?).ok()?;
    let foreign = repaired.chars().filter(|c| !c.is_ascii()).count();
    (foreign >= 3).then_some(repaired)
}
