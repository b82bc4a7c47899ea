//! An OpenAI-compatible server on loopback whose model is arithmetic, a bigram over bytes, or whatever else answers.

#![allow(dead_code, unreachable_pub)]

use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// How the server behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Tokens are bytes, the first of a text has no log-probability.
    Bytes,
    /// The same after a token of its own.
    Bos,
    /// Tokens are two bytes where both are ASCII.
    Pairs,
    /// Refuses to write no tokens.
    NeedsOneToken,
    /// Takes no tokens for no limit.
    ManyForNone,
    /// Ignores `echo` and `logprobs`.
    NoEcho,
    /// Refuses `echo`.
    RefusesEcho,
    /// Has no `/v1/completions`.
    OnlyChat,
    /// As SGLang's: does not say where tokens begin.
    NoOffsets,
    /// Cuts reasoning off answers.
    Reasons,
    /// Has two models.
    TwoModels,
    /// Gives each token the log-probability that it would have after itself.
    Shifted,
    /// As llama.cpp's: ignores `echo`, tells of what it wrote as in conversations, refuses more answers than it has slots (1).
    LlamaCpp,
}

/// What goes wrong with an answer.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// Nothing: the one after it comes with a later answer.
    Nothing,
    Status(u16),
    /// 429 with `Retry-After`.
    Busy,
    /// The connection ends within the body.
    Cut,
    /// 200 with another body.
    Body(&'static str),
}

#[derive(Default)]
struct State {
    faults: VecDeque<Fault>,
    tokens: Vec<String>,
}

pub struct Toy {
    pub url: String,
    state: Arc<Mutex<State>>,
}

fn weight(before: u8, byte: u8) -> u64 {
    1 + (u64::from(before) * 31 + u64::from(byte) * 17) % 13
}

/// ln P of a byte after another; before the first stands 0.
fn ln(before: u8, byte: u8) -> f64 {
    let sum: u64 = (0..=255).map(|other| weight(before, other)).sum();
    (weight(before, byte) as f64 / sum as f64).ln()
}

fn likeliest(before: u8) -> f64 {
    (0..=255).map(|byte| ln(before, byte)).fold(f64::NEG_INFINITY, f64::max)
}

/// ln P of `rest` after `stem`, and whether it is greedy.
pub fn ln_after(stem: &str, rest: &str) -> (f64, bool) {
    let all = format!("{stem}{rest}").into_bytes();
    let each = (stem.len()..all.len()).map(|at| (if at == 0 { 0 } else { all[at - 1] }, all[at]));
    each.fold((0.0, true), |(sum, greedy), (before, byte)| {
        (sum + ln(before, byte), greedy && ln(before, byte) >= likeliest(before))
    })
}

impl Toy {
    pub fn start(kind: Kind) -> Toy {
        Toy::serve(move |path, asked| answer(kind, path, asked))
    }

    /// A server of which `answers` gives status and body to a path and a body.
    pub fn serve(answers: impl Fn(&str, &Value) -> (u16, Value) + Send + Sync + 'static) -> Toy {
        let answers = Arc::new(answers);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let (state, answers) = (Arc::clone(&shared), Arc::clone(&answers));
                thread::spawn(move || {
                    let _ = serve(&connection, &*answers, &state);
                });
            }
        });
        Toy { url, state }
    }

    pub fn plant(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state.lock().unwrap().faults.extend(faults);
    }

    pub fn faults_left(&self) -> usize {
        self.state.lock().unwrap().faults.len()
    }

    /// The `Authorization` of each request.
    pub fn tokens_seen(&self) -> Vec<String> {
        self.state.lock().unwrap().tokens.clone()
    }
}

fn serve(
    mut out: &TcpStream,
    answers: &dyn Fn(&str, &Value) -> (u16, Value),
    state: &Mutex<State>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(out);
    let (mut line, mut length) = (String::new(), 0);
    reader.read_line(&mut line)?;
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap(),
            "authorization" => state.lock().unwrap().tokens.push(value.trim().to_owned()),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    let (mut status, answer) = answers(&path, &asked);
    let mut answer = answer.to_string();
    let fault = state.lock().unwrap().faults.pop_front();
    let (mut sent, mut header) = (answer.len(), "");
    match fault {
        Some(Fault::Status(other)) => status = other,
        Some(Fault::Busy) => (status, header) = (429, "Retry-After: 0\r\n"),
        Some(Fault::Cut) => sent /= 2,
        Some(Fault::Body(body)) => (answer, sent) = (body.to_owned(), body.len()),
        Some(Fault::Nothing) | None => {}
    }
    let head = format!(
        "HTTP/1.1 {status} S\r\nConnection: close\r\n{header}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        answer.len()
    );
    out.write_all(head.as_bytes())?;
    out.write_all(&answer.as_bytes()[..sent])
}

fn refused(status: u16, words: &str) -> (u16, Value) {
    (status, json!({"error": {"message": words, "code": status}}))
}

fn answer(kind: Kind, path: &str, asked: &Value) -> (u16, Value) {
    match path {
        "/v1/models" => {
            let names: &[&str] = if kind == Kind::TwoModels { &["toy", "other"] } else { &["toy"] };
            let entry = |name: &&str| match kind {
                Kind::LlamaCpp => json!({"id": name, "object": "model", "meta": {"n_ctx": 256}}),
                _ => json!({"id": name, "object": "model", "max_model_len": 512}),
            };
            (200, json!({"object": "list", "data": names.iter().map(entry).collect::<Vec<_>>()}))
        }
        "/v1/completions" if kind == Kind::OnlyChat => refused(404, "no such page"),
        "/v1/completions" => {
            let (text, max) = (asked["prompt"].as_str().unwrap(), asked["max_tokens"].as_u64().unwrap());
            let echo = asked["echo"].as_bool().unwrap_or(false);
            match (kind, echo, max) {
                (Kind::LlamaCpp, ..) if asked["n"].as_u64().is_some_and(|n| n > 1) => {
                    refused(400, "Field 'n': Value must be between 1 <= value <= 1")
                }
                (Kind::LlamaCpp, true, _) => {
                    let logs = json!({"content": [{"token": "z", "logprob": -1.5}]});
                    let choice = json!({"text": "z", "finish_reason": "length", "logprobs": logs});
                    (200, json!({"choices": [choice], "usage": {"completion_tokens": 1}}))
                }
                (Kind::RefusesEcho, true, _) => refused(400, "echo is not supported"),
                (Kind::NeedsOneToken, _, 0) => refused(422, "max_tokens must be at least 1"),
                (Kind::ManyForNone, true, 0) => (200, echoed(kind, text, 9)),
                (Kind::NoEcho, true, _) | (_, false, _) => {
                    (200, written(asked, text, |text, finish| json!({"text": text, "finish_reason": finish})))
                }
                (_, true, _) => (200, echoed(kind, text, max)),
            }
        }
        "/v1/chat/completions" if kind == Kind::Reasons => {
            let message = json!({"role": "assistant", "reasoning_content": "hm", "content": "done"});
            (
                200,
                json!({"choices": [{"message": message, "finish_reason": "stop"}], "usage": {"completion_tokens": 4}}),
            )
        }
        "/v1/chat/completions" => {
            let text = asked["messages"][0]["content"].as_str().unwrap();
            let turn = |text: &str, finish: &str| json!({"message": {"role": "assistant", "content": text}, "finish_reason": finish});
            (200, written(asked, text, turn))
        }
        _ => refused(404, "no such page"),
    }
}

/// Up to two answers of letters that follow from the prompt and the seed.
fn written(asked: &Value, prompt: &str, choice: impl Fn(&str, &str) -> Value) -> Value {
    let (n, max) = (asked["n"].as_u64().unwrap_or(1).min(2), asked["max_tokens"].as_u64().unwrap());
    let seed = asked["seed"].as_u64().unwrap_or(0);
    let start = prompt.bytes().map(u64::from).sum::<u64>() + if asked["temperature"] == 0 { 0 } else { seed };
    let letters =
        |i: u64| (0..max).map(|at| char::from(b'a' + ((start + i + 7 * at) % 26) as u8)).collect::<String>();
    // A single one is what the model thinks.
    let last = prompt.bytes().last().unwrap_or(0);
    let one = |i: u64| match (b'a'..=b'z').find(|&next| ln(last, next) >= likeliest(last)) {
        Some(next) if max == 1 => char::from(next).to_string(),
        _ => letters(i),
    };
    let choices: Vec<Value> = (0..n).map(|i| choice(&one(i), "length")).collect();
    json!({"choices": choices, "usage": {"completion_tokens": n * max}})
}

/// Tokens of a text: byte ranges.
fn tokens(kind: Kind, text: &str) -> Vec<std::ops::Range<usize>> {
    let (bytes, mut at, mut all) = (text.as_bytes(), 0, Vec::new());
    while at < bytes.len() {
        let pair = kind == Kind::Pairs
            && bytes[at..].len() >= 2
            && bytes[at..at + 2].is_ascii()
            && bytes[at + 1] != b' ';
        // A pair must not cross a border that a test asks for; borders are at spaces, line ends and colons.
        let pair = pair && !bytes[at..at + 2].iter().any(|b| b" \n:".contains(b));
        all.push(at..at + 1 + usize::from(pair));
        at = all.last().unwrap().end;
    }
    all
}

fn echoed(kind: Kind, text: &str, generated: u64) -> Value {
    let whole = format!("{text}{}", "z".repeat(generated as usize));
    let (bytes, mut names, mut logs, mut tops, mut offsets) =
        (whole.as_bytes(), vec![], vec![], vec![], vec![]);
    let shift = if kind == Kind::Bos { 3 } else { 0 };
    if kind == Kind::Bos {
        names.push("<s>".to_owned());
        logs.push(Value::Null);
        tops.push(Value::Null);
        offsets.push(0);
    }
    for range in tokens(kind, text).into_iter().chain((text.len()..whole.len()).map(|at| at..at + 1)) {
        let known = kind == Kind::Bos || range.start > 0;
        let before = |at: usize| match kind {
            Kind::Shifted => bytes[at],
            _ if at == 0 => 0,
            _ => bytes[at - 1],
        };
        let pieces = range.clone().map(|at| (before(at), bytes[at]));
        let ln: f64 = pieces.clone().map(|(before, byte)| ln(before, byte)).sum();
        let best: f64 = pieces.map(|(before, _)| likeliest(before)).sum();
        let piece = &bytes[range.clone()];
        names.push(match std::str::from_utf8(piece) {
            Ok(text) => text.to_owned(),
            Err(_) => format!("bytes:\\x{:02x}", piece[0]),
        });
        logs.push(if known { json!(ln) } else { Value::Null });
        tops.push(if known { json!({ "?": best }) } else { Value::Null });
        // Where the character begins of which this is a part.
        let begin = (0..=range.start).rev().find(|&at| whole.is_char_boundary(at)).unwrap();
        offsets.push(shift + whole[..begin].chars().count());
    }
    let offsets = offsets.into_iter().map(|at| if kind == Kind::NoOffsets { -1 } else { at as i64 });
    let offsets: Vec<i64> = offsets.collect();
    json!({
        "choices": [{"text": whole, "finish_reason": "length", "logprobs":
            {"tokens": names, "token_logprobs": logs, "top_logprobs": tops, "text_offset": offsets}}],
        "usage": {"completion_tokens": generated},
    })
}
