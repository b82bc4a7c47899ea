//! Where a curation keeps what, and how its files appear whole or not at all.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;
use smolt_data::document::Document;
use smolt_run::atomic::{self, AtomicFile};
use smolt_run::error::FileError;

use super::error::Error;
use super::tally::Tally;

/// The folder of a curation.
#[derive(Clone, Debug)]
pub struct Layout {
    out: PathBuf,
}

impl Layout {
    /// Everything lies in `out`.
    pub fn new(out: &Path) -> Self {
        Self { out: out.to_owned() }
    }

    /// What is being curated and how: refuses to go on with something else.
    pub fn plan(&self) -> PathBuf {
        self.out.join("plan.json")
    }

    /// The report; its presence says that all is done.
    pub fn report(&self) -> PathBuf {
        self.out.join("curation.json")
    }

    /// Curated documents of a source.
    pub fn documents(&self, source: &str) -> PathBuf {
        self.out.join("documents").join(source)
    }

    /// Rejected documents of a source.
    pub fn rejected(&self, source: &str) -> PathBuf {
        self.out.join("rejected").join(source)
    }

    /// What is only needed until the end.
    pub fn work(&self) -> PathBuf {
        self.out.join("work")
    }

    fn segment(&self, segment: usize) -> PathBuf {
        self.work().join(format!("segment-{segment}"))
    }

    /// Documents on the way from `segment` to the next.
    pub fn between(&self, segment: usize, shard: usize) -> PathBuf {
        self.segment(segment).join(format!("{shard:05}.jsonl.zst"))
    }

    /// Records of a shard for the global step at the end of `segment`.
    pub fn records(&self, segment: usize, shard: usize) -> PathBuf {
        self.segment(segment).join(format!("{shard:05}.records"))
    }

    /// What the global step at the end of `segment` says of every shard.
    pub fn verdicts(&self, segment: usize) -> PathBuf {
        self.segment(segment).join("verdicts")
    }

    /// Written last, so that a shard is done when this is there: what was counted.
    pub fn done(&self, segment: usize, shard: usize) -> PathBuf {
        self.segment(segment).join(format!("{shard:05}.done.json"))
    }

    /// Written when the global step at the end of `segment` has decided: its report.
    pub fn decided(&self, segment: usize) -> PathBuf {
        self.segment(segment).join("decided.json")
    }

    /// Removes what killed processes left half written, at a time when none writes. Not while they work: a temporary file
    /// does not tell whose it is.
    pub fn remove_temporaries(&self) -> Result<(), Error> {
        remove_temporaries(&self.out, false)?;
        for folder in ["documents", "rejected"] {
            remove_temporaries(&self.out.join(folder), true)?;
        }
        Ok(())
    }

    /// Makes the folders that `segment` needs.
    pub fn prepare(&self, segment: usize, sources: &[String]) -> Result<(), Error> {
        let mut folders = vec![self.segment(segment)];
        for source in sources {
            folders.extend([self.documents(source), self.rejected(source)]);
        }
        for folder in folders {
            make_folder(&folder)?;
        }
        Ok(())
    }
}

/// Removes the files that killed processes left half written.
fn remove_temporaries(folder: &Path, deep: bool) -> Result<(), Error> {
    let reading = |source| FileError::reading(folder, source);
    for entry in fs::read_dir(folder).map_err(reading)? {
        let entry = entry.map_err(reading)?;
        let path = entry.path();
        if entry.file_type().map_err(reading)?.is_dir() {
            if deep {
                remove_temporaries(&path, deep)?;
            }
        } else if entry.file_name().as_encoded_bytes().starts_with(b".tmp-") {
            fs::remove_file(&path).map_err(|source| FileError::new("remove", &path, source))?;
        }
    }
    Ok(())
}

/// Creates a folder and its parents.
pub(super) fn make_folder(folder: &Path) -> Result<(), Error> {
    Ok(fs::create_dir_all(folder).map_err(|source| FileError::new("create folder", folder, source))?)
}

/// Reads a marker; `None` when it is not there yet.
pub(super) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes).map_err(|e| Error::damaged(path, e))?)),
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(FileError::reading(path, source).into()),
    }
}

/// Writes a marker.
pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Error::damaged(path, e))?;
    Ok(atomic::write(path, text.as_bytes())?)
}

/// Reads the tally of a finished shard.
pub(super) fn read_tally(path: &Path) -> Result<Option<Tally>, Error> {
    read_json(path)
}

/// Compresses what a pass only carries to the next.
const FAST: i32 = 1;
/// Compresses what stays.
const USUAL: i32 = 3;

/// A `.jsonl.zst` in the making: under another name until finished, gone when dropped.
pub(super) struct Lines {
    encoder: zstd::Encoder<'static, AtomicFile>,
    path: PathBuf,
    line: Vec<u8>,
}

impl Lines {
    /// One that stays.
    pub(super) fn create(path: &Path) -> Result<Self, Error> {
        Self::with_level(path, USUAL)
    }

    /// One that a later pass reads once.
    pub(super) fn between(path: &Path) -> Result<Self, Error> {
        Self::with_level(path, FAST)
    }

    fn with_level(path: &Path, level: i32) -> Result<Self, Error> {
        let writing = |source| FileError::writing(path, source);
        let mut encoder = zstd::Encoder::new(AtomicFile::create(path)?, level).map_err(writing)?;
        encoder.include_checksum(true).map_err(writing)?;
        Ok(Self { encoder, path: path.to_owned(), line: Vec::new() })
    }

    pub(super) fn write(&mut self, record: &impl Serialize) -> Result<(), Error> {
        self.write_within(record, usize::MAX).map(|_| ())
    }

    /// Writes nothing and gives false when the line would be longer than `limit` bytes.
    pub(super) fn write_within(&mut self, record: &impl Serialize, limit: usize) -> Result<bool, Error> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, record).map_err(|e| Error::damaged(&self.path, e))?;
        if self.line.len() > limit {
            return Ok(false);
        }
        self.line.push(b'\n');
        self.encoder.write_all(&self.line).map_err(|source| FileError::writing(&self.path, source))?;
        Ok(true)
    }

    pub(super) fn finish(self) -> Result<(), Error> {
        Ok(self.encoder.finish().map_err(|source| FileError::writing(&self.path, source))?.commit()?)
    }
}

/// Values of the split key beyond so many share the folder [`OTHER`].
const MAX_FOLDERS: usize = 64;
const OTHER: &str = "other";

/// The curated documents of one shard, in one file, or in one per value of a metadata key (spec `DSR-02`).
pub(super) struct Split<'a> {
    folder: PathBuf,
    shard: usize,
    key: Option<&'a str>,
    files: BTreeMap<String, Lines>,
}

impl<'a> Split<'a> {
    pub(super) fn new(folder: PathBuf, shard: usize, key: Option<&'a str>) -> Self {
        Self { folder, shard, key, files: BTreeMap::new() }
    }

    /// As [`Lines::write_within`].
    pub(super) fn write_within(&mut self, document: &Document, limit: usize) -> Result<bool, Error> {
        let mut name = self.key.map_or(String::new(), |key| folder_of(document.metadata.get(key)));
        if !self.files.contains_key(&name) {
            if self.files.len() >= MAX_FOLDERS {
                name = OTHER.to_owned();
            }
            let folder = self.folder.join(&name);
            make_folder(&folder)?;
            let path = folder.join(format!("{:05}.jsonl.zst", self.shard));
            if !self.files.contains_key(&name) {
                self.files.insert(name.clone(), Lines::create(&path)?);
            }
        }
        match self.files.get_mut(&name) {
            Some(file) => file.write_within(document, limit),
            None => Ok(true),
        }
    }

    pub(super) fn finish(self) -> Result<(), Error> {
        self.files.into_values().try_for_each(Lines::finish)
    }
}

/// A metadata value as a folder's name: only what cannot lead anywhere else.
fn folder_of(value: Option<&serde_json::Value>) -> String {
    let text = match value {
        Some(serde_json::Value::String(text)) => text.clone(),
        Some(value @ (serde_json::Value::Number(_) | serde_json::Value::Bool(_))) => value.to_string(),
        _ => return OTHER.to_owned(),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+');
    let good = (1..=64).contains(&text.len()) && !text.starts_with('.') && text.chars().all(plain);
    if good { text } else { OTHER.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn metadata_cannot_leave_the_folder() {
        for bad in
            [json!("../x"), json!(".."), json!("/etc"), json!(""), json!("a\0"), json!(["a"]), json!("é")]
        {
            assert_eq!(folder_of(Some(&bad)), OTHER, "{bad}");
        }
        assert_eq!(folder_of(Some(&json!("4+"))), "4+");
        assert_eq!(folder_of(Some(&json!(3))), "3");
        assert_eq!(folder_of(None), OTHER);
    }
}
