//! From the Hub into the cache: resumed where it stopped, checked, and there only when it is whole.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use smolt_run::atomic;
use smolt_run::error::FileError;

use super::api::{Api, FileInfo};
use super::cache::RepoCache;
use crate::address::HubPath;
use crate::network::http::HttpFile;
use crate::network::source::Source;
use crate::network::stream::Stream;
use crate::{Error, Why};

/// Fetches the file if the cache does not have its content, and says where it is.
pub(super) fn into_cache(
    api: &Api,
    at: &HubPath,
    info: &FileInfo,
    cache: &RepoCache,
) -> Result<PathBuf, Error> {
    if let Some(found) = cache.find(&info.commit, &at.path) {
        // The cache may be read-only; the file is there all the same.
        let _ = cache.write_ref(at.revision(), &info.commit);
        return Ok(found);
    }
    cache.write_ref(at.revision(), &info.commit)?;
    cache.locked(&info.etag, |certain| {
        let blob = cache.blob(&info.etag);
        if !blob.is_file() {
            fetch(api, at, info, &blob, certain)?;
        }
        cache.link(&info.commit, &at.path, &info.etag)
    })
}

fn fetch(api: &Api, at: &HubPath, info: &FileInfo, blob: &Path, certain: bool) -> Result<(), Error> {
    let url = api.resolve_url(at, &info.commit).map_err(|failed| failed.into_error(&at.to_string(), 0))?;
    let source = HttpFile { client: api.client.clone(), url, token: api.token.clone() };
    let mut fetch = Fetch { source: Source::Http(source), api, address: at.to_string(), info };
    // Only a content with a hash can be put together from what several processes wrote.
    let resumable = certain && info.sha256.is_some();
    if !resumable {
        let folder = blob.parent().unwrap_or(Path::new("."));
        return atomic_fetch(folder, blob, &mut fetch);
    }
    let partial = blob.with_file_name(format!("{}.incomplete", info.etag));
    let writing = |source| Error::from(FileError::writing(&partial, source));
    let mut file = File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&partial)
        .map_err(writing)?;
    let resumed = file.metadata().map_err(writing)?.len();
    let mut whole = fetch.append(&mut file, &partial)?;
    if !whole && resumed > 0 {
        // The part that was there was not of this content.
        file.set_len(0).map_err(writing)?;
        whole = fetch.append(&mut file, &partial)?;
    }
    if !whole {
        // Otherwise the next attempt would go on from bytes that are wrong.
        let _ = fs::remove_file(&partial);
        return Err(fetch.broken("its content has another SHA-256 than the Hub says"));
    }
    file.sync_all().map_err(writing)?;
    fs::rename(&partial, blob).map_err(writing)?;
    atomic::sync_dir(blob.parent().unwrap_or(Path::new("."))).map_err(writing)
}

fn atomic_fetch(folder: &Path, blob: &Path, fetch: &mut Fetch<'_>) -> Result<(), Error> {
    let writing = |source| Error::from(FileError::writing(blob, source));
    let mut temporary =
        atomic::temporary_files().suffix(".incomplete").tempfile_in(folder).map_err(writing)?;
    let path = temporary.path().to_owned();
    if !fetch.append(temporary.as_file_mut(), &path)? {
        return Err(fetch.broken("its content has another SHA-256 than the Hub says"));
    }
    temporary.as_file().sync_all().map_err(writing)?;
    temporary.persist(blob).map_err(|error| writing(error.error))?;
    atomic::sync_dir(folder).map_err(writing)
}

struct Fetch<'a> {
    source: Source,
    api: &'a Api,
    address: String,
    info: &'a FileInfo,
}

impl Fetch<'_> {
    fn broken(&self, problem: impl Into<String>) -> Error {
        Error::remote(&self.address, Why::Broken, problem, 1)
    }

    /// Adds to `file` what it lacks. Whether the hash of all of it is right; true where there is none to compare.
    fn append(&mut self, file: &mut File, path: &Path) -> Result<bool, Error> {
        let writing = |source| Error::from(FileError::writing(path, source));
        let mut hash = Sha256::new();
        let mut length = hash_of_start(file, self.info.size, &mut hash).map_err(writing)?;
        if self.info.size != Some(length) {
            let (source, settings) = (self.source.clone(), Arc::clone(&self.api.client.settings));
            let mut stream = Stream::start(source, self.address.clone(), settings, length)?;
            while let Some(block) = stream.next_block()? {
                length += block.len() as u64;
                if let Some(size) = self.info.size.filter(|size| length > *size) {
                    return Err(self.broken(format!("it sends more than the {size} bytes that it has")));
                }
                hash.update(&block);
                file.write_all(&block).map_err(writing)?;
            }
        }
        if let Some(size) = self.info.size.filter(|size| length != *size) {
            return Err(self.broken(format!("it sent {length} bytes instead of {size}")));
        }
        Ok(self.info.sha256.as_ref().is_none_or(|expected| hex(&hash.finalize()) == *expected))
    }
}

/// Hashes what is there already and leaves the file at its end; a file that is too long starts again.
fn hash_of_start(file: &mut File, size: Option<u64>, hash: &mut Sha256) -> io::Result<u64> {
    if file.metadata()?.len() > size.unwrap_or(0) {
        file.set_len(0)?;
    }
    file.seek(SeekFrom::Start(0))?;
    let mut buffer = vec![0; 1 << 16];
    let mut length = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(length),
            Ok(count) => {
                hash.update(&buffer[..count]);
                length += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
