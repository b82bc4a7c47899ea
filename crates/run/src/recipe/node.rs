//! A TOML tree that remembers where each value came from, so that every later error can say where.

use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Problem, RecipeError};

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// In the file, 1-based, columns counted in characters.
    At { line: usize, column: usize },
    /// In a file that the file extends.
    Base { file: Arc<str>, line: usize, column: usize },
    /// In a `--set` argument: the whole argument.
    Set(Arc<str>),
}

/// A value with its place. Opaque outside this crate; read it through [`super::Setting`].
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub(crate) value: Value,
    pub(crate) place: Place,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Bool(bool),
    Integer(i64),
    Float(f64),
    String(String),
    Datetime(String),
    Array(Vec<Node>),
    Table(Vec<Entry>),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) place: Place,
    pub(crate) node: Node,
}

impl Value {
    /// What the value is, for "found …".
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Bool(value) => format!("{value}"),
            Self::Integer(value) => format!("the number {value}"),
            Self::Float(value) => format!("the number {value}"),
            Self::String(value) => format!("the string {:?}", shorten(value)),
            Self::Datetime(value) => format!("the date {value}"),
            Self::Array(_) => "an array".to_owned(),
            Self::Table(_) => "a table".to_owned(),
        }
    }
}

impl Node {
    /// An empty table at the top of a file.
    pub(crate) fn empty() -> Self {
        Self { value: Value::Table(Vec::new()), place: Place::At { line: 1, column: 1 } }
    }
}

impl Node {
    /// As a part of a file that another one extends.
    pub(crate) fn of_base(mut self, base: &Arc<str>) -> Self {
        self.place = self.place.of_base(base);
        self.value = match self.value {
            Value::Array(items) => Value::Array(items.into_iter().map(|item| item.of_base(base)).collect()),
            Value::Table(entries) => Value::Table(
                entries
                    .into_iter()
                    .map(|entry| Entry {
                        place: entry.place.of_base(base),
                        node: entry.node.of_base(base),
                        ..entry
                    })
                    .collect(),
            ),
            value => value,
        };
        self
    }

    /// Puts what `over` says over this table, key by key; what is not a table is replaced.
    pub(crate) fn overlay(&mut self, over: Node) {
        let (Value::Table(entries), Value::Table(new)) = (&mut self.value, &over.value) else {
            *self = over;
            return;
        };
        for entry in new {
            match entries.iter_mut().find(|old| old.key == entry.key) {
                Some(old) => {
                    old.place = entry.place.clone();
                    old.node.overlay(entry.node.clone());
                }
                None => entries.push(entry.clone()),
            }
        }
        self.place = over.place;
    }
}

impl Place {
    fn of_base(self, base: &Arc<str>) -> Place {
        match self {
            Place::At { line, column } => Place::Base { file: base.clone(), line, column },
            other => other,
        }
    }
}

/// At most 40 characters of a text, for messages.
pub(crate) fn shorten(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Parses a document; syntax errors are all reported at once. `toml` limits the nesting to 80.
pub(crate) fn parse(file: &str, text: &str) -> Result<Node, RecipeError> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let lines = Lines::new(text);
    if !errors.is_empty() {
        let problems = errors.iter().map(|error| {
            let place = lines.place(error.span().map_or(0, |span| span.start));
            Problem::new(place, format!("not valid TOML: {}", error.message()))
        });
        return Err(RecipeError::new(file, problems.collect()));
    }
    let place = Place::At { line: 1, column: 1 };
    let mut problems = Vec::new();
    let entries = convert_table(table.get_ref(), &mut |at| lines.place(at), &mut problems);
    if problems.is_empty() {
        Ok(Node { value: Value::Table(entries), place })
    } else {
        Err(RecipeError::new(file, problems))
    }
}

/// Parses one value of a `--set`; text that is not TOML is a bare string.
pub(crate) fn parse_value(text: &str, argument: &Arc<str>) -> Node {
    let place = Place::Set(argument.clone());
    let parsed = DeValue::parse(text).ok();
    let converted = parsed.map(|value| {
        let mut problems = Vec::new();
        let node = convert(&value, &mut |_| Place::Set(argument.clone()), &mut problems);
        (node, problems)
    });
    match converted {
        Some((node, problems)) if problems.is_empty() => node,
        _ => Node { value: Value::String(text.to_owned()), place },
    }
}

type PlaceOf<'a> = dyn FnMut(usize) -> Place + 'a;

fn convert_table(table: &DeTable<'_>, place: &mut PlaceOf<'_>, problems: &mut Vec<Problem>) -> Vec<Entry> {
    table
        .iter()
        .map(|(key, value)| Entry {
            key: key.get_ref().to_string(),
            place: place(key.span().start),
            node: convert(value, place, problems),
        })
        .collect()
}

fn convert(value: &Spanned<DeValue<'_>>, place: &mut PlaceOf<'_>, problems: &mut Vec<Problem>) -> Node {
    let at = place(value.span().start);
    let value = match value.get_ref() {
        DeValue::Boolean(value) => Value::Bool(*value),
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Datetime(date) => Value::Datetime(date.to_string()),
        DeValue::Integer(text) => {
            Value::Integer(i64::from_str_radix(text.as_str(), text.radix()).unwrap_or_else(|_| {
                let shown = shorten(text.as_str());
                problems.push(Problem::new(
                    at.clone(),
                    format!("{shown} does not fit 64 bits: write a smaller number"),
                ));
                0
            }))
        }
        DeValue::Float(text) => Value::Float(text.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Array(items) => {
            Value::Array(items.iter().map(|item| convert(item, place, problems)).collect())
        }
        DeValue::Table(table) => Value::Table(convert_table(table, place, problems)),
    };
    Node { value, place: at }
}

/// Byte offsets to lines and columns.
pub(crate) struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { text, starts }
    }

    pub(crate) fn place(&self, offset: usize) -> Place {
        let line = self.starts.partition_point(|&start| start <= offset);
        let start = self.starts[line - 1];
        let before = self.text.get(start..offset).unwrap_or_default();
        // Long lines would make many errors on one line quadratic; nobody reads such columns as characters.
        let column = if before.len() > 4096 { before.len() } else { before.chars().count() };
        Place::At { line, column: column + 1 }
    }
}
