//! Entry point for the fuzz target; the tests replay `corpus/dedup/` through it.

use std::io::Cursor;
use std::path::Path;

use super::lines::{LineRemovals, LineSettings};
use super::records::{Kind, RecordReader};
use super::removals::Removals;

/// Reads the bytes as each kind of file: errors are fine, panics are not.
#[doc(hidden)]
pub fn fuzz_dedup_records(bytes: &[u8]) {
    let open = |kind| {
        let input = Box::new(Cursor::new(bytes.to_vec()));
        RecordReader::new(Path::new("fuzz.records"), kind, input, bytes.len() as u64)
    };
    for kind in [Kind::Signatures, Kind::DocumentKeys, Kind::LineKeys] {
        if let Ok(mut reader) = open(kind) {
            while let Ok(Some(record)) = reader.read() {
                assert!(!record.is_empty());
            }
        }
    }
    if let Ok(removals) = open(Kind::Removals).and_then(Removals::new) {
        let positions: Vec<_> = removals.map_while(Result::ok).map(|removal| removal.position).collect();
        assert!(positions.is_sorted());
    }
    if let Ok(mut removals) = open(Kind::LineRemovals).and_then(LineRemovals::new) {
        let mut text = "one\ntwo\nthree".to_owned();
        for position in 0..3 {
            let _ = removals.apply(position, &mut text, &LineSettings::default());
        }
        let _ = removals.finish(3);
    }
}
