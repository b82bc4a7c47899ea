//! The cache on disk, laid out as Python's `huggingface_hub` lays it out, so that each finds the other's files:
//!
//! ```text
//! datasets--OWNER--NAME/refs/REVISION            the commit that a branch or tag meant last
//! datasets--OWNER--NAME/snapshots/COMMIT/PATH    → ../../blobs/ETAG
//! datasets--OWNER--NAME/blobs/ETAG               content, named by SHA-256 (large files) or git's hash
//! .locks/datasets--OWNER--NAME/ETAG.lock         held while a blob is fetched
//! ```

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use smolt_run::atomic;
use smolt_run::error::FileError;

use crate::Error;
use crate::address::{HubPath, RepoKind};

/// The cache of one repository.
pub(super) struct RepoCache {
    folder: PathBuf,
    locks: PathBuf,
}

impl RepoCache {
    pub(super) fn new(cache: &Path, at: &HubPath) -> Self {
        let kind = match at.kind {
            RepoKind::Dataset => "datasets",
            RepoKind::Model => "models",
            RepoKind::Space => "spaces",
        };
        let name = format!("{kind}--{}", at.repo.replace('/', "--"));
        Self { locks: cache.join(".locks").join(&name), folder: cache.join(name) }
    }

    /// The commit that the revision stood for when it was last looked up; a commit is its own.
    pub(super) fn commit(&self, revision: &str) -> Option<String> {
        let saved = fs::read_to_string(self.folder.join("refs").join(revision)).ok();
        let commit = saved.map_or_else(|| revision.to_owned(), |text| text.trim().to_owned());
        (is_name(&commit) && self.snapshot(&commit).is_dir()).then_some(commit)
    }

    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    /// Where a file of a commit is, if it is there.
    pub(super) fn find(&self, commit: &str, path: &str) -> Option<PathBuf> {
        let pointer = self.snapshot(commit).join(path);
        pointer.is_file().then_some(pointer)
    }

    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.folder.join("blobs").join(etag)
    }

    /// Remembers what commit a branch or tag stands for.
    pub(super) fn write_ref(&self, revision: &str, commit: &str) -> Result<(), Error> {
        let path = self.folder.join("refs").join(revision);
        if revision == commit || fs::read_to_string(&path).is_ok_and(|saved| saved == commit) {
            return Ok(());
        }
        make_parent(&path)?;
        Ok(atomic::write(&path, commit.as_bytes())?)
    }

    /// Makes `snapshots/COMMIT/PATH` point to the blob, and says where it is.
    pub(super) fn link(&self, commit: &str, path: &str, etag: &str) -> Result<PathBuf, Error> {
        let pointer = self.snapshot(commit).join(path);
        make_parent(&pointer)?;
        // From the folder of the pointer up to the repository's.
        let up = "../".repeat(2 + path.matches('/').count());
        let made = make_link(&format!("{up}blobs/{etag}"), &self.blob(etag), &pointer);
        match made {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(FileError::writing(&pointer, error).into())
            }
            // Somebody else was faster.
            _ => Ok(pointer),
        }
    }

    /// Runs `work` while no other process fetches this blob. `work` learns whether that is certain: some file systems
    /// of clusters have no locks.
    pub(super) fn locked<T>(
        &self,
        etag: &str,
        work: impl FnOnce(bool) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let path = self.locks.join(format!("{etag}.lock"));
        make_parent(&path)?;
        make_parent(&self.blob(etag))?;
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let mut lock = fd_lock::RwLock::new(file.map_err(|source| FileError::writing(&path, source))?);
        loop {
            match lock.write() {
                Ok(_held) => return work(true),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        work(false)
    }
}

#[cfg(unix)]
fn make_link(relative: &str, _blob: &Path, pointer: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(relative, pointer)
}

/// Links need rights that few have on Windows; a second name for the file does not.
#[cfg(not(unix))]
fn make_link(_relative: &str, blob: &Path, pointer: &Path) -> io::Result<()> {
    fs::hard_link(blob, pointer).or_else(|_| fs::copy(blob, pointer).map(drop))
}

fn make_parent(path: &Path) -> Result<(), Error> {
    let Some(folder) = path.parent() else { return Ok(()) };
    fs::create_dir_all(folder).map_err(|source| FileError::writing(folder, source).into())
}

/// `"abc"` or `W/"abc"` → `abc`, if that can be the name of a file.
pub(super) fn etag_name(header: &str) -> Option<&str> {
    let name = header.trim().trim_start_matches(['W', '/']).trim_matches('"');
    is_name(name).then_some(name)
}

/// Whether a server's word may name a file of the cache.
pub(super) fn is_name(word: &str) -> bool {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    (1..=128).contains(&word.len()) && word.chars().all(fits) && !word.starts_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_words_become_names() {
        assert_eq!(etag_name("\"abc-1\""), Some("abc-1"));
        assert_eq!(etag_name("W/\"abc\""), Some("abc"));
        for hostile in
            ["\"../x\"", "\"\"", "\"..\"", "\"a/b\"", "\"/etc\"", "\"a\\b\"", ".hidden", &"a".repeat(200)]
        {
            assert_eq!(etag_name(hostile), None, "{hostile}");
        }
    }
}
