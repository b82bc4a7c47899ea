//! A model behind a server: its scores against arithmetic, and what happens when the server misbehaves.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod toy_server;

use proptest::prelude::*;
use serde_json::json;
use smolt_eval::model::server::{ServerModel, Settings};
use smolt_eval::model::{Finish, Model, Prompt, Request, Writing};
use smolt_store::{Environment, Store};
use smolt_text::template::Message;
use std::time::Duration;
use toy_server::{Fault, Kind, Toy, ln_after};

fn store() -> Store {
    let settings = smolt_store::Settings {
        attempts: 4,
        first_wait: Duration::from_millis(1),
        longest_wait: Duration::from_millis(4),
        read_timeout: Duration::from_secs(20),
        ..smolt_store::Settings::default()
    };
    Store::new(settings, Environment::default())
}

fn try_connect(toy: &Toy, model: Option<&str>, concurrency: usize) -> Result<ServerModel, String> {
    let settings = Settings {
        url: format!("{}/v1", toy.url),
        model: model.map(str::to_owned),
        token: Some("secret".into()),
        concurrency,
    };
    ServerModel::connect(store(), settings).map_err(|error| error.to_string())
}

fn connect(toy: &Toy) -> ServerModel {
    try_connect(toy, None, 4).unwrap()
}

fn request(prompt: &str, continuations: &[&str]) -> Request {
    Request {
        prompt: Prompt::Text(prompt.into()),
        continuations: continuations.iter().map(ToString::to_string).collect(),
    }
}

fn writing() -> Writing {
    Writing {
        max_tokens: 5,
        stop: Vec::new(),
        stop_after_reasoning: false,
        temperature: 0.0,
        top_p: 1.0,
        samples: 1,
        seed: 7,
    }
}

/// Prompt and continuation as they are divided: white space before the border belongs to what follows.
fn divided<'p>(prompt: &'p str, continuation: &str) -> (&'p str, String) {
    let stem = prompt.trim_end();
    (stem, format!("{}{continuation}", &prompt[stem.len()..]))
}

#[test]
fn likelihoods_are_those_of_the_model() {
    let questions = [
        request("The sky is", &[" blue", " green and tall", " 水"]),
        request("水は\n", &["a", "\u{1f600} b"]),
        request("Answer: ", &["A", "B"]),
    ];
    for kind in [Kind::Bytes, Kind::Bos, Kind::NeedsOneToken, Kind::ManyForNone, Kind::Pairs] {
        let toy = Toy::start(kind);
        let mut done = Vec::new();
        let scored = connect(&toy).score(&questions, &mut |n, _| done.push(n)).unwrap();
        for (question, scored) in questions.iter().zip(&scored) {
            let Prompt::Text(prompt) = &question.prompt else { panic!() };
            for (text, got) in question.continuations.iter().zip(&scored.continuations) {
                let (stem, rest) = divided(prompt, text);
                let (want, greedy) = ln_after(stem, &rest);
                assert!(
                    (got.log_likelihood - want).abs() < 1e-9,
                    "{kind:?} {prompt:?} {text:?} {got:?} {want}"
                );
                assert_eq!(got.greedy, greedy, "{kind:?} {text:?}");
                assert!(got.tokens == rest.len() || kind == Kind::Pairs, "{kind:?} {text:?}");
            }
        }
        assert_eq!(done.last(), Some(&3), "{kind:?}");
        assert!(toy.tokens_seen().iter().all(|token| token == "Bearer secret"));
    }
}

#[test]
fn a_server_that_does_not_say_where_tokens_begin_scores_and_reads() {
    let mut model = connect(&Toy::start(Kind::NoOffsets));
    let scored = model.score(&[request("The sky is", &[" blue"])], &mut |_, _| {}).unwrap();
    let got = scored[0].continuations[0].log_likelihood;
    assert!((got - ln_after("The sky is", " blue").0).abs() < 1e-9);
    let read = model.read(&["the sky".into()], &mut |_, _| {}).unwrap()[0];
    assert_eq!((read.tokens, read.bytes), (6, 6));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn any_text_is_scored_as_arithmetic_has_it(
        prompt in "[a-z水é\u{1f600} \n]{1,12}",
        text in "[a-z水é ]{1,6}",
    ) {
        prop_assume!(!prompt.trim_end().is_empty());
        let toy = Toy::start(Kind::Bytes);
        let scored = connect(&toy).score(&[request(&prompt, &[&text])], &mut |_, _| {}).unwrap();
        let (stem, rest) = divided(&prompt, &text);
        let (want, _) = ln_after(stem, &rest);
        prop_assert!((scored[0].continuations[0].log_likelihood - want).abs() < 1e-9);
    }
}

#[test]
fn whole_texts_count_what_is_predicted() {
    let text = "the sky, 水".to_owned();
    let read =
        |kind| connect(&Toy::start(kind)).read(std::slice::from_ref(&text), &mut |_, _| {}).unwrap()[0];
    let without = read(Kind::Bytes);
    assert_eq!((without.tokens, without.bytes), (text.len() - 1, text.len() - 1));
    assert!((without.log_likelihood - ln_after("t", "he sky, 水").0).abs() < 1e-9);
    let with = read(Kind::Bos);
    assert_eq!((with.tokens, with.bytes), (text.len(), text.len()));
    assert!((with.log_likelihood - ln_after("", &text).0).abs() < 1e-9);
}

#[test]
fn texts_and_turns_are_written() {
    let toy = Toy::start(Kind::Bytes);
    let mut model = connect(&toy);
    let prompts = [Prompt::Text("ab".into()), Prompt::Chat(vec![Message::new("user", "ab")])];
    let answers = model.write(&prompts, &writing(), &mut |_, _| {}).unwrap();
    assert_eq!(answers[0][0], answers[1][0], "the toy's template is the text itself");
    assert_eq!((answers[0][0].finish, answers[0][0].tokens), (Finish::Length, 5));
    let text = answers[0][0].text.clone();
    let third = text[2..3].to_owned();
    let stop = ["1", "2", "3", "4", third.as_str()].map(String::from).to_vec();
    let cut = model.write(&prompts[..1], &Writing { stop, ..writing() }, &mut |_, _| {}).unwrap();
    assert_eq!((cut[0][0].text.as_str(), cut[0][0].finish), (&text[..2], Finish::StopString));
    let several = Writing { samples: 5, temperature: 1.0, ..writing() };
    let answers = model.write(&prompts, &several, &mut |_, _| {}).unwrap();
    assert!(answers.iter().all(|answers| answers.len() == 5), "the toy gives two at once");
    assert_eq!(answers, model.write(&prompts, &several, &mut |_, _| {}).unwrap());
    let answers =
        connect(&Toy::start(Kind::LlamaCpp)).write(&prompts[..1], &several, &mut |_, _| {}).unwrap();
    assert_eq!(answers[0].len(), 5, "one at a time, where the server gives no more");
    let greedy = model.write(&prompts[..1], &Writing { samples: 3, ..writing() }, &mut |_, _| {}).unwrap();
    assert!(greedy[0].len() == 3 && greedy[0][0] == greedy[0][2]);
}

#[test]
fn how_likely_an_answer_was_is_told_where_the_server_tells() {
    let toy = Toy::serve(|path, asked| {
        let usage = json!({"completion_tokens": 2});
        let content = json!([{"token": "a", "logprob": -1.5}, {"token": "b", "logprob": -0.25}]);
        match (path, &asked["logprobs"]) {
            ("/v1/models", _) => (200, json!({"data": [{"id": "toy"}]})),
            ("/v1/chat/completions", logs) => {
                assert_eq!(*logs, true);
                let logs = json!({"content": content});
                let choice = json!({"message": {"content": "ab"}, "finish_reason": "stop", "logprobs": logs});
                (200, json!({"choices": [choice], "usage": usage}))
            }
            _ => {
                let logs = json!({"tokens": ["a", "b"], "token_logprobs": [-1.0, -2.0]});
                let choice = json!({"text": "ab", "finish_reason": "stop", "logprobs": logs});
                (200, json!({"choices": [choice], "usage": usage}))
            }
        }
    });
    let prompts = [Prompt::Text("x".into()), Prompt::Chat(vec![Message::new("user", "x")])];
    let answers = connect(&toy).write(&prompts, &writing(), &mut |_, _| {}).unwrap();
    let told: Vec<_> = answers.iter().map(|answers| answers[0].log_likelihood).collect();
    assert_eq!(told, [Some(-3.0), Some(-1.75)]);
    // One that refuses to tell is asked without, once for all.
    let refusing = Toy::serve(|path, asked| match path {
        "/v1/models" => (200, json!({"data": [{"id": "toy"}]})),
        _ if !asked["logprobs"].is_null() => {
            (400, json!({"error": {"message": "logprobs are not supported"}}))
        }
        _ => {
            let choice = json!({"text": "ab", "finish_reason": "stop", "logprobs": ["odd"]});
            (200, json!({"choices": [choice], "usage": {"completion_tokens": 2}}))
        }
    });
    let mut model = try_connect(&refusing, None, 1).unwrap();
    let answers = model.write(&[prompts[0].clone(), prompts[0].clone()], &writing(), &mut |_, _| {}).unwrap();
    assert!(answers.iter().all(|answers| answers[0].log_likelihood.is_none()));
    assert_eq!(refusing.tokens_seen().len(), 1 + 2 + 1);
}

#[test]
fn reasoning_that_the_server_cut_off_stands_before_its_answer() {
    let toy = Toy::start(Kind::Reasons);
    let chat = [Prompt::Chat(vec![Message::new("user", "ab")])];
    let answer = connect(&toy).write(&chat, &writing(), &mut |_, _| {}).unwrap();
    assert_eq!(answer[0][0].text, "<think>hm</think>done");
    assert_eq!(answer[0][0].finish, Finish::EndToken);
}

#[test]
fn stop_strings_end_answers_and_no_reasoning() {
    let toy = Toy::serve(|path, asked| match path {
        "/v1/models" => (200, json!({"data": [{"id": "toy"}]})),
        "/v1/chat/completions" => {
            assert_eq!(
                asked["stop"].is_null(),
                asked["max_tokens"] == 5,
                "a server would heed them too early"
            );
            let message = json!({"reasoning": "2+2\nis", "content": "\n\n4\n5"});
            let choices = json!([{"message": message, "finish_reason": "stop"}]);
            (200, json!({"choices": choices, "usage": {"completion_tokens": 9}}))
        }
        _ => {
            assert!(asked["stop"].is_null(), "within the block that the prompt opened");
            let choices = json!([{"text": "2+2\nis</think>4\n5", "finish_reason": "length"}]);
            (200, json!({"choices": choices, "usage": {"completion_tokens": 9}}))
        }
    });
    let prompts = [Prompt::Chat(vec![Message::new("user", "ab")]), Prompt::Text("ab\n<think>\n".into())];
    let after = Writing { stop: vec!["\n".into()], stop_after_reasoning: true, ..writing() };
    let answers = connect(&toy).write(&prompts, &after, &mut |_, _| {}).unwrap();
    let texts: Vec<&str> = answers.iter().map(|answers| answers[0].text.as_str()).collect();
    assert_eq!(texts, ["<think>2+2\nis</think>\n\n4", "2+2\nis</think>4"]);
    assert!(answers.iter().all(|answers| answers[0].finish == Finish::StopString));
    let anywhere = Writing { stop_after_reasoning: false, max_tokens: 6, ..after };
    let answers = connect(&toy).write(&prompts[..1], &anywhere, &mut |_, _| {}).unwrap();
    assert_eq!(answers[0][0].text, "<think>2+2");
}

#[test]
fn passing_faults_change_nothing() {
    let questions: Vec<Request> = (0..20).map(|i| request(&format!("q{i} is"), &[" a", " bc"])).collect();
    let toy = Toy::start(Kind::Bytes);
    let calm = connect(&toy).score(&questions, &mut |_, _| {}).unwrap();
    let mut model = connect(&toy);
    // No more in a row than one question is patient with.
    for faults in
        [[Fault::Status(500), Fault::Busy, Fault::Cut], [Fault::Cut, Fault::Status(503), Fault::Busy]]
    {
        toy.plant(faults);
        assert_eq!(model.score(&questions, &mut |_, _| {}).unwrap(), calm);
        assert_eq!(toy.faults_left(), 0);
    }
}

#[test]
fn lasting_faults_are_one_clear_error() {
    let toy = Toy::start(Kind::Bytes);
    let question = [request("The sky is", &[" blue"])];
    let failed = |model: &mut ServerModel| model.score(&question, &mut |_, _| {}).unwrap_err().to_string();
    for (faults, said) in [
        (vec![Fault::Status(503); 4], "503"),
        (vec![Fault::Status(401)], "--server-token-env"),
        (vec![Fault::Body("{\"choices\": [")], "does not echo"),
    ] {
        let mut model = connect(&toy);
        toy.plant(faults);
        let error = failed(&mut model);
        assert!(error.contains(said) && !error.contains('\n') && !error.contains("secret"), "{error}");
    }
    // After it was found to echo: what it says of one text makes no sense.
    let mut model = connect(&toy);
    model.score(&question, &mut |_, _| {}).unwrap();
    for (body, said) in [
        ("{}", "missing field `choices`"),
        ("{\"choices\": []}", "no choices"),
        ("{\"choices\": [{\"text\": \"x\"}]}", "no `logprobs`"),
        (
            r#"{"choices": [{"logprobs": {"tokens": ["a"], "token_logprobs": [NaN], "text_offset": [0]}}]}"#,
            "not a completion",
        ),
        (
            r#"{"choices": [{"logprobs":
                {"tokens": ["a", "b"], "token_logprobs": [null, -1], "text_offset": [0, 99]}}]}"#,
            "does not fit",
        ),
    ] {
        toy.plant([Fault::Body(body)]);
        let error = failed(&mut model);
        assert!(error.contains(said) && !error.contains('\n'), "{error}");
    }
    let prompt = [Prompt::Text("a".into())];
    assert!(model.write(&prompt, &writing(), &mut |_, _| {}).is_ok());
    toy.plant([Fault::Body(r#"{"choices": [{"text": "x", "finish_reason": "stop"}]}"#)]);
    let error = model.write(&prompt, &writing(), &mut |_, _| {}).unwrap_err().to_string();
    assert!(error.contains("usage.completion_tokens"), "{error}");
}

#[test]
fn servers_that_only_chat_say_what_they_can_be_asked() {
    let chat = || Prompt::Chat(vec![Message::new("user", "ab")]);
    for kind in [Kind::NoEcho, Kind::RefusesEcho, Kind::OnlyChat, Kind::LlamaCpp] {
        let toy = Toy::start(kind);
        let mut model = connect(&toy);
        let error = model.score(&[request("a", &["b"])], &mut |_, _| {}).unwrap_err().to_string();
        assert!(error.contains("--formulation generation"), "{error}");
        assert!(model.write(&[chat()], &writing(), &mut |_, _| {}).is_ok());
    }
    let toy = Toy::start(Kind::Bytes);
    let asked = [Request { prompt: chat(), continuations: vec!["b".into()] }];
    let error = connect(&toy).score(&asked, &mut |_, _| {}).unwrap_err().to_string();
    assert!(error.contains("without --chat"), "{error}");
}

#[test]
fn log_probabilities_that_are_not_those_of_their_tokens_are_refused() {
    let mut model = connect(&Toy::start(Kind::Shifted));
    let error = model.score(&[request("a", &["b"])], &mut |_, _| {}).unwrap_err().to_string();
    assert!(error.contains("not those of their tokens") && !error.contains('\n'), "{error}");
}

#[test]
fn the_model_is_found_by_name() {
    let toy = Toy::start(Kind::TwoModels);
    let error = try_connect(&toy, None, 1).err().unwrap();
    assert!(error.contains("toy, other") && error.contains("--server-model"), "{error}");
    let model = try_connect(&toy, Some("other"), 1).unwrap();
    assert_eq!((model.name(), model.context_length()), ("other", Some(512)));
    assert_eq!(connect(&Toy::start(Kind::Bytes)).name(), "toy");
    assert_eq!(connect(&Toy::start(Kind::LlamaCpp)).context_length(), Some(256));
    let settings = |url: &str| Settings { url: url.into(), model: None, token: None, concurrency: 1 };
    for url in ["127.0.0.1:8000", "ftp://h/v1", "", "http://user:secret@h/v1", "user:secret@h:8000/v1"] {
        let error = ServerModel::connect(store(), settings(url)).err().unwrap().to_string();
        assert!(!error.contains("secret"), "{error}");
    }
    let error = ServerModel::connect(store(), settings("http://127.0.0.1:1/v1")).err().unwrap().to_string();
    assert!(error.contains("check that the server runs"), "{error}");
}
