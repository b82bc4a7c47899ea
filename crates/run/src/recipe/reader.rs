//! Walks a tree against the types of a recipe and collects every problem with its place.

use std::sync::Arc;

use super::error::{Problem, RecipeError};
use super::node::{Entry, Node, Value, shorten};
use super::schema::Kind;
use super::setting::Setting;

/// More problems than this are not collected: a file of that many is not a recipe.
const MAX_PROBLEMS: usize = 1000;

/// Where the walk is and what it found wrong.
pub struct Reader {
    pub(crate) file: Arc<str>,
    path: Vec<String>,
    problems: Vec<Problem>,
}

impl Reader {
    pub(crate) fn new(file: Arc<str>, path: Vec<String>) -> Self {
        Self { file, path, problems: Vec::new() }
    }

    /// The value read, unless there were problems.
    pub(crate) fn finish<T>(self, value: Option<T>) -> Result<T, RecipeError> {
        match value {
            Some(value) if self.problems.is_empty() => Ok(value),
            _ => Err(RecipeError::new(&self.file, self.problems)),
        }
    }

    pub(crate) fn path(&self) -> &[String] {
        &self.path
    }

    pub(crate) fn inside<R>(&mut self, key: &str, read: impl FnOnce(&mut Self) -> R) -> R {
        self.path.push(key.to_owned());
        let result = read(self);
        self.path.pop();
        result
    }

    pub(crate) fn report(&mut self, problem: Problem) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(problem);
        }
    }

    /// Reports that `node` is not a `T`.
    pub fn wrong_type<T: Setting>(&mut self, node: &Node) -> Option<T> {
        let (key, kind, found) = (self.key(), T::kind(), node.value.describe());
        let mut message = format!("`{key}` must be {}, found {found}", kind.describe());
        if let (Value::Float(_), Kind::Integer { .. }) = (&node.value, &kind) {
            message.push_str(": write it without a decimal point or exponent");
        }
        if let (Value::String(text), Kind::OneOf(names)) = (&node.value, &kind)
            && let Some(near) = nearest(text, names.iter().map(|(name, _)| *name))
        {
            message.push_str(&format!(": did you mean \"{near}\"?"));
        }
        self.report(Problem::new(node.place.clone(), message));
        None
    }

    /// The entries of a table; reports a problem when `node` is something else.
    #[doc(hidden)]
    pub fn table<'a, T: Setting>(&mut self, node: &'a Node) -> Option<TableReader<'a>> {
        match &node.value {
            Value::Table(entries) => Some(TableReader { node, entries }),
            _ => {
                self.wrong_type::<T>(node);
                None
            }
        }
    }

    /// The string at `node`, for enums.
    #[doc(hidden)]
    pub fn choice<'a>(&mut self, node: &'a Node) -> Option<&'a str> {
        match &node.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// `a.b[2].c`.
    fn key(&self) -> String {
        self.path.iter().fold(String::new(), |mut all, part| {
            if !all.is_empty() && !part.starts_with('[') {
                all.push('.');
            }
            all.push_str(&shorten(part));
            all
        })
    }
}

/// One table under the walk; used by the code that [`crate::recipe!`] writes.
#[doc(hidden)]
pub struct TableReader<'a> {
    node: &'a Node,
    entries: &'a [Entry],
}

impl TableReader<'_> {
    /// The value of key `name`: read, or its default, or reported missing.
    pub fn field<T: Setting>(
        &self,
        name: &str,
        default: Option<fn() -> T>,
        reader: &mut Reader,
    ) -> Option<T> {
        if let Some(entry) = self.entries.iter().find(|entry| entry.key == name) {
            return reader.inside(name, |reader| T::read(&entry.node, reader));
        }
        let value = default.map(|default| default()).or_else(T::absent);
        if value.is_none() {
            let table = match reader.key() {
                path if path.is_empty() => "the recipe".to_owned(),
                path => format!("[{path}]"),
            };
            let kind = T::kind();
            let fix = match kind {
                Kind::Table(_) | Kind::AnyTable | Kind::Map(_) => {
                    format!("add [{}]", reader.inside(name, |reader| reader.key()))
                }
                _ => format!("add `{name} = …`, {}", kind.describe()),
            };
            let message = format!("{table} lacks the required key `{name}`: {fix}");
            reader.report(Problem::new(self.node.place.clone(), message));
        }
        value
    }

    /// Reports every key that is not in `known`.
    pub fn reject_unknown(&self, known: &[&'static str], reader: &mut Reader) {
        for entry in self.entries.iter().filter(|entry| !known.contains(&entry.key.as_str())) {
            let key = reader.inside(&entry.key, |reader| reader.key());
            let fix = match nearest(&entry.key, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known here: {}", known.join(", ")),
            };
            reader.report(Problem::new(entry.place.clone(), format!("unknown key `{key}`: {fix}")));
        }
    }
}

/// The most similar of `known`, if any is similar at all.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > 64 {
        return None;
    }
    let word = word.to_lowercase().replace('-', "_");
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&word, &name.to_lowercase().replace('-', "_")), name))
        .filter(|(distance, name)| *distance <= (word.len().max(name.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}
