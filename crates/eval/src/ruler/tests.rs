//! What every task promises: it fits, it is full, it holds its answers, and it is the same each time.

use proptest::prelude::*;

use super::*;

/// Sentences enough that a haystack does not come round at once.
fn text() -> String {
    let nouns = draw::words(draw::NOUNS);
    let verbs = draw::words(draw::VERBS);
    (0..2_000)
        .map(|i| {
            let noun = |at: usize| nouns[(i * 7 + at * 13) % nouns.len()];
            format!(
                "The {} may {} the {}, as Dr. {} said. ",
                noun(0),
                verbs[i % verbs.len()],
                noun(1),
                noun(2)
            )
        })
        .collect()
}

/// About as ordinary tokenizers count: four letters, a digit or a mark a token.
fn count(text: &str) -> usize {
    let mut tokens = 0;
    let mut letters = 0;
    for c in text.chars() {
        if c.is_alphabetic() {
            letters += 1;
            tokens += usize::from(letters % 4 == 1);
        } else {
            letters = 0;
            tokens += usize::from(c != ' ');
        }
    }
    tokens
}

const MADE: [Kind; 11] = [
    Kind::NiahSingle1,
    Kind::NiahSingle2,
    Kind::NiahSingle3,
    Kind::NiahMultikey1,
    Kind::NiahMultikey2,
    Kind::NiahMultikey3,
    Kind::NiahMultivalue,
    Kind::NiahMultiquery,
    Kind::Vt,
    Kind::Cwe,
    Kind::Fwe,
];

fn generator(kind: Kind, length: usize, text: &str) -> Result<Generator<'_>, Error> {
    Generator::new(kind, 7, Room::counted(length, count), text, None)
}

fn whole(item: &Item) -> String {
    format!("{}{}", item.prompt, item.answer_prefix)
}

#[test]
fn items_fit_and_one_size_more_does_not() {
    let text = text();
    for kind in MADE {
        for length in [512, 1024, 4096, 10_000] {
            let generator = generator(kind, length, &text).unwrap();
            for index in 0..3 {
                let item = generator.item(index).unwrap();
                let taken = count(&whole(&item)) + item.max_tokens;
                assert!(taken <= length, "{}: {taken}", item.id);
                assert!(taken * 100 >= length * 70, "{} is not full: {taken}", item.id);
                let (_, draft) = generator.drafts(index);
                let longer = draft(generator.size(index).unwrap() + 1);
                let longer = generator.room.read(&longer) + item.max_tokens;
                // Coded words come in steps, where more of all of them fit at once.
                assert!(longer > length || kind == Kind::Fwe, "{}: {longer} would fit too", item.id);
                assert!(length < fit::FULL || item.max_tokens == kind.max_tokens());
            }
        }
    }
}

#[test]
fn the_shortest_length_holds_what_can_be_held() {
    let text = text();
    for kind in MADE {
        match generator(kind, 256, &text) {
            Ok(generator) => {
                let item = generator.item(0).unwrap();
                assert!(count(&whole(&item)) + item.max_tokens <= 256, "{}", item.id);
            }
            Err(error) => {
                assert_eq!(kind, Kind::NiahMultikey3, "{error}");
                let message = error.to_string();
                assert!(message.contains("niah_multikey_3 does not fit 256 tokens"), "{message}");
            }
        }
        for length in [0, 1, 60] {
            assert!(matches!(generator(kind, length, &text), Err(Error::TooShort { .. })), "{kind} {length}");
        }
    }
}

#[test]
fn the_error_names_a_length_that_works() {
    let text = text();
    for kind in MADE {
        let Err(Error::TooShort { needed, .. }) = generator(kind, 100, &text) else { panic!("{kind}") };
        assert!(generator(kind, needed, &text).is_ok(), "{kind} at {needed}");
    }
}

#[test]
fn answers_are_in_the_prompt_and_not_in_the_prefix() {
    let text = text();
    for kind in MADE {
        let generator = generator(kind, 2048, &text).unwrap();
        for index in 0..5 {
            let item = generator.item(index).unwrap();
            assert!(item.answers.iter().all(|answer| item.prompt.contains(answer.as_str())), "{}", item.id);
            assert_eq!(kind.score(&item.prompt, &item.answers), 1.0);
            assert_eq!(kind.score(&item.answer_prefix, &item.answers), 0.0, "{}", item.id);
            assert!(item.answer_prefix.starts_with(' '));
            let expected = match kind {
                Kind::NiahMultivalue | Kind::NiahMultiquery => 4,
                Kind::Vt => 5,
                Kind::Cwe => 10,
                Kind::Fwe => 3,
                _ => 1,
            };
            assert_eq!(item.answers.len(), expected, "{}", item.id);
        }
    }
}

#[test]
fn items_are_functions_of_seed_and_index() {
    let text = text();
    for kind in MADE {
        let made = generator(kind, 1024, &text).unwrap();
        let again = generator(kind, 1024, &text).unwrap();
        let other = Generator::new(kind, 8, Room::counted(1024, count), &text, None).unwrap();
        let last = again.item(4).unwrap();
        assert_eq!(made.item(4).unwrap(), last, "in whatever order they are asked for");
        assert_ne!(made.item(3).unwrap().answers, last.answers);
        assert_ne!(other.item(4).unwrap().answers, last.answers);
        let longer = generator(kind, 1500, &text).unwrap().item(4).unwrap();
        assert!(longer.answers.len() >= last.answers.len());
        if kind.is_needle() {
            assert_eq!(longer.answers, last.answers, "needles are the same at every length");
        }
    }
}

#[test]
fn a_needle_stands_where_it_is_put() {
    let text = text();
    for (depth, least, most) in [(0.0, 0.0, 0.1), (0.5, 0.4, 0.6), (1.0, 0.9, 1.0)] {
        let room = Room::counted(4096, count);
        let generator = Generator::new(Kind::NiahSingle2, 7, room, &text, Some(depth)).unwrap();
        let item = generator.item(0).unwrap();
        let at = item.prompt.find(&item.answers[0]).unwrap() as f64 / item.prompt.len() as f64;
        assert!((least..=most).contains(&at) && item.depth == Some(depth), "{depth}: {at}");
    }
    let several = generator(Kind::NiahMultivalue, 1024, &text).unwrap().item(0).unwrap();
    assert_eq!(several.depth, None);
}

#[test]
fn common_words_are_the_most_common() {
    let text = text();
    for length in [256, 1024, 4096] {
        let generator = generator(Kind::Cwe, length, &text).unwrap();
        let item = generator.item(1).unwrap();
        let list = item.prompt.rsplit("most often.\n").next().unwrap();
        let list = list.split("\nQuestion").next().unwrap();
        let words: Vec<&str> = list.split(' ').skip(1).step_by(2).collect();
        let times = |word: &str| words.iter().filter(|w| **w == word).count();
        let least = item.answers.iter().map(|word| times(word)).min().unwrap();
        let others = words.iter().filter(|word| !item.answers.iter().any(|a| a == *word));
        let most = others.map(|word| times(word)).max().unwrap();
        assert_eq!((least, most), if length < 4096 { (6, 1) } else { (30, 3) }, "{length}");
        assert!(list.starts_with("1. "));
    }
}

#[test]
fn a_chain_is_in_order() {
    let text = text();
    let item = generator(Kind::Vt, 4096, &text).unwrap().item(0).unwrap();
    let question = item.prompt.rsplit("Follow the chain").next().unwrap();
    let places: Vec<usize> =
        item.answers.iter().map(|variable| question.find(&format!("VAR {variable} =")).unwrap()).collect();
    assert!(places.windows(2).all(|pair| pair[0] < pair[1]), "{places:?}");
    assert_eq!(item.prompt.matches("Follow the chain").count(), 2, "a solved example comes first");
    let short = generator(Kind::Vt, 512, &text).unwrap().item(0).unwrap();
    assert_eq!(short.prompt.matches("Follow the chain").count(), 1);
}

#[test]
fn scores_are_shares_or_any() {
    let answers = ["Alpha".to_owned(), "BETA".to_owned()];
    assert_eq!(Kind::Vt.score("alpha, gamma", &answers), 0.5);
    assert_eq!(Kind::Qa1.score("the beta.", &answers), 1.0);
    assert_eq!(Kind::Qa2.score("gamma", &answers), 0.0);
    assert_eq!(Kind::Vt.score("x", &[]), 0.0);
}

#[test]
fn names_are_read_and_written_the_same() {
    for kind in Kind::ALL {
        assert_eq!(kind.name().parse::<Kind>().unwrap(), kind);
        assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{kind}\""));
    }
    assert!("niah".parse::<Kind>().unwrap_err().to_string().contains("`niah`"));
}

#[test]
fn what_cannot_be_made_is_said() {
    let text = text();
    assert!(matches!(generator(Kind::Qa1, 4096, &text), Err(Error::NeedsQuestions(Kind::Qa1))));
    assert!(matches!(generator(Kind::NiahSingle2, 4096, " \n"), Err(Error::EmptyHaystack)));
    assert!(generator(Kind::NiahSingle1, 4096, "").is_ok(), "noise needs no text");
    assert!(matches!(generator(Kind::Cwe, 200_000, ""), Err(Error::FewWords { .. })));
    assert!(matches!(checked(MAX_LENGTH + 1), Err(Error::TooLong(_))));
}

#[test]
fn questions_that_do_not_fit_are_passed_over() {
    let long = "A long word follows another. ".repeat(200);
    let squad = format!(
        r#"{{"data":[{{"paragraphs":[
            {{"context":"{long}","qas":[{{"question":"Long?","answers":[{{"text":"another"}}]}}]}},
            {{"context":"The mill is old.","qas":[{{"question":"How?","answers":[{{"text":"old"}}]}}]}}]}}]}}"#
    );
    let questions = Questions::parse(squad.as_bytes()).unwrap();
    let items = |length, count| {
        let room = Room::counted(length, self::count);
        asked(&Generator::of_questions(&questions, 1, room), questions.len(), count)
    };
    let short = items(256, 10).unwrap();
    assert_eq!(short.len(), 1);
    assert!(short[0].answers == ["old"] && short[0].prompt.contains("Question: How?"));
    assert_eq!(items(4096, 10).unwrap().len(), 2);
    assert_eq!(items(4096, 1).unwrap().len(), 1);
    assert!(matches!(items(20, 1), Err(Error::TooShort { kind: Kind::Qa1, .. })));
}

#[test]
fn a_real_tokenizer_counts() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/text/tokenizer");
    let tokenizer = Tokenizer::load(&folder.join("tokenizer.json")).unwrap();
    let text = text();
    let measure = Measure { tokenizer: &tokenizer, whole: None };
    for kind in MADE {
        let items = generate(kind, 4096, 2, 1, measure, &text).unwrap();
        for item in items {
            let taken = tokenizer.encode(&whole(&item), true).len() + item.max_tokens;
            assert!((2000..=4096).contains(&taken), "{}: {taken}", item.id);
        }
    }
    let grid = generate_at_depth(0.25, 2048, 1, 1, measure, &text).unwrap();
    assert_eq!(grid[0].depth, Some(0.25));
    // Through a template that takes 300 tokens, the kind of task and its allowance stay those of the length.
    let whole = |prompt: &str, prefix: &str| tokenizer.encode(&format!("{prompt}{prefix}"), true).len() + 300;
    let through = Measure { whole: Some(&whole), ..measure };
    let item = generate(Kind::NiahMultikey1, 4096, 1, 1, through, &text).unwrap().remove(0);
    let taken = whole(&item.prompt, &item.answer_prefix) + item.max_tokens;
    assert!((4000..=4096).contains(&taken) && item.max_tokens == 128, "{taken}");
}

proptest! {
    #[test]
    fn any_text_gives_items_that_fit(text in "\\PC{0,200}", length in 0usize..1500, kind in 0..MADE.len()) {
        if let Ok(generator) = generator(MADE[kind], length, &text) {
            let item = generator.item(1);
            if let Ok(item) = item {
                prop_assert!(count(&whole(&item)) + item.max_tokens <= length);
            }
        }
    }
}
