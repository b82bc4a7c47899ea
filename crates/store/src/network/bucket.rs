//! `s3://` and `gs://`, through `object_store`.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::client::{HttpError, HttpErrorKind};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path as Key;
use object_store::{
    BackoffConfig, ClientOptions, GetOptions, GetRange, GetResultPayload, ObjectMeta, ObjectStore,
    ObjectStoreExt, RetryConfig,
};
use tokio::time::timeout;

use super::client::install_tls;
use super::retry::{Failed, retrying};
use super::source::{Body, Known, Part};
use super::{MOST_FILES, wait};
use crate::address::{BucketPath, Cloud, Place};
use crate::glob::Wanted;
use crate::store::Entry;
use crate::{Address, Environment, Error, Settings, Why};

/// Clients of the buckets used so far.
#[derive(Default)]
pub(super) struct Buckets(Mutex<BTreeMap<(Cloud, String, Patience), Bucket>>);

/// One client, as the library's two interfaces.
#[derive(Clone)]
pub(super) struct Bucket {
    pub(super) objects: Arc<dyn ObjectStore>,
    pages: Arc<dyn PaginatedListStore>,
    anonymous: bool,
}

impl Bucket {
    fn new<T: ObjectStore + PaginatedListStore>(client: T, anonymous: bool) -> Self {
        let client = Arc::new(client);
        Self { objects: Arc::clone(&client) as _, pages: client, anonymous }
    }
}

/// Who repeats what failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Patience {
    /// This crate: reads continue where they stopped, listings at their page.
    Ours,
    /// `object_store`: parts of uploads, which it alone can repeat.
    Theirs,
}

/// One object.
#[derive(Clone)]
pub(super) struct BucketFile {
    store: Arc<dyn ObjectStore>,
    path: Key,
    settings: Arc<Settings>,
}

impl Buckets {
    pub(super) fn client(
        &self,
        at: &BucketPath,
        patience: Patience,
        settings: &Settings,
        environment: &Environment,
    ) -> Result<Bucket, Error> {
        let key = (at.cloud, at.bucket.clone(), patience);
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let client = build(at, patience, settings, environment).map_err(|error| {
            let shown = Address(Place::Bucket(at.clone())).shown();
            Error::remote(shown, Why::Unsupported, super::retry::one_line(&error.to_string()), 0)
        })?;
        clients.insert(key, client.clone());
        Ok(client)
    }

    pub(super) fn file(
        &self,
        at: &BucketPath,
        settings: &Arc<Settings>,
        environment: &Environment,
    ) -> Result<BucketFile, Error> {
        let store = self.client(at, Patience::Ours, settings, environment)?.objects;
        Ok(BucketFile { store, path: path_of(at)?, settings: Arc::clone(settings) })
    }
}

/// The key as the server knows it.
pub(super) fn path_of(at: &BucketPath) -> Result<Key, Error> {
    Key::parse(&at.key).map_err(|error| Error::address(&at.key, error.to_string()))
}

fn build(
    at: &BucketPath,
    patience: Patience,
    settings: &Settings,
    environment: &Environment,
) -> object_store::Result<Bucket> {
    install_tls();
    // A part of an upload is sent before the first byte of an answer can come.
    let read_timeout = settings.read_timeout * if patience == Patience::Ours { 1 } else { 4 };
    let options = ClientOptions::new()
        .with_timeout_disabled()
        .with_read_timeout(read_timeout)
        .with_connect_timeout(settings.connect_timeout);
    let retry = RetryConfig {
        backoff: BackoffConfig {
            init_backoff: settings.first_wait,
            max_backoff: settings.longest_wait,
            base: 2.0,
        },
        max_retries: if patience == Patience::Ours {
            0
        } else {
            settings.attempts.saturating_sub(1) as usize
        },
        retry_timeout: Duration::from_secs(600),
    };
    match at.cloud {
        Cloud::S3 => s3(at, options, retry, environment),
        Cloud::Gs => gs(at, options, retry, environment),
    }
}

fn s3(
    at: &BucketPath,
    options: ClientOptions,
    retry: RetryConfig,
    environment: &Environment,
) -> object_store::Result<Bucket> {
    let mut builder = AmazonS3Builder::new().with_client_options(options).with_retry(retry);
    for (name, value) in environment.with_prefix("AWS_") {
        if let Ok(key) = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>() {
            builder = builder.with_config(key, value);
        }
    }
    let keys = [
        "AWS_ACCESS_KEY_ID",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        // Said by hand, it decides: "false" asks the machine's own role.
        "AWS_SKIP_SIGNATURE",
    ];
    let anonymous = environment.first(&keys).is_none();
    if anonymous {
        builder = builder.with_skip_signature(true);
    }
    // Last, because a bucket named in the environment would win over the address.
    Ok(Bucket::new(builder.with_bucket_name(&at.bucket).build()?, anonymous))
}

fn gs(
    at: &BucketPath,
    options: ClientOptions,
    retry: RetryConfig,
    environment: &Environment,
) -> object_store::Result<Bucket> {
    // Only a base URL set by hand is without TLS: an emulator.
    let options = options.with_allow_http(true);
    let mut builder = GoogleCloudStorageBuilder::new().with_client_options(options).with_retry(retry);
    for (name, value) in environment.with_prefix("GOOGLE_") {
        if let Ok(key) = name.to_ascii_lowercase().parse::<GoogleConfigKey>() {
            builder = builder.with_config(key, value);
        }
    }
    let keys = [
        "GOOGLE_SERVICE_ACCOUNT",
        "GOOGLE_SERVICE_ACCOUNT_PATH",
        "GOOGLE_SERVICE_ACCOUNT_KEY",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "GOOGLE_BEARER_TOKEN",
        "GOOGLE_SKIP_SIGNATURE",
    ];
    // Where `gcloud auth application-default login` leaves them.
    let login = environment.first(&["HOME"]).is_some_and(|home| {
        Path::new(home).join(".config/gcloud/application_default_credentials.json").is_file()
    });
    let anonymous = environment.first(&keys).is_none() && !login;
    if anonymous {
        builder = builder.with_skip_signature(true);
    }
    Ok(Bucket::new(builder.with_bucket_name(&at.bucket).build()?, anonymous))
}

impl BucketFile {
    pub(super) async fn head(&self) -> Result<Known, Failed> {
        let limit = self.settings.read_timeout;
        let meta = timeout(limit, self.store.head(&self.path)).await.map_err(|_| Failed::timed_out(limit))?;
        let meta = meta.map_err(|error| failure(&error))?;
        Ok(known(&meta))
    }

    pub(super) async fn get(
        &self,
        from: u64,
        until: Option<u64>,
        before: Option<&Known>,
    ) -> Result<Part, Failed> {
        let range = match until {
            Some(until) => Some(GetRange::Bounded(from..until)),
            None if from > 0 => Some(GetRange::Offset(from)),
            None => None,
        };
        let tag = before.and_then(|before| before.tag.clone()).filter(|tag| !tag.starts_with("W/"));
        let options = GetOptions { range, if_match: tag, ..GetOptions::default() };
        let limit = self.settings.read_timeout;
        let answer = timeout(limit, self.store.get_opts(&self.path, options))
            .await
            .map_err(|_| Failed::timed_out(limit))?;
        let answer = answer.map_err(|error| failure(&error))?;
        let known = known(&answer.meta);
        if let Some(before) = before {
            before.must_be(&known, from > 0)?;
        }
        let start = answer.range.start;
        match answer.payload {
            GetResultPayload::Stream(stream) => Ok(Part { start, known, body: Body::Bucket(stream) }),
            #[allow(
                unreachable_patterns,
                reason = "there is a second kind when object_store reads local files"
            )]
            _ => Err(Failed::finally(Why::Unsupported, "it is a local file")),
        }
    }
}

fn known(meta: &ObjectMeta) -> Known {
    // The library says 1970 where the server says nothing.
    let modified = (meta.last_modified.timestamp() != 0).then(|| meta.last_modified.to_rfc3339());
    Known { tag: meta.e_tag.clone(), modified, total: Some(meta.size) }
}

/// The object itself, or the objects below it or matching it; unsorted.
pub(super) fn list(at: &BucketPath, bucket: Bucket, settings: &Arc<Settings>) -> Result<Vec<Entry>, Error> {
    let address = Address(Place::Bucket(at.clone()));
    let shown = address.shown();
    let wanted = Wanted::new(&at.key);
    if !wanted.is_glob() && !at.key.is_empty() {
        let file = BucketFile {
            store: Arc::clone(&bucket.objects),
            path: path_of(at)?,
            settings: Arc::clone(settings),
        };
        match super::stream::head(super::source::Source::Bucket(file), shown.clone(), Arc::clone(settings)) {
            Ok(known) => return Ok(vec![Entry { address, size: known.total.unwrap_or(0) }]),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    let (settings, name) = (Arc::clone(settings), shown.clone());
    let task = async move { pages(&bucket, &wanted, &settings, &name).await };
    let found =
        wait::call(task).map_err(|problem| Error::remote(shown.as_str(), Why::Unreachable, problem, 0))??;
    if found.is_empty() {
        return Err(Error::remote(shown, Why::NotFound, "nothing is there", 1));
    }
    let entry =
        |(key, size)| Entry { address: Address(Place::Bucket(BucketPath { key, ..at.clone() })), size };
    Ok(found.into_iter().map(entry).collect())
}

/// Keys and sizes of what is wanted, page by page.
async fn pages(
    bucket: &Bucket,
    wanted: &Wanted,
    settings: &Settings,
    shown: &str,
) -> Result<Vec<(String, u64)>, Error> {
    let prefix = if wanted.folder().is_empty() { None } else { Some(format!("{}/", wanted.folder())) };
    let limit = settings.read_timeout;
    let (mut found, mut seen, mut token) = (Vec::new(), BTreeSet::new(), None);
    loop {
        let page = retrying(settings, shown, || async {
            let options =
                PaginatedListOptions { page_token: token.clone(), ..PaginatedListOptions::default() };
            let page = timeout(limit, bucket.pages.list_paginated(prefix.as_deref(), options)).await;
            page.map_err(|_| Failed::timed_out(limit))?.map_err(|error| failure(&error))
        })
        .await?;
        for object in page.result.objects {
            let key = object.location.as_ref();
            if wanted.takes(key) {
                if found.len() == MOST_FILES {
                    return Err(super::too_many(shown));
                }
                found.push((key.to_owned(), object.size));
            }
        }
        let Some(next) = page.page_token else { return Ok(found) };
        if !seen.insert(next.clone()) {
            return Err(Error::remote(
                shown,
                Why::Broken,
                "the pages of its listing go round in a circle",
                1,
            ));
        }
        token = Some(next);
    }
}

/// Fails where an upload could not be signed: the library would ask the machine's own role, which may take minutes.
pub(super) fn must_be_writable(at: &BucketPath, bucket: &Bucket) -> Result<(), Error> {
    if at.cloud == Cloud::Gs && bucket.anonymous {
        let shown = Address(Place::Bucket(at.clone())).shown();
        return Err(Error::remote(shown, Why::Denied, "writing needs an account", 0));
    }
    Ok(())
}

/// Uploads a small object in one request.
pub(super) async fn put(
    store: &dyn ObjectStore,
    path: &Key,
    bytes: Vec<u8>,
    settings: &Settings,
    shown: &str,
) -> Result<(), Error> {
    let bytes = bytes::Bytes::from(bytes);
    let one = Settings { attempts: 1, ..settings.clone() };
    retrying(&one, shown, || async {
        store.put(path, bytes.clone().into()).await.map(drop).map_err(|error| failure(&error))
    })
    .await
}

/// What an error of `object_store` means for trying again.
pub(super) fn failure(error: &object_store::Error) -> Failed {
    use object_store::Error as Theirs;
    let problem = words(error);
    match error {
        Theirs::NotFound { .. } => Failed::finally(Why::NotFound, problem),
        Theirs::Unauthenticated { .. } | Theirs::PermissionDenied { .. } => {
            Failed::finally(Why::Denied, problem)
        }
        Theirs::Precondition { .. } => Failed::finally(Why::Changed, "it changed while it was read"),
        Theirs::InvalidPath { source } => {
            Failed::finally(Why::Broken, format!("the server lists a name that no path may have: {source}"))
        }
        Theirs::Generic { .. } => generic(error, problem),
        _ => Failed::finally(Why::Broken, problem),
    }
}

fn generic(error: &object_store::Error, problem: String) -> Failed {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(http) = cause.downcast_ref::<HttpError>() {
            return match http.kind() {
                HttpErrorKind::Decode => Failed::finally(Why::Broken, problem),
                _ => Failed::for_now(problem),
            };
        }
        if let Some(object_store::path::Error::BadSegment { .. }) = cause.downcast_ref() {
            return Failed::finally(
                Why::Broken,
                format!("the server lists a name that would leave its folder: {cause}"),
            );
        }
        source = cause.source();
    }
    // The type that holds the status is private to the library; its words are not.
    let status = problem
        .split("status code: ")
        .nth(1)
        .and_then(|rest| rest.get(..3))
        .and_then(|s| s.parse::<u16>().ok());
    if problem.contains("redirect without LOCATION") {
        return Failed::finally(Why::Denied, "the bucket is in another region than AWS_REGION says");
    }
    match status {
        Some(408 | 429 | 500..=599) => Failed::for_now(problem),
        Some(400) => Failed::finally(Why::Denied, problem),
        _ => Failed::finally(Why::Broken, problem),
    }
}

/// The innermost message: statuses with their `<Code>` and `<Message>`, not pages of XML.
fn words(error: &object_store::Error) -> String {
    let mut deepest: &dyn std::error::Error = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    let text = deepest.to_string();
    let Some((before, body)) = text.split_once('<') else { return text };
    let tag = |name: &str| Some(body.split_once(&format!("{name}>"))?.1.split_once('<')?.0);
    match (tag("Code"), tag("Message")) {
        (Some(code), Some(message)) => format!("{before}{code}: {message}"),
        (Some(code), None) => format!("{before}{code}"),
        _ => before.trim_end_matches([':', ' ']).to_owned(),
    }
}
