use super::*;
use proptest::prelude::*;

fn words(text: &str) -> Vec<&str> {
    Analysis::default().words(text).iter().map(|&span| text_of(text, span)).collect()
}

#[track_caller]
fn check(text: &str, expected: &str) {
    assert_eq!(words(text).join(" "), expected);
}

#[test]
fn marks_are_cut_off_both_ends() {
    check("(Hello, \"world\"!)", "( Hello , \" world \" ! )");
    check("def f(x): return 5.", "def f(x ): return 5 .");
    check("wait... what…", "wait ... what …");
    check("$10 10$ US$5 5% 10km 7km/h 3D +5 C++ 4K.", "$ 10 10 $ US$ 5 5 % 10 km 7 km/h 3D +5 C++ 4K.");
}

#[test]
fn marks_part_the_middle() {
    check(
        "well-known a--b either/or x=y 1-2 3+4 end.Next a,b",
        "well - known a -- b either / or x = y 1 - 2 3 + 4 end . Next a , b",
    );
    check("usr/share/doc.txt https://a.org/b-c me@a.org", "usr / share / doc.txt https://a.org/b-c me@a.org");
    check("a★b é–é", "a ★ b é – é");
}

#[test]
fn contractions_abbreviations_and_emoticons() {
    check("don't it's I'll can't cannot we’re y'all", "do n't it 's I 'll ca n't can not we ’re y' all");
    check("Mr. Smith, e.g., at 8am in the U.S. x-a.", "Mr. Smith , e.g. , at 8 am in the U.S. x - a.");
    check("foo:) :-( (x): John's", "foo :) :-( ( x ): John 's");
}

#[test]
fn scripts_without_spaces_are_cut_into_words() {
    assert_eq!(words("我喜欢读书。")[..2], ["我", "喜欢"]);
    assert_eq!(words("ภาษาไทยง่าย"), ["ภาษา", "ไทย", "ง่าย"]);
    assert!(words("これは日本語の文章です。").len() > 4);
    // Georgian's full stop is not cut off, as in spaCy.
    check("შენობის. naïve Привет, мир!", "შენობის. naïve Привет , мир !");
}

#[test]
fn sentences_end_with_a_mark_of_their_own() {
    let mut analysis = Analysis::default();
    assert_eq!(analysis.count_sentences("One. Two! Three?\" Four", usize::MAX), 4);
    assert_eq!(analysis.count_sentences("Mr. Smith came at 5 p.m. today", usize::MAX), 1);
    assert_eq!(analysis.count_sentences("", usize::MAX), 1);
    assert_eq!(analysis.count_sentences("One. Two. Three. Four.", 2), 2);
    assert_eq!(
        analysis.sentences("One.  Two! \"Three\"?\nFour"),
        ["One.", "  Two! \"", "Three\"?", "\nFour"]
    );
}

#[test]
fn what_was_found_is_forgotten_when_the_text_changes() {
    let mut analysis = Analysis::with_words(vec![(0, 3)], vec![7]);
    assert_eq!(analysis.words("a b c").len(), 1);
    assert_eq!(analysis.count_sentences("x", usize::MAX), 7);
    analysis.text_changed();
    assert_eq!(analysis.words("a b c").len(), 3);
    assert_eq!(analysis.count_sentences("x", usize::MAX), 1);
}

proptest! {
    #[test]
    fn words_and_white_space_make_up_any_text(text in "\\PC{0,60}|[a-z0-9 .,:;()'\"\u{2019}\u{2026}/@+*$%=<>_~^-]{0,80}|[ \t\n\u{a0}\u{3000}a.字ก]{0,40}") {
        let mut end = 0;
        for span in Analysis::default().words(&text).to_vec() {
            prop_assert!(text[end..span.0 as usize].chars().all(python::is_space));
            prop_assert!(span.0 < span.1);
            prop_assert!(text.get(span.0 as usize..span.1 as usize).is_some());
            end = span.1 as usize;
        }
        prop_assert!(text[end..].chars().all(python::is_space));
        let mut analysis = Analysis::default();
        let sentences = analysis.sentences(&text);
        prop_assert_eq!(analysis.count_sentences(&text, usize::MAX), sentences.len());
        prop_assert_eq!(sentences.concat(), text);
    }
}
