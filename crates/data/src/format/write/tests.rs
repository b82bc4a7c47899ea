use std::io::Read;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::format::{ReadOptions, open};

fn names() -> Vec<&'static str> {
    let mut names = vec!["out.jsonl", "out.jsonl.gz", "out.jsonl.zst"];
    if cfg!(feature = "parquet") {
        names.push("out.parquet");
    }
    names
}

fn write(path: &Path, documents: &[Document]) -> Result<(), Error> {
    let mut writer = DocumentWriter::create(path)?;
    for document in documents {
        writer.write(document)?;
    }
    writer.finish()
}

fn documents(count: usize) -> Vec<Document> {
    (0..count)
        .map(|n| {
            let mut document =
                Document { text: format!("text {n} \n\u{1F600}\0\"\\"), ..Document::default() };
            if n % 2 == 0 {
                document.id = Some(n.to_string());
                document.url = Some(format!("https://a/{n}"));
                document.metadata.insert("z".into(), serde_json::json!({"a": [1, 2.5, null]}));
                document.metadata.insert("a".into(), "b".into());
            }
            document
        })
        .collect()
}

#[test]
fn every_format_gives_back_the_documents_and_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let documents = documents(1000);
    for name in names() {
        let path = dir.path().join(name);
        write(&path, &documents).unwrap();
        let first = std::fs::read(&path).unwrap();
        let read: Vec<_> = open(&path, &ReadOptions::default()).unwrap().map(Result::unwrap).collect();
        assert_eq!(read, documents, "{name}");
        write(&path, &documents).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), first, "{name}");
        write(&path, &[]).unwrap();
        assert_eq!(open(&path, &ReadOptions::default()).unwrap().count(), 0, "{name}: no documents");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), names().len(), "nothing else is left");
    assert!(write(&dir.path().join("out.csv"), &documents).is_err());
    assert!(write(&dir.path().join("gone/out.jsonl"), &documents).is_err());
}

#[test]
fn an_unfinished_file_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    for name in names() {
        let mut writer = DocumentWriter::create(&dir.path().join(name)).unwrap();
        for document in documents(100) {
            writer.write(&document).unwrap();
        }
        drop(writer);
        let mut clash = Document::default();
        clash.metadata.insert("text".into(), "b".into());
        let mut writer = DocumentWriter::create(&dir.path().join(name)).unwrap();
        if !name.ends_with("parquet") {
            assert!(writer.write(&clash).unwrap_err().to_string().contains("`text`"));
        }
        drop(writer);
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]
    #[test]
    fn any_document_round_trips(
        texts in prop::collection::vec((any::<String>(), prop::option::of(any::<String>()), any::<f64>()), 0..20),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let documents: Vec<_> = texts
            .into_iter()
            .map(|(text, source, number)| {
                let mut document = Document { text, source, ..Document::default() };
                document.metadata.insert("number".into(), number.into());
                document
            })
            .collect();
        for name in names() {
            let path = dir.path().join(name);
            write(&path, &documents).unwrap();
            let read: Vec<_> = open(&path, &ReadOptions::default()).unwrap().map(Result::unwrap).collect();
            prop_assert_eq!(&read, &documents, "{}", name);
        }
    }
}

#[test]
fn text_is_compressed_by_the_formats_that_say_so() {
    let dir = tempfile::tempdir().unwrap();
    let same = vec![Document { text: "same ".repeat(1000), ..Document::default() }; 50];
    for name in names().into_iter().skip(1) {
        let path = dir.path().join(name);
        write(&path, &same).unwrap();
        let mut bytes = Vec::new();
        std::fs::File::open(&path).unwrap().read_to_end(&mut bytes).unwrap();
        assert!(bytes.len() < 50_000, "{name}: {}", bytes.len());
    }
}
