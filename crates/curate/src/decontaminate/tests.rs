use super::*;
use crate::engine::{Kind, Tally};

const QUESTION: &str =
    "Natalia sold clips to forty eight of her friends in April and then sold half as many in May";
const FILLER: &str =
    "This page has a lot to say about other things altogether and it goes on and on for quite a while.\n";

/// A step and what was counted of it, as a curation does.
struct Counted {
    step: Decontaminate,
    tally: RefCell<Tally>,
}

impl Counted {
    fn report(&self) -> DecontaminationReport {
        self.step.summary(&self.tally.borrow().steps.get(&0).cloned().unwrap_or_default())
    }
}

fn step(settings: DecontaminateSettings, lines: &[&str], keys: &[&str]) -> Counted {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("set.jsonl");
    std::fs::write(&path, lines.join("\n")).unwrap();
    let keys = keys.iter().map(|key| key.to_string()).collect();
    let benchmarks = [Benchmark { name: "gsm8k".into(), path, keys }];
    Counted { step: Decontaminate::new(settings, &benchmarks, 1 << 20).unwrap(), tally: RefCell::default() }
}

fn with(n: u32) -> DecontaminateSettings {
    DecontaminateSettings { n, ..DecontaminateSettings::default() }
}

fn apply(counted: &Counted, text: &str) -> (Verdict, String) {
    let mut document = Document { text: text.to_owned(), ..Document::default() };
    let mut analysis = Analysis::default();
    let verdict = counted.step.apply(&mut document, &mut analysis);
    let mut tally = counted.tally.borrow_mut();
    analysis.take_found().for_each(|item| tally.found(0, item));
    let groups = tally.groups(&document, Kind::Short);
    match &verdict {
        Verdict::Keep => tally.keep(0, text.len(), document.text.len(), text != document.text),
        Verdict::Reject(rejection) => tally.reject(0, text.len(), rejection, &groups),
    }
    drop(tally);
    (verdict, document.text)
}

fn rejects(step: &Counted, text: &str) -> bool {
    !apply(step, text).0.keeps()
}

fn item(question: &str, answer: &str) -> String {
    serde_json::json!({ "question": question, "answer": answer }).to_string()
}

#[test]
fn thirteen_words_are_found_and_twelve_are_not() {
    let step = step(
        with(13),
        &[
            "{\"question\": \"something that is in no document of this test, whatever it says, at all\"}",
            &item(QUESTION, "72"),
        ],
        &["question", "answer"],
    );
    let words: Vec<_> = QUESTION.split(' ').collect();
    for start in 0..words.len() - 13 {
        let text = |count| format!("{FILLER}xx {} yy\n{FILLER}", words[start..start + count].join(" "));
        assert!(rejects(&step, &text(13)), "{start}");
        assert!(!rejects(&step, &text(12)), "{start}");
    }
    let near = QUESTION.replace("clips", "cups").replace("friends", "fiends");
    assert!(!rejects(&step, &near), "no 13 words in a row are left");
    let (verdict, _) = apply(&step, QUESTION);
    let Verdict::Reject(Rejection { reason, detail }) = verdict else { panic!("kept") };
    assert_eq!((reason, detail.as_str()), ("contaminated", "gsm8k line 2: 7 hits"));
    let report = step.report();
    assert_eq!(report.benchmarks[0].found, [ItemReport { line: 2, documents: 7 }]);
    assert_eq!((report.rejected, report.benchmarks[0].items, report.benchmarks[0].ngrams), (7, 2, 10));
}

#[test]
fn eight_words_and_case_punctuation_spacing_do_not_count() {
    let step = step(with(8), &[&item(QUESTION, "72")], &["question", "answer"]);
    assert!(rejects(&step, "“NATALIA   sold—clips, to (forty-eight)\nof her!” And"));
    assert!(rejects(&step, "natalia's clips? Nátália sold clips to forty eight of her"));
    assert!(!rejects(&step, "Natalia sold clips to forty eight of his friends"));
}

#[test]
fn answers_and_what_spans_prompt_and_answer_count() {
    let lines = [&item(
        "How many clips are there in the two months",
        "There are seventy two clips in all of them, said Natalia",
    )[..]];
    let step = step(with(8), &lines, &["question", "answer"]);
    assert!(rejects(&step, "seventy two clips in all of them said"));
    assert!(rejects(&step, "in the two months there are seventy two"));
    assert!(!rejects(&step, "in the three months there are seventy two"));
}

#[test]
fn short_items_are_found_whole_or_counted() {
    let lines = [
        r#"{"q": "What is the capital city of France?", "choices": {"text": ["Paris", "Lyon"], "label": ["A", "B"]}}"#,
        r#"{"q": "2 + 2 =", "choices": {"text": [4, 5]}}"#,
        r#"{"q": "Name seven words which nobody says here", "choices": null}"#,
    ];
    let step = step(with(13), &lines, &["q", "choices.text"]);
    assert!(rejects(&step, "A quiz: what is the capital city of france? PARIS! Right."));
    assert!(!rejects(&step, "A quiz: what is the capital city of France? Marseille!"));
    assert!(!rejects(&step, "what is the capital city of france"));
    assert!(!rejects(&step, "2 + 2 = 4"));
    assert!(rejects(&step, "name seven words which nobody says here"));
    let report = step.report();
    assert_eq!((report.benchmarks[0].short, report.benchmarks[0].unchecked), (3, 2));
    assert_eq!(report.documents, 5);
}

#[test]
fn trimming_takes_the_lines_out() {
    let settings = DecontaminateSettings { action: Action::Trim, min_left_words: 20, ..with(8) };
    let step = step(settings, &[&item(QUESTION, "72")], &["question"]);
    let question = QUESTION.replace("of her friends", "of her\nfriends");
    let (verdict, text) = apply(&step, &format!("{FILLER}Q: {question}. A: 72\n{FILLER}end"));
    assert_eq!((verdict, text), (Verdict::Keep, format!("{FILLER}{FILLER}end")));
    let (verdict, text) = apply(&step, &format!("Q: {question}. A: 72\nshort"));
    assert!(!verdict.keeps() && text.contains("Natalia"), "the side output shows what was found");
    assert_eq!((step.report().trimmed, step.report().rejected), (1, 1));
    assert_eq!(apply(&step, FILLER), (Verdict::Keep, FILLER.to_owned()));
}

#[test]
fn chinese_is_compared_by_character() {
    let step = step(with(13), &[r#"{"q": "小明有五个苹果，他又买了三个苹果。"}"#], &["q"]);
    assert!(rejects(&step, "题目：小明有五个苹果他又买了三个苹果"));
    assert!(!rejects(&step, "题目：小红有五个苹果"));
}

#[test]
fn wrong_keys_settings_and_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("set.jsonl");
    let error = |content: &str, keys: &[&str], n, memory| {
        std::fs::write(&path, content).unwrap();
        let keys = keys.iter().map(|key| key.to_string()).collect();
        let benchmark = Benchmark { name: "set".into(), path: path.clone(), keys };
        Decontaminate::new(with(n), &[benchmark], memory)
            .err()
            .map_or(String::new(), |error| error.to_string())
    };
    let line = item(QUESTION, "72");
    assert_eq!(error(&line, &["question"], 13, 1 << 20), "");
    assert!(error(&line, &["prompt"], 13, 1 << 20).contains("set.jsonl:1: no text under \"prompt\""));
    assert!(error(&line, &["question", "gold"], 13, 1 << 20).contains("\"gold\""));
    assert!(error(&line, &[], 13, 1 << 20).contains("no keys"));
    assert!(error(&line, &["question"], 1, 1 << 20).contains("n = 1"));
    assert!(error(&line, &["question"], 13, 100).contains("memory_mib"));
    assert!(error("[1]", &["question"], 13, 1 << 20).contains("set.jsonl:1"));
    assert!(error("{\"question\"", &["question"], 13, 1 << 20).contains("set.jsonl:1"));
}

#[test]
fn reports_of_processes_add_up() {
    let step = step(with(8), &[&item(QUESTION, "72")], &["question"]);
    assert!(rejects(&step, QUESTION));
    let half = step.tally.borrow().clone();
    step.tally.borrow_mut().join(half);
    let sum = step.report();
    assert_eq!((sum.documents, sum.rejected, sum.benchmarks[0].found[0].documents), (2, 2, 2));
}
