//! What a stream needs of a file beyond this machine, whoever keeps it.

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio::time::timeout;

use super::bucket::{self, BucketFile};
use super::client::describe;
use super::http::HttpFile;
use super::retry::Failed;
use crate::{Settings, Why};

/// A file beyond this machine.
#[derive(Clone)]
pub(super) enum Source {
    Http(HttpFile),
    Bucket(BucketFile),
}

/// What tells one version of a file from another, and its size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    /// `ETag`, as it is sent.
    pub(super) tag: Option<String>,
    /// `Last-Modified`, as it is sent.
    pub(super) modified: Option<String>,
    pub(super) total: Option<u64>,
}

/// An answer whose body has not been read: bytes from `start` on.
pub(super) struct Part {
    pub(super) start: u64,
    pub(super) known: Known,
    pub(super) body: Body,
}

pub(super) enum Body {
    Http(reqwest::Response),
    Bucket(BoxStream<'static, object_store::Result<Bytes>>),
}

impl Known {
    /// Fails if `now` is another version. `mixing`: bytes of both would be joined, so that it is not enough that
    /// nothing speaks against it.
    pub(super) fn must_be(&self, now: &Self, mixing: bool) -> Result<(), Failed> {
        let same_size = self.total.is_none() || now.total.is_none() || self.total == now.total;
        let same = match (&self.tag, &self.modified) {
            (Some(tag), _) => now.tag.as_ref() == Some(tag),
            (None, Some(modified)) => now.modified.as_ref() == Some(modified),
            (None, None) if mixing => {
                let problem = "the connection broke, and the server does not say whether the rest is of the same version \
                               (no ETag, no Last-Modified)";
                return Err(Failed::finally(Why::Broken, problem));
            }
            (None, None) => true,
        };
        if same && same_size {
            Ok(())
        } else {
            Err(Failed::finally(Why::Changed, "it changed while it was read"))
        }
    }
}

impl Source {
    pub(super) async fn get(
        &self,
        from: u64,
        until: Option<u64>,
        known: Option<&Known>,
    ) -> Result<Part, Failed> {
        match self {
            Self::Http(file) => file.get(from, until, known).await,
            Self::Bucket(file) => file.get(from, until, known).await,
        }
    }

    pub(super) async fn head(&self) -> Result<Known, Failed> {
        match self {
            Self::Http(file) => file.head().await,
            Self::Bucket(file) => file.head().await,
        }
    }
}

impl Body {
    /// The next bytes; `None` at the end of the body, which may be too early.
    pub(super) async fn next(&mut self, settings: &Settings) -> Result<Option<Bytes>, Failed> {
        let limit = settings.read_timeout;
        match self {
            Self::Http(response) => match timeout(limit, response.chunk()).await {
                Ok(Ok(chunk)) => Ok(chunk),
                Ok(Err(error)) => Err(Failed::for_now(describe(&error))),
                Err(_) => Err(Failed::timed_out(limit)),
            },
            Self::Bucket(stream) => match timeout(limit, stream.next()).await {
                Ok(chunk) => chunk.transpose().map_err(|error| bucket::failure(&error)),
                Err(_) => Err(Failed::timed_out(limit)),
            },
        }
    }
}
