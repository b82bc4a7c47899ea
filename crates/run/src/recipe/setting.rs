//! What can stand behind a key: the trait and its implementations for plain types.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::node::{Node, Place, Value};
use super::reader::Reader;
use super::schema::{Kind, Schema};

/// A type that recipes can hold. Implemented here for plain types and by [`crate::recipe!`] for structs and enums.
pub trait Setting: Sized {
    /// What the key accepts.
    fn kind() -> Kind;

    /// The value at `node`; `None` after at least one problem was reported to `reader`.
    fn read(node: &Node, reader: &mut Reader) -> Option<Self>;

    /// The value of a key that is not there and has no default; `None` makes the key required.
    fn absent() -> Option<Self> {
        None
    }

    /// The TOML that reads back as this value; `None` leaves the key out.
    fn write(&self) -> Option<toml::Value>;
}

/// A struct declared with [`crate::recipe!`].
pub trait Recipe: Setting {
    /// Its keys, nested tables included.
    fn schema() -> Schema;
}

impl Setting for bool {
    fn kind() -> Kind {
        Kind::Bool
    }

    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        match node.value {
            Value::Bool(value) => Some(value),
            _ => reader.wrong_type::<Self>(node),
        }
    }

    fn write(&self) -> Option<toml::Value> {
        Some(toml::Value::Boolean(*self))
    }
}

macro_rules! integers {
    ($($type:ty),*) => {$(
        impl Setting for $type {
            fn kind() -> Kind {
                Kind::Integer {
                    min: i64::try_from(<$type>::MIN).unwrap_or(i64::MIN),
                    max: i64::try_from(<$type>::MAX).unwrap_or(i64::MAX),
                }
            }

            fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
                match node.value {
                    Value::Integer(value) => match <$type>::try_from(value) {
                        Ok(value) => Some(value),
                        Err(_) => reader.wrong_type::<Self>(node),
                    },
                    _ => reader.wrong_type::<Self>(node),
                }
            }

            fn write(&self) -> Option<toml::Value> {
                // TOML has no larger integer, so a larger value can only come from code, not from a recipe.
                Some(toml::Value::Integer(i64::try_from(*self).unwrap_or(i64::MAX)))
            }
        }
    )*};
}

integers!(u8, u32, u64, usize, i64);

/// `format_version` of a file: there is one version yet, and another is refused, not misread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FormatVersion;

impl Setting for FormatVersion {
    fn kind() -> Kind {
        Kind::Integer { min: 1, max: 1 }
    }

    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        match node.value {
            Value::Integer(1) => Some(Self),
            _ => reader.wrong_type::<Self>(node),
        }
    }

    fn write(&self) -> Option<toml::Value> {
        Some(toml::Value::Integer(1))
    }
}

impl Setting for f64 {
    fn kind() -> Kind {
        Kind::Number
    }

    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        match node.value {
            Value::Float(value) if value.is_finite() => Some(value),
            Value::Integer(value) => Some(value as f64),
            _ => reader.wrong_type::<Self>(node),
        }
    }

    fn write(&self) -> Option<toml::Value> {
        Some(toml::Value::Float(*self))
    }
}

impl Setting for String {
    fn kind() -> Kind {
        Kind::String
    }

    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        match (&node.value, &node.place) {
            (Value::String(text), _) => Some(text.clone()),
            // `--set data.revision=2024`: nobody should need to quote twice for the shell.
            (
                Value::Integer(_) | Value::Float(_) | Value::Bool(_) | Value::Datetime(_),
                Place::Set(argument),
            ) => match argument.split_once('=').map(|(_, text)| text.trim()) {
                Some(text) if !text.starts_with(['[', '{']) => Some(text.to_owned()),
                _ => reader.wrong_type::<Self>(node),
            },
            _ => reader.wrong_type::<Self>(node),
        }
    }

    fn write(&self) -> Option<toml::Value> {
        Some(toml::Value::String(self.clone()))
    }
}

impl Setting for PathBuf {
    fn kind() -> Kind {
        Kind::String
    }

    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        String::read(node, reader).map(PathBuf::from)
    }

    fn write(&self) -> Option<toml::Value> {
        Some(toml::Value::String(self.to_string_lossy().into_owned()))
    }
}

impl<T: Setting> Setting for Option<T> {
    fn kind() -> Kind {
        T::kind()
    }

    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        T::read(node, reader).map(Some)
    }

    fn absent() -> Option<Self> {
        Some(None)
    }

    fn write(&self) -> Option<toml::Value> {
        self.as_ref().and_then(T::write)
    }
}

impl<T: Setting> Setting for Vec<T> {
    fn kind() -> Kind {
        Kind::Array(Box::new(T::kind()))
    }

    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        let Value::Array(items) = &node.value else {
            return reader.wrong_type::<Self>(node);
        };
        // Reads every item before giving up, to report all problems.
        let mut read = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            read.push(reader.inside(&format!("[{index}]"), |reader| T::read(item, reader)));
        }
        read.into_iter().collect()
    }

    fn write(&self) -> Option<toml::Value> {
        Some(toml::Value::Array(self.iter().filter_map(T::write).collect()))
    }
}

impl<T: Setting> Setting for BTreeMap<String, T> {
    fn kind() -> Kind {
        Kind::Map(Box::new(T::kind()))
    }

    fn read(node: &Node, reader: &mut Reader) -> Option<Self> {
        let Value::Table(entries) = &node.value else {
            return reader.wrong_type::<Self>(node);
        };
        let mut read = Vec::with_capacity(entries.len());
        for entry in entries {
            let value = reader.inside(&entry.key, |reader| T::read(&entry.node, reader));
            read.push(value.map(|value| (entry.key.clone(), value)));
        }
        read.into_iter().collect()
    }

    fn write(&self) -> Option<toml::Value> {
        let entries = self.iter().filter_map(|(key, value)| Some((key.clone(), value.write()?)));
        Some(toml::Value::Table(entries.collect()))
    }
}
