//! Append-only logs of one JSON object per line that survive a kill at any moment.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use crate::error::FileError;

/// Stands first in every line.
const FORMAT_VERSION: u32 = 1;

/// A longer line is damage.
const MAX_LINE: u64 = 1 << 20;

/// Writes `metrics.jsonl`, `events.jsonl` and the like. Each line starts with `"format_version":1`.
#[derive(Debug)]
pub struct JsonlWriter {
    path: PathBuf,
    file: File,
    len: u64,
}

impl JsonlWriter {
    /// A new file; an old one is emptied.
    pub fn create(path: &Path) -> Result<Self, FileError> {
        Self::open(path, |_| false)
    }

    /// Continues a log, repairing only a torn end: for events, which carry their own time.
    pub fn append(path: &Path) -> Result<Self, FileError> {
        Self::open(path, |_| true)
    }

    /// Continues a log after a resume from `last`: cuts it before the first line whose `key` is greater than `last`
    /// and before a torn end, so that each step is written exactly once. A missing file starts empty.
    pub fn open_at(path: &Path, key: &str, last: u64) -> Result<Self, FileError> {
        Self::open(path, |line| match line.get(key) {
            Some(value) => value.as_u64().is_some_and(|step| step <= last),
            None => true,
        })
    }

    fn open(path: &Path, keep: impl Fn(&Value) -> bool) -> Result<Self, FileError> {
        let writing = |source| FileError::writing(path, source);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(writing)?;
        let len = kept_bytes(&file, keep).map_err(writing)?;
        file.set_len(len).and_then(|()| file.seek(SeekFrom::Start(len)).map(|_| ())).map_err(writing)?;
        Ok(Self { path: path.to_owned(), file, len })
    }

    /// Writes one line, with one system call. `record` must serialize to a JSON object; NaN and infinities become
    /// null. After a failed write (full disk) the file is as it was before.
    pub fn write(&mut self, record: &impl Serialize) -> Result<(), FileError> {
        let result = line(record).and_then(|line| self.file.write_all(&line).map(|()| line.len() as u64));
        match result {
            Ok(written) => {
                self.len += written;
                Ok(())
            }
            Err(source) => {
                // Best effort: a torn line that stays is cut at the next open.
                let _ = self.file.set_len(self.len);
                let _ = self.file.seek(SeekFrom::Start(self.len));
                Err(FileError::writing(&self.path, source))
            }
        }
    }

    /// Waits until all lines are on the disk: call it before a checkpoint is committed.
    pub fn sync(&mut self) -> Result<(), FileError> {
        self.file.sync_data().map_err(|source| FileError::writing(&self.path, source))
    }
}

fn line(record: &impl Serialize) -> io::Result<Vec<u8>> {
    let json = serde_json::to_string(record)?;
    let Some(fields) = json.strip_prefix('{') else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a log line must be a JSON object"));
    };
    let comma = if fields == "}" { "" } else { "," };
    Ok(format!("{{\"format_version\":{FORMAT_VERSION}{comma}{fields}\n").into_bytes())
}

/// Length of the leading part whose lines `keep` accepts, up to the last whole JSON object of it.
fn kept_bytes(file: &File, keep: impl Fn(&Value) -> bool) -> io::Result<u64> {
    let mut reader = BufReader::new(file);
    let (mut kept, mut at) = (0, 0);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)? as u64;
        if line.last() != Some(&b'\n') {
            return Ok(kept);
        }
        at += read;
        match serde_json::from_slice::<Value>(&line) {
            Ok(value) if value.is_object() && keep(&value) => kept = at,
            Ok(value) if value.is_object() => return Ok(kept),
            // Damage among whole lines costs itself, not what follows.
            _ => {}
        }
    }
}

/// Reads a log back for reports: every whole JSON object, damaged lines skipped.
pub fn read(path: &Path) -> Result<Vec<Value>, FileError> {
    let reading = |source| FileError::reading(path, source);
    let mut reader = BufReader::new(File::open(path).map_err(reading)?);
    let (mut values, mut line) = (Vec::new(), Vec::new());
    while reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line).map_err(reading)? > 0 {
        values.extend(serde_json::from_slice::<Value>(&line).ok().filter(Value::is_object));
        line.clear();
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;
    use std::fs;

    fn steps(path: &Path) -> Vec<u64> {
        read(path).unwrap().iter().map(|line| line["step"].as_u64().unwrap()).collect()
    }

    fn write_steps(log: &mut JsonlWriter, steps: std::ops::RangeInclusive<u64>) {
        for step in steps {
            log.write(&json!({ "step": step, "loss": f64::NAN })).unwrap();
        }
        log.sync().unwrap();
    }

    #[test]
    fn lines_carry_the_version_and_must_be_objects() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.jsonl");
        let mut log = JsonlWriter::create(&path).unwrap();
        log.write(&json!({ "step": 1, "loss": 2.5 })).unwrap();
        log.write(&json!({})).unwrap();
        assert!(log.write(&json!([1])).unwrap_err().to_string().contains("m.jsonl"));
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, "{\"format_version\":1,\"step\":1,\"loss\":2.5}\n{\"format_version\":1}\n");
        drop(log);
        JsonlWriter::append(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        JsonlWriter::create(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "");
    }

    #[test]
    fn damage_among_whole_lines_costs_itself_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.jsonl");
        write_steps(&mut JsonlWriter::create(&path).unwrap(), 1..=9);
        let text = fs::read_to_string(&path).unwrap().replace("\"step\":4,", "\"ste\0");
        fs::write(&path, text).unwrap();
        JsonlWriter::open_at(&path, "step", 7).unwrap();
        assert_eq!(steps(&path), [1, 2, 3, 5, 6, 7]);
    }

    proptest! {
        /// A file cut at any byte, then resumed from any step it may have reached.
        #[test]
        fn each_step_is_written_once(cut in 0usize..600, last in 0u64..12) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("m.jsonl");
            write_steps(&mut JsonlWriter::create(&path).unwrap(), 1..=12);
            let bytes = fs::read(&path).unwrap();
            fs::write(&path, &bytes[..cut.min(bytes.len())]).unwrap();
            let mut log = JsonlWriter::open_at(&path, "step", last).unwrap();
            let reached = steps(&path).last().copied().unwrap_or(0);
            prop_assert!(reached <= last);
            write_steps(&mut log, reached + 1..=15);
            prop_assert_eq!(steps(&path), (1..=15).collect::<Vec<_>>());
        }

        #[test]
        fn any_bytes_can_be_opened(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("m.jsonl");
            fs::write(&path, &bytes).unwrap();
            prop_assert!(read(&path).is_ok());
            prop_assert!(JsonlWriter::open_at(&path, "step", 3).is_ok());
        }
    }
}
