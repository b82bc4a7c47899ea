//! What the Hub is asked: what a revision is, what a repository holds, what a file is.

use std::collections::BTreeSet;
use std::sync::Arc;

use reqwest::header::{CONTENT_LENGTH, ETAG, HeaderMap, HeaderName, LINK};
use reqwest::{Method, Url};
use serde::Deserialize;

use super::cache::{etag_name, is_name};
use super::config::Config;
use crate::address::{HubPath, RepoKind, check_names};
use crate::network::MOST_FILES;
use crate::network::client::{Ask, Client};
use crate::network::http::{number, text};
use crate::network::retry::{Failed, retrying};
use crate::{Error, Why};

/// The largest answer that is read into memory: a page of a listing has at most 1,000 files.
const LARGEST_ANSWER: usize = 32 << 20;
const COMMIT: HeaderName = HeaderName::from_static("x-repo-commit");
const LINKED_ETAG: HeaderName = HeaderName::from_static("x-linked-etag");
const LINKED_SIZE: HeaderName = HeaderName::from_static("x-linked-size");

/// The Hub behind one endpoint.
#[derive(Clone)]
pub(super) struct Api {
    pub(super) client: Client,
    pub(super) endpoint: Url,
    pub(super) token: Option<Arc<str>>,
}

/// A file as its headers describe it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FileInfo {
    pub(super) commit: String,
    pub(super) etag: String,
    pub(super) size: Option<u64>,
    /// For files in large file storage, whose ETag is the hash of their content.
    pub(super) sha256: Option<String>,
}

#[derive(Deserialize)]
struct Revision {
    sha: String,
}

#[derive(Deserialize)]
struct Node {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    size: u64,
}

impl Api {
    pub(super) fn new(client: Client, config: &Config) -> Self {
        Self { client, endpoint: config.endpoint.clone(), token: config.token.clone() }
    }

    /// The URL of names below the endpoint, each escaped.
    fn url<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Result<Url, Failed> {
        let mut url = self.endpoint.clone();
        match url.path_segments_mut() {
            Ok(mut path) => drop(path.pop_if_empty().extend(names)),
            Err(()) => return Err(Failed::finally(Why::Unsupported, "HF_ENDPOINT is no URL of a server")),
        }
        Ok(url)
    }

    /// Where the content of a file is asked for.
    pub(super) fn resolve_url(&self, at: &HubPath, revision: &str) -> Result<Url, Failed> {
        let kind = match at.kind {
            RepoKind::Model => None,
            RepoKind::Dataset => Some("datasets"),
            RepoKind::Space => Some("spaces"),
        };
        let path = at.path.split('/');
        self.url(kind.into_iter().chain(at.repo.split('/')).chain(["resolve", revision]).chain(path))
    }

    fn api_url(&self, at: &HubPath, what: &str, revision: &str, folder: &str) -> Result<Url, Failed> {
        let kind = match at.kind {
            RepoKind::Model => "models",
            RepoKind::Dataset => "datasets",
            RepoKind::Space => "spaces",
        };
        let folder = folder.split('/').filter(|name| !name.is_empty());
        self.url(["api", kind].into_iter().chain(at.repo.split('/')).chain([what, revision]).chain(folder))
    }

    /// What commit a branch or tag stands for.
    pub(super) async fn commit(&self, at: &HubPath) -> Result<String, Error> {
        let shown = at.to_string();
        let answer: Revision = retrying(&self.client.settings, &shown, || async {
            let ask =
                Ask::new(Method::GET, self.api_url(at, "revision", at.revision(), "")?, self.token.clone());
            let body = self.client.body(self.client.send(&ask).await?, LARGEST_ANSWER).await?;
            json(&body)
        })
        .await?;
        if is_name(&answer.sha) {
            Ok(answer.sha)
        } else {
            Err(Error::remote(shown, Why::Broken, "the server names a commit that is none", 1))
        }
    }

    /// What the Hub says of one file, without its content.
    pub(super) async fn info(&self, at: &HubPath) -> Result<FileInfo, Error> {
        retrying(&self.client.settings, &at.to_string(), || async {
            let mut ask = Ask::new(Method::HEAD, self.resolve_url(at, at.revision())?, self.token.clone());
            // The storage that it redirects to does not know the commit.
            ask.stop_at = Some(COMMIT);
            let response = self.client.send(&ask).await?;
            file_info(response.headers(), response.status().is_success())
        })
        .await
    }

    /// Paths and sizes of the files below a folder; `deep`: in its folders too.
    pub(super) async fn tree(
        &self,
        at: &HubPath,
        commit: &str,
        folder: &str,
        deep: bool,
    ) -> Result<Vec<(String, u64)>, Error> {
        let shown = at.to_string();
        let fail = |failed: Failed| failed.into_error(&shown, 1);
        let mut page = self.api_url(at, "tree", commit, folder).map_err(fail)?;
        page.query_pairs_mut()
            .append_pair("recursive", if deep { "true" } else { "false" })
            .append_pair("expand", "false");
        let mut seen = BTreeSet::new();
        let mut files = Vec::new();
        loop {
            if !seen.insert(page.to_string()) {
                return Err(fail(Failed::finally(
                    Why::Broken,
                    "the pages of its listing go round in a circle",
                )));
            }
            let (nodes, next) = self.page(&shown, &page).await?;
            for node in nodes {
                check_names(&node.path).map_err(|problem| {
                    fail(Failed::finally(Why::Broken, format!("the listing is hostile: {problem}")))
                })?;
                if node.kind == "file" {
                    if files.len() == MOST_FILES {
                        return Err(crate::network::too_many(&shown));
                    }
                    files.push((node.path, node.size));
                }
            }
            let Some(next) = next else { return Ok(files) };
            page = page.join(&next).map_err(|error| {
                fail(Failed::finally(Why::Broken, format!("the next page is nowhere ({error})")))
            })?;
        }
    }

    async fn page(&self, shown: &str, url: &Url) -> Result<(Vec<Node>, Option<String>), Error> {
        retrying(&self.client.settings, shown, || async {
            let home = url.origin() == self.endpoint.origin();
            let ask = Ask::new(Method::GET, url.clone(), self.token.clone().filter(|_| home));
            let response = self.client.send(&ask).await?;
            let next = text(response.headers(), LINK).as_deref().and_then(next_link).map(str::to_owned);
            let body = self.client.body(response, LARGEST_ANSWER).await?;
            Ok((json(&body)?, next))
        })
        .await
    }
}

fn json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Failed> {
    serde_json::from_slice(body)
        .map_err(|error| Failed::finally(Why::Broken, format!("its answer is not the Hub's JSON ({error})")))
}

fn file_info(headers: &HeaderMap, is_content: bool) -> Result<FileInfo, Failed> {
    let broken = |problem: &str| Failed::finally(Why::Broken, problem);
    let commit =
        text(headers, COMMIT).ok_or_else(|| broken("the answer names no commit, so this is not a Hub"))?;
    let linked = text(headers, LINKED_ETAG);
    let header =
        linked.clone().or_else(|| text(headers, ETAG)).ok_or_else(|| broken("the file has no ETag"))?;
    let etag = etag_name(&header).ok_or_else(|| broken("its ETag cannot name a file"))?.to_owned();
    if !is_name(&commit) {
        return Err(broken("the answer names a commit that is none"));
    }
    let size =
        number(headers, LINKED_SIZE).or_else(|| number(headers, CONTENT_LENGTH).filter(|_| is_content));
    let is_sha256 = linked.is_some() && etag.len() == 64 && etag.bytes().all(|byte| byte.is_ascii_hexdigit());
    let sha256 = is_sha256.then(|| etag.to_ascii_lowercase());
    Ok(FileInfo { commit, etag, size, sha256 })
}

/// `<https://…?cursor=x>; rel="next", <…>; rel="last"` → the first URL.
pub(in crate::network) fn next_link(header: &str) -> Option<&str> {
    header.split('<').skip(1).find_map(|link| {
        let (url, rest) = link.split_once('>')?;
        let is_next = rest.split([';', ',']).any(|part| matches!(part.trim(), "rel=\"next\"" | "rel=next"));
        is_next.then_some(url)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_read_by_their_relation() {
        assert_eq!(next_link("<https://h/a?b=1,2;c>; rel=\"next\""), Some("https://h/a?b=1,2;c"));
        assert_eq!(next_link("<x>; rel=\"prev\", <y>; rel=\"next\""), Some("y"));
        assert_eq!(next_link("<x>; rel=\"prev\""), None);
        assert_eq!(next_link("<x; rel=\"next\""), None);
    }
}
