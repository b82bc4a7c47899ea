//! Entry points for the fuzz targets; the tests replay `fuzzcorpus/` through them.

use std::io::Cursor;
use std::path::Path;

use crate::batch::{BatchMut, Layout, Loader, Source};
use crate::document::{Chat, Document, JsonLines};
use crate::format::{self, Format, Input, OnDamage, ReadOptions, TextUnit};
use crate::shard::Shard;
use crate::validation::Validation;

/// Reads to the end, damaged records passed over. Only the last error may be one of the file.
fn read_all(data: &[u8], format: Format, text_key: &str) {
    let options = ReadOptions {
        text_key: text_key.to_owned(),
        max_record: 1 << 16,
        unit: TextUnit::Paragraph,
        on_damage: OnDamage::Continue,
    };
    let Ok(mut reader) = format::read(Input::bytes("fuzz", data.to_vec()), format, &options) else { return };
    while let Some(item) = reader.next() {
        match item {
            // What was read can be written and read back.
            Ok(document) => {
                let json =
                    serde_json::to_string(&document).map(|json| serde_json::from_str::<Document>(&json));
                assert!(matches!(json, Ok(Ok(again)) if again == document));
            }
            Err(error) if error.is_recoverable() => {}
            Err(_) => assert!(reader.next().is_none()),
        }
    }
}

/// Any bytes as a JSONL file of documents and of chats: errors are fine, panics are not.
pub fn fuzz_jsonl(data: &[u8]) {
    read_all(data, Format::Jsonl, "text");
    read_all(data, Format::Jsonl, "content");
    let path = Path::new("fuzz.jsonl");
    for item in JsonLines::<Chat>::new(path, Box::new(Cursor::new(data.to_vec()))) {
        drop(item);
    }
}

/// Any bytes as a CSV and as a TSV file.
pub fn fuzz_csv(data: &[u8]) {
    read_all(data, Format::Csv, "text");
    read_all(data, Format::Tsv, "content");
}

/// Any bytes as a WARC file.
pub fn fuzz_warc(data: &[u8]) {
    read_all(data, Format::Warc, "text");
}

/// Any bytes as an archive of plain text.
pub fn fuzz_archive(data: &[u8]) {
    read_all(data, Format::Text, "text");
}

/// Any bytes as a Parquet file.
pub fn fuzz_parquet(data: &[u8]) {
    read_all(data, Format::Parquet, "text");
}

/// Any bytes as a file of rows, of every format that has some.
pub fn fuzz_rows(data: &[u8]) {
    let options =
        ReadOptions { max_record: 1 << 16, on_damage: OnDamage::Continue, ..ReadOptions::default() };
    for format in [Format::Jsonl, Format::Csv, Format::Tsv, Format::Parquet] {
        let Ok(mut rows) = format::rows(Input::bytes("fuzz", data.to_vec()), format, &options) else {
            continue;
        };
        while let Some(item) = rows.next() {
            match item {
                // What was read can be written and read back.
                Ok(row) => {
                    let json =
                        serde_json::to_string(&row).map(|json| serde_json::from_str::<format::Row>(&json));
                    assert!(matches!(json, Ok(Ok(again)) if again == row));
                }
                Err(error) if error.is_recoverable() => {}
                Err(_) => assert!(rows.next().is_none()),
            }
        }
    }
}

/// Any bytes as the names of a shard's documents.
pub fn fuzz_ids(data: &[u8]) {
    let _ = crate::shard::parse_ids(Path::new("fuzz.ds.ids"), Cursor::new(data), &[0, 1, 5, 1 << 40].into());
}

/// Any bytes as the four files of a shard, then read as training and validation batches.
///
/// Layout: byte 0 says which optional files exist (bit 0 `.smolt.json`, bit 1 `.loss`) and masks documents (bit 2);
/// then the u16 lengths (little endian) of `.smolt.json`, `.index` and `.loss`; then those three and the tokens.
pub fn fuzz_shard(data: &[u8]) {
    let Some((header, mut rest)) = data.split_first_chunk::<7>() else { return };
    let mut take = |low: u8, high: u8| {
        let (part, after) = rest.split_at(rest.len().min(usize::from(u16::from_le_bytes([low, high]))));
        rest = after;
        part
    };
    let meta = take(header[1], header[2]);
    let index = take(header[3], header[4]);
    let loss = take(header[5], header[6]);
    let meta = (header[0] & 1 != 0).then_some(meta);
    let loss = (header[0] & 2 != 0).then(|| loss.to_vec());
    let open = || Shard::from_bytes(Path::new("fuzz.ds"), meta, rest.to_vec(), index.to_vec(), loss.clone());
    let Ok(shard) = open() else { return };
    let _ = shard.verify();
    let layout = Layout {
        sequence_length: 8,
        vocab_size: 256,
        document_masking: header[0] & 4 != 0,
        reset_positions: true,
    };
    let mut buffers = [[0u32; 16]; 4];
    let [tokens, labels, segments, positions] = &mut buffers;
    let mut batch = BatchMut { tokens, labels, segments, positions };
    if let Ok(validation) = Validation::new(shard, layout) {
        for row in 0..validation.rows().min(64) {
            let _ = validation.fill(row, 2, batch.reborrow());
        }
    }
    let Ok(shard) = open() else { return };
    if let Ok(loader) = Loader::new(vec![Source { name: "fuzz".into(), weight: 1.0, shard }], 1, layout) {
        for sample in 0..8 {
            let _ = loader.fill(sample, 2, batch.reborrow());
            let _ = loader.label_tokens(sample, 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// Every saved input that once mattered, replayed.
    #[test]
    fn corpus_replays() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzzcorpus");
        type Target = fn(&[u8]);
        let targets: [(&str, Target); 8] = [
            ("shard", super::fuzz_shard),
            ("jsonl", super::fuzz_jsonl),
            ("csv", super::fuzz_csv),
            ("warc", super::fuzz_warc),
            ("archive", super::fuzz_archive),
            ("parquet", super::fuzz_parquet),
            ("ids", super::fuzz_ids),
            ("rows", super::fuzz_rows),
        ];
        for (folder, target) in targets {
            let mut replayed = 0;
            for entry in std::fs::read_dir(root.join(folder)).unwrap() {
                target(&std::fs::read(entry.unwrap().path()).unwrap());
                replayed += 1;
            }
            assert!(replayed > 3, "{folder}: {replayed} inputs");
        }
    }
}
