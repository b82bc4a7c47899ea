//! Parquet files for tests, column by column.

use std::sync::Arc;

use parquet::data_type::{
    BoolType, ByteArray, ByteArrayType, DataType, Int32Type, Int64Type, Int96, Int96Type,
};
use parquet::data_type::{FixedLenByteArray, FixedLenByteArrayType};
use parquet::file::properties::WriterPropertiesBuilder;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

/// Values of a leaf column.
pub(crate) enum Values {
    Bool(Vec<bool>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    I96(Vec<[u32; 3]>),
    Text(Vec<ByteArray>),
    Fixed(Vec<Vec<u8>>),
}

/// A leaf column: values, definition levels, repetition levels (empty where the column has none).
pub(crate) type Leaf = (Values, Vec<i16>, Vec<i16>);

/// A column without levels.
pub(crate) fn required(values: Values) -> Leaf {
    (values, Vec::new(), Vec::new())
}

pub(crate) fn texts<'t>(texts: impl IntoIterator<Item = &'t str>) -> Values {
    Values::Text(texts.into_iter().map(ByteArray::from).collect())
}

/// A file of one row group, with a schema as Parquet's tools print it.
pub(crate) fn file(schema: &str, columns: Vec<Leaf>, properties: WriterPropertiesBuilder) -> Vec<u8> {
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut bytes = Vec::new();
    let mut file = SerializedFileWriter::new(&mut bytes, schema, Arc::new(properties.build())).unwrap();
    let mut group = file.next_row_group().unwrap();
    for (values, definitions, repetitions) in columns {
        let mut column = group.next_column().unwrap().unwrap();
        let levels = [definitions, repetitions];
        let mut write = Write { column: &mut column, levels: &levels };
        match values {
            Values::Bool(values) => write.all::<BoolType>(&values),
            Values::I32(values) => write.all::<Int32Type>(&values),
            Values::I64(values) => write.all::<Int64Type>(&values),
            Values::I96(values) => {
                write.all::<Int96Type>(
                    &values.into_iter().map(|v| Int96::from(v.to_vec())).collect::<Vec<_>>(),
                );
            }
            Values::Text(values) => write.all::<ByteArrayType>(&values),
            Values::Fixed(values) => {
                let values = values.into_iter().map(FixedLenByteArray::from);
                write.all::<FixedLenByteArrayType>(&values.collect::<Vec<_>>());
            }
        }
        column.close().unwrap();
    }
    group.close().unwrap();
    file.close().unwrap();
    bytes
}

struct Write<'w, 'f> {
    column: &'w mut parquet::file::writer::SerializedColumnWriter<'f>,
    levels: &'w [Vec<i16>; 2],
}

impl Write<'_, '_> {
    fn all<T: DataType>(&mut self, values: &[T::T]) {
        let [definitions, repetitions] = self.levels;
        let definitions = (!definitions.is_empty()).then_some(definitions.as_slice());
        let repetitions = (!repetitions.is_empty()).then_some(repetitions.as_slice());
        self.column.typed::<T>().write_batch(values, definitions, repetitions).unwrap();
    }
}
