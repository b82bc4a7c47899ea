//! A document as a JSON object, read and written in one pass: the text goes straight into its own string.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, Visitor};
use serde::ser::{Error as _, SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::map::Entry;
use serde_json::{Number, Value};

use crate::document::{Document, Metadata};

/// The keys that are fields of a [`Document`]; metadata never has them.
const RESERVED: [&str; 4] = ["id", "text", "source", "url"];

/// The key of a value in the metadata: the name of a field gets a `_` behind it.
///
/// So nothing is lost where the text lies under another key and there is a `text` too, or where `source` is an object.
pub(crate) fn metadata_key(mut key: String) -> String {
    if RESERVED.contains(&key.as_str()) {
        key.push('_');
    }
    key
}

/// Reads a [`Document`] whose text is under `text_key`.
pub(crate) struct DocumentSeed<'k> {
    pub(crate) text_key: &'k str,
}

impl<'de> DeserializeSeed<'de> for DocumentSeed<'_> {
    type Value = Document;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Document, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for DocumentSeed<'_> {
    type Value = Document;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with `{}`", self.text_key)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Document, A::Error> {
        let mut text: Option<String> = None;
        let mut fields = Fields::default();
        while let Some(key) = map.next_key_seed(KeySeed { text_key: self.text_key })? {
            match key {
                Key::Text => {
                    if text.replace(map.next_value()?).is_some() {
                        return Err(A::Error::custom(format_args!("duplicate field `{}`", self.text_key)));
                    }
                }
                Key::Id => fields.set(|f| &mut f.id, "id", map.next_value()?)?,
                Key::Source => fields.set(|f| &mut f.source, "source", map.next_value()?)?,
                Key::Url => fields.set(|f| &mut f.url, "url", map.next_value()?)?,
                Key::Other(key) => fields.add(key, map.next_value()?)?,
            }
        }
        let text = text.ok_or_else(|| A::Error::custom(format_args!("missing field `{}`", self.text_key)))?;
        let Fields { id, source, url, metadata } = fields;
        Ok(Document { id: id.flatten(), text, source: source.flatten(), url: url.flatten(), metadata })
    }
}

/// The fields beside the text; the outer `Option` tells whether the key was there.
#[derive(Default)]
struct Fields {
    id: Option<Option<String>>,
    source: Option<Option<String>>,
    url: Option<Option<String>>,
    metadata: Metadata,
}

impl Fields {
    fn add<E: serde::de::Error>(&mut self, key: String, value: Value) -> Result<(), E> {
        match self.metadata.entry(metadata_key(key)) {
            Entry::Occupied(entry) => Err(E::custom(format_args!("duplicate field `{}`", entry.key()))),
            Entry::Vacant(entry) => {
                entry.insert(value);
                Ok(())
            }
        }
    }

    /// A string or a number is the field; an object, a list or a truth value is metadata.
    fn set<E: serde::de::Error>(
        &mut self,
        field: fn(&mut Self) -> &mut Option<Option<String>>,
        key: &'static str,
        value: Value,
    ) -> Result<(), E> {
        let value = match value {
            Value::String(text) => Some(text),
            Value::Number(number) => {
                Some(spelling(&number).map_err(|problem| E::custom(format_args!("`{key}` is {problem}")))?)
            }
            Value::Null => None,
            other => {
                self.add(key.to_owned(), other)?;
                None
            }
        };
        match field(self).replace(value) {
            Some(_) => Err(E::duplicate_field(key)),
            None => Ok(()),
        }
    }
}

/// A number as the text of a field. One beyond 64 bits was read as the nearest float, which others may share.
pub(crate) fn spelling(number: &Number) -> Result<String, String> {
    const EXACT: f64 = (1u64 << 53) as f64;
    match number.as_f64() {
        Some(x) if number.is_f64() && x.abs() >= EXACT => {
            Err(format!("near {x:e}, a number that would lose digits; write it in quotes"))
        }
        _ => Ok(number.to_string()),
    }
}

enum Key {
    Text,
    Id,
    Source,
    Url,
    Other(String),
}

struct KeySeed<'k> {
    text_key: &'k str,
}

impl<'de> DeserializeSeed<'de> for KeySeed<'_> {
    type Value = Key;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Key, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for KeySeed<'_> {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Key, E> {
        Ok(match key {
            key if key == self.text_key => Key::Text,
            "id" => Key::Id,
            "source" => Key::Source,
            "url" => Key::Url,
            key => Key::Other(key.to_owned()),
        })
    }
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        DocumentSeed { text_key: "text" }.deserialize(deserializer)
    }
}

impl Serialize for Document {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(id) = &self.id {
            map.serialize_entry("id", id)?;
        }
        map.serialize_entry("text", &self.text)?;
        if let Some(source) = &self.source {
            map.serialize_entry("source", source)?;
        }
        if let Some(url) = &self.url {
            map.serialize_entry("url", url)?;
        }
        for (key, value) in &self.metadata {
            if RESERVED.contains(&key.as_str()) {
                return Err(S::Error::custom(format_args!("metadata `{key}` has the name of a field")));
            }
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text_key: &str, json: &str) -> Result<Document, serde_json::Error> {
        DocumentSeed { text_key }.deserialize(&mut serde_json::Deserializer::from_str(json))
    }

    #[test]
    fn other_keys_are_kept_in_order() {
        let json = r#"{"id":"7","text":"a","source":"s","url":"u","z":[1,{"b":null}],"a":1.5}"#;
        let document: Document = serde_json::from_str(json).unwrap();
        assert_eq!(document.metadata.keys().collect::<Vec<_>>(), ["z", "a"]);
        assert_eq!(serde_json::to_string(&document).unwrap(), json);
    }

    #[test]
    fn the_text_may_have_another_key() {
        let document = read("content", r#"{"text":1,"content":"c","source":{"a":1},"id":5}"#).unwrap();
        assert_eq!((document.text.as_str(), document.id.as_deref()), ("c", Some("5")));
        let json = serde_json::to_string(&document).unwrap();
        assert_eq!(serde_json::from_str::<Document>(&json).unwrap(), document);
        assert!(read("content", r#"{"text":"a"}"#).unwrap_err().to_string().contains("`content`"));
    }

    #[test]
    fn numbers_that_would_lose_digits_are_no_ids() {
        let id = |number: &str| serde_json::from_str::<Document>(&format!(r#"{{"text":"a","id":{number}}}"#));
        for same in ["18446744073709551615", "-9223372036854775808", "1.5"] {
            assert_eq!(id(same).unwrap().id.as_deref(), Some(same));
        }
        for large in ["18446744073709551616", "-9223372036854775809", "1e300"] {
            assert!(id(large).unwrap_err().to_string().contains("in quotes"), "{large}");
        }
    }

    #[test]
    fn fields_that_are_missing_null_or_double_are_errors() {
        for json in [
            r#"{}"#,
            r#"{"text":null}"#,
            r#"{"text":"a","text":"b"}"#,
            r#"{"text":"a","id":1,"id":2}"#,
            r#"{"text":"a","b":1,"b":2}"#,
            "[]",
        ] {
            assert!(serde_json::from_str::<Document>(json).is_err(), "{json}");
        }
        let null = r#"{"text":"a","id":null,"source":null,"url":null}"#;
        assert_eq!(
            serde_json::from_str::<Document>(null).unwrap(),
            Document { text: "a".into(), ..Document::default() }
        );
        let mut clash = Document { text: "a".into(), ..Document::default() };
        clash.metadata.insert("text".into(), "b".into());
        assert!(serde_json::to_string(&clash).is_err(), "it could not be read back");
    }
}
