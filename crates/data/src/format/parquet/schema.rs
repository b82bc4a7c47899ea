//! How the leaf columns of a file make up the values of a row.
//!
//! A leaf column says of each value how many of the optional and repeated fields around it are there (its definition
//! level), and which of the repeated ones goes on (its repetition level); see the Dremel paper and `LogicalTypes.md` of
//! the format for lists and maps, older writers' included.

use std::ops::Range;

use parquet::basic::{ConvertedType, LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::schema::types::Type;

/// Fields within fields.
const MAX_DEPTH: usize = 64;

/// A field.
pub(super) struct Node {
    pub(super) name: String,
    /// The leaf columns that hold its values: at least one.
    pub(super) leaves: Range<usize>,
    /// Where it may be null: the definition level from which on it is not.
    pub(super) optional: Option<i16>,
    pub(super) kind: Kind,
}

pub(super) enum Kind {
    Leaf(Scalar),
    Struct(Vec<Node>),
    List(Box<Node>, Items),
    Map(Box<[Node; 2]>, Items),
}

/// Levels of what is repeated.
#[derive(Clone, Copy)]
pub(super) struct Items {
    /// The definition level from which on there is an item.
    pub(super) present: i16,
    /// The repetition level of all items but the first.
    pub(super) again: i16,
}

/// What a leaf's values mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scalar {
    /// What the file's own type says.
    Plain,
    /// Text, or bytes that may be text.
    Text,
    Unsigned,
    Half,
    Decimal {
        scale: i32,
    },
    Date,
    Time(TimeUnit),
    Timestamp {
        unit: TimeUnit,
        zoned: bool,
    },
    Interval,
}

/// The columns of a file by their names: those that hold anything.
pub(super) fn columns(root: &Type) -> Result<Vec<Node>, String> {
    Builder { leaves: 0 }.fields(root, Items { present: 0, again: 0 }, 0)
}

struct Builder {
    /// Leaf columns so far.
    leaves: usize,
}

impl Builder {
    fn fields(&mut self, group: &Type, levels: Items, depth: usize) -> Result<Vec<Node>, String> {
        let fields = group.get_fields().iter().map(|field| self.field(field, levels, depth));
        let mut fields = fields.collect::<Result<Vec<_>, _>>()?;
        fields.retain(|field| !field.leaves.is_empty());
        Ok(fields)
    }

    /// A field as its repetition has it.
    fn field(&mut self, field: &Type, outer: Items, depth: usize) -> Result<Node, String> {
        let info = field.get_basic_info();
        let repetition = if info.has_repetition() { info.repetition() } else { Repetition::REQUIRED };
        match repetition {
            Repetition::REQUIRED => self.value(field, outer, depth),
            Repetition::OPTIONAL => {
                let inner = Items { present: outer.present + 1, ..outer };
                let node = self.value(field, inner, depth)?;
                Ok(Node { optional: Some(inner.present), ..node })
            }
            Repetition::REPEATED => {
                let items = repeated(outer);
                let item = self.value(field, items, depth + 1)?;
                let (name, leaves) = (item.name.clone(), item.leaves.clone());
                Ok(Node { name, leaves, optional: None, kind: Kind::List(Box::new(item), items) })
            }
        }
    }

    /// What a field is, once it is there.
    fn value(&mut self, field: &Type, levels: Items, depth: usize) -> Result<Node, String> {
        if depth > MAX_DEPTH {
            return Err(format!("fields are nested more than {MAX_DEPTH} deep"));
        }
        let first = self.leaves;
        let kind = match field {
            Type::PrimitiveType { .. } => {
                self.leaves += 1;
                Kind::Leaf(scalar(field))
            }
            Type::GroupType { fields, .. } => match (field.get_basic_info().converted_type(), &fields[..]) {
                (ConvertedType::LIST, [inner]) if is_repeated(inner) => {
                    let items = repeated(levels);
                    let item = match &**inner {
                        Type::GroupType { fields, .. }
                            if fields.len() == 1 && !is_item_itself(field, inner) =>
                        {
                            self.field(&fields[0], items, depth + 1)
                        }
                        inner => self.value(inner, items, depth + 1),
                    };
                    Kind::List(Box::new(item?), items)
                }
                (ConvertedType::MAP | ConvertedType::MAP_KEY_VALUE, [pair]) if is_pair(pair) => {
                    let items = repeated(levels);
                    match <[Node; 2]>::try_from(self.fields(pair, items, depth + 1)?) {
                        Ok(pair) => Kind::Map(Box::new(pair), items),
                        Err(_) => return Err(format!("`{}` is a map without keys or values", field.name())),
                    }
                }
                _ => Kind::Struct(self.fields(field, levels, depth + 1)?),
            },
        };
        Ok(Node { name: field.name().to_owned(), leaves: first..self.leaves, optional: None, kind })
    }
}

fn repeated(outer: Items) -> Items {
    Items { present: outer.present + 1, again: outer.again + 1 }
}

fn is_repeated(field: &Type) -> bool {
    field.get_basic_info().has_repetition() && field.get_basic_info().repetition() == Repetition::REPEATED
}

fn is_pair(field: &Type) -> bool {
    is_repeated(field) && field.is_group() && field.get_fields().len() == 2
}

/// Whether the repeated group of a list with one field is an item, not only around one: old writers name it so.
fn is_item_itself(list: &Type, group: &Type) -> bool {
    let is_list = group.get_basic_info().converted_type() == ConvertedType::LIST;
    let named = group.name() == "array" || group.name() == format!("{}_tuple", list.name());
    named && !is_list && !group.get_fields().iter().any(|field| is_repeated(field))
}

fn scalar(field: &Type) -> Scalar {
    let Type::PrimitiveType { basic_info, physical_type, type_length, scale, .. } = field else {
        return Scalar::Plain;
    };
    let timestamp = |unit, zoned| Scalar::Timestamp { unit, zoned };
    match (*physical_type, basic_info.logical_type_ref(), basic_info.converted_type()) {
        (Physical::BOOLEAN | Physical::INT96 | Physical::FLOAT | Physical::DOUBLE, ..) => Scalar::Plain,
        (_, Some(LogicalType::Decimal(decimal)), _) => Scalar::Decimal { scale: decimal.scale },
        (_, None, ConvertedType::DECIMAL) => Scalar::Decimal { scale: *scale },
        (Physical::BYTE_ARRAY, ..) => Scalar::Text,
        (Physical::FIXED_LEN_BYTE_ARRAY, logical, converted) => match (logical, converted, *type_length) {
            (Some(LogicalType::Float16), _, 2) => Scalar::Half,
            (None, ConvertedType::INTERVAL, 12) => Scalar::Interval,
            _ => Scalar::Plain,
        },
        (_, Some(LogicalType::Integer(integer)), _) if !integer.is_signed => Scalar::Unsigned,
        (_, Some(LogicalType::Date), _) => Scalar::Date,
        (_, Some(LogicalType::Time(time)), _) => Scalar::Time(time.unit),
        (_, Some(LogicalType::Timestamp(time)), _) => timestamp(time.unit, time.is_adjusted_to_u_t_c),
        (_, Some(_), _) => Scalar::Plain,
        (_, None, converted) => match converted {
            ConvertedType::UINT_8
            | ConvertedType::UINT_16
            | ConvertedType::UINT_32
            | ConvertedType::UINT_64 => Scalar::Unsigned,
            ConvertedType::DATE => Scalar::Date,
            ConvertedType::TIME_MILLIS => Scalar::Time(TimeUnit::MILLIS),
            ConvertedType::TIME_MICROS => Scalar::Time(TimeUnit::MICROS),
            ConvertedType::TIMESTAMP_MILLIS => timestamp(TimeUnit::MILLIS, true),
            ConvertedType::TIMESTAMP_MICROS => timestamp(TimeUnit::MICROS, true),
            _ => Scalar::Plain,
        },
    }
}
