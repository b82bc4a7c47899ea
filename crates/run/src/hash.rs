//! BLAKE3 of bytes, files and folders, in lower-case hex.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::atomic::is_temporary;
use crate::error::FileError;

/// Of bytes in memory.
pub fn bytes(content: &[u8]) -> String {
    blake3::hash(content).to_hex().to_string()
}

/// Of a file's content, streamed.
pub fn file(path: &Path) -> Result<String, FileError> {
    Ok(digest(path)?.to_hex().to_string())
}

/// Of a folder: every regular file's path relative to it and content, in the order of the paths.
pub fn folder(path: &Path) -> Result<String, FileError> {
    folder_except(path, &[])
}

/// The same without the top-level entries named in `except`. Symbolic links are not followed and do not count; nor do
/// temporary files.
pub fn folder_except(path: &Path, except: &[&str]) -> Result<String, FileError> {
    let mut files = Vec::new();
    list(path, Path::new(""), except, &mut files)?;
    // By component names joined with '/', so that the order does not depend on the platform.
    let mut named: Vec<(String, PathBuf)> =
        files.into_iter().map(|relative| (portable_name(&relative), relative)).collect();
    named.sort();
    let mut hasher = blake3::Hasher::new();
    for (name, relative) in named {
        // The length keeps ("ab", "c") and ("a", "bc") apart; the digest has a fixed length.
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
        hasher.update(digest(&path.join(&relative))?.as_bytes());
    }
    Ok(hasher.finalize().to_hex().to_string())
}

fn digest(path: &Path) -> Result<blake3::Hash, FileError> {
    let reading = |source| FileError::reading(path, source);
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path).map_err(reading)?).map_err(reading)?;
    Ok(hasher.finalize())
}

fn portable_name(relative: &Path) -> String {
    let parts: Vec<_> = relative.components().map(|part| part.as_os_str().to_string_lossy()).collect();
    parts.join("/")
}

fn list(root: &Path, relative: &Path, except: &[&str], files: &mut Vec<PathBuf>) -> Result<(), FileError> {
    let folder = root.join(relative);
    let reading = |source| FileError::reading(&folder, source);
    for entry in fs::read_dir(&folder).map_err(reading)? {
        let entry = entry.map_err(reading)?;
        let name = entry.file_name();
        if except.iter().any(|skipped| name == *skipped) || is_temporary(&name) {
            continue;
        }
        let kind = entry.file_type().map_err(reading)?;
        if kind.is_dir() {
            list(root, &relative.join(&name), &[], files)?;
        } else if kind.is_file() {
            files.push(relative.join(&name));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_hash_sees_names_and_contents_but_not_exceptions() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir(root.join("sub")).unwrap();
        fs::write(root.join("sub/a"), "1").unwrap();
        fs::write(root.join("b"), "2").unwrap();
        let first = folder(root).unwrap();
        assert_eq!(first, folder(root).unwrap());
        fs::write(root.join(".state"), "x").unwrap();
        assert_ne!(first, folder(root).unwrap());
        assert_eq!(first, folder_except(root, &[".state"]).unwrap());
        fs::remove_file(root.join(".state")).unwrap();
        fs::write(root.join("sub/.tmp-1"), "x").unwrap();
        assert_eq!(first, folder(root).unwrap());
        fs::write(root.join("b"), "3").unwrap();
        assert_ne!(first, folder(root).unwrap());
        fs::write(root.join("b"), "2").unwrap();
        fs::rename(root.join("b"), root.join("c")).unwrap();
        assert_ne!(first, folder(root).unwrap());
    }

    #[test]
    fn file_and_bytes_agree_and_missing_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, vec![7u8; 300_000]).unwrap();
        assert_eq!(file(&path).unwrap(), bytes(&vec![7u8; 300_000]));
        assert!(file(&dir.path().join("gone")).unwrap_err().to_string().contains("gone"));
    }
}
