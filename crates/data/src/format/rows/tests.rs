//! Rows of every format, against the same data as documents and as written; and what damage does.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::error::Fault;
use crate::format::OnDamage;

fn tolerant() -> ReadOptions {
    ReadOptions { on_damage: OnDamage::Continue, ..ReadOptions::default() }
}

fn of_bytes(format: Format, bytes: &[u8], options: &ReadOptions) -> Vec<Result<Row, Error>> {
    match rows(Input::bytes("in.data", bytes.to_vec()), format, options) {
        Ok(reader) => reader.collect(),
        Err(error) => vec![Err(error)],
    }
}

/// Rows as values, and the faults of those that have none; an error of the file is `None`.
fn outcome(items: Vec<Result<Row, Error>>) -> Vec<Result<Value, Option<Fault>>> {
    items.into_iter().map(|item| item.map(Value::Object).map_err(|error| error.fault())).collect()
}

fn message(items: &[Result<Row, Error>], at: usize) -> String {
    items[at].as_ref().unwrap_err().to_string()
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/formats").join(name)
}

fn open(name: &str) -> Vec<Row> {
    let path = golden(name);
    let format = Format::of_name(&path).unwrap();
    rows(Input::open(&path).unwrap(), format, &ReadOptions::default()).unwrap().map(Result::unwrap).collect()
}

#[test]
fn lines_hold_every_column_under_its_own_name() {
    let expected: Vec<Row> = std::fs::read_to_string(golden("plain.expected.jsonl"))
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for name in ["plain.expected.jsonl", "two-members.jsonl.gz", "two-frames.jsonl.zst"] {
        let mut read = open(name);
        for row in &mut read {
            row.retain(|_, value| !value.is_null());
        }
        assert_eq!(read, expected, "{name}");
    }
    let lines = b"{\"text\":null,\"id\":7,\"source\":{\"a\":[1,true]},\"text_\":\"b\"}\n{}\n";
    assert_eq!(
        outcome(of_bytes(Format::Jsonl, lines, &tolerant())),
        [Ok(json!({"text": null, "id": 7, "source": {"a": [1, true]}, "text_": "b"})), Ok(json!({}))]
    );
}

#[cfg(feature = "parquet")]
#[test]
fn parquet_holds_what_the_lines_hold() {
    let lines = open("plain.expected.jsonl");
    for name in ["none", "snappy", "gzip", "zstd", "lz4", "v2", "arrow-types"] {
        let mut read = open(&format!("{name}.parquet"));
        for row in &mut read {
            // JSON Lines of the fixture leave nulls out, a table cannot.
            row.retain(|_, value| !value.is_null());
        }
        assert_eq!(read, lines, "{name}");
    }
    let typed = open("typed.parquet");
    assert_eq!(typed.len(), 3, "a row whose text is null is a row");
    assert_eq!(typed[1]["content"], Value::Null);
    assert_eq!((&typed[0]["id"], &typed[0]["text"]), (&json!(1), &json!(true)));
}

#[cfg(feature = "parquet")]
#[test]
fn lists_structures_truth_values_and_dictionaries_of_parquet() {
    use crate::format::parquet::fixture::{Values, file, required, texts};

    let schema = "message rows {
        required boolean answer;
        optional group ids (LIST) { repeated group list { optional int32 element; } }
        required group choices { required binary label (STRING); optional int64 count; }
        required binary split (STRING);
    }";
    let columns = vec![
        required(Values::Bool(vec![true, false])),
        (Values::I32(vec![3]), vec![3, 2, 0], vec![0, 1, 0]),
        required(texts(["A", "B"])),
        (Values::I64(vec![1]), vec![1, 0], Vec::new()),
        required(texts(["x", "x"])),
    ];
    let bytes = file(schema, columns, Default::default());
    assert_eq!(
        outcome(of_bytes(Format::Parquet, &bytes, &tolerant())),
        [
            Ok(
                json!({"answer": true, "ids": [3, null], "choices": {"label": "A", "count": 1}, "split": "x"})
            ),
            Ok(json!({"answer": false, "ids": null, "choices": {"label": "B", "count": null}, "split": "x"})),
        ]
    );
    let small = ReadOptions { max_record: 40, ..tolerant() };
    let items = outcome(of_bytes(Format::Parquet, &bytes, &small));
    assert_eq!(items, [Err(Some(Fault::TooLong)), Err(Some(Fault::TooLong))]);
    for cut in (0..bytes.len()).step_by(37) {
        let items = of_bytes(Format::Parquet, &bytes[..cut], &tolerant());
        assert!(items.iter().any(Result::is_err), "cut at {cut}");
    }
}

#[test]
fn tables_need_no_text() {
    let csv = "\u{FEFF}question,,id\n\"two\nlines\",x,1\nshort\n,,\n";
    let items = of_bytes(Format::Csv, csv.as_bytes(), &tolerant());
    let problem = message(&items, 1);
    assert!(problem.contains("1 fields, but the header has 3"), "{problem}");
    assert_eq!(
        outcome(items),
        [
            Ok(json!({"question": "two\nlines", "": "x", "id": "1"})),
            Err(Some(Fault::Fields)),
            Ok(json!({"question": "", "": "", "id": ""}))
        ]
    );
    let tsv = of_bytes(Format::Tsv, b"text\ttext_\na\tb\n", &tolerant());
    assert_eq!(outcome(tsv), [Ok(json!({"text": "a", "text_": "b"}))]);
    let double = of_bytes(Format::Csv, b"a,a\n1,2\n", &tolerant());
    assert!(message(&double, 0).contains("two columns are called `a`"));
}

#[test]
fn a_list_is_its_items() {
    let list = "\u{FEFF} \n[\n {\"q\": \"a, ]} \\\" b\", \"n\": [[1], {}]} ,\n{\"q\":\"é\"}\n]\n \n";
    let expected = [Ok(json!({"q": "a, ]} \" b", "n": [[1], {}]})), Ok(json!({"q": "é"}))];
    assert_eq!(outcome(of_bytes(Format::Jsonl, list.as_bytes(), &tolerant())), expected);
    let packed = zstd::encode_all(list.as_bytes(), 3).unwrap();
    assert_eq!(outcome(of_bytes(Format::Jsonl, &packed, &tolerant())), expected);
    for empty in ["[]", " [ \n ] "] {
        assert!(of_bytes(Format::Jsonl, empty.as_bytes(), &tolerant()).is_empty(), "{empty}");
    }
}

#[test]
fn damaged_items_are_errors_of_one_row() {
    let list = b"[{\"a\":1},2,{\"a\":1,\"a\":2},,{\"b\":\"\xFF\"},{\"c\"},{\"d\":4},]";
    let items = of_bytes(Format::Jsonl, list, &tolerant());
    let problem = message(&items, 2);
    assert!(problem.contains("in.data: row 3: duplicate field `a`"), "{problem}");
    assert!(message(&items, 4).contains("not UTF-8 at byte 6"));
    let not_json = Err(Some(Fault::NotJson));
    let fields = Err(Some(Fault::Fields));
    let not_utf8 = Err(Some(Fault::NotUtf8));
    assert_eq!(
        outcome(items),
        [
            Ok(json!({"a": 1})),
            fields.clone(),
            fields.clone(),
            not_json.clone(),
            not_utf8,
            not_json.clone(),
            Ok(json!({"d": 4})),
            not_json
        ]
    );
    let strict = of_bytes(Format::Jsonl, list, &ReadOptions::default());
    assert_eq!(outcome(strict), [Ok(json!({"a": 1})), fields], "it ends after the first");
}

#[test]
fn a_list_that_does_not_end_or_goes_on_is_an_error_of_the_file() {
    for (list, read, word) in [
        ("[{\"a\":1}", 0, "complete"),
        ("[{\"a\":1},", 1, "complete"),
        ("[{\"a\":\"x]", 0, "complete"),
        ("[{\"a\":1}}]", 0, "closes nothing"),
        ("[{\"a\":1}] {\"a\":2}", 1, "follows"),
        ("[]]", 0, "follows"),
    ] {
        let items = of_bytes(Format::Jsonl, list.as_bytes(), &tolerant());
        assert!(message(&items, items.len() - 1).contains(word), "{list}: {items:?}");
        assert_eq!(items.len(), read + 1, "{list}");
        assert!(items[..read].iter().all(Result::is_ok), "{list}");
        assert_eq!(items[read].as_ref().unwrap_err().fault(), None, "{list}");
    }
    let deep = format!("[{}]", "[".repeat(100_000) + &"]".repeat(100_000));
    assert_eq!(outcome(of_bytes(Format::Jsonl, deep.as_bytes(), &tolerant())), [Err(Some(Fault::Fields))]);
    let deep = format!("[{{\"a\":{}}}]", "[".repeat(100_000) + &"]".repeat(100_000));
    assert_eq!(outcome(of_bytes(Format::Jsonl, deep.as_bytes(), &tolerant())), [Err(Some(Fault::NotJson))]);
}

#[test]
fn long_rows_are_passed_over() {
    let options = ReadOptions { max_record: 40, ..tolerant() };
    let long = "x".repeat(1 << 20);
    let too_long = Err(Some(Fault::TooLong));
    for text in [format!("[{{\"a\":\"{long}\"}},{{\"a\":1}}]"), format!("{{\"a\":\"{long}\"}}\n{{\"a\":1}}")]
    {
        let items = outcome(of_bytes(Format::Jsonl, text.as_bytes(), &options));
        assert_eq!(items, [too_long.clone(), Ok(json!({"a": 1}))]);
    }
    let items = outcome(of_bytes(Format::Csv, format!("a\n{long}\n1\n").as_bytes(), &options));
    assert_eq!(items, [too_long, Ok(json!({"a": "1"}))]);
}

#[test]
fn a_bomb_is_streamed() {
    // A list whose one item is 256 MiB, in about 1 MiB.
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut list = b"[\"".chain(io::repeat(b'x').take(1 << 28)).chain(&b"\",{\"a\":1}]"[..]);
    io::copy(&mut list, &mut encoder).unwrap();
    let bomb = encoder.finish().unwrap();
    let options = ReadOptions { max_record: 1 << 20, ..tolerant() };
    let items = outcome(of_bytes(Format::Jsonl, &bomb, &options));
    assert_eq!(items, [Err(Some(Fault::TooLong)), Ok(json!({"a": 1}))]);
}

#[test]
fn pages_and_texts_have_no_rows() {
    for format in [Format::Warc, Format::Text] {
        assert!(message(&of_bytes(format, b"a", &tolerant()), 0).contains("no rows"));
    }
}

proptest! {
    #[test]
    fn lists_and_lines_hold_the_same(
        columns in prop::collection::btree_map(".{0,8}", ".{0,20}", 0..5),
        numbers in prop::collection::vec(any::<i64>(), 0..4),
        count in 0usize..5,
        spaces in "[ \n\t]{0,3}",
    ) {
        let mut row = Row::new();
        for (name, value) in columns {
            row.insert(name, value.into());
        }
        row.insert("numbers".into(), numbers.into());
        let line = serde_json::to_string(&row).unwrap();
        let lines = format!("{line}\n").repeat(count);
        let list = format!("{spaces}[{spaces}{}{spaces}]{spaces}", vec![line; count].join(&format!("{spaces},{spaces}")));
        let expected: Vec<_> = vec![Ok(Value::Object(row)); count];
        prop_assert_eq!(outcome(of_bytes(Format::Jsonl, lines.as_bytes(), &tolerant())), expected.clone());
        prop_assert_eq!(outcome(of_bytes(Format::Jsonl, list.as_bytes(), &tolerant())), expected);
    }

    #[test]
    fn any_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        crate::fuzz_rows(&bytes);
    }

    #[test]
    fn any_brackets_do_not_panic(text in "[\\[\\]{},:\"\\\\a1 \n]{0,60}") {
        crate::fuzz_rows(text.as_bytes());
        crate::fuzz_rows(format!("[{text}").as_bytes());
    }
}
