//! Columns of every type, and damaged, hostile and unusual files.

use std::path::Path;

use arrow_array::{Array, ArrayRef, Int32Array, StringArray};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding};
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};

use super::*;
use crate::format::{Format, OnDamage, open, read};

fn tolerant() -> ReadOptions {
    ReadOptions { on_damage: OnDamage::Continue, ..ReadOptions::default() }
}

fn of_bytes(bytes: Vec<u8>, options: &ReadOptions) -> Vec<Result<Document, Error>> {
    match read(Input::bytes("in.parquet", bytes), Format::Parquet, options) {
        Ok(reader) => reader.collect(),
        Err(error) => vec![Err(error)],
    }
}

fn written(columns: Vec<(&str, ArrayRef)>, properties: WriterPropertiesBuilder) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties.build())).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

fn golden(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/formats").join(name)
}

#[test]
fn columns_of_every_type() {
    let options = ReadOptions { text_key: "content".into(), ..tolerant() };
    let items: Vec<_> = open(&golden("typed.parquet"), &options).unwrap().collect();
    let expected = std::fs::read_to_string(golden("typed.expected.jsonl")).unwrap();
    let expected: Vec<Document> = expected.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(items.len(), 3);
    assert_eq!(*items[0].as_ref().unwrap(), expected[0]);
    assert_eq!(*items[2].as_ref().unwrap(), expected[1]);
    let error = items[1].as_ref().unwrap_err();
    assert_eq!(error.fault(), Some(Fault::Fields));
    assert!(error.to_string().contains("row 2: its text is null"), "{error}");
}

#[test]
fn another_schema_is_told() {
    let bytes = written(
        vec![("body", Arc::new(StringArray::from(vec!["a"]))), ("text", Arc::new(Int32Array::from(vec![1])))],
        WriterProperties::builder(),
    );
    let message = of_bytes(bytes.clone(), &tolerant())[0].as_ref().unwrap_err().to_string();
    assert!(message.contains("no column `text`") && message.contains("body"), "{message}");
    let stream = Input::stream("in.parquet", std::io::Cursor::new(bytes));
    assert!(read(stream, Format::Parquet, &tolerant()).is_err());
}

#[test]
fn every_cut_and_every_flipped_byte_is_an_error_or_a_document() {
    let whole = std::fs::read(golden("v2.parquet")).unwrap();
    for cut in (0..whole.len()).step_by(whole.len() / 40) {
        let items = of_bytes(whole[..cut].to_vec(), &tolerant());
        assert!(matches!(items.as_slice(), [Err(error)] if !error.is_recoverable()), "cut at {cut}");
    }
    for name in ["v2.parquet", "snappy.parquet", "typed.parquet"] {
        let whole = std::fs::read(golden(name)).unwrap();
        for at in (0..whole.len()).step_by(whole.len() / 150) {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x55;
            let items = of_bytes(flipped, &tolerant());
            let finals = items.iter().filter(|item| item.as_ref().is_err_and(|e| !e.is_recoverable()));
            assert!(finals.count() <= 1, "{name}: byte {at}");
        }
    }
}

#[test]
fn a_long_string_of_a_dictionary_does_not_grow_by_being_referred_to() {
    // 1 MiB said 4,000 times: 4 GB, were it copied.
    let long = "x".repeat(1 << 20);
    let dictionary = arrow_array::DictionaryArray::<arrow_array::types::Int32Type>::new(
        Int32Array::from(vec![0; 4000]),
        Arc::new(StringArray::from(vec![long.as_str()])),
    );
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(Default::default()))
        .set_dictionary_page_size_limit(64 << 20)
        .set_statistics_enabled(parquet::file::properties::EnabledStatistics::None);
    let bytes = written(vec![("text", Arc::new(dictionary))], properties);
    assert!(bytes.len() < 1 << 16, "{}", bytes.len());
    let options = ReadOptions { max_record: 1000, ..tolerant() };
    let items = of_bytes(bytes, &options);
    assert_eq!(items.len(), 4000);
    assert!(items.iter().all(|item| item.as_ref().unwrap_err().fault() == Some(Fault::TooLong)));
}

#[test]
fn a_list_that_refers_to_a_long_string_is_bounded() {
    // 256 KiB said 2,000 times: 500 MB, were it copied.
    let long = "x".repeat(1 << 18);
    let values = arrow_array::DictionaryArray::<arrow_array::types::Int32Type>::new(
        Int32Array::from(vec![0; 2000]),
        Arc::new(StringArray::from(vec![long.as_str()])),
    );
    let item = Arc::new(Field::new("item", values.data_type().clone(), true));
    let lists = arrow_array::FixedSizeListArray::new(item, 2000, Arc::new(values), None);
    let properties = WriterProperties::builder()
        .set_dictionary_page_size_limit(64 << 20)
        .set_statistics_enabled(parquet::file::properties::EnabledStatistics::None);
    let bytes = written(
        vec![("text", Arc::new(StringArray::from(vec!["a"]))), ("many", Arc::new(lists))],
        properties,
    );
    let items = of_bytes(bytes, &tolerant());
    assert_eq!(items.len(), 1);
    assert_eq!(items[0].as_ref().unwrap_err().fault(), Some(Fault::TooLong));
}

#[test]
fn rows_of_very_different_sizes_are_read_one_by_one() {
    // The mean promises batches of many rows; then come pages of 32 MiB each.
    let long = "y".repeat(32 << 20);
    let mut texts = vec!["short"; 30_000];
    texts.extend(vec![long.as_str(); 10]);
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(Default::default()))
        .set_dictionary_enabled(false)
        .set_write_batch_size(1)
        .set_statistics_enabled(parquet::file::properties::EnabledStatistics::None);
    let bytes = written(vec![("text", Arc::new(StringArray::from(texts.clone())))], properties);
    let items = of_bytes(bytes, &tolerant());
    assert!(items.last().is_some_and(Result::is_ok), "{:?}", items.last());
    assert_eq!(items.len(), texts.len());
    assert!(items.iter().zip(&texts).all(|(item, text)| item.as_ref().unwrap().text == *text));
}

#[test]
fn delta_encoded_strings_are_bounded() {
    // Each string repeats the one before and adds a letter: n letters, n²/2 bytes.
    let all = "z".repeat(20_000);
    let texts: Vec<&str> = (1..all.len()).map(|length| &all[..length]).collect();
    let properties = WriterProperties::builder()
        .set_dictionary_enabled(false)
        .set_column_encoding("text".into(), Encoding::DELTA_BYTE_ARRAY)
        .set_statistics_enabled(parquet::file::properties::EnabledStatistics::None);
    let bytes = written(vec![("text", Arc::new(StringArray::from(texts.clone())))], properties);
    assert!(bytes.len() < 1 << 18, "{}", bytes.len());
    let mut read = 0;
    for item in super::super::read(Input::bytes("in.parquet", bytes), Format::Parquet, &tolerant()).unwrap() {
        assert_eq!(item.unwrap().text.len(), texts[read].len());
        read += 1;
    }
    assert_eq!(read, texts.len());
}
