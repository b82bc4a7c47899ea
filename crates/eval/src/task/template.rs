//! Templates and expressions over the columns of a row: Jinja, as chat templates are.

use super::{Formulation, MAX_SOURCE, Task};
use crate::score::latex;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Value, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior};
use regex::Regex;
use serde_json::Map;
use smolt_text::template::json_value;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// About one unit per instruction or 64 bytes made; rows of long documents need less.
const FUEL: u64 = 500_000;

/// Stack for parsing and rendering in bytes of address space: the engine recurses over nested expressions.
const STACK: usize = 256 << 20;

/// A template or expression that does not work on a row.
#[derive(Debug, thiserror::Error)]
#[error("`{field}`: {problem}")]
pub struct TemplateError {
    /// The setting, such as `item.prompt`.
    pub field: &'static str,
    /// What is wrong.
    pub problem: String,
}

/// The engine with the filters that tasks may use: `letter` (0 → A), `index(value)` (place in a list), `last_boxed` (the answer in
/// a solution of MATH's) and `regex_replace(pattern, with)`, besides Jinja's own and Python's string methods.
pub struct Templates {
    env: Environment<'static>,
}

impl Default for Templates {
    fn default() -> Self {
        let mut env = Environment::new();
        // What a template ends with is part of the prompt. These settings are always valid.
        if let Ok(syntax) = SyntaxConfig::builder().keep_trailing_newline(true).build() {
            env.set_syntax(syntax);
        }
        env.set_auto_escape_callback(|_| AutoEscape::None);
        env.set_undefined_behavior(UndefinedBehavior::Strict);
        env.set_debug(false);
        env.set_fuel(Some(FUEL));
        env.set_recursion_limit(100);
        env.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        env.add_filter("letter", letter);
        env.add_filter("index", index);
        env.add_filter("last_boxed", last_boxed);
        let patterns = Patterns::default();
        env.add_filter("regex_replace", move |text: String, pattern: &str, with: &str| {
            Ok::<_, Error>(patterns.get(pattern)?.replace_all(&text, with).into_owned())
        });
        Templates { env }
    }
}

impl Templates {
    /// Renders a template over the variables.
    pub fn render(
        &self,
        field: &'static str,
        source: &str,
        variables: &Value,
    ) -> Result<String, TemplateError> {
        self.env.render_str(source, variables).map_err(|e| wrong(field, source, &e))
    }

    /// The value of an expression over the variables.
    pub fn value(
        &self,
        field: &'static str,
        source: &str,
        variables: &Value,
    ) -> Result<Value, TemplateError> {
        let expression = self.env.compile_expression(source).map_err(|e| wrong(field, source, &e))?;
        let value = expression.eval(variables).map_err(|e| wrong(field, source, &e))?;
        if value.is_undefined() {
            return Err(TemplateError {
                field,
                problem: format!("`{source}` has no value; check the columns"),
            });
        }
        Ok(value)
    }

    /// The value of an expression as text.
    pub fn text(
        &self,
        field: &'static str,
        source: &str,
        variables: &Value,
    ) -> Result<String, TemplateError> {
        Ok(self.value(field, source, variables)?.to_string())
    }

    /// The value of an expression as a list of texts.
    pub fn texts(
        &self,
        field: &'static str,
        source: &str,
        variables: &Value,
    ) -> Result<Vec<String>, TemplateError> {
        let value = self.value(field, source, variables)?;
        if value.kind() != ValueKind::Seq && value.kind() != ValueKind::Iterable {
            let problem = format!("`{source}` is {}, not a list", value.kind());
            return Err(TemplateError { field, problem });
        }
        let items = value.try_iter().map_err(|e| wrong(field, source, &e))?;
        Ok(items.map(|item| item.to_string()).collect())
    }

    /// Whether every template and expression of a task can be parsed.
    pub(super) fn check(task: &Task) -> Result<(), String> {
        let item = &task.item;
        let generation = task.generation.as_ref();
        let templates = [
            ("item.prompt", Some(&item.prompt)),
            ("item.chat_prompt", item.chat_prompt.as_ref()),
            ("item.continuation", item.continuation.as_ref()),
            ("item.description", Some(&item.description)),
            ("multiple_choice.prompt", task.multiple_choice.as_ref().map(|m| &m.prompt)),
            ("generation.prompt", generation.and_then(|g| g.prompt.as_ref())),
        ];
        let expressions = [
            ("item.choices", item.choices.as_ref()),
            ("item.answer", item.answer.as_ref()),
            ("item.prompts", item.prompts.as_ref()),
            ("item.id", item.id.as_ref()),
            ("item.subset", item.subset.as_ref()),
            ("item.cluster", item.cluster.as_ref()),
            ("dataset.filter", task.dataset.filter.as_ref()),
            ("generation.target", generation.map(|g| &g.target)),
            ("generation.answers", generation.and_then(|g| g.answers.as_ref())),
        ];
        for (field, source) in templates.iter().chain(&expressions) {
            if source.is_some_and(|source| source.len() > MAX_SOURCE) {
                return Err(format!("`{field}` is longer than {MAX_SOURCE} bytes"));
            }
        }
        on_deep_stack(|| {
            let engine = Templates::default();
            for (field, source) in templates {
                let parsed = source.map_or(Ok(()), |s| engine.env.template_from_str(s).map(drop));
                parsed.map_err(|e| wrong(field, source.map_or("", String::as_str), &e).to_string())?;
            }
            for (field, source) in expressions {
                let parsed = source.map_or(Ok(()), |s| engine.env.compile_expression(s).map(drop));
                parsed.map_err(|e| wrong(field, source.map_or("", String::as_str), &e).to_string())?;
            }
            Ok(())
        })?
    }
}

/// Runs `work` on a thread with a large stack; a panic of the engine, a bug that hostile input may find, is an error.
pub(super) fn on_deep_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, String> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work);
        thread.map_err(|e| e.to_string())?.join().map_err(|_| "the template engine failed on it".to_owned())
    })
}

/// The columns of a row as variables, and others beside them.
pub(super) fn variables(row: &Map<String, serde_json::Value>, others: &[(&str, Value)]) -> Value {
    let columns = row.iter().map(|(name, value)| (name.clone(), json_value(value)));
    let others = others.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
    Value::from_pairs(columns.chain(others))
}

fn wrong(field: &'static str, source: &str, error: &Error) -> TemplateError {
    let line = error.line().filter(|&line| line > 1).map_or(String::new(), |line| format!("line {line}: "));
    let problem = match error.kind() {
        ErrorKind::OutOfFuel => "it does not come to an end (work limit reached)".into(),
        ErrorKind::UndefinedError => {
            let shown: String = source.chars().take(80).flat_map(char::escape_debug).collect();
            format!("a column of `{shown}` is missing")
        }
        kind => error.detail().map_or_else(|| kind.to_string(), str::to_owned),
    };
    TemplateError { field, problem: format!("{line}{problem}") }
}

/// The letter of an option: 0 is A.
fn letter(index: usize) -> Result<String, Error> {
    match u32::try_from(index).ok().filter(|&i| i < 26).and_then(|i| char::from_u32('A' as u32 + i)) {
        Some(letter) => Ok(letter.to_string()),
        None => Err(Error::new(ErrorKind::InvalidOperation, "there are letters for 26 options")),
    }
}

/// The place of `wanted` in a list or text, compared as text where types differ (`1` and `"1"`).
fn index(list: Value, wanted: Value) -> Result<usize, Error> {
    if let Some(text) = list.as_str() {
        let wanted = wanted.to_string();
        let place = text.find(&wanted).map(|at| text[..at].chars().count());
        return place.filter(|_| !wanted.is_empty()).ok_or_else(|| absent(&wanted, "text"));
    }
    let items: Vec<Value> = list.try_iter()?.collect();
    let same = |item: &Value| *item == wanted || item.to_string() == wanted.to_string();
    items.iter().position(same).ok_or_else(|| absent(&wanted.to_string(), "list"))
}

/// What stands in the last `\boxed{…}`.
fn last_boxed(solution: &str) -> Result<String, Error> {
    let none = || Error::new(ErrorKind::InvalidOperation, "there is no \\boxed{…} in the text");
    latex::last_boxed(solution).map(str::to_owned).ok_or_else(none)
}

fn absent(wanted: &str, place: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("`{wanted}` is not in the {place}"))
}

/// Patterns that were compiled before: that takes a hundred times as long as using them on a row.
#[derive(Default)]
struct Patterns(Mutex<HashMap<String, Regex>>);

impl Patterns {
    /// As many as are kept; a task has a few, unless it makes them from columns.
    const MOST: usize = 8;

    fn get(&self, pattern: &str) -> Result<Regex, Error> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(regex) = kept.get(pattern) {
            return Ok(regex.clone());
        }
        let regex =
            Regex::new(pattern).map_err(|e| Error::new(ErrorKind::InvalidOperation, e.to_string()))?;
        if kept.len() == Self::MOST {
            kept.clear();
        }
        kept.insert(pattern.to_owned(), regex.clone());
        Ok(regex)
    }
}

/// What a formulation asks, for messages.
pub(super) fn prompt_field(formulation: Formulation) -> &'static str {
    match formulation {
        Formulation::Cloze => "item.prompt",
        Formulation::MultipleChoice => "multiple_choice.prompt",
        Formulation::Generation => "generation.prompt",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_kept_and_few() {
        let patterns = Patterns::default();
        for i in 0..3 * Patterns::MOST {
            let of = patterns.get(&format!("x{i}$")).unwrap();
            assert_eq!(of.replace_all(&format!("x{i}"), "y"), "y");
            assert!(
                patterns.get(&format!("x{i}$")).is_ok() && patterns.0.lock().unwrap().len() <= Patterns::MOST
            );
        }
        assert!(patterns.get("(").is_err());
    }
}
