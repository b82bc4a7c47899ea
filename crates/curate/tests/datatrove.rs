//! The filters decide as datatrove 0.10.1 does: `tests/golden/curate/filters.py` recorded its decisions on hard
//! documents, given its words and given ours.

#![allow(clippy::unwrap_used)]

use serde_json::Value;
use smolt_curate::analysis::{Analysis, Span};
use smolt_curate::steps::c4::{C4, C4Paragraphs, C4Settings};
use smolt_curate::steps::c4_badwords::{C4BadWords, C4BadWordsSettings};
use smolt_curate::steps::fineweb::{FineWeb, FineWebSettings};
use smolt_curate::steps::gopher_quality::{GopherQuality, GopherQualitySettings};
use smolt_curate::steps::gopher_repetition::{GopherRepetition, GopherRepetitionSettings};
use smolt_curate::{Step, Verdict};
use smolt_data::document::Document;
use smolt_run::recipe::{self, Recipe};

/// The settings that the script names, as a recipe has them.
const QUALITY_STRICT: &str = "
    min_doc_words = 5\nmax_doc_words = 200\nmin_avg_word_length = 4\nmax_avg_word_length = 6
    max_symbol_word_ratio = 0.02\nmax_bullet_lines_ratio = 0.2\nmax_ellipsis_lines_ratio = 0.1
    max_non_alpha_words_ratio = 0.9\nmin_stop_words = 3\nstop_words = ['a', 'is', 'It', 'in', 'for']";
const QUALITY_OFF: &str = "
    min_doc_words = 1\nmax_doc_words = 0\nmin_avg_word_length = 0\nmax_avg_word_length = 0\nmax_symbol_word_ratio = 0
    max_bullet_lines_ratio = 0\nmax_ellipsis_lines_ratio = 0\nmax_non_alpha_words_ratio = 0\nmin_stop_words = 0";
const REPETITION_GRAMS: &str = "
    dup_line_frac = 0\ndup_para_frac = 0\ndup_line_char_frac = 0\ndup_para_char_frac = 0
    top_n_grams = [{n = 1, fraction = 0.1}, {n = 3, fraction = 0.05}, {n = 2, fraction = 0.06}]
    dup_n_grams = [{n = 3, fraction = 0.2}, {n = 2, fraction = 0.3}, {n = 6, fraction = 0.05}]";
const C4_OFF: &str = "
    remove_citations = false\nfilter_no_terminal_punct = false\nmin_num_sentences = -1\nmin_words_per_line = -1
    max_word_length = -1\nfilter_lorem_ipsum = false\nfilter_javascript = false\nfilter_curly_bracket = false
    filter_policy = false";
const C4_SOME: &str = "filter_no_terminal_punct = false\nmin_num_sentences = 2\nmax_word_length = 20";
const FINEWEB_OTHER: &str = "
    line_punct_thr = 0.5\nline_punct_exclude_zero = true\nstop_chars = ['.', 'end', ';']\nshort_line_thr = 0.5
    short_line_length = 10\nchar_duplicates_ratio = 0.1\nnew_line_ratio = 0.1";

const BAD_WORDS: &str = "captain\nits\nstone of\nc++\nété\n中文\nlanguage.\nfox\né–é\n";

fn settings<T: Recipe>(toml: &str) -> T {
    recipe::Document::parse("settings.toml", toml.as_bytes()).unwrap().read().unwrap()
}

fn steps() -> Vec<(&'static str, Box<dyn Step>)> {
    let quality = |toml| Box::new(GopherQuality::new(settings::<GopherQualitySettings>(toml)));
    let repetition =
        |toml| Box::new(GopherRepetition::new(settings::<GopherRepetitionSettings>(toml)).unwrap());
    let c4 = |toml| Box::new(C4::new(settings::<C4Settings>(toml)).unwrap());
    let bad_words =
        |toml| Box::new(C4BadWords::new(&settings::<C4BadWordsSettings>(toml), BAD_WORDS).unwrap());
    let fineweb = |toml| Box::new(FineWeb::new(settings::<FineWebSettings>(toml)));
    vec![
        ("gopher_quality", quality("")),
        ("gopher_quality_strict", quality(QUALITY_STRICT)),
        ("gopher_quality_off", quality(QUALITY_OFF)),
        ("gopher_repetition", repetition("")),
        ("gopher_repetition_grams", repetition(REPETITION_GRAMS)),
        ("c4", c4("")),
        ("c4_sentences", c4("split_paragraph = false")),
        ("c4_off", c4(C4_OFF)),
        ("c4_some", c4(C4_SOME)),
        ("c4_paragraph", Box::new(C4Paragraphs)),
        ("c4_badwords", bad_words("words = 'list.txt'")),
        ("c4_badwords_within", bad_words("words = 'list.txt'\ndefault_language = 'zh'")),
        ("fineweb", fineweb("")),
        ("fineweb_other", fineweb(FINEWEB_OTHER)),
    ]
}

struct Golden {
    text: String,
    words: Vec<Span>,
    sentences: Vec<usize>,
    decisions: Value,
}

impl Golden {
    fn document(&self) -> Document {
        Document { text: self.text.clone(), ..Document::default() }
    }

    /// Whether datatrove's English words and ours are meant to differ: it leaves such scripts whole.
    fn is_unspaced(&self) -> bool {
        self.text.chars().any(|c| matches!(c, '\u{e00}'..='\u{e7f}' | '\u{3040}'..='\u{9fff}'))
    }
}

fn golden() -> Vec<Golden> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/curate/filters.jsonl");
    let lines = std::fs::read_to_string(path).unwrap();
    let numbers = |value: &Value| -> Vec<usize> {
        value.as_array().unwrap().iter().map(|number| number.as_u64().unwrap() as usize).collect()
    };
    let read = |line: &str| {
        let decisions: Value = serde_json::from_str(line).unwrap();
        let mut end = 0;
        let words = numbers(&decisions["words"])
            .chunks(2)
            .map(|pair| {
                let start = end + pair[0] as u32;
                end = start + pair[1] as u32;
                (start, end)
            })
            .collect();
        Golden {
            text: decisions["text"].as_str().unwrap().to_owned(),
            words,
            sentences: numbers(&decisions["sentences"]),
            decisions,
        }
    };
    lines.split_terminator('\n').map(read).collect()
}

fn decide(step: &dyn Step, golden: &Golden, analysis: &mut Analysis) -> Value {
    let mut document = golden.document();
    match step.apply(&mut document, analysis) {
        Verdict::Reject(rejection) => rejection.reason.into(),
        Verdict::Keep if document.text == golden.text => Value::Null,
        Verdict::Keep => serde_json::json!({ "text": document.text }),
    }
}

#[test]
fn the_same_decisions_given_datatroves_words() {
    for golden in golden() {
        for (name, step) in steps() {
            let Some(expected) = golden.decisions.get(name) else { continue };
            let mut analysis = match name {
                // These count sentences of other lines than those whose sentences were recorded.
                "c4_sentences" | "c4_some" => Analysis::default(),
                _ => Analysis::with_words(golden.words.clone(), golden.sentences.clone()),
            };
            if golden.is_unspaced() && matches!(name, "c4_sentences" | "c4_some") {
                continue;
            }
            assert_eq!(&decide(&*step, &golden, &mut analysis), expected, "{name}: {:?}", golden.text);
        }
    }
}

#[test]
fn the_same_decisions_given_our_words() {
    let mut analysis = Analysis::default();
    for golden in golden().iter().filter(|golden| !golden.is_unspaced()) {
        for (name, step) in steps() {
            let Some(expected) = golden.decisions.get(name) else { continue };
            analysis.text_changed();
            assert_eq!(&decide(&*step, golden, &mut analysis), expected, "{name}: {:?}", golden.text);
        }
    }
}

#[test]
fn the_same_words() {
    let mut analysis = Analysis::default();
    for golden in golden().iter().filter(|golden| !golden.is_unspaced()) {
        analysis.text_changed();
        let words = analysis.words(&golden.text);
        let differ = words.iter().zip(&golden.words).find(|(ours, theirs)| ours != theirs);
        let show = differ
            .map(|(ours, theirs)| [ours, theirs].map(|span| &golden.text[span.0 as usize..span.1 as usize]));
        assert!(words == golden.words, "{show:?} in {:?}", golden.text);
    }
}

#[test]
fn one_pass_decides_as_each_filter_alone() {
    // Whatever the analysis holds from another step or document must not show.
    let steps = steps();
    let mut shared = Analysis::default();
    for golden in golden() {
        shared.text_changed();
        let mut document = golden.document();
        for (name, step) in &steps {
            let mut alone = document.clone();
            let expected = step.apply(&mut alone, &mut Analysis::default());
            assert_eq!(step.apply(&mut document, &mut shared), expected, "{name}: {:?}", golden.text);
            assert_eq!(document, alone, "{name}");
        }
    }
}

#[test]
fn threads_decide_alike() {
    let all = golden();
    let run = || {
        let mut analysis = Analysis::default();
        all.iter()
            .flat_map(|golden| steps().into_iter().map(move |(_, step)| (golden, step)))
            .map(|(golden, step)| {
                analysis.text_changed();
                decide(&*step, golden, &mut analysis)
            })
            .collect::<Vec<_>>()
    };
    let first = run();
    std::thread::scope(|scope| {
        let others: Vec<_> = (0..3).map(|_| scope.spawn(run)).collect();
        for other in others {
            assert!(other.join().unwrap() == first);
        }
    });
}
