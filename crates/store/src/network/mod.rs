//! Everything beyond this machine.

mod bucket;
mod client;
mod http;
mod hub;
mod json;
mod retry;
mod source;
mod stream;
mod upload;
mod wait;

use std::io::Read;
use std::sync::{Arc, OnceLock};

use bucket::{Buckets, Patience};
use client::Client;
use http::HttpFile;
use hub::Hub;
use reqwest::Url;
use source::Source;
use stream::{RemoteAt, Stream};

use crate::address::{HubPath, Place};
use crate::store::Entry;
use crate::{Address, Environment, Error, ReadAt, Settings, Why, Writer, local};

pub(crate) use upload::Upload;

/// A listing with more files than this is a mistake, and would not fit into memory.
const MOST_FILES: usize = 10_000_000;

/// Clients of every kind, made when they are first needed.
pub(crate) struct Network {
    settings: Arc<Settings>,
    environment: Environment,
    client: OnceLock<Client>,
    hub: OnceLock<Hub>,
    buckets: Buckets,
}

impl Network {
    pub(crate) fn new(settings: Settings, environment: Environment) -> Self {
        Self {
            settings: Arc::new(settings),
            environment,
            client: OnceLock::new(),
            hub: OnceLock::new(),
            buckets: Buckets::default(),
        }
    }

    fn client(&self, shown: &str) -> Result<&Client, Error> {
        if self.client.get().is_none() {
            let client = Client::new(Arc::clone(&self.settings))
                .map_err(|problem| Error::remote(shown, Why::Unsupported, problem, 0))?;
            // Another thread may have been faster; then its client is used.
            let _ = self.client.set(client);
        }
        self.client.get().ok_or_else(|| Error::remote(shown, Why::Unreachable, "no client", 0))
    }

    fn hub(&self, at: &HubPath) -> Result<&Hub, Error> {
        if self.hub.get().is_none() {
            let hub = Hub::new(self.client(&at.to_string())?.clone(), &self.environment)?;
            let _ = self.hub.set(hub);
        }
        self.hub.get().ok_or_else(|| Error::remote(at.to_string(), Why::Unreachable, "no client", 0))
    }

    fn source(&self, address: &Address, place: &Place) -> Result<Source, Error> {
        match place {
            Place::Http(text) => {
                let url =
                    Url::parse(text).map_err(|error| Error::address(&address.shown(), error.to_string()))?;
                let client = self.client(&address.shown())?.clone();
                Ok(Source::Http(HttpFile { client, url, token: None }))
            }
            Place::Bucket(at) if at.key.is_empty() => {
                Err(unsupported(address, "it is a whole bucket, not a file"))
            }
            Place::Bucket(at) => {
                Ok(Source::Bucket(self.buckets.file(at, &self.settings, &self.environment)?))
            }
            Place::Hub(_) | Place::Local(_) => Err(unsupported(address, "it is not a stream")),
        }
    }

    pub(crate) fn open(&self, address: &Address, place: &Place) -> Result<Box<dyn Read + Send>, Error> {
        if let Place::Hub(at) = place {
            return Ok(Box::new(local::open(&self.hub(at)?.fetch(at)?)?));
        }
        let settings = Arc::clone(&self.settings);
        let mut stream = Stream::start(self.source(address, place)?, address.shown(), settings, 0)?;
        // A missing file should be an error of `open`, not of the first read.
        stream.fill()?;
        Ok(Box::new(stream))
    }

    pub(crate) fn open_at(&self, address: &Address, place: &Place) -> Result<Box<dyn ReadAt>, Error> {
        if let Place::Hub(at) = place {
            return Ok(Box::new(local::LocalAt::open(&self.hub(at)?.fetch(at)?)?));
        }
        let settings = Arc::clone(&self.settings);
        Ok(Box::new(RemoteAt::open(self.source(address, place)?, address.shown(), settings)?))
    }

    pub(crate) fn size(&self, address: &Address, place: &Place) -> Result<u64, Error> {
        if let Place::Hub(at) = place {
            return self.hub(at)?.size(at);
        }
        let shown = address.shown();
        let known = stream::head(self.source(address, place)?, shown.clone(), Arc::clone(&self.settings))?;
        known.total.ok_or_else(|| stream::no_size(&shown))
    }

    pub(crate) fn list(&self, address: &Address, place: &Place) -> Result<Vec<Entry>, Error> {
        match place {
            Place::Hub(at) => self.hub(at)?.list(at),
            Place::Bucket(at) => {
                let client = self.buckets.client(at, Patience::Ours, &self.settings, &self.environment)?;
                bucket::list(at, client, &self.settings)
            }
            // A server has no listing that all agree on: a URL is one file, and its `?` is its own.
            _ => Ok(vec![Entry { address: address.clone(), size: self.size(address, place)? }]),
        }
    }

    pub(crate) fn create(&self, address: &Address, place: &Place) -> Result<Writer, Error> {
        match place {
            Place::Bucket(at) if at.key.is_empty() => {
                Err(unsupported(address, "it is a whole bucket, not a file"))
            }
            Place::Bucket(at) => {
                let client = self.buckets.client(at, Patience::Theirs, &self.settings, &self.environment)?;
                bucket::must_be_writable(at, &client)?;
                let settings = Arc::clone(&self.settings);
                Ok(Writer::upload(Upload::new(
                    client.objects,
                    bucket::path_of(at)?,
                    address.shown(),
                    settings,
                )))
            }
            _ => Err(unsupported(address, "it can only be read; write to a local path, s3:// or gs://")),
        }
    }

    pub(crate) fn pin(&self, at: &HubPath) -> Result<Address, Error> {
        Ok(Address(Place::Hub(self.hub(at)?.pin(at)?)))
    }
}

fn unsupported(address: &Address, problem: &str) -> Error {
    Error::remote(address.shown(), Why::Unsupported, problem, 0)
}

fn too_many(shown: &str) -> Error {
    let problem = format!("more than {MOST_FILES} files are there");
    Error::remote(shown, Why::Broken, problem, 1)
}

/// What servers say in headers, read from anything.
pub(crate) fn fuzz_answers(first: &str, second: &str) {
    let _ = (http::content_range(first), hub::next_link(first));
    let _ = json::words(second.as_bytes());
    let _ = retry::parse_retry_after(first, jiff::Timestamp::UNIX_EPOCH);
    let wanted = crate::glob::Wanted::new(first);
    let _ = wanted.takes(second);
}
