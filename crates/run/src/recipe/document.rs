//! A recipe on its way from file to struct: parsed, overridden by `--set`, then read.

use std::fmt::Display;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use super::error::{Problem, RecipeError};
use super::node::{self, Entry, Lines, Node, Place, Value};
use super::reader::{Reader, nearest};
use super::schema::{Kind, Schema};
use super::setting::{Recipe, Setting};

/// Larger files are refused before they are parsed.
pub const MAX_BYTES: u64 = 1 << 20;

/// The key that names the file to lay this one over.
const EXTENDS: &str = "extends";
/// Files that may extend one another in a row.
const MAX_BASES: usize = 8;

/// A parsed TOML table that knows the place of each key. As a field of a recipe it is a table whose keys are checked
/// later, by [`Document::read`].
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    file: Arc<str>,
    path: Vec<String>,
    root: Node,
}

impl Document {
    /// Reads and parses a file of at most 1 MiB. With `extends = "base.toml"`, what it says is laid over another file of
    /// the same folder, key by key.
    pub fn load(path: &Path) -> Result<Self, RecipeError> {
        Self::load_over(path, MAX_BASES)
    }

    fn load_over(path: &Path, bases: usize) -> Result<Self, RecipeError> {
        let mut document = Self::load_alone(path)?;
        if !document.keys().contains(&EXTENDS) {
            return Ok(document);
        }
        let wrong = |message: String| document.error(EXTENDS, message);
        let Some((_, Node { value: Value::String(name), .. })) = find(&document.root, EXTENDS) else {
            return Err(wrong("must be the name of a file beside this one".to_owned()));
        };
        if name.is_empty() || name.contains(['/', '\\']) {
            return Err(wrong(format!(
                "{name:?} must be the name of a file beside this one, without a folder"
            )));
        }
        if bases == 0 {
            return Err(wrong(format!("more than {MAX_BASES} files extend one another: break the circle")));
        }
        let base = Self::load_over(&path.with_file_name(name), bases - 1)?;
        let own = std::mem::replace(&mut document.root, base.root.of_base(&base.file));
        document.root.overlay(own);
        if let Value::Table(entries) = &mut document.root.value {
            entries.retain(|entry| entry.key != EXTENDS);
        }
        Ok(document)
    }

    fn load_alone(path: &Path) -> Result<Self, RecipeError> {
        let name = path.display().to_string();
        let fail = |message: String| RecipeError::new(&name, vec![Problem::whole(message)]);
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
            .map_err(|error| fail(format!("cannot read the recipe: {error}; check the path")))?;
        Self::parse(&name, &bytes)
    }

    /// Parses bytes; `name` stands for the file in messages.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self, RecipeError> {
        if bytes.len() as u64 > MAX_BYTES {
            let message = "larger than 1 MiB, so not a recipe: check the path".to_owned();
            return Err(RecipeError::new(name, vec![Problem::whole(message)]));
        }
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let valid = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
            let place = Lines::new(&valid).place(valid.len());
            RecipeError::new(name, vec![Problem::new(place, "not UTF-8: save the file as UTF-8".to_owned())])
        })?;
        let root = node::parse(name, text)?;
        Ok(Self { file: name.into(), path: Vec::new(), root })
    }

    /// The file's name as given.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The keys of this table, in unspecified but fixed order.
    pub fn keys(&self) -> Vec<&str> {
        match &self.root.value {
            Value::Table(entries) => entries.iter().map(|entry| entry.key.as_str()).collect(),
            _ => Vec::new(),
        }
    }

    /// The whole table as `T`; every unknown key, wrong type and missing key is told at once.
    pub fn read<T: Recipe>(&self) -> Result<T, RecipeError> {
        let mut reader = Reader::new(self.file.clone(), self.path.clone());
        let value = T::read(&self.root, &mut reader);
        reader.finish(value)
    }

    /// Removes `key` from this table and reads it; what is left can then be read as another recipe.
    pub fn take<T: Setting>(&mut self, key: &str) -> Result<T, RecipeError> {
        let mut reader = Reader::new(self.file.clone(), self.path.clone());
        let value = match reader.table::<Self>(&self.root) {
            Some(table) => table.field::<T>(key, None, &mut reader),
            None => None,
        };
        if let Value::Table(entries) = &mut self.root.value {
            entries.retain(|entry| entry.key != key);
        }
        reader.finish(value)
    }

    /// Applies `section.key=value`. The value is TOML, or else a bare string. Tables on the way are created; an
    /// element of an array of tables is addressed by its `name` or its index. Whether the key exists is told by
    /// [`Document::read`].
    pub fn set(&mut self, argument: &str) -> Result<(), RecipeError> {
        self.set_at(None, argument)
    }

    /// The same below the array of tables `array`: with `[[step]]`, `set_in("step", "pretrain.lr=1")` changes the
    /// step named `pretrain`.
    pub fn set_in(&mut self, array: &str, argument: &str) -> Result<(), RecipeError> {
        self.set_at(Some(array), argument)
    }

    fn set_at(&mut self, first: Option<&str>, argument: &str) -> Result<(), RecipeError> {
        let shared: Arc<str> = argument.into();
        let fail = |message: String| {
            let problem = Problem::new(Place::Set(shared.clone()), message);
            RecipeError::new(&self.file, vec![problem])
        };
        let Some((path, value)) = argument.split_once('=') else {
            return Err(fail("no `=`: write --set section.key=value".to_owned()));
        };
        let path = path.trim();
        let keys: Vec<&str> = first.into_iter().chain(path.split('.').map(str::trim)).collect();
        if keys.iter().any(|key| key.is_empty()) {
            return Err(fail("an empty key: write --set section.key=value".to_owned()));
        }
        // The reader, the schema and the file syntax share this bound on nesting.
        if keys.len() > 80 {
            return Err(fail("nested deeper than 80 tables".to_owned()));
        }
        let value = node::parse_value(value.trim(), &shared);
        assign(&mut self.root, &keys, value, &Place::Set(shared.clone())).map_err(fail)
    }

    /// An error about the value of dotted `key` (found as [`Document::set`] finds it), for checks that types cannot
    /// express, such as heads that do not divide the hidden size. `message` must name the fix.
    pub fn error(&self, key: &str, message: impl Display) -> RecipeError {
        let mut place = self.root.place.clone();
        let mut node = &self.root;
        for part in key.split('.') {
            match find(node, part) {
                Some((at, next)) => (place, node) = (at, next),
                None => break,
            }
        }
        let full = self.path.iter().map(|part| format!("{part}.")).collect::<String>() + key;
        let full = full.replace(".[", "[");
        RecipeError::new(&self.file, vec![Problem::new(place, format!("`{full}`: {message}"))])
    }
}

impl Setting for Document {
    fn kind() -> Kind {
        Kind::AnyTable
    }

    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        reader.table::<Self>(node)?;
        Some(Self { file: reader.file.clone(), path: reader.path().to_vec(), root: node.clone() })
    }

    fn write(&self) -> Option<toml::Value> {
        Some(to_value(&self.root))
    }
}

/// So that `Document` can be read out of a `Document`: no keys of its own.
impl Recipe for Document {
    fn schema() -> Schema {
        Schema { name: "Document", doc: String::new(), fields: Vec::new() }
    }
}

fn to_value(node: &Node) -> toml::Value {
    match &node.value {
        Value::Bool(value) => toml::Value::Boolean(*value),
        Value::Integer(value) => toml::Value::Integer(*value),
        Value::Float(value) => toml::Value::Float(*value),
        Value::String(text) => toml::Value::String(text.clone()),
        // A date that was parsed parses again.
        Value::Datetime(text) => {
            text.parse().map_or_else(|_| toml::Value::String(text.clone()), toml::Value::Datetime)
        }
        Value::Array(items) => toml::Value::Array(items.iter().map(to_value).collect()),
        Value::Table(entries) => {
            toml::Value::Table(entries.iter().map(|e| (e.key.clone(), to_value(&e.node))).collect())
        }
    }
}

/// The child of a table by key, or of an array by `name` or index.
fn find<'a>(node: &'a Node, key: &str) -> Option<(Place, &'a Node)> {
    match &node.value {
        Value::Table(entries) => {
            entries.iter().find(|entry| entry.key == key).map(|entry| (entry.place.clone(), &entry.node))
        }
        Value::Array(items) => {
            position(items, key).and_then(|at| items.get(at)).map(|item| (item.place.clone(), item))
        }
        _ => None,
    }
}

fn position(items: &[Node], key: &str) -> Option<usize> {
    let named = items.iter().position(|item| name_of(item) == Some(key));
    named.or_else(|| key.parse().ok().filter(|&index: &usize| index < items.len()))
}

fn name_of(node: &Node) -> Option<&str> {
    let Value::Table(entries) = &node.value else { return None };
    match entries.iter().find(|entry| entry.key == "name").map(|entry| &entry.node.value) {
        Some(Value::String(name)) => Some(name),
        _ => None,
    }
}

fn assign(root: &mut Node, keys: &[&str], value: Node, place: &Place) -> Result<(), String> {
    let mut node = root;
    for (depth, &key) in keys.iter().enumerate() {
        let above = keys[..depth].join(".");
        node = match &mut node.value {
            Value::Table(entries) => {
                let at = entries.iter().position(|entry| entry.key == key).unwrap_or_else(|| {
                    let table = Node { value: Value::Table(Vec::new()), place: place.clone() };
                    entries.push(Entry { key: key.to_owned(), place: place.clone(), node: table });
                    entries.len() - 1
                });
                &mut entries[at].node
            }
            Value::Array(items) => match position(items, key) {
                Some(at) => &mut items[at],
                None => {
                    let names: Vec<&str> = items.iter().filter_map(name_of).collect();
                    let fix = match nearest(key, names.iter().copied()) {
                        Some(near) => format!("did you mean \"{near}\"?"),
                        None => format!("there are: {}", names.join(", ")),
                    };
                    return Err(format!("no element of `{above}` is named \"{key}\": {fix}"));
                }
            },
            other => return Err(format!("`{above}` is {}, not a table: drop `.{key}`", other.describe())),
        };
    }
    *node = value;
    Ok(())
}
