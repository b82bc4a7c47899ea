//! Safetensors in and out. Files are hostile: header length, overlaps, shapes and dtypes are checked
//! before anything is allocated; writing is streaming, atomic and in a fixed order.

use memmap2::Mmap;
use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, SafeTensors};
use smolt_run::error::FileError;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Largest header accepted, bytes; a 100,000-tensor model stays far below.
const MAX_HEADER: u64 = 64 << 20;

/// Why a safetensors file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error(transparent)]
    Io(#[from] FileError),
    /// The bytes are not a valid file.
    #[error("{}: not a valid safetensors file: {reason}; copy or export the model again", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A tensor is missing or unlike what the model needs.
    #[error("{}: tensor `{name}`: {reason}", path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// What is wrong and what was expected.
        reason: String,
    },
}

/// A safetensors file, memory-mapped or in memory.
pub struct File {
    path: PathBuf,
    bytes: Bytes,
    metadata: Metadata,
    /// Where the tensors begin.
    start: usize,
}

enum Bytes {
    Mapped(Mmap),
    Owned(Vec<u8>),
}

impl std::ops::Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Mapped(map) => map,
            Bytes::Owned(bytes) => bytes,
        }
    }
}

impl File {
    /// Opens and checks the header of `path`.
    pub fn open(path: &Path) -> Result<File, Error> {
        let io = |source| FileError::reading(path, source);
        let file = std::fs::File::open(path).map_err(io)?;
        // SAFETY: the map is read-only; a file changed underneath us yields wrong numbers, not memory faults,
        // short of truncation, which checkpoints never do in place.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        File::checked(path, Bytes::Mapped(map))
    }

    /// The same from memory; `path` names it in errors.
    pub fn from_bytes(path: &Path, bytes: Vec<u8>) -> Result<File, Error> {
        File::checked(path, Bytes::Owned(bytes))
    }

    fn checked(path: &Path, bytes: Bytes) -> Result<File, Error> {
        let invalid = |reason: String| Error::Invalid { path: path.to_path_buf(), reason };
        let Some((header, rest)) = bytes.split_first_chunk::<8>() else {
            return Err(invalid("it is shorter than 8 bytes".into()));
        };
        let claimed = u64::from_le_bytes(*header);
        if claimed > MAX_HEADER || claimed > rest.len() as u64 {
            let reason = format!("its header claims {claimed} bytes, the file has {}", bytes.len());
            return Err(invalid(reason));
        }
        // Every tensor lies in the file, and is as long as its shape says.
        let (header, metadata) = SafeTensors::read_metadata(&bytes).map_err(|e| invalid(e.to_string()))?;
        Ok(File { path: path.to_path_buf(), metadata, start: 8 + header, bytes })
    }

    fn wrong(&self, name: &str, reason: String) -> Error {
        Error::Tensor { path: self.path.clone(), name: name.to_string(), reason }
    }

    /// Names and shapes of all tensors, in order of name.
    pub fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        self.metadata.tensors().into_iter().map(|(name, info)| (name, info.shape.clone())).collect()
    }

    /// Names of all tensors, in the order of their places.
    pub fn names(&self) -> Vec<String> {
        self.metadata.offset_keys()
    }

    /// Whether `name` and the tensor `other_name` of `other` are one and the same: type, shape and bytes.
    pub fn same(&self, name: &str, other: &File, other_name: &str) -> bool {
        match (self.tensor(name), other.tensor(other_name)) {
            (Ok((a, x)), Ok((b, y))) => a.dtype == b.dtype && a.shape == b.shape && x == y,
            _ => false,
        }
    }

    fn tensor(&self, name: &str) -> Result<(&TensorInfo, &[u8]), Error> {
        let missing = || self.wrong(name, "missing from the file".into());
        let info = self.metadata.info(name).ok_or_else(missing)?;
        let (from, to) = info.data_offsets;
        let data = self.bytes[self.start..].get(from..to).ok_or_else(missing)?;
        Ok((info, data))
    }

    /// Checks that the file holds a floating-point tensor `name` of `shape`.
    pub fn check(&self, name: &str, shape: &[usize]) -> Result<(), Error> {
        self.floats(name, shape).map(drop)
    }

    fn floats(&self, name: &str, shape: &[usize]) -> Result<(Dtype, &[u8]), Error> {
        let (info, data) = self.tensor(name)?;
        let wrong = |reason| self.wrong(name, reason);
        if info.shape != shape {
            return Err(wrong(format!("has shape {:?}, the configuration needs {shape:?}", info.shape)));
        }
        match info.dtype {
            dtype @ (Dtype::F32 | Dtype::BF16 | Dtype::F16) => Ok((dtype, data)),
            other => Err(wrong(format!("has dtype {other:?}; F32, BF16 and F16 are supported"))),
        }
    }

    /// Copies a floating-point tensor into `out` as fp32, after checking its shape.
    ///
    /// # Panics
    /// When `out` has another length than `shape` (a caller bug).
    pub fn read_f32(&self, name: &str, shape: &[usize], out: &mut [f32]) -> Result<(), Error> {
        assert_eq!(shape.iter().product::<usize>(), out.len(), "shape and buffer belong together");
        let (dtype, data) = self.floats(name, shape)?;
        match dtype {
            Dtype::BF16 => fill(out, data, |b| half::bf16::from_le_bytes(b).to_f32()),
            Dtype::F16 => fill(out, data, |b| half::f16::from_le_bytes(b).to_f32()),
            _ => fill(out, data, f32::from_le_bytes),
        }
        Ok(())
    }

    /// An integer tensor (I64, I32 or U32), widened.
    pub fn read_i64(&self, name: &str) -> Result<Vec<i64>, Error> {
        let (info, data) = self.tensor(name)?;
        let wide: fn(&[u8]) -> i64 = match info.dtype {
            Dtype::I64 => |b| b.try_into().map(i64::from_le_bytes).unwrap_or_default(),
            Dtype::I32 => |b| b.try_into().map(i32::from_le_bytes).unwrap_or_default().into(),
            Dtype::U32 => |b| b.try_into().map(u32::from_le_bytes).unwrap_or_default().into(),
            other => return Err(self.wrong(name, format!("has dtype {other:?}, not an integer"))),
        };
        let size = data.len() / info.shape.iter().product::<usize>().max(1);
        Ok(data.chunks_exact(size.max(1)).map(wide).collect())
    }
}

fn fill<const N: usize>(out: &mut [f32], data: &[u8], convert: impl Fn([u8; N]) -> f32) {
    let (chunks, _) = data.as_chunks::<N>();
    for (out, &bytes) in out.iter_mut().zip(chunks) {
        *out = convert(bytes);
    }
}

/// Storage of written tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// As they are.
    F32,
    /// Rounded to nearest even.
    Bf16,
}

/// A tensor to write: name, shape, fp32 data and how they are stored.
pub type Tensor<'a> = (&'a str, &'a [usize], &'a [f32], Store);

/// Writes `tensors` in the given order, atomically.
pub fn write(path: &Path, tensors: &[Tensor<'_>]) -> Result<(), Error> {
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".into(), serde_json::json!({"format": "pt"}));
    let mut at = 0;
    for (name, shape, data, store) in tensors {
        let (dtype, size) = match store {
            Store::F32 => ("F32", 4),
            Store::Bf16 => ("BF16", 2),
        };
        let end = at + data.len() * size;
        let entry = serde_json::json!({"dtype": dtype, "shape": shape, "data_offsets": [at, end]});
        header.insert((*name).to_string(), entry);
        at = end;
    }
    let mut header = serde_json::Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok(smolt_run::atomic::write_with(path, |w| {
        w.write_all(&(header.len() as u64).to_le_bytes())?;
        w.write_all(&header)?;
        tensors.iter().try_for_each(|(_, _, data, store)| write_data(w, data, *store))
    })?)
}

fn write_data(w: &mut dyn Write, data: &[f32], store: Store) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(1 << 16);
    for part in data.chunks(1 << 14) {
        buffer.clear();
        match store {
            Store::F32 => part.iter().for_each(|x| buffer.extend_from_slice(&x.to_le_bytes())),
            Store::Bf16 => {
                part.iter().for_each(|&x| buffer.extend_from_slice(&half::bf16::from_f32(x).to_le_bytes()));
            }
        }
        w.write_all(&buffer)?;
    }
    Ok(())
}

/// Any bytes as a safetensors file whose every tensor is read: errors are fine, panics are not.
#[doc(hidden)]
pub fn fuzz_safetensors(bytes: &[u8]) {
    let Ok(file) = File::from_bytes(Path::new("fuzz.safetensors"), bytes.to_vec()) else { return };
    for (name, shape) in file.shapes() {
        let _ = file.read_i64(&name);
        if file.check(&name, &shape).is_ok() {
            // A checked tensor of floats lies in the file, so its size is bounded by the file's.
            let mut out = vec![0.0; shape.iter().product()];
            let _ = file.read_f32(&name, &shape, &mut out);
        }
    }
}

#[cfg(test)]
mod tests;
