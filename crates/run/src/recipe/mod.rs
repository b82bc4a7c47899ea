//! Recipes: TOML files whose every mistake is told at once, with file, line, column, key and fix (spec `ABL-17`).
//!
//! A recipe struct is declared once with [`crate::recipe!`]; reading, defaults, writing back, `--set` overrides and
//! the JSON Schema all come from that declaration.

mod document;
mod error;
mod macros;
mod node;
mod reader;
mod schema;
mod setting;
#[cfg(test)]
mod tests;

use std::path::Path;

pub use document::{Document, MAX_BYTES};
pub use error::RecipeError;
pub use node::Node;
pub(crate) use reader::nearest;
pub use reader::{Reader, TableReader};
pub use schema::{Field, Kind, Schema};
pub use setting::{FormatVersion, Recipe, Setting};
#[doc(hidden)]
pub use toml as __toml;

/// Loads `path`, applies the `--set` arguments in order and reads the result.
pub fn load<T: Recipe>(path: &Path, sets: &[String]) -> Result<T, RecipeError> {
    let mut document = Document::load(path)?;
    for argument in sets {
        document.set(argument)?;
    }
    document.read()
}

/// `T` with nothing given; an error where a key is required.
pub fn defaults<T: Setting>() -> Result<T, RecipeError> {
    let mut reader = Reader::new("defaults".into(), Vec::new());
    let value = T::read(&Node::empty(), &mut reader);
    reader.finish(value)
}

/// The resolved recipe as TOML: every key explicit, except options that are not set. Reads back as the same value.
pub fn to_toml<T: Setting>(recipe: &T) -> String {
    match recipe.write() {
        Some(toml::Value::Table(table)) => table.to_string(),
        Some(other) => other.to_string(),
        None => String::new(),
    }
}

/// The resolved recipe as JSON, keys in the order of declaration: for step keys, reports and `--json`.
pub fn to_json<T: Setting>(recipe: &T) -> serde_json::Value {
    recipe.write().as_ref().map_or(serde_json::Value::Null, schema::to_json)
}

/// JSON Schema (draft 2020-12) of a recipe, for editors.
pub fn json_schema<T: Recipe>() -> serde_json::Value {
    let mut root = serde_json::Map::new();
    root.insert("$schema".to_owned(), "https://json-schema.org/draft/2020-12/schema".into());
    root.extend(T::schema().json());
    serde_json::Value::Object(root)
}

/// Entry point for fuzzing: whatever the bytes, no panic, and what reads also writes and reads back.
#[doc(hidden)]
pub fn fuzz_recipe(bytes: &[u8]) {
    crate::recipe! {
        /// One of everything.
        struct Everything {
            flag: bool = false,
            count: u64 = 1,
            signed: Option<i64>,
            ratio: f64 = 0.5,
            text: String = String::new(),
            list: Vec<f64> = Vec::new(),
            map: std::collections::BTreeMap<String, Inner> = Default::default(),
            inner: Inner,
            step: Vec<Inner> = Vec::new(),
            rest: Option<Document>,
        }

        /// Nested.
        struct Inner {
            name: String = String::from("x"),
            choice: Choice = Choice::One,
        }

        enum Choice {
            One = "one",
            Two = "two",
        }
    }
    let first_line =
        String::from_utf8_lossy(bytes.split(|&b| b == b'\n').next().unwrap_or_default()).into_owned();
    let Ok(mut document) = Document::parse("fuzz.toml", bytes) else { return };
    if let Ok(value) = document.read::<Everything>() {
        let again = Document::parse("again.toml", to_toml(&value).as_bytes());
        let again = again.and_then(|document| document.read::<Everything>());
        // Places inside `rest` differ, values must not.
        assert_eq!(again.as_ref().map(to_toml), Ok(to_toml(&value)));
    }
    if document.set(&first_line).is_ok() {
        let _ = document.read::<Everything>().map_err(|error| error.to_string());
    }
    let _ = document.error(&first_line, "checked").to_string();
}

#[doc(hidden)]
pub fn __doc(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join("\n").trim().to_owned()
}

/// `r#type` is written `type` in TOML.
#[doc(hidden)]
pub fn __key(identifier: &'static str) -> &'static str {
    identifier.strip_prefix("r#").unwrap_or(identifier)
}

#[doc(hidden)]
pub fn __field<T: Setting>(name: &'static str, doc: &str, default: Option<fn() -> T>) -> Field {
    let default = default.map(|default| default());
    let required = default.is_none() && T::absent().is_none();
    let default = default.and_then(|value| value.write());
    Field { name: __key(name), doc: __doc(doc), kind: T::kind(), required, default }
}
