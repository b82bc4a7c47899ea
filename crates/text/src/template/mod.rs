//! Chat templates: Jinja with the semantics of transformers, and the loss mask they define (spec `CT-01`, `CT-11`, `CT-12`).

mod generation;
mod mask;
mod message;
mod python;

#[cfg(test)]
mod tests;

pub use message::Message;

use crate::tokenizer::Tokenizer;
use generation::Marks;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Kwargs;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, Value as Jinja};
use serde_json::{Map, Value};
use smolt_run::error::{Exit, ExitKind};
use std::io;
use std::ops::Range;

/// The template given to models trained here: plain ChatML, whose loss is on what the assistant says and on
/// `<|im_end|>`, and on nothing else (spec `CT-12`, trap `K-40`).
pub const CHATML: &str = include_str!("../chatml.jinja");

/// The largest template accepted, in bytes; real ones have up to 20 kB.
const MAX_SOURCE: usize = 1 << 20;
/// Stack for parsing and rendering, in bytes (of address space: what is not used costs nothing). The engine recurses
/// over expressions and nested values without a limit of its own, at most 700 bytes for a unit of fuel or a token.
const STACK: usize = 512 << 20;
/// The longest text a rendering may give, in bytes.
const MAX_OUTPUT: usize = 32 << 20;
/// About one unit per instruction or 64 bytes made: bounds time, memory and depth of hostile templates. Conversations
/// of several megabytes need less.
const FUEL: u64 = 500_000;
/// The name templates go by in error messages.
const NAME: &str = "chat_template";

/// Why a conversation could not be rendered or masked.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The template is not valid Jinja, or far too large.
    #[error("chat template, {place}: {problem}; correct the template")]
    Syntax {
        /// The line, or the whole.
        place: String,
        /// What is wrong.
        problem: String,
    },
    /// Rendering failed or was refused by the template itself (`raise_exception`).
    #[error("chat template, {place}: {problem}; check that the messages are what this template expects")]
    Render {
        /// The line, or the whole.
        place: String,
        /// What is wrong.
        problem: String,
    },
    /// A filter of the template cut a generation block apart.
    #[error(
        "chat template: a {{% generation %}} block is cut apart by a filter or never shown; keep blocks whole"
    )]
    BrokenGeneration,
    /// Tokens and text do not line up.
    #[error(
        "chat template: the tokenizer drops or changes text, so no loss mask can be made; use one that keeps it"
    )]
    Unaligned,
    /// The end token is not learned as it should be.
    #[error("chat template: {0}")]
    EndToken(String),
}

impl ExitKind for TemplateError {
    fn exit(&self) -> Exit {
        Exit::BadInput
    }
}

/// A conversation as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// What the model reads.
    pub text: String,
    /// Byte ranges of `text` that came from generation blocks, ascending, not nested.
    pub generation_spans: Vec<Range<usize>>,
}

/// A conversation as tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Token ids.
    pub ids: Vec<u32>,
    /// For each token whether the assistant says it: the tokens to learn. All false without generation blocks.
    pub assistant_mask: Vec<bool>,
}

/// A parsed chat template.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    env: Environment<'static>,
    source: String,
    has_generation: bool,
}

impl ChatTemplate {
    /// Parses `source`. `strftime_now` gives the current UTC time.
    pub fn new(source: &str) -> Result<Self, TemplateError> {
        Self::with_clock(source, None)
    }

    /// Parses `source` with the time of `strftime_now` pinned to `unix_seconds`, so that training data made twice is
    /// the same (trap `K-08`).
    pub fn pinned(source: &str, unix_seconds: i64) -> Result<Self, TemplateError> {
        let now = jiff::Timestamp::from_second(unix_seconds)
            .map_err(|e| TemplateError::Syntax { place: "pinned time".into(), problem: e.to_string() })?;
        Self::with_clock(source, Some(now))
    }

    fn with_clock(source: &str, now: Option<jiff::Timestamp>) -> Result<Self, TemplateError> {
        let whole = |problem: String| TemplateError::Syntax { place: "whole".into(), problem };
        if source.len() > MAX_SOURCE {
            return Err(whole(format!("{} bytes is above the limit of {MAX_SOURCE}", source.len())));
        }
        // What Jinja does with a template before it reads it.
        let lines = source.replace("\r\n", "\n").replace('\r', "\n");
        let (renamed, has_generation) = generation::rename_blocks(&lines).map_err(whole)?;
        let mut env = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        env.set_syntax(syntax.map_err(|e| whole(e.to_string()))?);
        env.set_auto_escape_callback(|_| AutoEscape::None);
        env.set_debug(false);
        env.set_fuel(Some(FUEL));
        env.set_recursion_limit(100);
        python::install(&mut env, now);
        env.add_function(generation::FUNCTION, generation_block);
        let parse = || {
            env.add_template_owned(NAME, renamed)
                .map_err(|e| TemplateError::Syntax { place: place(&e), problem: problem(&e) })
        };
        with_stack(parse).map_err(whole)??;
        Ok(Self { env, source: source.to_owned(), has_generation })
    }

    /// The template as given.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether it has `{% generation %}` blocks, without which nothing can be learned from its conversations.
    pub fn has_generation(&self) -> bool {
        self.has_generation
    }

    /// Renders `messages`; `add_generation_prompt` ends the text where the assistant is to go on. Variables `extra`
    /// (`tools`, `enable_thinking`, `bos_token`, …) are seen by the template.
    pub fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        extra: &Map<String, Value>,
    ) -> Result<Rendered, TemplateError> {
        let failed = |problem: String| TemplateError::Render { place: "whole".into(), problem };
        let messages = Value::Array(messages.iter().map(Message::for_template).collect());
        let mut texts = vec![self.source.as_str()];
        collect_texts(&messages, &mut texts);
        extra.iter().for_each(|(key, value)| {
            texts.push(key);
            collect_texts(value, &mut texts);
        });
        let marks = Marks::absent_from(texts)
            .ok_or_else(|| failed("the messages use every private character; clean them".into()))?;
        let text = with_stack(|| {
            let mut variables =
                vec![("tools".to_owned(), Jinja::from(())), ("documents".to_owned(), Jinja::from(()))];
            variables.extend(extra.iter().map(|(key, value)| (key.clone(), json_value(value))));
            variables.push(("messages".into(), json_value(&messages)));
            variables.push(("add_generation_prompt".into(), add_generation_prompt.into()));
            variables.push((MARKS.into(), format!("{}{}", marks.open, marks.close).into()));
            self.run(Jinja::from_pairs(variables))
        })
        .map_err(failed)??;
        let (text, generation_spans) = marks.cut(&text)?;
        Ok(Rendered { text, generation_spans })
    }

    fn run(&self, context: Jinja) -> Result<String, TemplateError> {
        let render = |e: Error| TemplateError::Render { place: place(&e), problem: problem(&e) };
        let mut out = Limited(Vec::new());
        self.env
            .get_template(NAME)
            .and_then(|t| t.render_captured_to(context, &mut out).map(drop))
            .map_err(render)?;
        String::from_utf8(out.0)
            .map_err(|e| TemplateError::Render { place: "whole".into(), problem: e.to_string() })
    }

    /// Renders and encodes `messages`; the tokenizer's `bos_token`, `eos_token`, … are visible to the template.
    ///
    /// As in transformers, special tokens written inside a message become special tokens.
    pub fn encode(
        &self,
        tokenizer: &Tokenizer,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<Encoded, TemplateError> {
        self.encode_with(tokenizer, messages, add_generation_prompt, &Map::new())
    }

    /// [`ChatTemplate::encode`] with further variables, which win over the tokenizer's.
    pub fn encode_with(
        &self,
        tokenizer: &Tokenizer,
        messages: &[Message],
        add_generation_prompt: bool,
        extra: &Map<String, Value>,
    ) -> Result<Encoded, TemplateError> {
        let mut variables: Map<String, Value> =
            tokenizer.special_tokens_map().iter().map(|(k, v)| (k.clone(), v.clone().into())).collect();
        variables.extend(extra.clone());
        let rendered = self.render(messages, add_generation_prompt, &variables)?;
        let ids = tokenizer.encode(&rendered.text, false);
        let assistant_mask =
            mask::assistant_mask(tokenizer, &rendered.text, &ids, &rendered.generation_spans)?;
        Ok(Encoded { ids, assistant_mask })
    }

    /// Checks that the model learns to say its answer, then `eos`, and nothing else, by rendering a sample conversation
    /// (spec `CT-12`, traps `K-09`, `K-40`).
    pub fn check_end_token(&self, tokenizer: &Tokenizer, eos: u32) -> Result<(), TemplateError> {
        let messages = [Message::new("user", "Question"), Message::new("assistant", "Answer")];
        let Encoded { ids, assistant_mask } = self.encode(tokenizer, &messages, false)?;
        let learned: Vec<u32> =
            ids.iter().zip(&assistant_mask).filter(|(_, on)| **on).map(|(id, _)| *id).collect();
        let wanted: Vec<u32> = tokenizer.encode("Answer", false).into_iter().chain([eos]).collect();
        if learned == wanted {
            return Ok(());
        }
        Err(TemplateError::EndToken(format!(
            "the loss would be on {:?} instead of {:?}; frame exactly the answer and its end token in {{% generation %}}",
            tokenizer.decode(&learned, false),
            tokenizer.decode(&wanted, false)
        )))
    }
}

/// Runs `work` on a thread with a large stack; a panic of the engine, a bug that hostile input may find, is an error.
fn with_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, String> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work);
        thread.map_err(|e| e.to_string())?.join().map_err(|_| "the template engine failed on it".to_owned())
    })
}

/// The variable that tells [`generation_block`] the two marks of this rendering.
const MARKS: &str = "__generation_marks__";

/// What `{% generation %}` blocks call: their body between the marks.
fn generation_block(state: &mut State, kwargs: Kwargs) -> Result<Jinja, Error> {
    let caller: Jinja = kwargs.get("caller")?;
    kwargs.assert_all_used()?;
    let body = caller.call(state, &[])?;
    let marks = state.lookup(MARKS).map(|marks| marks.to_string()).unwrap_or_default();
    let mut marks = marks.chars();
    match (marks.next(), marks.next()) {
        (Some(open), Some(close)) => Ok(Jinja::from(format!("{open}{body}{close}"))),
        _ => Err(Error::new(ErrorKind::InvalidOperation, "the generation marks were overwritten")),
    }
}

fn collect_texts<'a>(value: &'a Value, out: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => out.push(text),
        Value::Array(items) => items.iter().for_each(|item| collect_texts(item, out)),
        Value::Object(map) => map.iter().for_each(|(key, item)| {
            out.push(key);
            collect_texts(item, out);
        }),
        _ => {}
    }
}

/// A JSON value as templates see it.
pub fn json_value(value: &Value) -> Jinja {
    match value {
        Value::Null => Jinja::from(()),
        Value::Bool(b) => Jinja::from(*b),
        Value::Number(n) => match (n.as_i64(), n.as_u64()) {
            (Some(n), _) => Jinja::from(n),
            (_, Some(n)) => Jinja::from(n),
            _ => Jinja::from(n.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => Jinja::from(text.as_str()),
        Value::Array(items) => items.iter().map(json_value).collect(),
        Value::Object(map) => {
            Jinja::from_pairs(map.iter().map(|(key, item)| (key.clone(), json_value(item))))
        }
    }
}

fn place(error: &Error) -> String {
    error.line().map_or("whole".into(), |line| format!("line {line}"))
}

fn problem(error: &Error) -> String {
    match error.kind() {
        ErrorKind::OutOfFuel => "it does not come to an end (work limit reached)".into(),
        kind => error.detail().map_or_else(|| kind.to_string(), str::to_owned),
    }
}

/// An output that stops growing at [`MAX_OUTPUT`].
struct Limited(Vec<u8>);

impl io::Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_OUTPUT {
            return Err(io::Error::other(format!("the text is longer than {MAX_OUTPUT} bytes")));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
