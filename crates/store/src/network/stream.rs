//! Streams that survive lost connections, and reads at offsets.

use std::io::{self, Read};
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::retry::{Failed, Tries, retrying};
use super::source::{Known, Source};
use super::wait;
use crate::{Error, ReadAt, Settings, Why};

/// What is handed over at once, in bytes, and how many of them may wait: the memory of a stream.
const BLOCK: usize = 1 << 20;
const BLOCKS: usize = 4;
/// The most bytes that one request of [`RemoteAt`] asks for.
const PIECE: usize = 8 << 20;

/// A file beyond this machine, read from start to end by a task that runs ahead by a few MiB.
pub(super) struct Stream {
    blocks: mpsc::Receiver<Message>,
    task: JoinHandle<()>,
    address: String,
    block: Vec<u8>,
    used: usize,
    state: State,
}

#[derive(PartialEq)]
enum State {
    Open,
    Ended,
    Failed,
}

enum Message {
    Block(Vec<u8>),
    End,
    Failed(Error),
}

impl Stream {
    /// Starts reading `source` at `from`.
    pub(super) fn start(
        source: Source,
        address: String,
        settings: Arc<Settings>,
        from: u64,
    ) -> Result<Self, Error> {
        let (send, blocks) = mpsc::channel(BLOCKS);
        let mut pump = Pump {
            source,
            address: address.clone(),
            settings,
            send,
            known: None,
            position: from,
            block: Vec::new(),
        };
        let task = wait::spawn(async move {
            let last = match pump.run().await {
                Ok(()) => Message::End,
                Err(error) => Message::Failed(error),
            };
            // The reader may be gone; then nobody wants to know.
            let _ = pump.send.send(last).await;
        });
        let task = task.map_err(|problem| Error::remote(&address, Why::Unreachable, problem, 0))?;
        Ok(Self { blocks, task, address, block: Vec::new(), used: 0, state: State::Open })
    }

    /// The next bytes, at most 1 MiB and never none; `None` at the end.
    pub(super) fn next_block(&mut self) -> Result<Option<Vec<u8>>, Error> {
        match self.state {
            State::Ended => return Ok(None),
            State::Failed => {
                return Err(Error::remote(&self.address, Why::Unreachable, "it failed before", 0));
            }
            State::Open => {}
        }
        match wait::park_on(self.blocks.recv()) {
            Some(Message::Block(block)) => Ok(Some(block)),
            Some(Message::End) => {
                self.state = State::Ended;
                Ok(None)
            }
            other => {
                self.state = State::Failed;
                Err(match other {
                    Some(Message::Failed(error)) => error,
                    _ => Error::remote(&self.address, Why::Unreachable, "the task that read it died", 0),
                })
            }
        }
    }
}

impl Stream {
    /// Waits until there is something to read, or the end.
    pub(super) fn fill(&mut self) -> Result<(), Error> {
        if self.used == self.block.len() {
            (self.block, self.used) = (self.next_block()?.unwrap_or_default(), 0);
        }
        Ok(())
    }
}

impl Read for Stream {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.fill()?;
        let count = out.len().min(self.block.len() - self.used);
        out[..count].copy_from_slice(&self.block[self.used..self.used + count]);
        self.used += count;
        Ok(count)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The task behind a [`Stream`].
struct Pump {
    source: Source,
    address: String,
    settings: Arc<Settings>,
    send: mpsc::Sender<Message>,
    /// The version whose first bytes were handed over.
    known: Option<Known>,
    position: u64,
    block: Vec<u8>,
}

impl Pump {
    async fn run(&mut self) -> Result<(), Error> {
        let settings = Arc::clone(&self.settings);
        let mut tries = Tries::new(&settings);
        loop {
            let start = self.position;
            let Err(failed) = self.attempt().await else { return Ok(()) };
            if self.send.is_closed() {
                return Ok(());
            }
            let wait = tries.after(failed, self.position - start, &self.address)?;
            // What has come may be used while we wait.
            self.flush().await;
            tokio::time::sleep(wait).await;
        }
    }

    /// From the present position to the end.
    async fn attempt(&mut self) -> Result<(), Failed> {
        if self.position > 0 && self.known.as_ref().is_some_and(|known| known.total == Some(self.position)) {
            return Ok(());
        }
        let mut part = self.source.get(self.position, None, self.known.as_ref()).await?;
        let known = self.known.get_or_insert(part.known);
        let total = known.total;
        if part.start > self.position {
            let problem = format!("asked for byte {}, it sends from byte {}", self.position, part.start);
            return Err(Failed::finally(Why::Broken, problem));
        }
        // A server that does not serve parts starts again; what is here already is passed over.
        let mut skip = self.position - part.start;
        while let Some(bytes) = part.body.next(&self.settings).await? {
            let old = usize::try_from(skip).unwrap_or(usize::MAX).min(bytes.len());
            skip -= old as u64;
            self.take(&bytes[old..], total).await?;
        }
        if skip > 0 || total.is_some_and(|total| self.position < total) {
            let of = total.map_or("?".to_owned(), |total| total.to_string());
            return Err(Failed::for_now(format!(
                "the connection ended after {} of {of} bytes",
                self.position
            )));
        }
        self.flush().await;
        Ok(())
    }

    async fn take(&mut self, mut bytes: &[u8], total: Option<u64>) -> Result<(), Failed> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK - self.block.len()));
            self.block.extend_from_slice(now);
            self.position += now.len() as u64;
            bytes = later;
            if self.block.len() == BLOCK {
                self.flush().await;
                if self.send.is_closed() {
                    return Err(Failed::finally(Why::Unreachable, "nobody reads it any more"));
                }
            }
        }
        match total {
            Some(total) if self.position > total => {
                Err(Failed::finally(Why::Broken, format!("it sends more than the {total} bytes that it has")))
            }
            _ => Ok(()),
        }
    }

    async fn flush(&mut self) {
        if !self.block.is_empty() {
            let _ = self.send.send(Message::Block(std::mem::take(&mut self.block))).await;
        }
    }
}

/// A file beyond this machine, read at offsets.
pub(super) struct RemoteAt {
    source: Source,
    address: String,
    settings: Arc<Settings>,
    known: Known,
    size: u64,
}

impl RemoteAt {
    pub(super) fn open(source: Source, address: String, settings: Arc<Settings>) -> Result<Self, Error> {
        let known = head(source.clone(), address.clone(), Arc::clone(&settings))?;
        let size = known.total.ok_or_else(|| no_size(&address))?;
        Ok(Self { source, address, settings, known, size })
    }

    fn piece(&self, offset: u64, length: usize) -> Result<Vec<u8>, Error> {
        let (source, known) = (self.source.clone(), self.known.clone());
        let (settings, address) = (Arc::clone(&self.settings), self.address.clone());
        let task = async move {
            retrying(&settings, &address, || piece(&source, &settings, &known, offset, length)).await
        };
        wait::call(task).map_err(|problem| Error::remote(&self.address, Why::Unreachable, problem, 0))?
    }
}

impl ReadAt for RemoteAt {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > self.size) {
            let problem =
                format!("bytes {offset} to {offset} + {} are beyond its {} bytes", out.len(), self.size);
            return Err(Error::remote(&self.address, Why::Broken, problem, 0));
        }
        let mut at = offset;
        for piece in out.chunks_mut(PIECE) {
            piece.copy_from_slice(&self.piece(at, piece.len())?);
            at += piece.len() as u64;
        }
        Ok(())
    }
}

async fn piece(
    source: &Source,
    settings: &Settings,
    known: &Known,
    offset: u64,
    length: usize,
) -> Result<Vec<u8>, Failed> {
    let mut part = source.get(offset, Some(offset + length as u64), Some(known)).await?;
    if part.start != offset {
        let problem = "the server does not serve parts of this file; download it first";
        return Err(Failed::finally(Why::Unsupported, problem));
    }
    let mut all = Vec::with_capacity(length);
    while let Some(bytes) = part.body.next(settings).await? {
        // A server that ignores where to end has the beginning right all the same.
        all.extend_from_slice(&bytes[..bytes.len().min(length - all.len())]);
        if all.len() == length {
            return Ok(all);
        }
    }
    Err(Failed::for_now(format!("the connection ended after {} of {length} bytes at {offset}", all.len())))
}

/// What the server says of a file, after retries.
pub(super) fn head(source: Source, address: String, settings: Arc<Settings>) -> Result<Known, Error> {
    let shown = address.clone();
    wait::call(async move { retrying(&settings, &address, || source.head()).await })
        .map_err(|problem| Error::remote(shown, Why::Unreachable, problem, 0))?
}

pub(super) fn no_size(address: &str) -> Error {
    Error::remote(address, Why::Unsupported, "the server does not say how large it is; download it first", 1)
}
