//! A run's folder: one run at a time, nothing overwritten by accident.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::error::{Exit, ExitKind, FileError};
use crate::{atomic, resources};

/// Of `environment.json`.
const FORMAT_VERSION: u32 = 1;

const LOCK: &str = ".lock";

/// Why a run folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Another process has it.
    #[error(
        "{} is in use by another run{holder}: wait until it ends, or choose another --out", .folder.display()
    )]
    Locked {
        /// The folder.
        folder: PathBuf,
        /// " (process N)" where known.
        holder: String,
    },
    /// It holds something and no resume was asked for.
    #[error("{} is not empty: --resume continues it, or choose another --out", .0.display())]
    NotEmpty(PathBuf),
    /// It is a file.
    #[error("{} is not a folder: choose another --out", .0.display())]
    NotAFolder(PathBuf),
    /// The file system refused.
    #[error(transparent)]
    File(#[from] FileError),
}

impl ExitKind for FolderError {
    fn exit(&self) -> Exit {
        match self {
            Self::File(error) => error.exit(),
            _ => Exit::BadInput,
        }
    }
}

/// A folder locked for this process until dropped. The lock dies with the process, so a kill leaves none behind.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    resumed: bool,
    _lock: File,
}

impl RunFolder {
    /// Creates `path` and its parents, or continues it when `resume`; an empty or missing folder starts fresh either
    /// way. Hidden entries (names that start with a dot) do not count as content; temporary files that a killed run
    /// left at the top are removed.
    pub fn create_or_resume(path: &Path, resume: bool) -> Result<Self, FolderError> {
        if path.exists() && !path.is_dir() {
            return Err(FolderError::NotAFolder(path.to_owned()));
        }
        fs::create_dir_all(path).map_err(|source| FileError::new("create folder", path, source))?;
        let lock = lock(path)?;
        let mut resumed = false;
        let reading = |source| FileError::reading(path, source);
        for entry in fs::read_dir(path).map_err(reading)? {
            let entry = entry.map_err(reading)?;
            let name = entry.file_name();
            if atomic::is_temporary(&name) && entry.file_type().is_ok_and(|kind| kind.is_file()) {
                // Nobody else writes here while we hold the lock.
                let _ = fs::remove_file(entry.path());
            }
            resumed |= !name.to_string_lossy().starts_with('.');
        }
        if resumed && !resume {
            return Err(FolderError::NotEmpty(path.to_owned()));
        }
        Ok(Self { path: path.to_owned(), resumed, _lock: lock })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file or folder inside it.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// True when there was something to continue.
    pub fn resumed(&self) -> bool {
        self.resumed
    }

    /// Writes `environment.json`: where and how this run was last started. `version` and `args` are the program's.
    pub fn write_environment(&self, version: &str, args: &[String]) -> Result<(), FileError> {
        let text = format!("{:#}\n", environment(version, args));
        atomic::write(&self.join("environment.json"), text.as_bytes())
    }
}

/// What `environment.json` holds; sizes in bytes, absent facts null.
pub fn environment(version: &str, args: &[String]) -> Value {
    json!({
        "format_version": FORMAT_VERSION,
        "version": version,
        "args": args,
        "started": jiff::Timestamp::now().to_string(),
        "os": std::env::consts::OS,
        "arch": std::env::consts::ARCH,
        "cpu_model": resources::cpu_model(),
        "cores": resources::cores(),
        "cgroup_cpu_quota": resources::cgroup_cpu_quota(),
        "threads": resources::available_threads(),
        "total_memory": resources::total_memory(),
        "cgroup_memory_limit": resources::cgroup_memory_limit(),
    })
}

/// Whether a process has the folder: a run is under way. The folder is not touched.
pub fn in_use(folder: &Path) -> bool {
    let Ok(file) = File::open(folder.join(LOCK)) else { return false };
    // Shared, so that those who ask do not see each other; let go of when the file is closed.
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

/// Takes the lock. Whoever asks [`in_use`] holds it for a moment, so one refusal is not believed.
fn try_lock(file: &File) -> Result<(), TryLockError> {
    for _ in 0..5 {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(10)),
            other => return other,
        }
    }
    file.try_lock()
}

fn lock(folder: &Path) -> Result<File, FolderError> {
    let path = folder.join(LOCK);
    let failed = |source| FileError::new("lock", &path, source);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|source| FileError::writing(&path, source))?;
    match try_lock(&file) {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let _ = file.take(32).read_to_string(&mut text);
            let holder = match text.trim().parse::<u32>() {
                Ok(process) => format!(" (process {process})"),
                Err(_) => String::new(),
            };
            return Err(FolderError::Locked { folder: folder.to_owned(), holder });
        }
        Err(TryLockError::Error(source)) => return Err(failed(source).into()),
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(failed)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_resumed_and_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/run");
        let run = RunFolder::create_or_resume(&path, true).unwrap();
        assert!(!run.resumed(), "nothing to continue: starts fresh");
        run.write_environment("1.2.3", &["train".to_owned()]).unwrap();
        let environment: Value =
            serde_json::from_slice(&fs::read(run.join("environment.json")).unwrap()).unwrap();
        assert_eq!((&environment["format_version"], &environment["version"]), (&json!(1), &json!("1.2.3")));
        drop(run);
        let error = RunFolder::create_or_resume(&path, false).unwrap_err();
        assert!(error.to_string().contains("--resume continues it"), "{error}");
        assert_eq!(error.exit().code(), 2);
        fs::write(path.join(".tmp-left"), "x").unwrap();
        assert!(RunFolder::create_or_resume(&path, true).unwrap().resumed());
        assert!(!path.join(".tmp-left").exists());
    }

    #[test]
    fn hidden_files_do_not_count() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(".step-running.json"), "{}").unwrap();
        assert!(!RunFolder::create_or_resume(dir.path(), false).unwrap().resumed());
    }

    #[test]
    fn one_run_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunFolder::create_or_resume(dir.path(), false).unwrap();
        let error = RunFolder::create_or_resume(dir.path(), true).unwrap_err().to_string();
        assert!(
            error.contains("in use by another run") && error.contains(&std::process::id().to_string()),
            "{error}"
        );
        assert!(in_use(dir.path()));
        drop(run);
        assert!(!in_use(dir.path()) && !in_use(&dir.path().join("nowhere")));
        RunFolder::create_or_resume(dir.path(), true).unwrap();
    }

    #[test]
    fn a_file_is_no_folder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "x").unwrap();
        assert!(matches!(RunFolder::create_or_resume(&path, true), Err(FolderError::NotAFolder(_))));
    }
}
