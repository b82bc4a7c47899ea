//! FineWeb's own rules (Penedo et al. 2024, arXiv 2406.17557) as datatrove 0.10.1 applies them (spec `CLN-01`): the same
//! decision and the same reason, given the same words.

use memchr::memchr_iter;
use smolt_data::document::Document;

use crate::analysis::chars::is_terminal;
use crate::analysis::{Analysis, python};
use crate::step::{Rejection, Step, Verdict};

smolt_run::recipe! {
    /// FineWeb's rules on lines.
    pub struct FineWebSettings {
        /// Least share of lines that end with a stop character.
        pub line_punct_thr: f64 = 0.12,
        /// Keep documents in which no line ends so.
        pub line_punct_exclude_zero: bool = false,
        /// What lines shall end with; left out, the full stops, exclamation and question marks of all scripts.
        pub stop_chars: Vec<String> = Vec::new(),
        /// Largest share of short lines.
        pub short_line_thr: f64 = 0.67,
        /// Characters of the longest line that is short.
        pub short_line_length: usize = 30,
        /// Largest share of characters in lines that came before. The paper says 0.1; datatrove's default is this.
        pub char_duplicates_ratio: f64 = 0.01,
        /// Most newlines per word.
        pub new_line_ratio: f64 = 0.3,
    }
}

/// Rejects lists, menus and pages of fragments.
///
/// Reasons, in the order of the rules: `empty`, `line_punct_ratio`, `short_line_ratio`, `char_dup_ratio`, `list_ratio`.
/// The first rule takes nearly all source code: few of its lines end with a full stop.
pub struct FineWeb {
    settings: FineWebSettings,
}

#[derive(Default)]
struct Lines {
    /// Lines that are not blank.
    count: usize,
    /// Those that end with a stop character.
    stopped: usize,
    /// Those that are short.
    short: usize,
}

impl FineWeb {
    /// The rules with these limits.
    pub fn new(settings: FineWebSettings) -> Self {
        Self { settings }
    }

    fn judge(&self, text: &str, analysis: &mut Analysis) -> Option<Rejection> {
        let s = &self.settings;
        let lines = self.count(text);
        if lines.count == 0 {
            return Some(Rejection { reason: "empty", detail: String::new() });
        }
        let stopped = lines.stopped as f64 / lines.count as f64;
        if stopped < s.line_punct_thr && !(lines.stopped == 0 && s.line_punct_exclude_zero) {
            return reject("line_punct_ratio", stopped);
        }
        let short = lines.short as f64 / lines.count as f64;
        if short > s.short_line_thr {
            return reject("short_line_ratio", short);
        }
        let newlines = memchr_iter(b'\n', text.as_bytes()).count();
        let pieces = text.split('\n').filter(|line| !is_blank(line));
        let duplicates = analysis.tables().duplicates(pieces, lines.count);
        let repeated = duplicates.chars as f64 / (python::len(text) - newlines) as f64;
        if repeated > s.char_duplicates_ratio {
            return reject("char_dup_ratio", repeated);
        }
        let words = analysis.words(text).len();
        let per_word = newlines as f64 / words.max(1) as f64;
        if per_word > s.new_line_ratio {
            return reject("list_ratio", per_word);
        }
        None
    }

    fn count(&self, text: &str) -> Lines {
        let mut lines = Lines::default();
        let mut start = 0;
        let bytes = text.as_bytes();
        for end in memchr_iter(b'\n', bytes).chain([bytes.len()]) {
            let line = &text[start..end];
            start = end + 1;
            if is_blank(line) {
                continue;
            }
            lines.count += 1;
            lines.stopped += usize::from(self.stops(line));
            lines.short += usize::from(self.is_short(line));
        }
        lines
    }

    fn stops(&self, line: &str) -> bool {
        let stops = &self.settings.stop_chars;
        if !stops.is_empty() {
            return stops.iter().any(|stop| line.ends_with(stop.as_str()));
        }
        match line.as_bytes().last() {
            Some(&last) if last < 0x80 => is_terminal(char::from(last)),
            _ => line.chars().next_back().is_some_and(is_terminal),
        }
    }

    fn is_short(&self, line: &str) -> bool {
        let length = self.settings.short_line_length;
        // A character takes one to four bytes.
        line.len() <= length || (line.len() <= length.saturating_mul(4) && python::len(line) <= length)
    }
}

impl Step for FineWeb {
    fn apply(&self, document: &mut Document, analysis: &mut Analysis) -> Verdict {
        self.judge(&document.text, analysis).map_or(Verdict::Keep, Verdict::Reject)
    }
}

fn is_blank(line: &str) -> bool {
    match line.as_bytes().first() {
        None => true,
        Some(first) if first.is_ascii_graphic() => false,
        _ => line.chars().all(python::is_space),
    }
}

fn reject(reason: &'static str, share: f64) -> Option<Rejection> {
    Some(Rejection { reason, detail: format!("{share:.3}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(settings: FineWebSettings, text: &str) -> Option<&'static str> {
        let mut document = Document { text: text.to_owned(), ..Document::default() };
        match FineWeb::new(settings).apply(&mut document, &mut Analysis::default()) {
            Verdict::Keep => None,
            Verdict::Reject(rejection) => Some(rejection.reason),
        }
    }

    #[test]
    fn every_rule_has_its_reason() {
        let settings: FineWebSettings = smolt_run::recipe::defaults().unwrap();
        let check = |text: &str| reason(settings.clone(), text);
        assert_eq!(check("A line that is longer than thirty characters, with an end.\n"), None);
        assert_eq!(
            check("一行比三十个字长得多的中文，它的末尾有一个中文的句号，所以这一行应当被保留下来才对。"),
            None
        );
        assert_eq!(check(""), Some("empty"));
        assert_eq!(check(" \n\u{a0}\n"), Some("empty"));
        assert_eq!(
            check("A line that is longer than thirty characters, but no end\n"),
            Some("line_punct_ratio")
        );
        assert_eq!(check("Short.\n"), Some("short_line_ratio"));
        let line = "A line that is longer than thirty characters, with an end.\n";
        assert_eq!(check(&line.repeat(2)), Some("char_dup_ratio"));
        assert_eq!(check(&format!("{line}{}", "\n".repeat(9))), Some("list_ratio"));
        let lenient = FineWebSettings { line_punct_exclude_zero: true, ..settings.clone() };
        assert_eq!(reason(lenient, "A line that is longer than thirty characters, but no end"), None);
        let stops = FineWebSettings { stop_chars: vec!["end".into()], ..settings.clone() };
        assert_eq!(reason(stops, "A line that is longer than thirty characters, but no end"), None);
    }
}
