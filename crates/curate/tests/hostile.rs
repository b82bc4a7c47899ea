//! No text stops a filter: any UTF-8, and long runs of what the rules look for.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use smolt_curate::analysis::Analysis;
use smolt_curate::steps::c4::{C4, C4Paragraphs, C4Settings};
use smolt_curate::steps::c4_badwords::{C4BadWords, C4BadWordsSettings};
use smolt_curate::steps::code::{Code, CodeSettings};
use smolt_curate::steps::domains::{Domains, DomainsSettings};
use smolt_curate::steps::encoding::{Encoding, EncodingSettings};
use smolt_curate::steps::fineweb::FineWeb;
use smolt_curate::steps::gopher_quality::{GopherQuality, GopherQualitySettings};
use smolt_curate::steps::gopher_repetition::GopherRepetition;
use smolt_curate::steps::pii::{Pii, PiiSettings};
use smolt_curate::steps::url::Url;
use smolt_curate::{Step, Verdict};
use smolt_data::document::Document;
use smolt_run::recipe::defaults;

fn steps() -> Vec<Box<dyn Step>> {
    let lenient = GopherQualitySettings { min_doc_words: 1, max_doc_words: 0, ..defaults().unwrap() };
    let by_sentence = C4Settings {
        split_paragraph: false,
        filter_no_terminal_punct: false,
        min_num_sentences: 1,
        ..defaults().unwrap()
    };
    let list = C4BadWordsSettings {
        words: String::new(),
        default_language: "en".to_owned(),
        keep_fraction: 0.5,
        seed: 0,
    };
    let all = |drop: &str| DomainsSettings { drop: vec![drop.to_owned()], ..defaults().unwrap() };
    let masks = PiiSettings {
        ibans: true,
        cards: true,
        phones: true,
        public_ips_only: false,
        email_replacements: Vec::new(),
        ..defaults().unwrap()
    };
    let lenient_code = CodeSettings { max_line: u64::MAX, max_mean_line: 1e9, ..defaults().unwrap() };
    let repairs =
        EncodingSettings { quotes: true, ligatures: true, line_breaks: true, ..defaults().unwrap() };
    vec![
        Box::new(Url::new(&defaults().unwrap()).unwrap()),
        Box::new(Domains::new(&all("example.org")).unwrap()),
        Box::new(Code::new(&lenient_code)),
        Box::new(Pii::new(&masks)),
        Box::new(Encoding::new(&repairs)),
        #[cfg(feature = "html")]
        Box::new(smolt_curate::steps::html_text::HtmlText::new(&defaults().unwrap())),
        Box::new(GopherQuality::new(defaults().unwrap())),
        Box::new(GopherQuality::new(lenient)),
        Box::new(GopherRepetition::new(defaults().unwrap()).unwrap()),
        Box::new(C4Paragraphs),
        Box::new(C4BadWords::new(&list, "a\nbad\n").unwrap()),
        Box::new(FineWeb::new(defaults().unwrap())),
        Box::new(C4::new(by_sentence).unwrap()),
        Box::new(C4::new(defaults().unwrap()).unwrap()),
    ]
}

fn run(text: &str, analysis: &mut Analysis) -> Vec<Verdict> {
    analysis.text_changed();
    let mut verdicts = Vec::new();
    for step in steps() {
        analysis.text_changed();
        let (text, url) = (text.to_owned(), Some(text.to_owned()));
        verdicts.push(step.apply(&mut Document { text, url, ..Document::default() }, analysis));
    }
    verdicts
}

/// Nothing is timed. But a rule whose work grows with the square of a run would take hours over these instead of
/// seconds, so that nobody could miss it.
#[test]
fn long_runs_come_to_an_end() {
    let mut analysis = Analysis::default();
    for piece in [
        "@",
        ".",
        "a.",
        "a@",
        "a,b",
        "-",
        "a-",
        "(",
        ")",
        ":)",
        "):",
        "…",
        "[",
        "[1",
        "[edit]",
        "{",
        "'",
        "'s",
        "°F.",
        "http://",
        "a.b@c/",
        "字",
        "ก",
        "\u{301}",
        "é",
        "\u{a0}",
        " ",
        "\n",
        "\r\n",
        "\x1c",
        "a ",
        "a\n",
        "1",
        "1km",
        "\0",
        "😀",
        "<",
        "<a>",
        "<b>",
        "</b>",
        "<div>",
        "<!--",
        "<!-->",
        "<![CDATA[",
        "<svg>",
        "<script>",
        "</a",
        "<a b ",
        "<a b=\"",
        "4",
        "4 ",
        "4-",
        "DE89",
        "DE89 ",
        "+1",
        "+1 ",
        "1.1.",
        "Ã",
        "Ã©",
        "\x1b[",
        "\\u00",
        "QUJD",
        "0x1,",
    ] {
        for end in ["", "a/b"] {
            let text = piece.repeat(100_000) + end;
            run(&text, &mut analysis);
            run(&(text + "\nAnd that is it."), &mut analysis);
        }
    }
}

#[test]
fn words_from_outside_that_do_not_fit_are_empty() {
    for words in [vec![(0, 99)], vec![(1, 2)], vec![(3, 0)], vec![(0, 4); 40], vec![(u32::MAX, u32::MAX)]] {
        for step in steps() {
            let mut document = Document { text: "éé\nab".to_owned(), ..Document::default() };
            step.apply(&mut document, &mut Analysis::with_words(words.clone(), Vec::new()));
        }
    }
}

proptest! {
    #[test]
    fn any_text(
        text in "(\\PC|[\\x00-\\x20\u{85}\u{2028}]){0,60}|([a-z]{1,3}[ .,!?\n-]{1,2}|…|\\[1\\]|字){0,80}",
        other in "[a-c .\n]{0,30}",
    ) {
        let mut used = Analysis::default();
        run(&other, &mut used);
        prop_assert_eq!(run(&text, &mut used), run(&text, &mut Analysis::default()));
    }
}
