//! Whitespace made regular, and limits of length.

use smolt_data::document::Document;

use crate::analysis::Analysis;
use crate::step::{Rejection, Step, Verdict};

smolt_run::recipe! {
    /// Tidies whitespace and rejects documents that are too short or too long.
    pub struct CleanupSettings {
        /// Line breaks become `\n`, spaces at line ends and the ends of the text go, and so do blank lines after the first of several. Indentation stays.
        pub whitespace: bool = true,
        /// Shorter documents are rejected, in characters.
        pub min_chars: u64 = 0,
        /// Longer documents are rejected, in characters.
        pub max_chars: Option<u64>,
    }
}

/// The step `cleanup`.
pub struct Cleanup {
    settings: CleanupSettings,
}

impl Cleanup {
    /// From its settings.
    pub fn new(settings: &CleanupSettings) -> Self {
        Self { settings: settings.clone() }
    }
}

impl Step for Cleanup {
    fn apply(&self, document: &mut Document, analysis: &mut Analysis) -> Verdict {
        if self.settings.whitespace && !is_tidy(&document.text) {
            document.text = tidy(&document.text);
            analysis.text_changed();
        }
        let length = document.text.chars().count() as u64;
        let reject = |reason| Verdict::Reject(Rejection { reason, detail: format!("{length} characters") });
        if length < self.settings.min_chars {
            return reject("too_short");
        }
        match self.settings.max_chars {
            Some(max) if length > max => reject("too_long"),
            _ => Verdict::Keep,
        }
    }
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n').flat_map(|line| line.strip_suffix('\r').unwrap_or(line).split('\r')).map(str::trim_end)
}

/// The first line keeps its indentation.
fn tidy(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut blank = false;
    for line in lines(text) {
        if line.is_empty() {
            blank = !out.is_empty();
            continue;
        }
        if !out.is_empty() {
            out.push_str(if blank { "\n\n" } else { "\n" });
        }
        out.push_str(line);
        blank = false;
    }
    out
}

/// Whether [`tidy`] would change nothing; most texts need no copy.
fn is_tidy(text: &str) -> bool {
    let ends = |text: &str| text.ends_with(char::is_whitespace) || text.starts_with('\n');
    !ends(text)
        && !text.contains('\r')
        && text.split('\n').all(|line| !line.ends_with(char::is_whitespace))
        && !text.contains("\n\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn whitespace() {
        assert_eq!(tidy("\n\n  a  \r\n\tb\t\n\n \n\nc\rd\n\n"), "  a\n\tb\n\nc\nd");
        assert_eq!(tidy(""), "");
        assert_eq!(tidy(" \n "), "");
    }

    #[test]
    fn lengths_are_characters_after_tidying() {
        let settings = CleanupSettings { whitespace: true, min_chars: 2, max_chars: Some(3) };
        let step = Cleanup::new(&settings);
        let reason = |text: &str| {
            let mut document = Document { text: text.to_owned(), ..Document::default() };
            match step.apply(&mut document, &mut Analysis::default()) {
                Verdict::Keep => "kept",
                Verdict::Reject(rejection) => rejection.reason,
            }
        };
        assert_eq!(
            [reason("é  \n\n"), reason("éé"), reason("ééé\n"), reason("éééé")],
            ["too_short", "kept", "kept", "too_long"]
        );
    }

    proptest! {
        #[test]
        fn tidy_text_is_tidy_and_the_shortcut_agrees(text in "[ab \t\r\n\u{A0}é]{0,40}") {
            let once = tidy(&text);
            prop_assert_eq!(tidy(&once), once.clone());
            prop_assert!(is_tidy(&once));
            if is_tidy(&text) {
                prop_assert_eq!(once, text);
            }
        }
    }
}
