//! What every format gives, against what Python wrote; and what damage does.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;
use crate::document::{Chat, Documents};
use crate::error::Fault;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/formats").join(name)
}

/// The documents that the script expects, read through serde alone.
fn expected(name: &str) -> Vec<Document> {
    let text = std::fs::read_to_string(golden(name)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn tolerant() -> ReadOptions {
    ReadOptions { on_damage: OnDamage::Continue, ..ReadOptions::default() }
}

fn of_bytes(format: Format, bytes: &[u8], options: &ReadOptions) -> Vec<Result<Document, Error>> {
    match read(Input::bytes("in.data", bytes.to_vec()), format, options) {
        Ok(reader) => reader.collect(),
        Err(error) => vec![Err(error)],
    }
}

/// Texts, and the faults of records that have none; an error of the file is `None`.
fn outcome(items: &[Result<Document, Error>]) -> Vec<Result<&str, Option<Fault>>> {
    items.iter().map(|item| item.as_ref().map(|d| d.text.as_str()).map_err(Error::fault)).collect()
}

#[test]
fn files_of_other_programs_hold_what_they_wrote() {
    let plain = ["two-members.jsonl.gz", "two-frames.jsonl.zst", "plain.expected.jsonl"];
    #[cfg(feature = "parquet")]
    let parquet =
        ["none", "snappy", "gzip", "zstd", "lz4", "v2", "arrow-types"].map(|name| format!("{name}.parquet"));
    #[cfg(not(feature = "parquet"))]
    let parquet: [String; 0] = [];
    let sets = plain.map(|name| (name, "plain.expected.jsonl"));
    let warc = [("crawl.warc.gz", "crawl.expected.jsonl"), ("crawl.warc", "crawl.expected.jsonl")];
    let all = sets.into_iter().chain(warc).chain([("crawl.wet.gz", "wet.expected.jsonl")]);
    for (name, documents) in all.chain(parquet.iter().map(|name| (name.as_str(), "plain.expected.jsonl"))) {
        let read: Vec<Document> =
            open(&golden(name), &ReadOptions::default()).unwrap().map(Result::unwrap).collect();
        let expected = expected(documents);
        assert_eq!(read.len(), expected.len(), "{name}");
        for (at, (read, expected)) in read.iter().zip(&expected).enumerate() {
            assert_eq!(read, expected, "{name}, document {at}");
        }
    }
}

#[test]
fn names_tell_formats() {
    for (name, format) in [
        ("a.jsonl", Some(Format::Jsonl)),
        ("a/b.JSONL.GZ", Some(Format::Jsonl)),
        ("a.json.zst", Some(Format::Jsonl)),
        ("https://host/a.warc.gz", Some(Format::Warc)),
        ("a.warc.wet.gz", Some(Format::Warc)),
        ("a.parquet", Some(Format::Parquet)),
        ("a.tsv", Some(Format::Tsv)),
        ("a.gz", None),
        ("Makefile", None),
    ] {
        assert_eq!(Format::of_name(Path::new(name)), format, "{name}");
    }
}

#[test]
fn damaged_lines_are_errors_of_one_record() {
    let lines = b"\xEF\xBB\xBF{\"text\":\"a\"}\n{\"text\":\"\xFF\"}\n{\"txt\":1}\r\n\n{\"text\":\"b\"\nnull\n{\"text\":null}\n{\"text\":\"\\ud800\"}\n{\"text\":\"c\"} x\n{\"text\":\"d\",\"n\":\"\xC3\"}\n{\"text\":\"e\"}";
    let items = of_bytes(Format::Jsonl, lines, &tolerant());
    let not_json = Err(Some(Fault::NotJson));
    let fields = Err(Some(Fault::Fields));
    let not_utf8 = Err(Some(Fault::NotUtf8));
    assert_eq!(
        outcome(&items),
        [Ok("a"), not_utf8, fields, not_json, fields, fields, not_json, not_json, not_utf8, Ok("e")]
    );
    let message = items[1].as_ref().unwrap_err().to_string();
    assert!(message.contains("in.data:2: not UTF-8 at byte 9"), "{message}");
    let message = items[2].as_ref().unwrap_err().to_string();
    assert!(message.contains("in.data:3: missing field `text`"), "{message}");

    let strict = of_bytes(Format::Jsonl, lines, &ReadOptions::default());
    assert_eq!(outcome(&strict), [Ok("a"), not_utf8], "it ends after the first");
    assert_eq!(items[1].as_ref().unwrap_err().fault().map(Fault::reason), Some("not_utf8"));
}

#[test]
fn a_cut_archive_is_an_error_of_the_file() {
    let packed = std::fs::read(golden("two-members.jsonl.gz")).unwrap();
    let items = of_bytes(Format::Jsonl, &packed[..packed.len() - 9], &tolerant());
    assert_eq!(outcome(&items).last(), Some(&Err(None)));
    let read = items.iter().filter(|item| item.is_ok()).count();
    assert!(read > 150, "what was before the cut is read: {read}");
    let list = of_bytes(Format::Jsonl, b"[\n{\"text\":\"a\"}\n]", &tolerant());
    assert_eq!(outcome(&list), [Err(None)]);
    assert!(list[0].as_ref().unwrap_err().to_string().contains("jq"));
    assert!(open(Path::new("gone.jsonl"), &tolerant()).is_err());
}

#[test]
fn long_records_are_passed_over() {
    let options = ReadOptions { max_record: 40, ..tolerant() };
    let long = "x".repeat(100);
    let jsonl = format!("{{\"text\":\"{long}\"}}\n{{\"text\":\"a\"}}\n");
    let csv = format!("text\n\"{long}\n\"\"\"\nb\n");
    let text = format!("{long}\n\nc\n");
    let too_long = Err(Some(Fault::TooLong));
    assert_eq!(outcome(&of_bytes(Format::Jsonl, jsonl.as_bytes(), &options)), [too_long, Ok("a")]);
    assert_eq!(outcome(&of_bytes(Format::Csv, csv.as_bytes(), &options)), [too_long, Ok("b")]);
    for unit in [TextUnit::Line, TextUnit::Paragraph] {
        let options = ReadOptions { unit, ..options.clone() };
        assert_eq!(outcome(&of_bytes(Format::Text, text.as_bytes(), &options)), [too_long, Ok("c")]);
    }
}

#[test]
fn a_bomb_is_streamed() {
    // 256 MiB of zeros in about 1 MiB: one line, one row, one headless record.
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::copy(&mut std::io::repeat(0).take(1 << 28), &mut encoder).unwrap();
    encoder.write_all(b"\n{\"text\":\"behind\"}\n").unwrap();
    let bomb = encoder.finish().unwrap();
    let options = ReadOptions { max_record: 1 << 20, ..tolerant() };
    let items = of_bytes(Format::Jsonl, &bomb, &options);
    assert_eq!(outcome(&items), [Err(Some(Fault::TooLong)), Ok("behind")]);
    assert_eq!(outcome(&of_bytes(Format::Csv, &bomb, &options)), [Err(None)], "no header");
    assert_eq!(outcome(&of_bytes(Format::Warc, &bomb, &options)), [Err(Some(Fault::Header))]);
    let paragraphs = ReadOptions { unit: TextUnit::Paragraph, ..options };
    assert_eq!(outcome(&of_bytes(Format::Text, &bomb, &paragraphs)), [Err(Some(Fault::TooLong))]);
}

#[test]
fn tables() {
    let csv = "\u{FEFF}id,text,url,source,lang,\r\n1,\"two\nlines, \"\"quoted\"\"\",u,,en,x\r\n\r\n2,short\r\n,é,,s,,\r\n";
    let items = of_bytes(Format::Csv, csv.as_bytes(), &tolerant());
    assert_eq!(outcome(&items), [Ok("two\nlines, \"quoted\""), Err(Some(Fault::Fields)), Ok("é")]);
    let first = items[0].as_ref().unwrap();
    assert_eq!(
        (first.id.as_deref(), first.url.as_deref(), first.source.as_deref()),
        (Some("1"), Some("u"), None)
    );
    assert_eq!(serde_json::to_string(&first.metadata).unwrap(), r#"{"lang":"en","":"x"}"#);
    let message = items[1].as_ref().unwrap_err().to_string();
    assert!(message.contains("2 fields, but the header has 6"), "{message}");

    let options = ReadOptions { text_key: "content".into(), ..tolerant() };
    let tsv = of_bytes(Format::Tsv, b"content\ttext\na b\tc,d\n\xFF\tx\n", &options);
    assert_eq!(outcome(&tsv), [Ok("a b"), Err(Some(Fault::NotUtf8))]);
    assert_eq!(tsv[0].as_ref().unwrap().metadata["text_"], "c,d");
    for (table, word) in
        [("", "header"), ("a,b\n1,2\n", "a, b"), ("text,x,x\n", "`x`"), ("text,text_\n", "text")]
    {
        let items = of_bytes(Format::Csv, table.as_bytes(), &options);
        assert_eq!(outcome(&items), [Err(None)], "{table}");
        assert!(items[0].as_ref().unwrap_err().to_string().contains(word), "{items:?}");
    }
}

/// A table that was cut within quotes would be taken for a shorter one.
#[test]
fn tables_that_end_within_quotes_are_damaged() {
    for cut in ["\"", "\"one", "\"one\n", "\"one\"\"", "x,\"", "x,\"one\r\n"] {
        let items = of_bytes(Format::Csv, format!("text,b\na,b\n{cut}").as_bytes(), &tolerant());
        assert_eq!(outcome(&items), [Ok("a"), Err(None)], "{cut:?}");
        let message = items[1].as_ref().unwrap_err().to_string();
        assert!(message.contains("within quotes") && message.contains(":3:"), "{message}");
    }
    for whole in ["", "\n", "\"one\",b", "\"one\",\"b\"", "one,b\r", "one,\"\""] {
        let items = of_bytes(Format::Csv, format!("text,b\na,b\n{whole}").as_bytes(), &tolerant());
        assert!(items.iter().all(Result::is_ok), "{whole:?} {items:?}");
    }
    let header = of_bytes(Format::Csv, b"\"text", &tolerant());
    assert_eq!(outcome(&header), [Err(None)]);
}

#[test]
fn texts() {
    let text = "\u{FEFF}one\r\ntwo\n \nthree\n\n\nfour\0";
    let of = |unit| of_bytes(Format::Text, text.as_bytes(), &ReadOptions { unit, ..tolerant() });
    assert_eq!(outcome(&of(TextUnit::File)), [Ok(text.trim_start_matches('\u{FEFF}'))]);
    assert_eq!(outcome(&of(TextUnit::Line)), [Ok("one"), Ok("two"), Ok("three"), Ok("four\0")]);
    let paragraphs = of(TextUnit::Paragraph);
    assert_eq!(outcome(&paragraphs), [Ok("one\ntwo"), Ok("three"), Ok("four\0")]);
    assert_eq!(paragraphs[1].as_ref().unwrap().id.as_deref(), Some("in.data:4"));
    let whole = &of(TextUnit::File)[0];
    assert_eq!(whole.as_ref().unwrap().id.as_deref(), Some("in.data"));
    let items = of_bytes(Format::Text, b"ab\xC3", &tolerant());
    assert!(items[0].as_ref().unwrap_err().to_string().contains("in.data: not UTF-8 at byte 2"));
}

#[test]
fn several_files_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("a.txt"), "first").unwrap();
    // Compressed, though its name says nothing of it.
    std::fs::write(
        path("b.jsonl"),
        zstd::encode_all(&b"{\"text\":\"second\"}\n?\n{\"text\":\"third\"}\n"[..], 3).unwrap(),
    )
    .unwrap();
    let paths = [path("a.txt"), path("b.jsonl"), path("a.txt")];
    let items: Vec<_> = Documents::with_options(&paths, tolerant()).collect();
    assert_eq!(
        outcome(&items),
        [Ok("first"), Ok("second"), Err(Some(Fault::NotJson)), Ok("third"), Ok("first")]
    );
    assert_eq!(Documents::new(&paths).count(), 3, "it ends after the first error");
    let items: Vec<_> = Documents::with_options(&[path("gone.txt"), path("a.txt")], tolerant()).collect();
    assert_eq!(outcome(&items), [Err(None)]);
    assert!(items[0].as_ref().unwrap_err().to_string().contains("gone.txt"));
}

#[test]
fn chats() {
    let input = br#"{"messages":[{"role":"user","content":"hi"}],"x":1}"#;
    let mut reader = JsonLines::<Chat>::new(Path::new("in.jsonl"), Box::new(&input[..]));
    assert_eq!(reader.next().unwrap().unwrap().messages[0].role, "user");
    assert!(reader.next().is_none());
}

proptest! {
    #[test]
    fn any_text_round_trips(texts in prop::collection::vec(".*\\S.*", 0..20)) {
        let mut bytes = Vec::new();
        for text in &texts {
            serde_json::to_writer(&mut bytes, &serde_json::json!({ "text": text })).unwrap();
            bytes.push(b'\n');
        }
        let items = of_bytes(Format::Jsonl, &bytes, &ReadOptions::default());
        let read: Vec<_> = items.into_iter().map(|item| item.unwrap().text).collect();
        prop_assert_eq!(read, texts);
    }

    #[test]
    fn any_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for target in [crate::fuzz_jsonl, crate::fuzz_csv, crate::fuzz_warc, crate::fuzz_archive, crate::fuzz_parquet] {
            target(&bytes);
        }
    }
}
