//! The Hugging Face Hub: files fetched into its cache and opened there, listings, revisions.

mod api;
mod cache;
mod config;
mod download;

use std::path::PathBuf;

use api::Api;
use cache::RepoCache;
use config::Config;

use super::client::Client;
use super::wait;
use crate::address::{HubPath, Place};
use crate::glob::Wanted;
use crate::store::Entry;
use crate::{Address, Environment, Error, Why, local};

pub(super) use api::next_link;

/// A client of the Hub with its cache.
pub(super) struct Hub {
    config: Config,
    api: Api,
}

impl Hub {
    pub(super) fn new(client: Client, environment: &Environment) -> Result<Self, Error> {
        let config = Config::read(environment)?;
        Ok(Self { api: Api::new(client, &config), config })
    }

    fn cache(&self, at: &HubPath) -> RepoCache {
        RepoCache::new(&self.config.cache, at)
    }

    /// Where the file is on this machine, after it was fetched if need be.
    pub(super) fn fetch(&self, at: &HubPath) -> Result<PathBuf, Error> {
        if at.path.is_empty() {
            return Err(Error::remote(
                at.to_string(),
                Why::NotFound,
                "it is a whole repository, not a file",
                0,
            ));
        }
        let cache = self.cache(at);
        // A commit never changes; what a branch means has to be asked, unless there is nobody to ask.
        let fixed = is_commit(at.revision());
        if fixed || self.config.offline {
            let found = cache.commit(at.revision()).and_then(|commit| cache.find(&commit, &at.path));
            match found {
                Some(path) => return Ok(path),
                None if self.config.offline => return Err(self.offline(at)),
                None => {}
            }
        }
        let (api, place) = (self.api.clone(), at.clone());
        let info = self.call(at, async move { api.info(&place).await })?;
        download::into_cache(&self.api, at, &info, &cache)
    }

    pub(super) fn size(&self, at: &HubPath) -> Result<u64, Error> {
        if self.config.offline {
            return local::size(&self.fetch(at)?);
        }
        let (api, place) = (self.api.clone(), at.clone());
        let info = self.call(at, async move { api.info(&place).await })?;
        info.size.ok_or_else(|| super::stream::no_size(&at.to_string()))
    }

    /// The same path at the commit that its revision means now.
    pub(super) fn pin(&self, at: &HubPath) -> Result<HubPath, Error> {
        if is_commit(at.revision()) {
            return Ok(at.clone());
        }
        let cache = self.cache(at);
        let commit = if self.config.offline {
            cache.commit(at.revision()).ok_or_else(|| self.offline(at))?
        } else {
            let (api, place) = (self.api.clone(), at.clone());
            let commit = self.call(at, async move { api.commit(&place).await })?;
            cache.write_ref(at.revision(), &commit)?;
            commit
        };
        Ok(HubPath { revision: Some(commit), ..at.clone() })
    }

    /// The file itself, or the files below it or matching it; unsorted.
    pub(super) fn list(&self, at: &HubPath) -> Result<Vec<Entry>, Error> {
        let at = self.pin(at)?;
        let wanted = Wanted::new(&at.path);
        let entry =
            |path: String, size| Entry { address: Address(Place::Hub(HubPath { path, ..at.clone() })), size };
        if !wanted.is_glob() && !at.path.is_empty() {
            match self.size(&at) {
                Ok(size) => return Ok(vec![entry(at.path.clone(), size)]),
                Err(error) if error.is_not_found() || error.why() == Some(Why::Offline) => {}
                Err(error) => return Err(error),
            }
        }
        let all = if self.config.offline { self.cached(&at) } else { self.tree(&at, &wanted) }?;
        let entries: Vec<_> = all
            .into_iter()
            .filter(|(path, _)| wanted.takes(path))
            .map(|(path, size)| entry(path, size))
            .collect();
        match entries.is_empty() {
            true if self.config.offline => Err(self.offline(&at)),
            true => Err(Error::remote(at.to_string(), Why::NotFound, "nothing is there", 1)),
            false => Ok(entries),
        }
    }

    fn tree(&self, at: &HubPath, wanted: &Wanted) -> Result<Vec<(String, u64)>, Error> {
        let (api, place) = (self.api.clone(), at.clone());
        let (folder, deep) = (wanted.folder().to_owned(), wanted.is_deep());
        self.call(at, async move { api.tree(&place, place.revision(), &folder, deep).await })
    }

    /// The files of a commit that are in the cache.
    fn cached(&self, at: &HubPath) -> Result<Vec<(String, u64)>, Error> {
        let snapshot = self.cache(at).snapshot(at.revision());
        let files = local::list(&snapshot).map_err(|_| self.offline(at))?;
        let relative = |entry: &Entry| {
            let path = entry.address.as_local()?.strip_prefix(&snapshot).ok()?;
            let names: Option<Vec<_>> = path.iter().map(|name| name.to_str()).collect();
            Some((names?.join("/"), entry.size))
        };
        Ok(files.iter().filter_map(relative).collect())
    }

    fn offline(&self, at: &HubPath) -> Error {
        let cache = self.config.cache.display();
        Error::remote(
            at.to_string(),
            Why::Offline,
            format!("it is not in the cache {cache}, and HF_HUB_OFFLINE is set"),
            0,
        )
    }

    fn call<T: Send + 'static>(
        &self,
        at: &HubPath,
        task: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        wait::call(task).map_err(|problem| Error::remote(at.to_string(), Why::Unreachable, problem, 0))?
    }
}

/// Whether a revision is a whole commit, which means the same for ever.
fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
