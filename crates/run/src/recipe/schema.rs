//! The description of a recipe: what the reader accepts, what JSON Schema publishes.

use serde_json::{Map, Value as Json, json};

/// A table's name, documentation and keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Schema {
    /// The Rust name of the struct.
    pub name: &'static str,
    /// Its doc comment.
    pub doc: String,
    /// Its keys, in the order they were declared.
    pub fields: Vec<Field>,
}

/// One key of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// The key.
    pub name: &'static str,
    /// Its doc comment.
    pub doc: String,
    /// What it holds.
    pub kind: Kind,
    /// True when leaving it out is an error.
    pub required: bool,
    /// The value it has when left out, where one was declared.
    pub default: Option<toml::Value>,
}

/// What a key may hold.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A whole number of at least `min` and at most `max`.
    Integer {
        /// Smallest.
        min: i64,
        /// Largest.
        max: i64,
    },
    /// A finite number, whole or not.
    Number,
    /// Text.
    String,
    /// One of these strings, each with its doc comment.
    OneOf(Vec<(&'static str, String)>),
    /// Any number of the same.
    Array(Box<Kind>),
    /// Free keys, values of one kind.
    Map(Box<Kind>),
    /// A table with known keys.
    Table(Schema),
    /// A table whose keys something else checks.
    AnyTable,
}

impl Kind {
    /// For "must be …".
    pub fn describe(&self) -> String {
        match self {
            Self::Bool => "true or false".to_owned(),
            Self::Integer { min, max } if min == max => format!("{min}"),
            Self::Integer { min: 0, .. } => "a whole number of at least 0".to_owned(),
            Self::Integer { .. } => "a whole number".to_owned(),
            Self::Number => "a finite number".to_owned(),
            Self::String => "a string".to_owned(),
            Self::OneOf(names) => {
                let names: Vec<_> = names.iter().map(|(name, _)| format!("\"{name}\"")).collect();
                format!("one of {}", names.join(", "))
            }
            Self::Array(item) => match **item {
                Self::Table(_) | Self::AnyTable => "an array of tables".to_owned(),
                _ => format!("an array, each item {}", item.describe()),
            },
            Self::Map(_) | Self::Table(_) | Self::AnyTable => "a table".to_owned(),
        }
    }

    fn json(&self) -> Map<String, Json> {
        let schema = match self {
            Self::Bool => json!({ "type": "boolean" }),
            Self::Integer { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
            Self::Number => json!({ "type": "number" }),
            Self::String => json!({ "type": "string" }),
            Self::OneOf(names) => {
                json!({ "enum": names.iter().map(|(name, _)| *name).collect::<Vec<_>>() })
            }
            Self::Array(item) => json!({ "type": "array", "items": item.json() }),
            Self::Map(item) => json!({ "type": "object", "additionalProperties": item.json() }),
            Self::Table(schema) => return schema.json(),
            Self::AnyTable => json!({ "type": "object" }),
        };
        match schema {
            Json::Object(map) => map,
            _ => Map::new(),
        }
    }
}

impl Schema {
    pub(crate) fn json(&self) -> Map<String, Json> {
        let mut properties = Map::new();
        for field in &self.fields {
            let mut property = field.kind.json();
            let doc = match &field.kind {
                Kind::OneOf(names) => describe_choices(&field.doc, names),
                _ => field.doc.clone(),
            };
            if !doc.is_empty() {
                property.insert("description".to_owned(), Json::from(doc));
            }
            if let Some(default) = &field.default {
                property.insert("default".to_owned(), to_json(default));
            }
            properties.insert(field.name.to_owned(), Json::Object(property));
        }
        let required: Vec<_> = self.fields.iter().filter(|field| field.required).map(|f| f.name).collect();
        let mut object = Map::new();
        object.insert("title".to_owned(), Json::from(self.name));
        if !self.doc.is_empty() {
            object.insert("description".to_owned(), Json::from(self.doc.as_str()));
        }
        object.insert("type".to_owned(), Json::from("object"));
        object.insert("properties".to_owned(), Json::Object(properties));
        object.insert("required".to_owned(), Json::from(required));
        object.insert("additionalProperties".to_owned(), Json::from(false));
        object
    }
}

fn describe_choices(doc: &str, names: &[(&'static str, String)]) -> String {
    let mut text = doc.to_owned();
    for (name, doc) in names.iter().filter(|(_, doc)| !doc.is_empty()) {
        text.push_str(&format!("\n- {name}: {doc}"));
    }
    text
}

/// TOML values as JSON; dates become strings.
pub(crate) fn to_json(value: &toml::Value) -> Json {
    match value {
        toml::Value::String(text) => Json::from(text.as_str()),
        toml::Value::Integer(number) => Json::from(*number),
        toml::Value::Float(number) => Json::from(*number),
        toml::Value::Boolean(flag) => Json::from(*flag),
        toml::Value::Datetime(date) => Json::from(date.to_string()),
        toml::Value::Array(items) => Json::Array(items.iter().map(to_json).collect()),
        toml::Value::Table(table) => {
            Json::Object(table.iter().map(|(key, value)| (key.clone(), to_json(value))).collect())
        }
    }
}
