//! The temporary file of a sort: sorted runs one after another, each checked by length and XXH3 when it is read back.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use smolt_run::error::FileError;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::SortError;

/// Where a run lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    offset: u64,
    records: u64,
    checksum: u64,
}

/// Runs without a name: the file system frees them when the file is closed.
pub(super) struct Spill {
    file: File,
    folder: PathBuf,
    length: u64,
}

impl Spill {
    pub(super) fn create(folder: &Path) -> Result<Self, SortError> {
        let file = tempfile::tempfile_in(folder)
            .map_err(|source| FileError::new("create a temporary file in", folder, source))?;
        Ok(Self { file, folder: folder.to_owned(), length: 0 })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes a run of sorted records.
    pub(super) fn write<const N: usize>(&mut self, records: &[[u8; N]]) -> Result<Run, SortError> {
        let bytes = records.as_flattened();
        let run = Run { offset: self.length, records: records.len() as u64, checksum: xxh3_64(bytes) };
        self.append(bytes)?;
        Ok(run)
    }

    /// Writes a run record by record, `block` records at a time.
    pub(super) fn writer<const N: usize>(&mut self, block: usize) -> RunWriter<'_, N> {
        let offset = self.length;
        RunWriter { spill: self, offset, records: 0, hasher: Xxh3::new(), block: Vec::with_capacity(block) }
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), SortError> {
        self.file
            .write_all(bytes)
            .map_err(|source| FileError::new("write a temporary file in", &self.folder, source))?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn read(&self, bytes: &mut [u8], offset: u64) -> Result<(), SortError> {
        self.file.read_exact_at(bytes, offset).map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged(format!("it ends before byte {offset}")),
            _ => FileError::new("read a temporary file in", &self.folder, source).into(),
        })
    }

    fn damaged(&self, problem: String) -> SortError {
        SortError::Damaged { folder: self.folder.clone(), problem }
    }
}

/// A run being written.
pub(super) struct RunWriter<'a, const N: usize> {
    spill: &'a mut Spill,
    offset: u64,
    records: u64,
    hasher: Xxh3,
    block: Vec<[u8; N]>,
}

impl<const N: usize> RunWriter<'_, N> {
    pub(super) fn push(&mut self, record: [u8; N]) -> Result<(), SortError> {
        if self.block.len() == self.block.capacity() {
            self.flush()?;
        }
        self.block.push(record);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SortError> {
        let bytes = self.block.as_flattened();
        self.hasher.update(bytes);
        self.spill.append(bytes)?;
        self.records += self.block.len() as u64;
        self.block.clear();
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<Run, SortError> {
        self.flush()?;
        Ok(Run { offset: self.offset, records: self.records, checksum: self.hasher.digest() })
    }
}

/// A run being read.
pub(super) struct RunReader<const N: usize> {
    offset: u64,
    left: u64,
    checksum: u64,
    hasher: Xxh3,
    block: Vec<[u8; N]>,
    at: usize,
    size: usize,
}

impl<const N: usize> RunReader<N> {
    /// Reads `block` records at a time.
    pub(super) fn new(run: Run, block: usize) -> Self {
        Self {
            offset: run.offset,
            left: run.records,
            checksum: run.checksum,
            hasher: Xxh3::new(),
            block: Vec::new(),
            at: 0,
            size: block,
        }
    }

    #[inline]
    pub(super) fn next(&mut self, spill: &Spill) -> Result<Option<[u8; N]>, SortError> {
        if self.at == self.block.len() && !self.refill(spill)? {
            return Ok(None);
        }
        let record = self.block[self.at];
        self.at += 1;
        Ok(Some(record))
    }

    fn refill(&mut self, spill: &Spill) -> Result<bool, SortError> {
        self.at = 0;
        let count = self.left.min(self.size as u64) as usize;
        if count == 0 {
            self.block.clear();
            if self.hasher.digest() != self.checksum {
                return Err(spill.damaged(format!("the checksum of the run before byte {}", self.offset)));
            }
            return Ok(false);
        }
        if self.block.capacity() == 0 {
            self.block.reserve_exact(count);
        }
        self.block.resize(count, [0; N]);
        let bytes = self.block.as_flattened_mut();
        spill.read(bytes, self.offset)?;
        self.hasher.update(bytes);
        self.offset += bytes.len() as u64;
        self.left -= count as u64;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spilled(records: &[[u8; 8]]) -> (Spill, Run) {
        let mut spill = Spill::create(&std::env::temp_dir()).unwrap();
        let run = spill.write(records).unwrap();
        (spill, run)
    }

    fn read(spill: &Spill, run: Run) -> Result<Vec<[u8; 8]>, SortError> {
        let mut reader = RunReader::new(run, 7);
        let mut records = Vec::new();
        while let Some(record) = reader.next(spill)? {
            records.push(record);
        }
        Ok(records)
    }

    #[test]
    fn a_cut_or_changed_run_is_an_error() {
        let records: Vec<_> = (0..100u64).map(u64::to_be_bytes).collect();
        let (spill, run) = spilled(&records);
        assert_eq!(read(&spill, run).unwrap(), records);
        spill.file.write_at(&[1], 400).unwrap();
        let error = read(&spill, run).unwrap_err().to_string();
        assert!(error.contains("checksum"), "{error}");
        spill.file.set_len(600).unwrap();
        let error = read(&spill, run).unwrap_err().to_string();
        assert!(error.contains("damaged") && error.contains("run again"), "{error}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_one_clear_error() {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut spill = Spill { file: full, folder: "/scratch".into(), length: 0 };
        let error = spill.write(&[[0u8; 8]; 1000]).unwrap_err().to_string();
        assert!(error.contains("/scratch") && error.contains("free some disk space"), "{error}");
    }
}
