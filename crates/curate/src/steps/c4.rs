//! C4's rules (Raffel et al. 2020, JMLR 21/140) as datatrove 0.10.1 applies them (spec `CLN-01`, `CLN-03`): the same
//! decision, the same reason and the same text, given the same sentences.

use std::borrow::Cow;

use aho_corasick::{AhoCorasick, BuildError};
use memchr::memchr;
use smolt_data::document::Document;

use crate::analysis::chars::is_digit;
use crate::analysis::{Analysis, python};
use crate::step::{Step, Verdict};

smolt_run::recipe! {
    /// C4's rules.
    pub struct C4Settings {
        /// Judge lines; false judges sentences.
        pub split_paragraph: bool = true,
        /// Take `[1]`, `[edit]` and `[citation needed]` out of the lines.
        pub remove_citations: bool = true,
        /// Drop lines that do not end with `.`, `!`, `?`, `"` or `'`, or that end with `...`.
        pub filter_no_terminal_punct: bool = true,
        /// Fewest sentences of a document after that; -1 turns the rule off.
        pub min_num_sentences: i64 = 5,
        /// Drop lines of fewer words, as white space parts them; -1 turns the rule off.
        pub min_words_per_line: i64 = 3,
        /// Drop lines with a longer word, in characters; -1 turns the rule off.
        pub max_word_length: i64 = 1000,
        /// Reject documents that contain `lorem ipsum`.
        pub filter_lorem_ipsum: bool = true,
        /// Drop lines that contain `javascript`.
        pub filter_javascript: bool = true,
        /// Reject documents that contain `{` in a line that is kept. Deletes LaTeX and source code.
        pub filter_curly_bracket: bool = true,
        /// Drop lines about cookies, terms of use and privacy policies.
        pub filter_policy: bool = true,
    }
}

const END_PUNCTUATION: [char; 5] = ['.', '?', '!', '"', '\''];
const LOREM_IPSUM: &str = "lorem ipsum";
const JAVASCRIPT: &str = "javascript";
const POLICIES: [&str; 6] =
    ["terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies"];

/// The one letter beyond ASCII whose lower case is within it, apart from `İ`, which becomes two characters.
const KELVIN: char = '\u{212a}';

/// Keeps the lines that read like sentences, and the documents in which enough are left. Changes the text.
///
/// Reasons: `lorem_ipsum`, `curly_bracket`, `too_few_sentences`. The rule about curly brackets was made against source
/// code on web pages and silently deletes nearly all pages with LaTeX (`\frac{1}{2}`), which cost FineMath's first
/// version its lead (spec `CLN-03`): turn it off for mathematics and code, and read the audit by domain.
pub struct C4 {
    settings: C4Settings,
    phrases: AhoCorasick,
}

/// What to do with a line.
enum Line<'t> {
    Keep(Cow<'t, str>),
    Drop,
    RejectDocument(&'static str),
}

impl C4 {
    /// The rules with these settings.
    ///
    /// # Errors
    /// None with the phrases built in; the type is the automaton's.
    pub fn new(settings: C4Settings) -> Result<Self, BuildError> {
        let phrases = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .kind(Some(aho_corasick::AhoCorasickKind::DFA))
            .build([LOREM_IPSUM, JAVASCRIPT].into_iter().chain(POLICIES))?;
        Ok(Self { settings, phrases })
    }

    /// The reason to reject it, or the text that is left.
    fn judge(&self, text: &str, analysis: &mut Analysis) -> Result<String, &'static str> {
        let by_line = self.settings.split_paragraph;
        let wanted = self.settings.min_num_sentences;
        let enough = usize::try_from(wanted).unwrap_or(0);
        let suspicious = self.is_suspicious(text);
        let mut kept = String::with_capacity(text.len());
        let (mut sentences, mut any) = (0, false);
        let mut add = |line: &str, analysis: &mut Analysis| {
            match self.line(python::strip(line), suspicious) {
                Line::Drop => return Ok(()),
                Line::RejectDocument(reason) => return Err(reason),
                Line::Keep(line) => {
                    // No decision needs more than enough of them.
                    if sentences < enough {
                        sentences +=
                            if by_line { analysis.count_sentences(&line, enough - sentences) } else { 1 };
                    }
                    if std::mem::replace(&mut any, true) {
                        kept.push(if by_line { '\n' } else { ' ' });
                    }
                    kept.push_str(&line);
                }
            }
            Ok(())
        };
        match by_line {
            true => python::split_lines(text).try_for_each(|line| add(line, analysis))?,
            false => analysis.sentences(text).into_iter().try_for_each(|line| add(line, analysis))?,
        }
        if sentences < enough {
            return Err("too_few_sentences");
        }
        let stripped = python::strip(&kept);
        Ok(if stripped.len() == kept.len() { kept } else { stripped.to_owned() })
    }

    /// Whether a phrase may be in it, so that its lines must be searched; true of few documents.
    fn is_suspicious(&self, text: &str) -> bool {
        let s = &self.settings;
        (s.filter_lorem_ipsum || s.filter_javascript || s.filter_policy)
            && (self.phrases.is_match(text) || text.contains(KELVIN))
    }

    fn line<'t>(&self, line: &'t str, suspicious: bool) -> Line<'t> {
        let s = &self.settings;
        if let Ok(most) = usize::try_from(s.max_word_length)
            && has_longer_word(line, most)
        {
            return Line::Drop;
        }
        let whole = line;
        let line = if s.remove_citations { without_citations(line) } else { Cow::Borrowed(line) };
        if s.filter_no_terminal_punct && (!line.ends_with(END_PUNCTUATION) || line.ends_with("...")) {
            return Line::Drop;
        }
        if usize::try_from(s.min_words_per_line).is_ok_and(|least| has_fewer_words(whole, least)) {
            return Line::Drop;
        }
        let lower =
            if suspicious || matches!(line, Cow::Owned(_)) { line.to_lowercase() } else { String::new() };
        if s.filter_lorem_ipsum && lower.contains(LOREM_IPSUM) {
            return Line::RejectDocument("lorem_ipsum");
        }
        if s.filter_javascript && lower.contains(JAVASCRIPT) {
            return Line::Drop;
        }
        if s.filter_curly_bracket && memchr(b'{', line.as_bytes()).is_some() {
            return Line::RejectDocument("curly_bracket");
        }
        if s.filter_policy && POLICIES.iter().any(|phrase| lower.contains(phrase)) {
            return Line::Drop;
        }
        Line::Keep(line)
    }
}

impl Step for C4 {
    fn apply(&self, document: &mut Document, analysis: &mut Analysis) -> Verdict {
        match self.judge(&document.text, analysis) {
            Err(reason) => Verdict::reject(reason),
            Ok(text) => {
                if text != document.text {
                    document.text = text;
                    analysis.text_changed();
                }
                Verdict::Keep
            }
        }
    }
}

/// Rejects pages without three long lines, as mC4 does (Xue et al. 2021, arXiv 2010.11934).
///
/// The reason is datatrove's, `< 3 paragraphs`: fewer than three lines have at least 200 characters.
pub struct C4Paragraphs;

impl Step for C4Paragraphs {
    fn apply(&self, document: &mut Document, _: &mut Analysis) -> Verdict {
        // A line of fewer bytes has fewer characters.
        let long = |line: &&str| line.len() >= 200 && python::len(line) >= 200;
        match document.text.split('\n').filter(long).nth(2) {
            Some(_) => Verdict::Keep,
            None => Verdict::reject("< 3 paragraphs"),
        }
    }
}

fn has_longer_word(line: &str, most: usize) -> bool {
    // A character takes at least a byte, so that most lines need no look.
    line.len() > most
        && line.split(python::is_space).any(|word| word.len() > most && python::len(word) > most)
}

fn has_fewer_words(line: &str, least: usize) -> bool {
    line.split(python::is_space).filter(|word| !word.is_empty()).take(least).count() < least
}

/// Takes `[]`, `[12]`, `[edit]` and `[citation needed]` out.
fn without_citations(line: &str) -> Cow<'_, str> {
    let mut kept = String::new();
    let (mut from, mut at) = (0, 0);
    while let Some(found) = memchr(b'[', &line.as_bytes()[at..]) {
        let start = at + found;
        let inner = &line[start + 1..];
        let width =
            ["edit]", "citation needed]"].iter().find(|end| inner.starts_with(**end)).map(|end| end.len());
        let width = width.or_else(|| {
            let rest = inner.trim_start_matches(is_digit);
            rest.starts_with(']').then(|| inner.len() - rest.len() + 1)
        });
        at = start + 1;
        if let Some(width) = width {
            kept.push_str(&line[from..start]);
            at += width;
            from = at;
        }
    }
    if from == 0 {
        return Cow::Borrowed(line);
    }
    kept.push_str(&line[from..]);
    Cow::Owned(kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn defaults() -> C4Settings {
        smolt_run::recipe::defaults().unwrap()
    }

    fn run(settings: C4Settings, text: &str) -> Result<String, &'static str> {
        let mut document = Document { text: text.to_owned(), ..Document::default() };
        match C4::new(settings).unwrap().apply(&mut document, &mut Analysis::default()) {
            Verdict::Keep => Ok(document.text),
            Verdict::Reject(rejection) => Err(rejection.reason),
        }
    }

    const GOOD: &str =
        "One sentence here. Another one there.\nA third is here! Is it not?\nThe last one is this.";

    #[test]
    fn lines_are_dropped_and_edited() {
        assert_eq!(run(defaults(), GOOD).unwrap(), GOOD);
        let more = format!(
            "Home\r\n{GOOD}\x0cNo end\nWell...\nTwo words.\nTurn on JavaScript to see this.\nWe use cookies, as all do.\n\
             It uses coo\u{212a}ies as well.\nA fact[12] that[edit] is[] known[citation needed] [x].\n{} is long.",
            "w".repeat(1001)
        );
        assert_eq!(run(defaults(), &more).unwrap(), format!("{GOOD}\nA fact that is known [x]."));
        let all = C4Settings {
            filter_no_terminal_punct: false,
            min_words_per_line: -1,
            max_word_length: -1,
            filter_javascript: false,
            filter_policy: false,
            remove_citations: false,
            ..defaults()
        };
        assert_eq!(run(all, &more).unwrap(), more.replace("\r\n", "\n").replace('\x0c', "\n"));
    }

    #[test]
    fn every_rule_has_its_reason() {
        assert_eq!(run(defaults(), ""), Err("too_few_sentences"));
        assert_eq!(run(defaults(), "One is too few."), Err("too_few_sentences"));
        assert_eq!(run(C4Settings { min_num_sentences: -1, ..defaults() }, ""), Ok(String::new()));
        assert_eq!(run(defaults(), &format!("{GOOD}\nThen Lorem ipsum dolor.")), Err("lorem_ipsum"));
        let latex = format!(r"{GOOD}{}So \frac{{1}}{{2}} is a half.", "\n");
        assert_eq!(run(defaults(), &latex), Err("curly_bracket"));
        assert_eq!(run(C4Settings { filter_curly_bracket: false, ..defaults() }, &latex).unwrap(), latex);
        // A line that is dropped for another reason does not count.
        assert_eq!(run(defaults(), &format!("{GOOD}\nfn main() {{")).unwrap(), GOOD);
    }

    #[test]
    fn phrases_meet_only_after_citations_are_gone() {
        let text =
            format!("{GOOD}\nPlease enable Java[1]Script for this.\nWe use[edit] cookies for java[2].");
        assert_eq!(run(defaults(), &text).unwrap(), GOOD);
    }

    #[test]
    fn sentences_instead_of_lines() {
        let by_sentence = C4Settings { split_paragraph: false, ..defaults() };
        let text = "One sentence is\nhere.  No. Another one there. A third is here! Is it not so? The last is here. End";
        let kept =
            "One sentence is\nhere. Another one there. A third is here! Is it not so? The last is here.";
        assert_eq!(run(by_sentence, text).unwrap(), kept);
    }

    proptest! {
        #[test]
        fn a_text_that_was_kept_is_kept_as_it_is(text in "([a-c1.!\" \n\u{a0}\u{85}é字]|a b c d\\.\n){0,80}", least in 1_i64..4) {
            let settings = C4Settings { min_num_sentences: least, min_words_per_line: 1, ..defaults() };
            if let Ok(once) = run(settings.clone(), &text) {
                // Without citations: taking one out can join what reads like another, or leave fewer words.
                prop_assert_eq!(run(settings, &once), Ok(once));
            }
        }
    }
}
