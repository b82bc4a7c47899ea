//! The store: one synchronous interface to every kind of address.

use std::io::Read;
use std::sync::Arc;

use crate::address::Place;
use crate::{Address, Environment, Error, ReadAt, Settings, Writer, local};

/// One file of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its full address.
    pub address: Address,
    /// In bytes.
    pub size: u64,
}

/// Opens, lists and writes addresses. Cheap to clone; may be used from any number of threads.
#[derive(Clone)]
pub struct Store {
    #[cfg(feature = "network")]
    network: Arc<crate::network::Network>,
    #[cfg(not(feature = "network"))]
    _settings: Arc<(Settings, Environment)>,
}

impl Store {
    /// With default patience and the environment of this process.
    pub fn of_process() -> Self {
        Self::new(Settings::default(), Environment::of_process())
    }

    /// With the given patience and environment. Touches nothing until it is used.
    pub fn new(settings: Settings, environment: Environment) -> Self {
        Self {
            #[cfg(feature = "network")]
            network: Arc::new(crate::network::Network::new(settings, environment)),
            #[cfg(not(feature = "network"))]
            _settings: Arc::new((settings, environment)),
        }
    }

    /// Reads a file from start to end.
    ///
    /// From a bucket or a URL it streams, with at most about 6 MiB in memory; a lost connection continues at the byte
    /// where it stopped, and an object that changed meanwhile is an error. A file of the Hub is fetched into its cache
    /// first, whole and checked. Errors while reading are [`std::io::Error`]s whose message is that of [`Error`].
    pub fn open(&self, address: &Address) -> Result<Box<dyn Read + Send>, Error> {
        match &address.0 {
            Place::Local(path) => Ok(Box::new(local::open(path)?)),
            #[cfg(feature = "network")]
            place => self.network.open(address, place),
            #[cfg(not(feature = "network"))]
            _ => Err(no_network(address)),
        }
    }

    /// Opens a file to read at offsets. A file of the Hub is fetched into its cache first.
    pub fn open_at(&self, address: &Address) -> Result<Box<dyn ReadAt>, Error> {
        match &address.0 {
            Place::Local(path) => Ok(Box::new(local::LocalAt::open(path)?)),
            #[cfg(feature = "network")]
            place => self.network.open_at(address, place),
            #[cfg(not(feature = "network"))]
            _ => Err(no_network(address)),
        }
    }

    /// The size of a file in bytes.
    pub fn size(&self, address: &Address) -> Result<u64, Error> {
        match &address.0 {
            Place::Local(path) => local::size(path),
            #[cfg(feature = "network")]
            place => self.network.size(address, place),
            #[cfg(not(feature = "network"))]
            _ => Err(no_network(address)),
        }
    }

    /// The file itself, all files below a folder, or those that a pattern with `*`, `?` and `**` matches; at least one.
    ///
    /// Sorted by the bytes of their addresses. Names that start with a dot are left out below folders and of patterns,
    /// links are followed, and what is neither file nor folder is left out. Addresses of the Hub come back with the
    /// commit that the revision meant when it was listed, so that all files are of one version.
    pub fn list(&self, address: &Address) -> Result<Vec<Entry>, Error> {
        let mut entries = match &address.0 {
            Place::Local(path) => local::list(path)?,
            #[cfg(feature = "network")]
            place => self.network.list(address, place)?,
            #[cfg(not(feature = "network"))]
            _ => return Err(no_network(address)),
        };
        entries.sort_by_cached_key(|entry| match entry.address.as_local() {
            Some(path) => path.as_os_str().as_encoded_bytes().to_vec(),
            None => entry.address.to_string().into_bytes(),
        });
        Ok(entries)
    }

    /// A new file, which appears whole when it is finished and not at all otherwise; it replaces what was there.
    ///
    /// Local: written beside its place, in a folder that is made if it is missing. `s3://` and `gs://`: uploaded in
    /// parts of 8 MiB, so of at most 80 GB. The Hub and plain URLs cannot be written.
    pub fn create(&self, address: &Address) -> Result<Writer, Error> {
        match &address.0 {
            Place::Local(path) => Writer::local(path),
            #[cfg(feature = "network")]
            place => self.network.create(address, place),
            #[cfg(not(feature = "network"))]
            _ => Err(no_network(address)),
        }
    }

    /// The same address with the Hub's revision replaced by the commit that it means now; others come back as they are.
    pub fn pin(&self, address: &Address) -> Result<Address, Error> {
        match &address.0 {
            #[cfg(feature = "network")]
            Place::Hub(hub) => self.network.pin(hub),
            #[cfg(not(feature = "network"))]
            Place::Hub(_) => Err(no_network(address)),
            _ => Ok(address.clone()),
        }
    }

    /// Asks a server a question in JSON (`POST`) and returns the body of its answer, at most `most` bytes.
    ///
    /// `url` is `http://` or `https://`; `token` goes along as a bearer token, to its host alone, and is never shown. The
    /// same patience as for files: passing failures are tried again, `Retry-After` is heeded, so a question may reach the
    /// server twice. Answers that take long to compute need a longer [`Settings::read_timeout`].
    ///
    /// # Errors
    /// [`Why::Refused`](crate::Why::Refused) with the server's own words where it says that the question is to blame.
    #[cfg(feature = "network")]
    pub fn post_json(
        &self,
        url: &Address,
        token: Option<&str>,
        body: &[u8],
        most: usize,
    ) -> Result<Vec<u8>, Error> {
        self.network.json(url, token, Some(body.to_vec()), most)
    }

    /// What a server says at `url` (`GET`), as [`Store::post_json`] does it.
    #[cfg(feature = "network")]
    pub fn get_json(&self, url: &Address, token: Option<&str>, most: usize) -> Result<Vec<u8>, Error> {
        self.network.json(url, token, None, most)
    }
}

#[cfg(not(feature = "network"))]
fn no_network(address: &Address) -> Error {
    let problem = "this smolt was built without the feature `network`, so it reads local paths only";
    Error::remote(address.shown(), crate::Why::Unsupported, problem, 0)
}
