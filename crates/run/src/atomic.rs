//! Files and folders that appear whole or not at all, whatever kills the process (spec `CK-01`).

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::error::FileError;

/// Writes `bytes` to `path` atomically; see [`write_with`].
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    write_with(path, |out| out.write_all(bytes))
}

/// Writes a temporary file beside `path`, fsyncs it, renames it over `path` and fsyncs the folder.
///
/// When `fill` or the disk fails, the old file is as it was and no temporary file is left.
pub fn write_with(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), FileError> {
    let mut file = AtomicFile::create(path)?;
    fill(&mut file).map_err(|source| FileError::writing(path, source))?;
    file.commit()
}

/// How names of temporary files and folders begin.
const TEMPORARY: &str = ".tmp-";

/// Whether an entry of this name is temporary: a resumed run removes it, and it counts for no hash.
pub fn is_temporary(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(TEMPORARY.as_bytes())
}

/// Removes what a kill left in `folder` and the folders in it. Nobody may be writing there.
pub fn remove_temporary(folder: &Path) -> Result<(), FileError> {
    let reading = |source| FileError::reading(folder, source);
    for entry in fs::read_dir(folder).map_err(reading)? {
        let entry = entry.map_err(reading)?;
        let (path, is_dir) = (entry.path(), entry.file_type().map_err(reading)?.is_dir());
        let removing = |source| FileError::new("remove", &path, source);
        match (is_temporary(&entry.file_name()), is_dir) {
            (true, true) => fs::remove_dir_all(&path).map_err(removing)?,
            (true, false) => fs::remove_file(&path).map_err(removing)?,
            (false, true) => remove_temporary(&path)?,
            (false, false) => {}
        }
    }
    Ok(())
}

/// How temporary files are made: under names that [`is_temporary`] knows.
pub fn temporary_files() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // The umask applies, as for any new file; tempfile's own default (0600) would lock out the user's group.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    builder
}

/// A file that is written over some time and appears under its name at [`AtomicFile::commit`]; dropped before that, it
/// leaves nothing.
pub struct AtomicFile {
    path: PathBuf,
    out: BufWriter<tempfile::NamedTempFile>,
}

impl AtomicFile {
    /// Creates a temporary file beside `path`.
    pub fn create(path: &Path) -> Result<Self, FileError> {
        let file =
            temporary_files().tempfile_in(parent(path)).map_err(|source| FileError::writing(path, source))?;
        Ok(Self { path: path.to_owned(), out: BufWriter::with_capacity(1 << 16, file) })
    }

    /// Where it will appear.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// fsyncs it, renames it over its path and fsyncs the folder.
    pub fn commit(self) -> Result<(), FileError> {
        let Self { path, out } = self;
        let commit = || {
            let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.as_file().sync_all()?;
            file.persist(&path).map_err(|error| error.error)?;
            sync_dir(parent(&path))
        };
        commit().map_err(|source| FileError::writing(&path, source))
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Turns the finished folder `tmp_dir` into `final_dir`, on the same file system: fsyncs every file and folder in it,
/// renames it, then fsyncs the parent.
///
/// An existing `final_dir` is moved aside first and removed at the end; a kill in between leaves no `final_dir`, never
/// a mixed one.
pub fn commit_dir(tmp_dir: &Path, final_dir: &Path) -> Result<(), FileError> {
    sync_tree(tmp_dir).map_err(|source| FileError::new("fsync", tmp_dir, source))?;
    let committing = |source| FileError::new("commit folder", final_dir, source);
    let aside = aside_name(final_dir);
    if final_dir.exists() {
        if aside.exists() {
            fs::remove_dir_all(&aside).map_err(committing)?;
        }
        fs::rename(final_dir, &aside).map_err(committing)?;
    }
    fs::rename(tmp_dir, final_dir).map_err(committing)?;
    sync_dir(parent(final_dir)).map_err(committing)?;
    if aside.exists() {
        fs::remove_dir_all(&aside).map_err(committing)?;
    }
    Ok(())
}

/// fsyncs a folder, so that renames and new names in it survive a power cut. Nothing to do outside Unix.
pub fn sync_dir(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

fn sync_tree(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            sync_tree(&entry.path())?;
        } else if kind.is_file() {
            File::open(entry.path())?.sync_all()?;
        }
    }
    sync_dir(folder)
}

/// The folder that holds `path`.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn aside_name(path: &Path) -> PathBuf {
    let mut name = OsString::from(".old-");
    name.push(path.file_name().unwrap_or_default());
    parent(path).join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        write(&path, b"old").unwrap();
        let error = write_with(&path, |out| {
            out.write_all(&[0; 100_000])?;
            Err(io::ErrorKind::StorageFull.into())
        })
        .unwrap_err();
        assert!(error.to_string().contains("state.json"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(dir.path()), ["state.json"]);
        write(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn a_file_appears_when_it_is_committed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let mut file = AtomicFile::create(&path).unwrap();
        file.write_all(&[7; 100_000]).unwrap();
        assert!(!path.exists());
        file.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), [7; 100_000]);
        AtomicFile::create(&path).unwrap().write_all(b"lost").unwrap();
        assert_eq!(names(dir.path()), ["out"]);
        assert_eq!(fs::read(&path).unwrap().len(), 100_000);
    }

    #[cfg(unix)]
    #[test]
    fn files_get_the_usual_mode() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join("atomic"), b"").unwrap();
        fs::write(dir.path().join("plain"), b"").unwrap();
        let mode = |name| fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode("atomic"), mode("plain"));
    }

    #[test]
    fn a_missing_folder_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(write(&dir.path().join("missing/file"), b"x").is_err());
    }

    #[test]
    fn commit_dir_replaces_whole_folders() {
        let dir = tempfile::tempdir().unwrap();
        let (tmp, last) = (dir.path().join("tmp"), dir.path().join("step-1"));
        for content in ["one", "two"] {
            fs::create_dir_all(tmp.join("sub")).unwrap();
            fs::write(tmp.join("sub/file"), content).unwrap();
            commit_dir(&tmp, &last).unwrap();
            assert_eq!(fs::read_to_string(last.join("sub/file")).unwrap(), content);
            assert_eq!(names(dir.path()), ["step-1"]);
        }
        assert!(commit_dir(&tmp, &last).is_err(), "nothing to commit");
        assert_eq!(fs::read_to_string(last.join("sub/file")).unwrap(), "two");
    }
}
