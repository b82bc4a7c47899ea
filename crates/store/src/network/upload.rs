//! Uploads to buckets: in one request if small, else in parts of which one is on its way while the next is filled.

use std::io::{self, Write};
use std::sync::Arc;

use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt};
use tokio::task::JoinHandle;

use super::bucket::{failure, put};
use super::retry::Failed;
use super::wait;
use crate::{Error, Settings, Why};

const PART: usize = 8 << 20;
/// S3's own limit.
const MOST_PARTS: usize = 10_000;

/// An object being written. Dropped unfinished, its parts are deleted.
pub(crate) struct Upload {
    store: Arc<dyn ObjectStore>,
    path: Path,
    address: String,
    settings: Arc<Settings>,
    buffer: Vec<u8>,
    parts: usize,
    multipart: Option<Box<dyn MultipartUpload>>,
    /// The part that is on its way.
    sending: Option<JoinHandle<object_store::Result<()>>>,
    /// A part is missing, so the object must never appear.
    failed: bool,
}

impl Upload {
    pub(super) fn new(
        store: Arc<dyn ObjectStore>,
        path: Path,
        address: String,
        settings: Arc<Settings>,
    ) -> Self {
        Self {
            store,
            path,
            address,
            settings,
            buffer: Vec::new(),
            parts: 0,
            multipart: None,
            sending: None,
            failed: false,
        }
    }

    /// Makes the object appear.
    pub(crate) fn finish(mut self) -> Result<(), Error> {
        if self.failed {
            let problem = "a part of it could not be written before";
            return Err(Error::remote(&self.address, Why::Unreachable, problem, 0));
        }
        let rest = std::mem::take(&mut self.buffer);
        if self.multipart.is_none() {
            let (store, path) = (Arc::clone(&self.store), self.path.clone());
            let (settings, address) = (Arc::clone(&self.settings), self.address.clone());
            let task = async move { put(store.as_ref(), &path, rest, &settings, &address).await };
            return self.call(task)?;
        }
        if !rest.is_empty() {
            self.send(rest)?;
        }
        self.arrived()?;
        let Some(mut multipart) = self.multipart.take() else { return Ok(()) };
        let (done, multipart) = self.call(async move { (multipart.complete().await, multipart) })?;
        done.map(drop).map_err(|error| {
            // Back in its place, so that dropping this deletes the parts.
            self.multipart = Some(multipart);
            self.error(failure(&error))
        })
    }

    fn call<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> Result<T, Error> {
        wait::call(task).map_err(|problem| Error::remote(&self.address, Why::Unreachable, problem, 0))
    }

    fn error(&self, failed: Failed) -> Error {
        let tries = if failed.retry { self.settings.attempts } else { 1 };
        failed.into_error(&self.address, tries)
    }

    fn send(&mut self, part: Vec<u8>) -> Result<(), Error> {
        let sent = self.try_send(part);
        self.failed |= sent.is_err();
        sent
    }

    fn try_send(&mut self, part: Vec<u8>) -> Result<(), Error> {
        self.arrived()?;
        if self.parts == MOST_PARTS {
            let problem = format!(
                "it would have more than {MOST_PARTS} parts of {} MiB; write smaller files",
                PART >> 20
            );
            return Err(Error::remote(&self.address, Why::Unsupported, problem, 0));
        }
        if self.multipart.is_none() {
            let (store, path) = (Arc::clone(&self.store), self.path.clone());
            let started = self.call(async move { store.put_multipart(&path).await })?;
            self.multipart = Some(started.map_err(|error| self.error(failure(&error)))?);
        }
        let Some(multipart) = &mut self.multipart else { return Ok(()) };
        self.parts += 1;
        let sending = multipart.put_part(bytes::Bytes::from(part).into());
        let task = wait::spawn(sending);
        self.sending =
            Some(task.map_err(|problem| Error::remote(&self.address, Why::Unreachable, problem, 0))?);
        Ok(())
    }

    /// Waits for the part that is on its way.
    fn arrived(&mut self) -> Result<(), Error> {
        match self.sending.take().map(wait::park_on) {
            None | Some(Ok(Ok(()))) => Ok(()),
            Some(Ok(Err(error))) => Err(self.error(failure(&error))),
            Some(Err(error)) => Err(Error::remote(&self.address, Why::Unreachable, error.to_string(), 0)),
        }
    }
}

impl Write for Upload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(PART - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..count]);
        if self.buffer.len() == PART {
            let full = std::mem::take(&mut self.buffer);
            self.send(full)?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(task) = self.sending.take() {
            // Aborting while a part arrives may leave that part behind.
            let _ = wait::park_on(task);
        }
        if let Some(mut multipart) = self.multipart.take() {
            // Nothing can be done about a failure here; the bucket's own rules for unfinished uploads remain.
            let _ = wait::call(async move { multipart.abort().await });
        }
    }
}
