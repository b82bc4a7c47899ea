//! Repairs text that was decoded with the wrong character set, and removes control characters.
//!
//! UTF-8 read as Windows-1252 or Latin-1 turns `é` into `Ã©`; ftfy (Speer 2019) undoes it where the text is surely
//! broken. So does this step, by rules of its own: sequences that are UTF-8 when encoded back are replaced when no
//! clean text would hold them, or when the whole line agrees.

use smolt_data::document::Document;

use crate::analysis::Analysis;
use crate::step::{Step, Verdict};

smolt_run::recipe! {
    /// Repairs mojibake and removes control characters.
    pub struct EncodingSettings {
        /// Undo UTF-8 that was read as Latin-1, Windows-1252 or Windows-1251, also twice.
        pub mojibake: bool = true,
        /// Remove control characters, byte order marks and terminal colours; line breaks and tabs stay.
        pub controls: bool = true,
        /// Curly quotation marks become straight ones.
        pub quotes: bool = false,
        /// `ﬁ` becomes `fi`, as do the other Latin ligatures.
        pub ligatures: bool = false,
        /// Every kind of line break becomes `\n`.
        pub line_breaks: bool = false,
    }
}

/// The step `encoding`.
pub struct Encoding {
    settings: EncodingSettings,
}

impl Encoding {
    /// From its settings.
    pub fn new(settings: &EncodingSettings) -> Self {
        Self { settings: settings.clone() }
    }

    /// The repaired text, or `None` where nothing is wrong.
    pub fn repair(&self, text: &str) -> Option<String> {
        let mut changed = None;
        if self.settings.mojibake && !text.is_ascii() {
            changed = mojibake::repair(text);
        }
        if self.settings.controls {
            let text = changed.as_deref().unwrap_or(text);
            changed = without_controls(text).or(changed);
        }
        if self.settings.line_breaks {
            let text = changed.as_deref().unwrap_or(text);
            let broken = |c: char| matches!(c, '\r' | '\u{85}' | '\u{2028}' | '\u{2029}');
            if text.contains(broken) {
                changed = Some(text.replace("\r\n", "\n").replace(broken, "\n"));
            }
        }
        if self.settings.quotes || self.settings.ligatures {
            let text = changed.as_deref().unwrap_or(text);
            changed = self.simpler(text).or(changed);
        }
        changed
    }

    fn simpler(&self, text: &str) -> Option<String> {
        let simple = |c: char| {
            let quote = match c {
                '\u{2018}'..='\u{201B}' | '\u{02BC}' => Some("'"),
                '\u{201C}'..='\u{201F}' => Some("\""),
                _ => None,
            };
            let ligature = match c {
                '\u{FB00}' => Some("ff"),
                '\u{FB01}' => Some("fi"),
                '\u{FB02}' => Some("fl"),
                '\u{FB03}' => Some("ffi"),
                '\u{FB04}' => Some("ffl"),
                '\u{FB05}' => Some("ſt"),
                '\u{FB06}' => Some("st"),
                'Ĳ' => Some("IJ"),
                'ĳ' => Some("ij"),
                'ŉ' => Some("ʼn"),
                'Ǳ' => Some("DZ"),
                'ǲ' => Some("Dz"),
                'ǳ' => Some("dz"),
                'Ǆ' => Some("DŽ"),
                'ǅ' => Some("Dž"),
                'ǆ' => Some("dž"),
                'Ǉ' => Some("LJ"),
                'ǈ' => Some("Lj"),
                'ǉ' => Some("lj"),
                'Ǌ' => Some("NJ"),
                'ǋ' => Some("Nj"),
                'ǌ' => Some("nj"),
                _ => None,
            };
            quote.filter(|_| self.settings.quotes).or(ligature.filter(|_| self.settings.ligatures))
        };
        if text.is_ascii() || !text.chars().any(|c| simple(c).is_some()) {
            return None;
        }
        let mut out = String::with_capacity(text.len());
        for c in text.chars() {
            match simple(c) {
                Some(replacement) => out.push_str(replacement),
                None => out.push(c),
            }
        }
        Some(out)
    }
}

impl Step for Encoding {
    fn apply(&self, document: &mut Document, analysis: &mut Analysis) -> Verdict {
        if let Some(text) = self.repair(&document.text) {
            document.text = text;
            analysis.text_changed();
        }
        Verdict::Keep
    }
}

fn is_control(c: char) -> bool {
    matches!(c, '\0'..='\x08' | '\x0B' | '\x0E'..='\x1F' | '\x7F'
        | '\u{206A}'..='\u{206F}' | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFC}')
}

fn without_controls(text: &str) -> Option<String> {
    let first = text.find(is_control)?;
    let mut out = String::with_capacity(text.len());
    out.push_str(&text[..first]);
    let mut rest = &text[first..];
    while let Some(c) = rest.chars().next() {
        if let Some(after) = after_terminal_code(rest) {
            rest = after;
            continue;
        }
        if !is_control(c) {
            out.push(c);
        }
        rest = &rest[c.len_utf8()..];
    }
    Some(out)
}

/// What follows an escape sequence of terminals, such as `ESC [ 1 ; 31 m`.
fn after_terminal_code(text: &str) -> Option<&str> {
    let code = text.strip_prefix("\x1B[")?;
    let end = code.find(|c: char| !(c.is_ascii_digit() || c == ';'))?;
    code[end..].starts_with(|c: char| c.is_ascii_alphabetic()).then(|| &code[end + 1..])
}

mod mojibake;

#[cfg(test)]
mod tests;
