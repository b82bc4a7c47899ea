//! `smolt eval --server`: a model behind a server scores as its folder does, and what goes wrong is told.

#![allow(clippy::unwrap_used)]

mod common;
#[path = "../../eval/tests/toy_server/mod.rs"]
mod toy_server;

use common::{Place, Ran, checkpoints, repository, sets, smolt};
use serde_json::{Value, json};
use smolt_eval::cost;
use smolt_eval::evaluate::{self, How};
use smolt_eval::model::encoder::Encoder;
use smolt_eval::model::local::LocalModel;
use smolt_eval::model::{Finish, Model, Prompt, Request, Writing};
use smolt_eval::task::pose::pose;
use smolt_eval::task::{Formulation, Task};
use smolt_infer::{Choice, Decoder, Question};
use smolt_model::folder::Loaded;
use smolt_tensor::Cpu;
use smolt_tensor::gemm::Precision;
use smolt_text::tokenizer::Tokenizer;
use std::path::{Path, PathBuf};
use toy_server::{Fault, Toy};

const CONTEXT: usize = 128;

/// A folder with a model of two steps, a task and a text.
fn place() -> &'static Path {
    static PLACE: Place = Place::new(make);
    PLACE.path()
}

fn make(dir: &Path) {
    let mut train = smolt();
    train.arg("train").arg(repository("recipes/tests/kill-resume.toml")).arg("--out").arg(dir.join("run"));
    train.args(sets(&["train.train_steps=2", "schedule.warmup_steps=1", "schedule.decay_steps=1"]));
    train.args(sets(&[&format!("train.sequence_length={CONTEXT}")]));
    Ran::of(train).success();
    let row = |i: usize| {
        json!({"question": format!("What is {i} or 水 and {}?", i + 1), "answer": i % 3,
               "choices": [format!("it is {}", i * 2), "nothing at all — naïve", "red"]})
    };
    let rows: String = (0..12).map(|i| format!("{}\n", row(i))).collect();
    std::fs::write(dir.join("rows.jsonl"), rows).unwrap();
    let task = r#"
name = "quiz"
[dataset]
path = "rows.jsonl"
[item]
prompt = "Question: {{ question }}\nAnswer:"
choices = "choices"
answer = "answer"
[cloze]
unconditional = "Answer:"
[multiple_choice]
[generation]
target = "choices[0]"
max_tokens = 6
stop = ["\n"]
"#;
    std::fs::write(dir.join("quiz.toml"), task).unwrap();
    let text: String =
        (0..20).map(|i| format!("{}\n", json!({"text": format!("It is {i}, naïve 水.")}))).collect();
    std::fs::write(dir.join("text.jsonl"), text).unwrap();
}

fn folder() -> PathBuf {
    let run = place().join("run");
    run.join(format!("checkpoints/step-{}", checkpoints(&run).last().unwrap()))
}

/// What a server has in memory.
struct Served {
    cpu: Cpu,
    loaded: Loaded,
    tokenizer: Tokenizer,
}

impl Served {
    fn load(folder: &Path) -> Served {
        let tokenizer = Tokenizer::load(&folder.join("tokenizer.json")).unwrap();
        Served { cpu: Cpu::new(1).unwrap(), loaded: Loaded::load(folder).unwrap(), tokenizer }
    }

    fn answer(&self, path: &str, asked: &Value) -> (u16, Value) {
        match path {
            "/v1/models" => (200, json!({"data": [{"id": "tiny", "max_model_len": CONTEXT}]})),
            "/v1/completions" if asked["echo"] == true => self.echo(asked["prompt"].as_str().unwrap()),
            "/v1/completions" => self.write(asked),
            _ => (404, json!({"error": {"message": "no such page"}})),
        }
    }

    /// Each token after those before it: a question of its own, as the server has no other use for a candidate.
    fn log_probs(&self, ids: &[u32]) -> Vec<Choice> {
        let ask = |at: usize| Question { prompt: ids[..at].to_vec(), choices: vec![vec![ids[at]]] };
        let questions: Vec<Question> = (1..ids.len()).map(ask).collect();
        let (model, weights) = (&self.loaded.model, &self.loaded.weights);
        let mut decoder = Decoder::new(&self.cpu, model, weights, Precision::Fp32, 4, CONTEXT);
        smolt_infer::score(&mut decoder, &questions, |_, _| {}).unwrap().into_iter().flatten().collect()
    }

    fn echo(&self, text: &str) -> (u16, Value) {
        let ids = self.tokenizer.encode(text, true);
        if ids.len() > CONTEXT {
            return (
                400,
                json!({"error": {"message": format!("at most {CONTEXT} tokens, not {}", ids.len())}}),
            );
        }
        let known = self.log_probs(&ids);
        let value = |choice: &Choice| json!(choice.log_likelihood);
        // A likelier token than one that is not the likeliest.
        let top = |choice: &Choice| json!({"?": if choice.greedy { choice.log_likelihood } else { 0.0 }});
        let begins = ids.iter().scan(0, |end, &id| {
            let begin = *end;
            *end += self.tokenizer.token_bytes(id).len();
            Some((0..=begin).rev().find(|&at| text.is_char_boundary(at)).unwrap())
        });
        let offsets: Vec<usize> = begins.map(|begin| text[..begin].chars().count()).collect();
        let tokens: Vec<String> = ids.iter().map(|&id| self.tokenizer.decode(&[id], false)).collect();
        let none = || std::iter::once(Value::Null);
        let logprobs = json!({
            "tokens": tokens, "text_offset": offsets,
            "token_logprobs": none().chain(known.iter().map(value)).collect::<Vec<_>>(),
            "top_logprobs": none().chain(known.iter().map(top)).collect::<Vec<_>>(),
        });
        let choice = json!({"text": text, "finish_reason": "length", "logprobs": logprobs});
        (200, json!({"choices": [choice], "usage": {"completion_tokens": 0}}))
    }

    fn write(&self, asked: &Value) -> (u16, Value) {
        let encoder = Encoder {
            tokenizer: &self.tokenizer,
            template: None,
            end_tokens: self.loaded.model.config().eos_token_id.clone(),
        };
        let (model, weights) = (&self.loaded.model, &self.loaded.weights);
        let precision = Precision::Fp32;
        let mut model = LocalModel { cpu: &self.cpu, model, weights, precision, encoder, context: CONTEXT };
        let stop =
            asked["stop"].as_array().into_iter().flatten().map(|stop| stop.as_str().unwrap().to_owned());
        let writing = Writing {
            max_tokens: asked["max_tokens"].as_u64().unwrap() as usize,
            stop: stop.collect(),
            stop_after_reasoning: false,
            temperature: 0.0,
            top_p: 1.0,
            samples: 1,
            seed: 0,
        };
        let prompt = Prompt::Text(asked["prompt"].as_str().unwrap().to_owned());
        let written = model.write(&[prompt], &writing, &mut |_, _| {}).unwrap().remove(0).remove(0);
        let finish = if written.finish == Finish::Length { "length" } else { "stop" };
        let mut choice = json!({"text": written.text, "finish_reason": finish});
        if asked["logprobs"] == 1 {
            choice["logprobs"] = json!({"token_logprobs": [written.log_likelihood]});
        }
        (200, json!({"choices": [choice], "usage": {"completion_tokens": written.tokens}}))
    }
}

fn server() -> Toy {
    let served = Served::load(&folder());
    Toy::serve(move |path, asked| served.answer(path, asked))
}

fn eval(subject: &[&str], more: &[&str]) -> Ran {
    let mut command = smolt();
    command.current_dir(place()).arg("eval").args(subject).args(["--task", "quiz.toml"]).args(more);
    command.env("SMOLT_TEST_TOKEN", "secret");
    for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env_remove(name);
    }
    Ran::of(command)
}

fn ask(server: &Toy, more: &[&str]) -> Ran {
    let url = format!("{}/v1", server.url);
    eval(&["--server", &url, "--server-token-env", "SMOLT_TEST_TOKEN"], more)
}

fn json_of(ran: Ran) -> Value {
    serde_json::from_str(&ran.success()).unwrap()
}

/// The same but for rounding: of sums on the way through decimals, and of answers that were written beside others.
#[track_caller]
fn assert_close(a: &Value, b: &Value) {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => {
            let (x, y) = (x.as_f64().unwrap(), y.as_f64().unwrap());
            assert!((x - y).abs() <= 1e-5 * x.abs().max(1.0), "{x} {y}");
        }
        (Value::Array(x), Value::Array(y)) if x.len() == y.len() => {
            x.iter().zip(y).for_each(|(x, y)| assert_close(x, y));
        }
        (Value::Object(x), Value::Object(y)) if x.keys().eq(y.keys()) => {
            x.values().zip(y.values()).for_each(|(x, y)| assert_close(x, y));
        }
        _ => assert_eq!(a, b),
    }
}

fn samples(folder: &str, name: &str) -> Value {
    let text = std::fs::read_to_string(place().join(folder).join("samples").join(name)).unwrap();
    text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect()
}

#[test]
fn a_server_scores_as_its_folder_does() {
    let server = server();
    let folder = folder().display().to_string();
    let here = json_of(eval(&[&folder], &["--out", "here", "--json", "--text", "text.jsonl"]));
    let there = json_of(ask(&server, &["--out", "there", "--json"]));
    assert!(server.tokens_seen().iter().all(|token| token == "Bearer secret"));
    let (a, b) = (here["tasks"].as_array().unwrap(), there["tasks"].as_array().unwrap());
    assert_eq!((a.len(), b.len()), (3, 3));
    for (a, b) in a.iter().zip(b) {
        assert_close(&a["scores"], &b["scores"]);
    }
    for name in ["quiz.cloze.jsonl", "quiz.multiple_choice.jsonl", "quiz.generation.jsonl"] {
        assert_close(&samples("here", name), &samples("there", name));
    }
    assert_eq!(
        (&there["model"]["hash"], &there["model"]["context_length"]),
        (&json!("tiny"), &json!(CONTEXT))
    );
    let text = &json_of(ask(&server, &["--json", "--text", "text.jsonl"]))["texts"][0];
    let bits = |text: &Value| text["bits_per_byte"].as_f64().unwrap();
    let here = &here["texts"][0];
    // The server has no token before a text, so its first is not predicted and does not count.
    assert_eq!(text["documents"], here["documents"]);
    assert!((bits(text) - bits(here)).abs() < 0.5, "{text} {here}");
}

/// What is said to be read before the first question is what the engine then computes, but for how many bytes each token has.
#[test]
fn what_a_task_takes_is_counted_as_it_is_computed() {
    let served = Served::load(&folder());
    let encoder = Encoder { tokenizer: &served.tokenizer, template: None, end_tokens: Vec::new() };
    let (model, weights) = (&served.loaded.model, &served.loaded.weights);
    let task = Task::load(&place().join("quiz.toml"), &[]).unwrap();
    let row = |i: usize| {
        json!({"question": format!("In year {i}, what did {} and {} see?", i % 7, i % 11), "answer": i % 3,
               "choices": [format!("a house of {} rooms", i % 5), "nothing at all", "the red boat"]})
    };
    let rows: Vec<_> = (0..200).map(|i| row(i).as_object().unwrap().clone()).collect();
    for formulation in [Formulation::Cloze, Formulation::MultipleChoice] {
        let items = pose(&task, formulation, &rows, None).unwrap();
        let how = How {
            formulation,
            chat: false,
            system_prompt: None,
            strip_reasoning: true,
            samples: 1,
            temperature: 0.0,
            top_p: 1.0,
            max_tokens: None,
            seed: 0,
        };
        let mut requests: Vec<Request> = Vec::new();
        for item in &items {
            let continuations = (0..3).map(|i| evaluate::continuation(item, &how, i)).collect();
            requests.push(Request { prompt: evaluate::prompt(item, &how, 0), continuations });
        }
        if let Some(before) = task.unconditional(formulation) {
            let prompt = Prompt::Text(before.to_owned());
            let again = requests.clone().into_iter();
            requests.extend(again.map(|request| Request { prompt: prompt.clone(), ..request }));
        }
        let questions: Vec<Question> = requests.iter().map(|r| encoder.question(r).unwrap()).collect();
        let mut decoder = Decoder::new(&served.cpu, model, weights, Precision::Fp32, 16, CONTEXT);
        smolt_infer::score(&mut decoder, &questions, |_, _| {}).unwrap();
        let (precision, encoder) = (
            Precision::Fp32,
            Encoder { tokenizer: &served.tokenizer, template: None, end_tokens: Vec::new() },
        );
        let local = LocalModel { cpu: &served.cpu, model, weights, precision, encoder, context: CONTEXT };
        let said = cost::of(&task, &items, &how, CONTEXT, &local).tokens_read as f64;
        let computed = decoder.rows_fed() as f64;
        assert!((said / computed - 1.0).abs() < 0.15, "{formulation:?}: {said} said, {computed} computed");
    }
}

#[test]
fn stop_strings_end_no_reasoning() {
    let served = Served::load(&folder());
    let encoder = Encoder { tokenizer: &served.tokenizer, template: None, end_tokens: Vec::new() };
    let (model, weights) = (&served.loaded.model, &served.loaded.weights);
    let precision = Precision::Fp32;
    let mut model = LocalModel { cpu: &served.cpu, model, weights, precision, encoder, context: CONTEXT };
    let mut written = |stop: &str, stop_after_reasoning: bool| {
        let stop = if stop.is_empty() { Vec::new() } else { vec![stop.to_owned()] };
        let writing = Writing {
            max_tokens: 12,
            stop,
            stop_after_reasoning,
            temperature: 1.0,
            top_p: 1.0,
            samples: 1,
            seed: 0,
        };
        let prompt = [Prompt::Text("What is 2?\n<think>\n".into())];
        model.write(&prompt, &writing, &mut |_, _| {}).unwrap().remove(0).remove(0)
    };
    let whole = written("", false);
    let stop: String = whole.text.chars().rev().take(2).collect::<Vec<_>>().into_iter().rev().collect();
    assert_eq!(written(&stop, true), whole, "the block is open to the end");
    assert_eq!(written(&stop, false).finish, Finish::StopString);
}

#[test]
fn what_goes_wrong_is_tried_again_or_told_in_one_line() {
    let server = server();
    let cloze = ["--formulation", "cloze", "--json", "--limit", "4"];
    let calm = json_of(ask(&server, &cloze));
    server.plant([Fault::Status(500), Fault::Nothing, Fault::Cut, Fault::Busy]);
    let ran = ask(&server, &cloze);
    assert_eq!(json_of(ran)["tasks"][0]["scores"], calm["tasks"][0]["scores"]);
    assert_eq!(server.faults_left(), 0);
    let broken = "{\"choices\": [{\"text\": \"The";
    for (faults, said) in [
        (vec![Fault::Status(401)], "--server-token-env"),
        (after_the_checks(Fault::Status(401)), "--server-token-env"),
        (vec![Fault::Body("{\"data\": [{\"id\": \"ti")], "not a list of models"),
        (after_the_checks(Fault::Body(broken)), "it begins: {\"choices\""),
    ] {
        server.plant(faults);
        let ran = ask(&server, &[&cloze[..], &["--concurrency", "1"]].concat());
        assert!(ran.code == Some(2) && ran.out.is_empty(), "{ran:?}");
        assert_eq!(ran.err.lines().filter(|line| line.contains("error")).count(), 1, "{ran:?}");
        assert!(ran.err.contains(said) && !ran.err.contains("secret"), "{ran:?}");
    }
    let ran = ask(&server, &["--formulation", "cloze", "--few-shot", "0", "--set", &long_prompt()]);
    assert!(ran.code == Some(2) && ran.err.contains("at most 128 tokens"), "{ran:?}");
}

/// Requests before the first question: the list of models, and three about echoing.
const CHECKS: usize = 4;

/// The fault comes with the first question's answer.
fn after_the_checks(fault: Fault) -> Vec<Fault> {
    after(CHECKS, fault)
}

fn after(requests: usize, fault: Fault) -> Vec<Fault> {
    std::iter::repeat_n(Fault::Nothing, requests).chain([fault]).collect()
}

#[test]
fn a_server_that_refuses_is_told_once_and_ends_the_evaluation() {
    let server = server();
    let asked = || server.tokens_seen().len();
    let both =
        ["--formulation", "cloze", "--formulation", "generation", "--limit", "4", "--concurrency", "1"];
    // All of the first formulation are answered, the second is refused at once.
    let before = asked();
    ask(&server, &["--formulation", "cloze", "--limit", "4", "--concurrency", "1"]).success();
    let cloze = asked() - before;
    server.plant(after(cloze, Fault::Status(401)));
    let ran = ask(&server, &[&both[..], &["--out", "refused"]].concat());
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert_eq!(ran.err.matches("--server-token-env").count(), 1, "{ran:?}");
    assert!(ran.out.contains("cloze") && place().join("refused/report.html").exists(), "{ran:?}");
    // Nothing is asked of a server that does not know the model but the question that it refused.
    let absent = Toy::serve(|path, _| match path {
        "/v1/models" => (200, json!({"data": [{"id": "tiny", "max_model_len": CONTEXT}]})),
        _ => (404, json!({"error": {"message": "The model `tiny` does not exist."}})),
    });
    let ran = ask(&absent, &["--json", "--concurrency", "1"]);
    assert!(ran.code == Some(2) && ran.err.contains("does not exist"), "{ran:?}");
    assert_eq!(ran.err.matches("does not exist").count(), 1, "{ran:?}");
    assert_eq!(absent.tokens_seen().len(), 2, "its models, and one question");
}

#[test]
fn what_was_answered_before_an_end_is_not_asked_again() {
    let server = server();
    let asked = || server.tokens_seen().len();
    let given = |out: &'static str| {
        ["--formulation", "cloze", "--json", "--limit", "4", "--concurrency", "1", "--out", out]
    };
    json_of(ask(&server, &given("in-one-go")));
    let all = asked();
    // The eighth candidate is the second of the third item.
    server.plant(after(CHECKS + 7, Fault::Status(401)));
    assert_eq!(ask(&server, &given("in-two")).code, Some(2));
    let answers = place().join("in-two/answers/quiz.cloze.jsonl");
    assert_eq!(std::fs::read_to_string(&answers).unwrap().lines().count(), 2);
    let before = asked();
    json_of(ask(&server, &given("in-two")));
    assert_eq!(asked() - before, all - 6, "all but the six candidates of two items");
    assert_eq!(samples("in-one-go", "quiz.cloze.jsonl"), samples("in-two", "quiz.cloze.jsonl"));
    assert!(!answers.parent().unwrap().exists(), "nothing is left of them beside the samples");
}

#[test]
fn a_long_context_is_measured_on_a_server_and_goes_on_after_an_end() {
    let server = Toy::serve(|path, asked| match path {
        "/v1/models" => (200, json!({"data": [{"id": "tiny", "max_model_len": 512}]})),
        _ => {
            let (begun, said) = (json!("assistant"), json!({"content": "It is 1234567."}));
            let chat = asked["messages"].as_array().is_some_and(|all| all[1]["role"] == begun);
            assert!(asked["prompt"].is_string() || chat && asked["continue_final_message"] == true);
            let choice = json!({"text": "It is 1234567.", "message": said, "finish_reason": "stop"});
            (200, json!({"choices": [choice], "usage": {"completion_tokens": 5}}))
        }
    });
    let (url, tokenizer) = (format!("{}/v1", server.url), folder().display().to_string());
    let ruler = |more: &[&str]| {
        let mut command = smolt();
        command.current_dir(place()).args(["eval", "ruler", "--json", "--server", &url]).args(more);
        command.args(["--server-token-env", "SMOLT_TEST_TOKEN", "--concurrency", "1", "--count", "3"]);
        command.env("SMOLT_TEST_TOKEN", "secret");
        for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
            command.env_remove(name);
        }
        Ran::of(command)
    };
    let given =
        ["--tokenizer", &tokenizer, "--lengths", "512", "--kinds", "niah_single_1,vt", "--out", "ruler"];
    server.plant(after(1 + 4, Fault::Status(401)));
    assert_eq!(ruler(&given).code, Some(2));
    let before = server.tokens_seen().len();
    let report = json_of(ruler(&given));
    assert_eq!(server.tokens_seen().len() - before, 1 + 2, "four of six were heard before");
    assert_eq!((&report["cells"][0]["score"]["n"], &report["model"]["hash"]), (&json!(3), &json!("tiny")));
    assert!(!place().join("ruler/answers").exists());
    json_of(ruler(&[&given[..6], &["--chat"]].concat()));
    let refused = ruler(&given[2..6]);
    assert!(refused.code == Some(2) && refused.err.contains("--tokenizer"), "{}", refused.err);
    let nothing = ruler(&["--tokenizer", &tokenizer, "--lengths", "64,512", "--kinds", "qa_1"]);
    assert!(
        nothing.code == Some(2) && nothing.err.contains("nothing can be run: qa_1 needs"),
        "{}",
        nothing.err
    );
}

/// More than fits the server's context.
fn long_prompt() -> String {
    format!("item.prompt={}", "far too long ".repeat(100))
}
