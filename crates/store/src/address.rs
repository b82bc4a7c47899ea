//! Addresses of files and folders: what they mean and how they are written.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use crate::Error;
use crate::error::without_login;

/// Where a file or folder is: a local path, `hf://[datasets/|spaces/]OWNER/NAME[@REVISION]/PATH`, `s3://BUCKET/KEY`,
/// `gs://BUCKET/KEY` or an `http(s)://` URL.
///
/// Parsed from text and written as the same text. No part of it can climb out of its folder with `..`, except in local
/// paths, which belong to the user. In a listing, the wildcards of paths are `*`, `?` and `**`; `open` takes every
/// letter as it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(pub(crate) Place);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Place {
    Local(PathBuf),
    Hub(HubPath),
    Bucket(BucketPath),
    Http(String),
}

/// A path in a repository of the Hugging Face Hub.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(not(feature = "network"), allow(dead_code))]
pub(crate) struct HubPath {
    pub(crate) kind: RepoKind,
    /// `OWNER/NAME`.
    pub(crate) repo: String,
    /// A branch, tag or commit; `None` is `main`.
    pub(crate) revision: Option<String>,
    /// Without slashes at its ends; empty for the whole repository.
    pub(crate) path: String,
}

/// What a repository of the Hub holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum RepoKind {
    Dataset,
    Model,
    Space,
}

/// A key in a bucket.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct BucketPath {
    pub(crate) cloud: Cloud,
    pub(crate) bucket: String,
    /// Without slashes at its ends; empty for the whole bucket.
    pub(crate) key: String,
}

/// Who keeps a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Cloud {
    S3,
    Gs,
}

impl Address {
    /// A path of this machine, even one that looks like a URL.
    pub fn local(path: impl Into<PathBuf>) -> Self {
        Self(Place::Local(path.into()))
    }

    /// The path, if it is one of this machine.
    pub fn as_local(&self) -> Option<&Path> {
        match &self.0 {
            Place::Local(path) => Some(path),
            _ => None,
        }
    }

    /// The address of `name` (`a` or `a/b`) in this folder. Refuses names that would lead elsewhere.
    pub fn join(&self, name: &str) -> Result<Self, Error> {
        check_names(name).map_err(|problem| Error::address(name, problem))?;
        let beneath =
            |folder: &str| if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
        Ok(Self(match &self.0 {
            Place::Local(path) => {
                if !Path::new(name).components().all(|part| matches!(part, Component::Normal(_))) {
                    return Err(Error::address(name, "it would leave its folder"));
                }
                Place::Local(path.join(name))
            }
            Place::Hub(hub) => Place::Hub(HubPath { path: beneath(&hub.path), ..hub.clone() }),
            Place::Bucket(bucket) => {
                Place::Bucket(BucketPath { key: beneath(&bucket.key), ..bucket.clone() })
            }
            Place::Http(url) => return Err(Error::address(url, "a URL is one file, not a folder")),
        }))
    }

    /// The last name of the address, by which formats are told apart. Never `..`; `None` for whole repositories,
    /// buckets and hosts.
    pub fn file_name(&self) -> Option<&str> {
        let path = match &self.0 {
            Place::Local(path) => return path.file_name()?.to_str(),
            Place::Hub(hub) => &hub.path,
            Place::Bucket(bucket) => &bucket.key,
            Place::Http(url) => {
                let (_, rest) = url.split_once("://")?;
                let path = rest.split(['?', '#']).next()?;
                path.split_once('/')?.1
            }
        };
        let name = path.rsplit('/').next()?;
        (!matches!(name, "" | "." | "..")).then_some(name)
    }

    /// As it may be printed anywhere: without the query of a URL, which may hold a signature.
    pub fn shown(&self) -> String {
        match &self.0 {
            Place::Http(url) => match url.split_once('?') {
                Some((before, _)) => format!("{before}?…"),
                None => url.clone(),
            },
            _ => self.to_string(),
        }
    }
}

impl HubPath {
    /// The branch, tag or commit to ask for.
    #[cfg_attr(not(feature = "network"), allow(dead_code))]
    pub(crate) fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refuse = |problem: String| Error::address(text, problem);
        if text.is_empty() {
            return Err(refuse("it is empty".to_owned()));
        }
        let Some((scheme, rest)) = text.split_once("://").filter(|(scheme, _)| is_scheme(scheme)) else {
            return Ok(Self(Place::Local(PathBuf::from(text))));
        };
        if let Some(bad) = text.chars().find(|letter| letter.is_control()) {
            return Err(refuse(format!("it holds the control character {bad:?}")));
        }
        let place = match scheme.to_ascii_lowercase().as_str() {
            "hf" => hub(rest).map(Place::Hub),
            "s3" => bucket(Cloud::S3, rest).map(Place::Bucket),
            "gs" => bucket(Cloud::Gs, rest).map(Place::Bucket),
            "http" | "https" => http(text, rest).map(Place::Http),
            other => {
                Err(format!("smolt does not know {other}://, only hf, s3, gs, http, https and local paths"))
            }
        };
        place.map(Self).map_err(refuse)
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|letter: char| letter.is_ascii_alphabetic())
        && text.chars().all(|letter| letter.is_ascii_alphanumeric() || "+-.".contains(letter))
}

/// Names between slashes: none empty, none `.` or `..`, nothing that another system takes for a separator.
pub(crate) fn check_names(path: &str) -> Result<(), String> {
    if path.contains('\\') || path.chars().any(char::is_control) {
        return Err(format!("{path:?} holds a backslash or a control character"));
    }
    match path.split('/').find(|name| matches!(*name, "" | "." | "..")) {
        Some("") => Err(format!("{path:?} has an empty name between slashes")),
        Some(name) => Err(format!("{name:?} in {path:?} would leave its folder")),
        None => Ok(()),
    }
}

fn folder_path(text: &str) -> Result<String, String> {
    let path = text.strip_suffix('/').unwrap_or(text);
    if !path.is_empty() {
        check_names(path)?;
    }
    Ok(path.to_owned())
}

fn bucket(cloud: Cloud, rest: &str) -> Result<BucketPath, String> {
    let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
    let fits = |letter: char| letter.is_ascii_alphanumeric() || "-._".contains(letter);
    if bucket.is_empty() || !bucket.chars().all(fits) || bucket.starts_with('.') {
        return Err(format!("{:?} is not the name of a bucket", without_login(bucket)));
    }
    Ok(BucketPath { cloud, bucket: bucket.to_owned(), key: folder_path(key)? })
}

fn http(text: &str, rest: &str) -> Result<String, String> {
    let host = rest.split(['/', '?', '#']).next().unwrap_or("");
    if host.is_empty() {
        return Err("it names no host".to_owned());
    }
    if host.contains('@') {
        return Err("a password in a URL would end up in logs; leave it out".to_owned());
    }
    if text.contains(char::is_whitespace) {
        return Err("it holds a space; write %20".to_owned());
    }
    Ok(text.to_owned())
}

fn hub(rest: &str) -> Result<HubPath, String> {
    let (kind, rest) = match rest.split_once('/') {
        Some(("datasets", rest)) => (RepoKind::Dataset, rest),
        Some(("models", rest)) => (RepoKind::Model, rest),
        Some(("spaces", rest)) => (RepoKind::Space, rest),
        Some((other @ ("buckets" | "kernels"), _)) => return Err(format!("hf://{other}/ is not supported")),
        _ => (RepoKind::Model, rest),
    };
    let shape = || "hf:// needs [datasets/|spaces/]OWNER/NAME[@REVISION]/PATH".to_owned();
    let (owner, rest) = rest.split_once('/').ok_or_else(shape)?;
    let end = rest.find(['/', '@']).unwrap_or(rest.len());
    let (name, rest) = rest.split_at(end);
    if !is_repo_name(owner) || !is_repo_name(name) {
        return Err(shape());
    }
    let (revision, rest) = match rest.strip_prefix('@') {
        Some(rest) => {
            let (revision, rest) = split_revision(rest);
            (Some(check_revision(&revision.replace("%2F", "/").replace("%2f", "/"))?), rest)
        }
        None => (None, rest),
    };
    let path = folder_path(rest.strip_prefix('/').unwrap_or(rest))?;
    Ok(HubPath { kind, repo: format!("{owner}/{name}"), revision, path })
}

/// The Hub's own rule for owners and names.
fn is_repo_name(name: &str) -> bool {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || "-._".contains(letter);
    (1..=96).contains(&name.len())
        && name.chars().all(fits)
        && !name.starts_with(['-', '.'])
        && !name.ends_with(['-', '.'])
        && !name.contains("--")
        && !name.contains("..")
}

/// A revision ends at the next slash, except the Hub's own `refs/pr/N` and `refs/convert/NAME`.
fn split_revision(rest: &str) -> (&str, &str) {
    let from =
        ["refs/pr/", "refs/convert/"].iter().find(|own| rest.starts_with(**own)).map_or(0, |own| own.len());
    let end = rest[from..].find('/').map_or(rest.len(), |slash| from + slash);
    rest.split_at(end)
}

fn check_revision(revision: &str) -> Result<String, String> {
    // What git forbids in names of branches, and what would be read differently in a URL or a cache folder.
    let odd = |letter: char| letter.is_whitespace() || "?*[~^:\\%#\"".contains(letter);
    let bad = revision.contains(odd)
        || revision.split('/').any(|name| name.starts_with('.') || name.contains(".."));
    if bad || check_names(revision).is_err() {
        return Err(format!("{revision:?} is not the name of a branch, a tag or a commit"));
    }
    Ok(revision.to_owned())
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Local(path) => write!(f, "{}", path.display()),
            Place::Http(url) => f.write_str(url),
            Place::Hub(hub) => hub.fmt(f),
            Place::Bucket(path) => {
                let scheme = match path.cloud {
                    Cloud::S3 => "s3",
                    Cloud::Gs => "gs",
                };
                write!(f, "{scheme}://{}/{}", path.bucket, path.key)
            }
        }
    }
}

impl fmt::Display for HubPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            RepoKind::Dataset => "datasets/",
            RepoKind::Model => "",
            RepoKind::Space => "spaces/",
        };
        write!(f, "hf://{kind}{}", self.repo)?;
        if let Some(revision) = &self.revision {
            if split_revision(revision).1.is_empty() {
                write!(f, "@{revision}")?;
            } else {
                write!(f, "@{}", revision.replace('/', "%2F"))?;
            }
        }
        if !self.path.is_empty() {
            write!(f, "/{}", self.path)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Address {
        text.parse().unwrap()
    }

    #[test]
    fn every_kind_is_understood() {
        let Place::Hub(hub) = parse("hf://datasets/o/n@refs/pr/7/data/x.parquet").0 else { panic!() };
        assert_eq!(
            (hub.repo.as_str(), hub.revision(), hub.path.as_str()),
            ("o/n", "refs/pr/7", "data/x.parquet")
        );
        let Place::Hub(hub) = parse("hf://o/n@feature%2Fx/").0 else { panic!() };
        assert_eq!((hub.kind, hub.revision(), hub.path.as_str()), (RepoKind::Model, "feature/x", ""));
        assert_eq!(parse("hf://models/o/n/a"), parse("hf://o/n/a"));
        let Place::Bucket(path) = parse("s3://b-1.x/a/b c/").0 else { panic!() };
        assert_eq!((path.bucket.as_str(), path.key.as_str()), ("b-1.x", "a/b c"));
        assert_eq!(parse("gs://b/k").to_string(), "gs://b/k");
        assert_eq!(parse("a/b://c").as_local().unwrap(), Path::new("a/b://c"));
        assert_eq!(parse("https://h/a/b.gz?sig=1").file_name(), Some("b.gz"));
        assert_eq!(parse("https://h/a/b.gz?sig=1").shown(), "https://h/a/b.gz?…");
        assert_eq!(parse("https://h").file_name(), None);
        assert_eq!(parse("hf://datasets/o/n").file_name(), None);
    }

    #[test]
    fn escapes_and_nonsense_are_refused() {
        for bad in [
            "",
            "ftp://h/x",
            "s3://",
            "s3:///k",
            "s3://b/../x",
            "s3://b/a//b",
            "s3://b/a\\..\\b",
            "gs://../x",
            "hf://gpt2",
            "hf://o/n--x/a",
            "hf://../n/a",
            "hf://o/../a",
            "hf://o/n/../../x",
            "hf://o/n@/a",
            "hf://o/n@../a",
            "hf://o/n@a%2F..%2Fb/x",
            "hf://o/n@x%00/a",
            "hf://o/n/a\0b",
            "hf://buckets/o/n/a",
            "https://",
            "https://me:secret@h/x",
            "https://h/a b",
        ] {
            let error = bad.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains("is not an address") && !error.contains('\n'), "{bad:?}: {error}");
        }
    }

    #[test]
    fn a_password_is_not_told() {
        for bad in [
            "https://me:secret@h/x",
            "http://me:secret@h",
            "HTTPS://secret@h?x",
            "s3://me:secret@b/k",
            "ftp://me:secret@h/x",
        ] {
            let error = bad.parse::<Address>().unwrap_err().to_string();
            assert!(!error.contains("secret") && error.contains("…@"), "{error}");
        }
        assert_eq!(without_login("hf://o/n@main/x@y"), "hf://o/n@main/x@y", "a revision");
    }

    #[test]
    fn joining_stays_in_the_folder() {
        for folder in ["data", "s3://b", "s3://b/k/", "gs://b/k", "hf://datasets/o/n@v1", "/"] {
            let folder = parse(folder);
            assert_eq!(folder.join("a/b").unwrap().file_name(), Some("b"));
            for bad in ["..", "a/../..", "/etc/passwd", "", "a//b", ".", "a\\b", "a\0"] {
                assert!(folder.join(bad).is_err(), "{folder} + {bad:?}");
            }
        }
        assert!(parse("http://h/x").join("a").is_err());
    }

    proptest! {
        #[test]
        fn what_parses_is_written_as_itself(text in "(hf|s3|gs|https?)://[a-z@/.%*?-]{0,24}|.{0,20}") {
            if let Ok(address) = text.parse::<Address>() {
                prop_assert_eq!(address.to_string().parse::<Address>().unwrap(), address);
            }
        }

        #[test]
        fn no_panic_and_no_way_out(text in "hf://(datasets/)?[a-z./@%\\\\-]{0,30}") {
            if let Ok(Address(Place::Hub(hub))) = text.parse::<Address>() {
                prop_assert!(!hub.path.split('/').any(|name| name == ".."));
                prop_assert!(!hub.revision().contains(".."));
                prop_assert!(!hub.repo.contains(".."));
            }
        }
    }
}
