//! A model behind an OpenAI-compatible server.
//!
//! Likelihoods come from `/v1/completions`, which must echo the prompt with its log-probabilities; most servers that only
//! chat cannot. Answers come from `/v1/completions`, or through the server's own chat template from
//! `/v1/chat/completions`.

mod answer;
mod echo;

use super::stop::Stops;
use super::{
    Continuation, Generated, Heard, Model, ModelError, OnDone, Prompt, Request, Scored, TextScore, Writing,
};
use crate::score::reasoning;
use answer::LogProbs;
use echo::Echo;
use serde_json::{Value, json};
use smolt_run::error::{Exit, ExitKind};
use smolt_store::{Address, Error, Store, Why};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;

/// The most bytes of one answer.
const MOST: usize = 64 << 20;

/// OpenAI's own limit on stop strings; further ones end the answer here.
const MOST_STOPS: usize = 4;

/// Tokens to write after a text that is echoed. None would do, but servers refuse that, or take it for no limit.
const MOST_WRITTEN: u64 = 1;

/// How it is asked for the likeliest next token.
const GREEDY: Writing = Writing {
    max_tokens: 1,
    stop: Vec::new(),
    stop_after_reasoning: false,
    temperature: 0.0,
    top_p: 1.0,
    samples: 1,
    seed: 0,
};

/// What the server is asked about before anything else.
const PROBE: &str = "One, two, three, four,";

/// A server and how it is asked.
pub struct Settings {
    /// Where its interface begins: `http://127.0.0.1:8000/v1`.
    pub url: String,
    /// Which of its models; the only one where it is left out.
    pub model: Option<String>,
    /// Goes along as a bearer token; never shown.
    pub token: Option<String>,
    /// Requests in flight.
    pub concurrency: usize,
}

/// A model behind a server.
pub struct ServerModel {
    store: Store,
    settings: Settings,
    model: String,
    context_length: Option<usize>,
    /// Whether the server was found to echo texts.
    echoes: bool,
    /// Whether it may be asked how likely what it writes is: some refuse.
    tells: AtomicBool,
}

impl ServerModel {
    /// Finds the model. `store` decides the patience: its read timeout must be as long as the longest answer takes.
    ///
    /// # Errors
    /// A server that does not answer, or that has several models of which none was named.
    pub fn connect(store: Store, settings: Settings) -> Result<ServerModel, ModelError> {
        let mut server = ServerModel {
            store,
            settings,
            model: String::new(),
            context_length: None,
            echoes: false,
            tells: AtomicBool::new(true),
        };
        let url = server.url("models")?;
        let listed = server.store.get_json(&url, server.settings.token.as_deref(), MOST);
        let models = match (listed, &server.settings.model) {
            (Ok(body), _) => answer::models(&body).map_err(|problem| server.wrong("models", &problem)),
            // A server without a list of models is fine where the model is named.
            (Err(error), Some(_)) if error.why() == Some(Why::NotFound) => Ok(Vec::new()),
            (Err(error), _) => Err(server.failed(&error)),
        }?;
        server.model = match (&server.settings.model, models.as_slice()) {
            (Some(name), _) => name.clone(),
            (None, [only]) => only.id.clone(),
            (None, several) => {
                let names: Vec<&str> = several.iter().take(20).map(|model| model.id.as_str()).collect();
                let has = if names.is_empty() {
                    "no models".into()
                } else {
                    format!("the models {}", names.join(", "))
                };
                return Err(server.wrong("models", &format!("it has {has}; name one with --server-model")));
            }
        };
        let entry = models.iter().find(|model| model.id == server.model);
        server.context_length =
            entry.and_then(|entry| entry.context_length()).and_then(|length| usize::try_from(length).ok());
        Ok(server)
    }

    /// The model's name on the server.
    pub fn name(&self) -> &str {
        &self.model
    }

    /// Most tokens of a prompt with its answer, where the server says it.
    pub fn context_length(&self) -> Option<usize> {
        self.context_length
    }

    fn url(&self, path: &str) -> Result<Address, ModelError> {
        let base = self.settings.url.trim_end_matches('/');
        if !base.starts_with("http://") && !base.starts_with("https://") {
            let base = smolt_store::without_login(base);
            let problem = format!("{base}: a server's address is like http://127.0.0.1:8000/v1");
            return Err(ModelError::Server(problem));
        }
        format!("{base}/{path}").parse().map_err(|error: Error| ModelError::Server(error.to_string()))
    }

    fn post(&self, path: &str, body: &Value) -> Result<Vec<u8>, Refusal> {
        let url = self.url(path).map_err(Refusal::Final)?;
        let token = self.settings.token.as_deref();
        self.store.post_json(&url, token, body.to_string().as_bytes(), MOST).map_err(|error| {
            let (why, error) = (error.why(), self.failed(&error));
            match why {
                _ if error.is_final() => Refusal::Final(error),
                Some(Why::Refused) => Refusal::Question(error),
                Some(Why::NotFound) => Refusal::Absent(error),
                _ => Refusal::Final(error),
            }
        })
    }

    /// A failure beyond this machine, with advice for a server of a model.
    fn failed(&self, error: &Error) -> ModelError {
        let Error::Remote(remote) = error else { return ModelError::Server(error.to_string()) };
        let fix = match remote.why {
            Why::NotFound => "check the address, which ends in /v1, and --server-model",
            Why::Denied => "name the variable that holds the server's token with --server-token-env",
            Why::Refused => "change what is asked, or ask another server",
            Why::Unreachable => {
                "check that the server runs, that its address is right, and whether --server-timeout is long enough"
            }
            _ => "check that it is an OpenAI-compatible server",
        };
        let tries = if remote.tries > 1 { format!(" (tried {} times)", remote.tries) } else { String::new() };
        let problem = format!("{}: {}{tries}; {fix}", remote.address, remote.problem);
        // Servers say so of a model that they do not have; a page that is missing has no words, or others.
        let no_model = remote.problem.to_lowercase().contains("model");
        match (remote.why, error.exit()) {
            (Why::Denied, _) => ModelError::Refused(problem),
            (Why::NotFound, _) if no_model => ModelError::Refused(problem),
            (_, Exit::Failed) => ModelError::Unreachable(problem),
            _ => ModelError::Server(problem),
        }
    }

    /// An answer that makes no sense.
    fn wrong(&self, path: &str, problem: &str) -> ModelError {
        ModelError::Server(format!("{}/{path}: {problem}", self.settings.url.trim_end_matches('/')))
    }

    /// Asks for a text's log-probabilities; `use_of` sees them beside the text.
    fn echoed<T>(
        &self,
        text: &str,
        use_of: impl FnOnce(&Echo<'_>) -> Result<T, String>,
    ) -> Result<T, Refusal> {
        let asked = json!({
            "model": self.model, "prompt": text, "echo": true, "logprobs": 1, "max_tokens": MOST_WRITTEN,
            "temperature": 0,
        });
        let body = self.post("completions", &asked)?;
        read_echo(&body, text, use_of)
            .map_err(|problem| Refusal::Question(self.wrong("completions", &problem)))
    }

    /// Finds out whether the server echoes.
    fn find_echo(&mut self) -> Result<(), ModelError> {
        if self.echoes {
            return Ok(());
        }
        match self.echoed(PROBE, |echo| echo.after(PROBE.len() - 5)) {
            Ok(_) => self.check_echo()?,
            Err(Refusal::Final(error)) => return Err(error),
            Err(Refusal::Question(error) | Refusal::Absent(error)) => {
                return Err(ModelError::Server(format!(
                    "the server does not echo log-probabilities, so likelihoods (cloze, multiple_choice, --text) cannot be \
                     asked of it; it can be asked --formulation generation ({error})"
                )));
            }
        }
        self.echoes = true;
        Ok(())
    }

    /// Refuses log-probabilities that are not those of their tokens: what the server writes greedily must be the likeliest when
    /// it is echoed. One that gives each token the probability after it instead of before it would else score unnoticed.
    fn check_echo(&self) -> Result<(), ModelError> {
        let next = self.written(&Prompt::Text(PROBE.into()), &GREEDY)?;
        let Some(next) = next.first().filter(|next| !next.text.is_empty()) else { return Ok(()) };
        let whole = format!("{PROBE}{}", next.text);
        // Where the two texts together are other tokens, nothing is known.
        if !self.echoed(&whole, |echo| Ok(echo.prefers_another_to(&next.text)))? {
            return Ok(());
        }
        let problem = format!(
            "it writes {:?} after {PROBE:?} and then holds another token for likelier there, so its log-probabilities are not \
             those of their tokens and likelihoods cannot be asked of it; it can be asked --formulation generation",
            next.text
        );
        Err(self.wrong("completions", &problem))
    }

    /// Answers to all questions, several in flight, in order. `on_done` is told the number of each that is answered.
    fn all<Q: Sync, A: Send>(
        &self,
        questions: &[Q],
        mut on_done: impl FnMut(usize, &A),
        ask: impl Fn(&Q) -> Result<A, ModelError> + Sync,
    ) -> Result<Vec<A>, ModelError> {
        let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let mut answers: Vec<Option<A>> = Vec::new();
        answers.resize_with(questions.len(), || None);
        let mut failed: Option<(usize, ModelError)> = None;
        std::thread::scope(|scope| {
            let (send, receive) = mpsc::channel();
            for _ in 0..self.settings.concurrency.clamp(1, questions.len().max(1)) {
                let (send, next, stop, ask) = (send.clone(), &next, &stop, &ask);
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let at = next.fetch_add(1, Ordering::Relaxed);
                        let Some(question) = questions.get(at) else { break };
                        let answer = ask(question);
                        // At once: who receives it may be too late for the next question.
                        stop.fetch_or(answer.is_err(), Ordering::Relaxed);
                        if send.send((at, answer)).is_err() {
                            break;
                        }
                    }
                });
            }
            drop(send);
            for (at, answer) in receive {
                match answer {
                    Ok(answer) => {
                        on_done(at, &answer);
                        answers[at] = Some(answer);
                    }
                    Err(error) => {
                        if failed.as_ref().is_none_or(|(first, _)| at < *first) {
                            failed = Some((at, error));
                        }
                    }
                }
            }
        });
        let lost = || ModelError::Server("a request got lost".into());
        match failed {
            Some((_, error)) => Err(error),
            None => answers.into_iter().map(|answer| answer.ok_or_else(lost)).collect(),
        }
    }

    /// How answers to one prompt are asked for: where, and in which words. `open` is the tag with which the prompt ends, where it
    /// opens a block of reasoning.
    fn asking(&self, prompt: &Prompt, writing: &Writing, open: Option<&str>) -> (&'static str, Value) {
        let (path, mut body) = match prompt {
            Prompt::Text(text) => ("completions", json!({"model": self.model, "prompt": text})),
            Prompt::Chat(messages) => {
                ("chat/completions", json!({"model": self.model, "messages": messages}))
            }
        };
        // The words of vLLM and SGLang for an answer that is begun; llama.cpp understands it without.
        if let Prompt::Chat(messages) = prompt
            && messages.last().is_some_and(|last| last.role == "assistant")
        {
            body["continue_final_message"] = json!(true);
            body["add_generation_prompt"] = json!(false);
        }
        // A server heeds them within reasoning too. A conversation may have some, and ends by itself.
        let reasons = open.is_some() || matches!(prompt, Prompt::Chat(_));
        let most = if reasons && writing.stop_after_reasoning { 0 } else { MOST_STOPS };
        let stop: Vec<&String> = writing.stop.iter().filter(|stop| !stop.is_empty()).take(most).collect();
        for (key, value) in [
            ("max_tokens", json!(writing.max_tokens)),
            ("temperature", json!(writing.temperature)),
            ("top_p", json!(writing.top_p)),
        ] {
            body[key] = value;
        }
        if !stop.is_empty() {
            body["stop"] = json!(stop);
        }
        if self.tells.load(Ordering::Relaxed) {
            body["logprobs"] = match prompt {
                Prompt::Text(_) => json!(1),
                Prompt::Chat(_) => json!(true),
            };
        }
        (path, body)
    }

    /// Asks for answers. Some servers give one at a time, and some do not say how likely what they write is: what is refused is
    /// asked for without.
    fn post_writing(&self, path: &str, body: &mut Value) -> Result<Vec<u8>, Refusal> {
        let refused = |answer: &Result<_, Refusal>| matches!(answer, Err(Refusal::Question(_)));
        let mut answer = self.post(path, body);
        if refused(&answer) && body["n"] != 1 {
            body["n"] = json!(1);
            answer = self.post(path, body);
        }
        let without = |body: &mut Value| body.as_object_mut().and_then(|body| body.remove("logprobs"));
        if refused(&answer) && without(body).is_some() {
            answer = self.post(path, body);
            self.tells.fetch_and(answer.is_err(), Ordering::Relaxed);
        }
        answer
    }

    /// Answers to one prompt.
    fn written(&self, prompt: &Prompt, writing: &Writing) -> Result<Vec<Generated>, ModelError> {
        // Greedy answers to one prompt are all the same, and servers refuse to give several.
        let wanted = if writing.temperature == 0.0 { 1 } else { writing.samples.max(1) };
        let open = match prompt {
            Prompt::Text(text) => reasoning::opened(text),
            Prompt::Chat(_) => None,
        };
        let (path, mut body) = self.asking(prompt, writing, open);
        let (mut all, mut at_once): (Vec<Generated>, usize) = (Vec::new(), wanted);
        while all.len() < wanted {
            // A server may give fewer at once than it was asked for, or refuse; others come from other seeds.
            body["n"] = json!(at_once.min(wanted - all.len()));
            body["seed"] = json!(writing.seed.wrapping_add(all.len() as u64) & i64::MAX as u64);
            let answer = self.post_writing(path, &mut body).map_err(|refusal| match refusal {
                // No answer comes from a page that is not there.
                Refusal::Absent(error) => ModelError::Refused(error.to_string()),
                refusal => refusal.into(),
            })?;
            at_once = if body["n"] == 1 { 1 } else { at_once };
            let read = match prompt {
                Prompt::Text(_) => answer::texts(&answer, Stops::of(writing), open),
                Prompt::Chat(_) => answer::turns(&answer, Stops::of(writing)),
            };
            all.extend(read.map_err(|problem| self.wrong(path, &problem))?);
        }
        all.truncate(wanted);
        if let (true, Some(only)) = (wanted < writing.samples, all.first().cloned()) {
            all.resize(writing.samples, only);
        }
        Ok(all)
    }
}

/// Why a question has no answer.
enum Refusal {
    /// The question was not to the server's liking; another may be.
    Question(ModelError),
    /// There is no such page.
    Absent(ModelError),
    /// No question will be answered.
    Final(ModelError),
}

impl From<Refusal> for ModelError {
    fn from(refusal: Refusal) -> Self {
        let (Refusal::Question(error) | Refusal::Absent(error) | Refusal::Final(error)) = refusal;
        error
    }
}

/// What a server says of a text that it was asked to echo.
fn read_echo<T>(
    body: &[u8],
    text: &str,
    use_of: impl FnOnce(&Echo<'_>) -> Result<T, String>,
) -> Result<T, String> {
    let answer = answer::completions::<LogProbs>(body)?;
    let generated = answer.usage.and_then(|usage| usage.completion_tokens).unwrap_or(MOST_WRITTEN);
    if generated > MOST_WRITTEN {
        return Err(format!("it wrote {generated} tokens where it may write {MOST_WRITTEN}"));
    }
    let choice = answer.choices.first().ok_or("its answer has no choices")?;
    let logs = choice.logprobs.as_ref().ok_or("its answer has no `logprobs`")?;
    use_of(&Echo::new(logs, text, usize::try_from(generated).unwrap_or(usize::MAX))?)
}

impl Model for ServerModel {
    fn score(&mut self, requests: &[Request], on_done: OnDone<'_>) -> Result<Vec<Scored>, ModelError> {
        if requests.iter().any(|request| matches!(request.prompt, Prompt::Chat(_))) {
            return Err(ModelError::Server(
                "a server does not say how likely answers are in a conversation; ask without --chat, or --formulation \
                 generation"
                    .into(),
            ));
        }
        self.find_echo()?;
        let questions: Vec<(&str, &str)> = requests
            .iter()
            .flat_map(|request| {
                let Prompt::Text(prompt) = &request.prompt else { return Vec::new() };
                request.continuations.iter().map(|text| (prompt.as_str(), text.as_str())).collect()
            })
            .collect();
        let owners: Vec<usize> =
            requests.iter().enumerate().flat_map(|(at, r)| r.continuations.iter().map(move |_| at)).collect();
        let firsts: Vec<usize> =
            (0..requests.len()).map(|at| owners.partition_point(|&owner| owner < at)).collect();
        let mut parts: Vec<Option<Continuation>> = vec![None; questions.len()];
        let mut scored = vec![Scored::default(); requests.len()];
        let mut done = 0;
        let hear = |question: usize, answer: &Continuation| {
            parts[question] = Some(answer.clone());
            let at = owners[question];
            let whole = firsts[at]..firsts[at] + requests[at].continuations.len();
            if let Some(continuations) = parts[whole].iter().cloned().collect() {
                done += 1;
                scored[at].continuations = continuations;
                on_done(done, Heard::Scored(at, &scored[at]));
            }
        };
        self.all(&questions, hear, |(prompt, continuation)| {
            let whole = format!("{prompt}{continuation}");
            // White space at the end of the prompt belongs to the continuation, as in a model of our own.
            let stem = prompt.trim_end().len();
            self.echoed(&whole, |echo| echo.after(stem)).map_err(Refusal::into)
        })?;
        Ok(scored)
    }

    fn write(
        &mut self,
        prompts: &[Prompt],
        writing: &Writing,
        on_done: OnDone<'_>,
    ) -> Result<Vec<Vec<Generated>>, ModelError> {
        let mut done = 0;
        let hear = |at: usize, answers: &Vec<Generated>| {
            done += 1;
            answers.iter().enumerate().for_each(|(i, answer)| on_done(done, Heard::Written(at, i, answer)));
        };
        self.all(prompts, hear, |prompt| self.written(prompt, writing))
    }

    /// A text's first token counts only where the server puts one of its own before it; else its bytes do not count either.
    fn read(&mut self, texts: &[String], on_done: OnDone<'_>) -> Result<Vec<TextScore>, ModelError> {
        self.find_echo()?;
        let mut done = 0;
        let hear = |_: usize, _: &TextScore| {
            done += 1;
            on_done(done, Heard::Nothing);
        };
        self.all(texts, hear, |text| {
            let score = |echo: &Echo<'_>| {
                let (all, before) = echo.whole()?;
                let bytes = text.len() - before;
                Ok(TextScore { log_likelihood: all.log_likelihood, tokens: all.tokens, bytes })
            };
            self.echoed(text, score).map_err(Refusal::into)
        })
    }

    /// Text as it is sent; of a conversation the messages, since only the server knows its template.
    fn shown(&self, prompt: &Prompt, _: usize) -> Result<String, ModelError> {
        match prompt {
            Prompt::Text(text) => Ok(text.clone()),
            Prompt::Chat(messages) => Ok(json!(messages).to_string()),
        }
    }
}

/// Entry point for fuzzing: whatever a server answers is a value or an error; what is accepted is a log-probability.
#[doc(hidden)]
pub fn fuzz_server(bytes: &[u8]) {
    let text = "The sky is blue, 水 and all";
    for stem in [0, 7, 17, 20] {
        let found = read_echo(bytes, text, |echo| {
            let _ = echo.whole();
            echo.after(stem)
        });
        if let Ok(found) = found {
            assert!(found.tokens > 0 && found.log_likelihood.is_finite() && found.log_likelihood < 1e6);
        }
    }
    for stop_after_reasoning in [false, true] {
        let writing = Writing { stop: vec!["水".to_owned()], stop_after_reasoning, ..GREEDY };
        let stops = Stops::of(&writing);
        for texts in [answer::texts(bytes, stops, None), answer::turns(bytes, stops)].into_iter().flatten() {
            assert!(texts.iter().all(|text| match stop_after_reasoning {
                true => !reasoning::strip(&text.text).0.contains('水'),
                false => !text.text.contains('水'),
            }));
        }
    }
    let _ = answer::models(bytes);
}

#[cfg(test)]
mod tests;
