//! The one error type of this crate.

use std::fmt;
use std::io;

use smolt_run::error::{Exit, ExitKind, FileError};

/// What can go wrong between an address and its bytes. Every message is one line: address, what happened, fix.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused to read or write a local file.
    #[error(transparent)]
    File(#[from] FileError),
    /// Text that is no address, or one that would leave its folder.
    #[error("{address:?} is not an address: {problem}")]
    Address {
        /// As it was written, but for a login.
        address: String,
        /// What is wrong and how to repair it.
        problem: String,
    },
    /// A file that is not on this machine.
    #[error(transparent)]
    Remote(Box<Remote>),
}

/// A failure beyond this machine, after all retries.
#[derive(Clone, Debug, thiserror::Error)]
pub struct Remote {
    /// What was asked for, without its query, which may hold a signature.
    pub address: String,
    /// Whose fault it is, which decides the advice.
    pub why: Why,
    /// What happened last.
    pub problem: String,
    /// Attempts made, 0 if the network was not touched.
    pub tries: u32,
}

/// The kinds of failure beyond this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// There is nothing under this address.
    NotFound,
    /// The server refuses us.
    Denied,
    /// Offline mode is on and the cache does not hold the file.
    Offline,
    /// This address cannot do what was asked.
    Unsupported,
    /// The object is no longer the one whose first bytes were read.
    Changed,
    /// The server's answer contradicts itself, or is too large.
    Broken,
    /// The server understood the question and does not answer it.
    Refused,
    /// No answer in time, or only failures.
    Unreachable,
}

impl Remote {
    fn fix(&self) -> &'static str {
        let hub = self.address.starts_with("hf://");
        match self.why {
            Why::NotFound if hub => {
                "check owner, name, revision and path, or list the folder; a private or gated repository also needs a token in HF_TOKEN"
            }
            Why::NotFound => "check the path, or list the folder",
            Why::Denied if hub => {
                "set HF_TOKEN to a token that may read it, and accept the repository's conditions on its page if it is gated"
            }
            Why::Denied if self.address.starts_with("s3://") => {
                "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and the rights of that key"
            }
            Why::Denied if self.address.starts_with("gs://") => {
                "check GOOGLE_APPLICATION_CREDENTIALS and the rights of that account"
            }
            Why::Denied => {
                "the server wants a login, which is not sent to plain URLs; download the file first"
            }
            Why::Offline => "unset HF_HUB_OFFLINE, or fetch it into the cache while online",
            Why::Unsupported => "use another address",
            Why::Changed => "read it again from the start, when nobody writes to it",
            Why::Refused => "change what is asked, or ask another server",
            Why::Broken => "check that the endpoint is the server it should be",
            Why::Unreachable => "check the network, the endpoint and any proxy, then run again",
        }
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.address, self.problem)?;
        if self.tries > 1 {
            write!(f, " (tried {} times)", self.tries)?;
        }
        write!(f, "; {}", self.fix())
    }
}

/// A text that may be an address as it may be printed anywhere: without user and password before its host.
pub fn without_login(text: &str) -> String {
    let start = text.find("://").map_or(0, |at| at + 3);
    let host = text[start..].split(['/', '?', '#']).next().unwrap_or_default();
    match host.rfind('@') {
        Some(at) => format!("{}…{}", &text[..start], &text[start + at..]),
        None => text.to_owned(),
    }
}

impl Error {
    pub(crate) fn address(address: &str, problem: impl Into<String>) -> Self {
        Self::Address { address: without_login(address), problem: problem.into() }
    }

    pub(crate) fn remote(
        address: impl Into<String>,
        why: Why,
        problem: impl Into<String>,
        tries: u32,
    ) -> Self {
        Self::Remote(Box::new(Remote { address: address.into(), why, problem: problem.into(), tries }))
    }

    /// Why a file beyond this machine failed; `None` for local files and texts that are no address.
    pub fn why(&self) -> Option<Why> {
        match self {
            Self::Remote(remote) => Some(remote.why),
            _ => None,
        }
    }

    /// Whether there is nothing under the address, here or beyond.
    pub fn is_not_found(&self) -> bool {
        match self {
            Self::File(error) => error.source.kind() == io::ErrorKind::NotFound,
            Self::Remote(remote) => remote.why == Why::NotFound,
            Self::Address { .. } => false,
        }
    }
}

impl ExitKind for Error {
    fn exit(&self) -> Exit {
        match self {
            Self::File(error) => error.exit(),
            Self::Address { .. } => Exit::BadInput,
            Self::Remote(remote) => match remote.why {
                Why::NotFound | Why::Denied | Why::Offline | Why::Unsupported | Why::Refused => {
                    Exit::BadInput
                }
                Why::Changed | Why::Broken | Why::Unreachable => Exit::Failed,
            },
        }
    }
}

/// For `Read` and `Write`: the message stays whole, the kind is the nearest.
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::File(file) => file.source.kind(),
            Error::Address { .. } => io::ErrorKind::InvalidInput,
            Error::Remote(remote) => match remote.why {
                Why::NotFound => io::ErrorKind::NotFound,
                Why::Denied => io::ErrorKind::PermissionDenied,
                Why::Unsupported | Why::Refused => io::ErrorKind::Unsupported,
                Why::Changed | Why::Broken => io::ErrorKind::InvalidData,
                Why::Offline | Why::Unreachable => io::ErrorKind::ConnectionAborted,
            },
        };
        Self::new(kind, error)
    }
}
