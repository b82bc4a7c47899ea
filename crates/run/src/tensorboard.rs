//! TensorBoard event files: TFRecord framing with masked CRC-32C around hand-written `Event` messages.
//!
//! Field numbers are those of `event.proto` and `summary.proto` of TensorFlow.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crc_fast::CrcAlgorithm;

use crate::error::FileError;

/// Writes one event file. Every start of a run writes its own, as TensorBoard expects.
#[derive(Debug)]
pub struct EventWriter {
    path: PathBuf,
    file: File,
}

impl EventWriter {
    /// A new event file in `folder` (created when missing) for a run whose next step is `next_step`. Its name carries
    /// that step and the process id. It opens with a session start, at which TensorBoard drops what an earlier file
    /// of a killed run holds from `next_step` on.
    pub fn create(folder: &Path, next_step: u64, wall_time: f64) -> Result<Self, FileError> {
        fs::create_dir_all(folder).map_err(|source| FileError::new("create folder", folder, source))?;
        // TensorBoard reads a folder's files in the order of their names: time first.
        let name =
            format!("events.out.tfevents.{:010}.smolt.{}.{next_step}", wall_time as u64, std::process::id());
        let path = folder.join(name);
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&path)
            .map_err(|source| FileError::writing(&path, source))?;
        let mut writer = Self { path, file };
        let mut records = record(&event(wall_time, 0, |out| bytes_field(out, 3, b"brain.Event:2")));
        records.extend(record(&event(wall_time, next_step, |out| {
            let mut session = Vec::new();
            varint_field(&mut session, 1, 1);
            bytes_field(out, 7, &session);
        })));
        writer.write(&records)?;
        Ok(writer)
    }

    /// Scalars of one step; `wall_time` in seconds since 1970.
    pub fn scalars(&mut self, step: u64, wall_time: f64, values: &[(&str, f64)]) -> Result<(), FileError> {
        let mut summary = Vec::new();
        for (tag, value) in values {
            let mut entry = Vec::new();
            bytes_field(&mut entry, 1, tag.as_bytes());
            entry.push((2 << 3) | 5);
            entry.extend_from_slice(&(*value as f32).to_le_bytes());
            bytes_field(&mut summary, 1, &entry);
        }
        self.write(&record(&event(wall_time, step, |out| bytes_field(out, 5, &summary))))
    }

    /// Waits until all events are on the disk.
    pub fn sync(&mut self) -> Result<(), FileError> {
        self.file.sync_data().map_err(|source| FileError::writing(&self.path, source))
    }

    /// The file written to.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        let result: io::Result<()> = self.file.write_all(bytes);
        result.map_err(|source| FileError::writing(&self.path, source))
    }
}

fn event(wall_time: f64, step: u64, what: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = vec![(1 << 3) | 1];
    out.extend_from_slice(&wall_time.to_le_bytes());
    if step > 0 {
        varint_field(&mut out, 2, step);
    }
    what(&mut out);
    out
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint_field(out: &mut Vec<u8>, number: u8, value: u64) {
    out.push(number << 3);
    varint(out, value);
}

fn bytes_field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push((number << 3) | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut out = Vec::with_capacity(data.len() + 16);
    out.extend_from_slice(&length);
    out.extend_from_slice(&masked_crc(&length).to_le_bytes());
    out.extend_from_slice(data);
    out.extend_from_slice(&masked_crc(data).to_le_bytes());
    out
}

fn masked_crc(bytes: &[u8]) -> u32 {
    let crc = crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32;
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_record_is_tensorflows() {
        let data = event(1.5, 0, |out| bytes_field(out, 3, b"brain.Event:2"));
        let bytes = record(&data);
        // Length 24 and its masked CRC, as at the start of every event file of TensorFlow.
        assert_eq!(bytes[..12], *b"\x18\0\0\0\0\0\0\0\xa3\x7fK\"");
        assert_eq!(bytes[12..36], *b"\x09\0\0\0\0\0\0\xf8\x3f\x1a\x0dbrain.Event:2");
        assert_eq!(crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, b"123456789") as u32, 0xe306_9283);
    }

    #[test]
    fn scalars_are_framed_summaries() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = EventWriter::create(&dir.path().join("tb"), 41, 1.5).unwrap();
        let head = fs::read(writer.path()).unwrap().len();
        writer.scalars(300, 2.0, &[("loss", 0.5), ("lr", 1.0)]).unwrap();
        writer.sync().unwrap();
        let bytes = fs::read(writer.path()).unwrap();
        let data: &[u8] = b"\x09\0\0\0\0\0\0\0\x40\x10\xac\x02\x2a\x18\
            \x0a\x0b\x0a\x04loss\x15\0\0\0\x3f\x0a\x09\x0a\x02lr\x15\0\0\x80\x3f";
        assert_eq!(bytes[head + 12..bytes.len() - 4], *data);
        assert_eq!(bytes[head..head + 8], (data.len() as u64).to_le_bytes());
        assert_eq!(bytes[bytes.len() - 4..], masked_crc(data).to_le_bytes());
        let name = writer.path().file_name().unwrap().to_str().unwrap();
        assert!(name.contains("tfevents") && name.ends_with(".41"), "{name}");
    }
}
