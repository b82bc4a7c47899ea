//! Columns of every type, and damaged, hostile and unusual files.

use std::path::Path;

use parquet::basic::{Compression, Encoding};
use parquet::data_type::ByteArray;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use serde_json::json;

use super::fixture::{self, Values, file, required, texts};
use super::*;
use crate::format::{Format, OnDamage, open, read};

const TEXT: &str = "message rows { required binary text (STRING); }";

fn tolerant() -> ReadOptions {
    ReadOptions { on_damage: OnDamage::Continue, ..ReadOptions::default() }
}

fn of_bytes(bytes: Vec<u8>, options: &ReadOptions) -> Vec<Result<Document, Error>> {
    match read(Input::bytes("in.parquet", bytes), Format::Parquet, options) {
        Ok(reader) => reader.collect(),
        Err(error) => vec![Err(error)],
    }
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
    let bytes = file(
        "message rows { required binary body (STRING); required int32 text; }",
        vec![required(texts(["a"])), required(Values::I32(vec![1]))],
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
    let long = ByteArray::from("x".repeat(1 << 20).into_bytes());
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(Default::default()))
        .set_dictionary_page_size_limit(64 << 20)
        .set_statistics_enabled(EnabledStatistics::None);
    let bytes = file(TEXT, vec![required(Values::Text(vec![long; 4000]))], properties);
    assert!(bytes.len() < 1 << 16, "{}", bytes.len());
    let options = ReadOptions { max_record: 1000, ..tolerant() };
    let items = of_bytes(bytes, &options);
    assert_eq!(items.len(), 4000);
    assert!(items.iter().all(|item| item.as_ref().unwrap_err().fault() == Some(Fault::TooLong)));
}

#[test]
fn a_list_that_refers_to_a_long_string_is_bounded() {
    // 256 KiB said 2,000 times: 500 MB, were it copied.
    let long = ByteArray::from("x".repeat(1 << 18).into_bytes());
    let mut repetitions = vec![1; 2000];
    repetitions[0] = 0;
    let properties = WriterProperties::builder()
        .set_dictionary_page_size_limit(64 << 20)
        .set_statistics_enabled(EnabledStatistics::None);
    let bytes = file(
        "message rows { required binary text (STRING); repeated binary many (STRING); }",
        vec![required(texts(["a"])), (Values::Text(vec![long; 2000]), vec![1; 2000], repetitions)],
        properties,
    );
    assert!(bytes.len() < 1 << 20, "{}", bytes.len());
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
        .set_statistics_enabled(EnabledStatistics::None);
    let bytes = file(TEXT, vec![required(fixture::texts(texts.iter().copied()))], properties);
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
        .set_statistics_enabled(EnabledStatistics::None);
    let bytes = file(TEXT, vec![required(fixture::texts(texts.iter().copied()))], properties);
    assert!(bytes.len() < 1 << 18, "{}", bytes.len());
    let mut read = 0;
    for item in super::super::read(Input::bytes("in.parquet", bytes), Format::Parquet, &tolerant()).unwrap() {
        assert_eq!(item.unwrap().text.len(), texts[read].len());
        read += 1;
    }
    assert_eq!(read, texts.len());
}

fn rows(schema: &str, columns: Vec<fixture::Leaf>) -> Vec<Value> {
    let bytes = file(schema, columns, WriterProperties::builder());
    let input = Input::bytes("in.parquet", bytes);
    let rows = crate::format::rows::rows(input, Format::Parquet, &tolerant()).unwrap();
    rows.map(|row| row.unwrap().into()).collect()
}

#[test]
fn lists_as_old_and_new_writers_have_them() {
    // [[1], [2, null]], [[]], [], null: the levels that each way to write lists gives them.
    let numbers = || Values::I32(vec![1, 2]);
    let nested = "message m { optional group l (LIST) { repeated group list { optional group element (LIST) {
        repeated group list { optional int32 element; } } } } }";
    let all = rows(nested, vec![(numbers(), vec![5, 5, 4, 3, 1, 0], vec![0, 1, 2, 0, 0, 0])]);
    assert_eq!(
        all,
        [json!({"l": [[1], [2, null]]}), json!({"l": [[]]}), json!({"l": []}), json!({"l": null})]
    );
    // A list's repeated field is its item, or holds it, or is called as the item of old writers is.
    for (schema, item) in [
        ("message m { optional group l (LIST) { repeated int32 array; } }", json!([1, 2])),
        (
            "message m { optional group l (LIST) { repeated group list { required int32 x; } } }",
            json!([1, 2]),
        ),
        (
            "message m { optional group l (LIST) { repeated group array { required int32 x; } } }",
            json!([{"x": 1}, {"x": 2}]),
        ),
        (
            "message m { optional group l (LIST) { repeated group l_tuple { required int32 x; } } }",
            json!([{"x": 1}, {"x": 2}]),
        ),
    ] {
        let all = rows(schema, vec![(numbers(), vec![2, 2, 1, 0], vec![0, 1, 0, 0])]);
        assert_eq!(all, [json!({"l": item}), json!({"l": []}), json!({"l": null})], "{schema}");
    }
    let bare = rows("message m { repeated int32 l; }", vec![(numbers(), vec![1, 1, 0], vec![0, 1, 0])]);
    assert_eq!(bare, [json!({"l": [1, 2]}), json!({"l": []})]);
    let groups = "message m { repeated group l { optional int32 a; required int32 b; } }";
    let a = (Values::I32(vec![7]), vec![2, 1, 0], vec![0, 1, 0]);
    let b = (numbers(), vec![1, 1, 0], vec![0, 1, 0]);
    assert_eq!(
        rows(groups, vec![a, b]),
        [json!({"l": [{"a": 7, "b": 1}, {"a": null, "b": 2}]}), json!({"l": []})]
    );
}

#[test]
fn maps_are_objects_if_their_keys_are_text() {
    let schema = |key: &str| {
        format!(
            "message m {{ optional group m (MAP) {{ repeated group key_value {{
            required {key}; optional int32 value; }} }} }}"
        )
    };
    let levels = || (vec![2, 2, 1, 0], vec![0, 1, 0, 0]);
    let column = |values, (definitions, repetitions)| (values, definitions, repetitions);
    let value = || (Values::I32(vec![5]), vec![3, 2, 1, 0], vec![0, 1, 0, 0]);
    let text = rows(&schema("binary key (STRING)"), vec![column(texts(["a", "b"]), levels()), value()]);
    assert_eq!(text, [json!({"m": {"a": 5, "b": null}}), json!({"m": {}}), json!({"m": null})]);
    let number = rows(&schema("int64 key"), vec![column(Values::I64(vec![1, 2]), levels()), value()]);
    assert_eq!(number, [json!({"m": [[1, 5], [2, null]]}), json!({"m": {}}), json!({"m": null})]);
}

#[test]
fn values_of_every_kind() {
    let fixed = |bytes: &[u8]| required(Values::Fixed(vec![bytes.to_vec()]));
    let of = |kind: &str, column: fixture::Leaf| {
        rows(&format!("message m {{ required {kind}; }}"), vec![column])[0]["v"].clone()
    };
    let i32 = |value| required(Values::I32(vec![value]));
    let i64 = |value| required(Values::I64(vec![value]));
    assert_eq!(of("boolean v", required(Values::Bool(vec![true]))), json!(true));
    assert_eq!(of("int32 v (INTEGER(32,false))", i32(-1)), json!(u32::MAX));
    assert_eq!(of("int64 v (INTEGER(64,false))", i64(-1)), json!(u64::MAX));
    assert_eq!(of("int32 v (INTEGER(8,true))", i32(-3)), json!(-3));
    assert_eq!(of("int32 v (DATE)", i32(19_782)), json!("2024-02-29"));
    assert_eq!(of("int32 v (TIME(MILLIS,true))", i32(3_723_004)), json!("01:02:03.004"));
    assert_eq!(of("int64 v (TIMESTAMP(MILLIS,true))", i64(0)), json!("1970-01-01T00:00:00Z"));
    assert_eq!(of("int64 v (TIMESTAMP(NANOS,false))", i64(1)), json!("1970-01-01T00:00:00.000000001"));
    assert_eq!(of("int64 v (TIMESTAMP_MICROS)", i64(-1)), json!("1969-12-31T23:59:59.999999Z"));
    assert_eq!(
        of("int96 v", required(Values::I96(vec![[1, 0, 2_440_589]]))),
        json!("1970-01-02T00:00:00.000000001")
    );
    assert_eq!(of("int32 v (DECIMAL(9,2))", i32(-5)), json!("-0.05"));
    assert_eq!(of("fixed_len_byte_array(3) v (DECIMAL(6,1))", fixed(&[0xFF, 0xFF, 0xFE])), json!("-0.2"));
    let wide = [&[1][..], &[0; 20]].concat();
    assert_eq!(
        of("fixed_len_byte_array(21) v (DECIMAL(50,0))", fixed(&wide)),
        json!("1461501637330902918203684832716283019655932542976")
    );
    assert_eq!(of("fixed_len_byte_array(2) v (FLOAT16)", fixed(&[0x00, 0x3E])), json!(1.5));
    assert_eq!(of("fixed_len_byte_array(2) v", fixed(&[0x00, 0x3E])), json!("003e"));
    let interval = [0, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0];
    assert_eq!(of("fixed_len_byte_array(12) v (INTERVAL)", fixed(&interval)), json!("2 days 3 ms"));
    assert_eq!(
        of("binary v", required(Values::Text(vec![ByteArray::from(vec![0xFF, 0x00])]))),
        json!("ff00")
    );
    assert_eq!(of("binary v (JSON)", required(texts(["{}"]))), json!("{}"));
}

#[test]
fn columns_that_disagree_are_damage() {
    // Two fields of one list, of which one has two items and the other three.
    let bytes = file(
        "message m { required binary text (STRING); repeated group l { required int32 a; required int32 b; } }",
        vec![
            required(texts(["t", "u"])),
            (Values::I32(vec![1, 2, 3]), vec![1; 3], vec![0, 1, 0]),
            (Values::I32(vec![1, 2, 3]), vec![1; 3], vec![0, 0, 1]),
        ],
        WriterProperties::builder(),
    );
    let items = of_bytes(bytes, &tolerant());
    let [Err(error)] = items.as_slice() else { panic!("{items:?}") };
    assert!(error.to_string().contains("do not fit together") && !error.is_recoverable(), "{error}");
}
