//! The two ways a command fails (bad input, failed job) and file errors that name their file.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why a command ends without success. The discriminant is the process exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The job was well described but failed: full disk, diverged, killed worker.
    Failed = 1,
    /// The user can fix it: recipe, argument, missing or damaged input file.
    BadInput = 2,
}

impl Exit {
    /// The process exit code.
    pub fn code(self) -> u8 {
        self as u8
    }
}

/// Implemented by the error types of every crate, so that the binary knows the exit code.
pub trait ExitKind: Error {
    /// Which of the two it is.
    fn exit(&self) -> Exit;
}

/// What the binary prints and exits with; every [`ExitKind`] error converts into it with `?`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Decides the exit code.
    pub exit: Exit,
    /// One line for the user: file, place and fix.
    pub message: String,
}

impl Failure {
    /// Exit code 2, with a message that names the fix.
    pub fn bad_input(message: impl Into<String>) -> Self {
        Self { exit: Exit::BadInput, message: message.into() }
    }

    /// Exit code 1.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { exit: Exit::Failed, message: message.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Failure {}

impl<E: ExitKind> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { exit: error.exit(), message: error.to_string() }
    }
}

/// An I/O error with the file it happened on.
#[derive(Debug)]
pub struct FileError {
    /// Infinitive, as in "cannot {doing} {path}".
    pub doing: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    /// The operating system's answer.
    pub source: io::Error,
    exit: Exit,
}

impl FileError {
    /// For input that the user named: exit code 2.
    pub fn reading(path: &Path, source: io::Error) -> Self {
        Self { doing: "read", path: path.to_owned(), source, exit: Exit::BadInput }
    }

    /// For output: exit code 1.
    pub fn writing(path: &Path, source: io::Error) -> Self {
        Self::new("write", path, source)
    }

    /// Any other act (`doing` is an infinitive, such as "rename"): exit code 1.
    pub fn new(doing: &'static str, path: &Path, source: io::Error) -> Self {
        Self { doing, path: path.to_owned(), source, exit: Exit::Failed }
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}: {}", self.doing, self.path.display(), self.source)?;
        match self.source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                f.write_str("; free some disk space and run again")
            }
            io::ErrorKind::PermissionDenied => {
                f.write_str("; check the owner and mode of the file and its folder")
            }
            io::ErrorKind::NotFound => f.write_str("; check the path"),
            _ => Ok(()),
        }
    }
}

impl Error for FileError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}

impl ExitKind for FileError {
    fn exit(&self) -> Exit {
        self.exit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_errors_name_the_file_and_become_failures() {
        let error = FileError::writing(Path::new("a/b.json"), io::ErrorKind::StorageFull.into());
        let failure = Failure::from(error);
        assert_eq!(failure.exit.code(), 1);
        assert!(failure.message.contains("a/b.json") && failure.message.contains("disk space"), "{failure}");
        let read = FileError::reading(Path::new("x"), io::ErrorKind::NotFound.into());
        assert_eq!(read.exit().code(), 2);
    }
}
