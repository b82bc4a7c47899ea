//! No text stops a filter: any UTF-8, and long runs of what the rules look for, which take time in proportion.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use smolt_curate::analysis::Analysis;
use smolt_curate::steps::c4::{C4, C4Paragraphs, C4Settings};
use smolt_curate::steps::c4_badwords::{C4BadWords, C4BadWordsSettings};
use smolt_curate::steps::fineweb::FineWeb;
use smolt_curate::steps::gopher_quality::{GopherQuality, GopherQualitySettings};
use smolt_curate::steps::gopher_repetition::GopherRepetition;
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
    vec![
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
    let mut document = Document { text: text.to_owned(), ..Document::default() };
    steps().iter().map(|step| step.apply(&mut document, analysis)).collect()
}

#[test]
fn long_runs_take_time_in_proportion() {
    let mut analysis = Analysis::default();
    for piece in [
        "@", ".", "a.", "a@", "a,b", "-", "a-", "(", ")", ":)", "):", "…", "[", "[1", "[edit]", "{", "'",
        "'s", "°F.", "http://", "a.b@c/", "字", "ก", "\u{301}", "é", "\u{a0}", " ", "\n", "\r\n", "\x1c",
        "a ", "a\n", "1", "1km", "\0", "😀",
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
