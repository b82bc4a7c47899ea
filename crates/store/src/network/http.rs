//! A file behind a URL: its size, and its bytes from anywhere.

use std::sync::Arc;

use reqwest::header::{
    CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, HeaderName, IF_MATCH, IF_UNMODIFIED_SINCE, LAST_MODIFIED,
    RANGE,
};
use reqwest::{Method, Response, StatusCode, Url};

use super::client::{Ask, Client};
use super::retry::Failed;
use super::source::{Body, Known, Part};
use crate::Why;

/// A URL with the token for its host.
#[derive(Clone)]
pub(super) struct HttpFile {
    pub(super) client: Client,
    pub(super) url: Url,
    pub(super) token: Option<Arc<str>>,
}

impl HttpFile {
    fn ask(&self, method: Method) -> Ask {
        Ask::new(method, self.url.clone(), self.token.clone())
    }

    /// What the server says of the whole file. Asks for one byte where the server does not answer `HEAD`.
    pub(super) async fn head(&self) -> Result<Known, Failed> {
        match self.client.send(&self.ask(Method::HEAD)).await {
            Ok(response) => {
                let known = known(response.headers(), number(response.headers(), CONTENT_LENGTH));
                if known.total.is_some() {
                    return Ok(known);
                }
            }
            // Many servers sign or allow only GET; if the refusal was meant, GET is refused too.
            Err(failed) if failed.retry || failed.why == Why::NotFound => return Err(failed),
            Err(_) => {}
        }
        Ok(self.get(0, Some(1), None).await?.known)
    }

    /// The bytes from `from` on (until the end, or before `until`), of the version that is `known`.
    pub(super) async fn get(
        &self,
        from: u64,
        until: Option<u64>,
        before: Option<&Known>,
    ) -> Result<Part, Failed> {
        let mut ask = self.ask(Method::GET);
        match until {
            Some(until) => ask.headers.push((RANGE, format!("bytes={from}-{}", until.saturating_sub(1)))),
            None if from > 0 => ask.headers.push((RANGE, format!("bytes={from}-"))),
            None => {}
        }
        match before {
            // A weak tag never matches in `If-Match`; it is compared below.
            Some(Known { tag: Some(tag), .. }) if tag.starts_with("W/") => {}
            Some(Known { tag: Some(tag), .. }) => ask.headers.push((IF_MATCH, tag.clone())),
            Some(Known { modified: Some(modified), .. }) => {
                ask.headers.push((IF_UNMODIFIED_SINCE, modified.clone()))
            }
            _ => {}
        }
        let response = self.client.send(&ask).await?;
        let part = part(response)?;
        if let Some(before) = before {
            before.must_be(&part.known, from > 0)?;
        }
        Ok(part)
    }
}

fn part(response: Response) -> Result<Part, Failed> {
    let headers = response.headers();
    let (start, total) = match response.status() {
        StatusCode::PARTIAL_CONTENT => {
            let range = headers.get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
            content_range(range.unwrap_or("")).ok_or_else(|| {
                Failed::finally(Why::Broken, format!("it sends a part but names it {range:?}"))
            })?
        }
        _ => (0, number(headers, CONTENT_LENGTH)),
    };
    let known = known(headers, total);
    Ok(Part { start, known, body: Body::Http(response) })
}

fn known(headers: &HeaderMap, total: Option<u64>) -> Known {
    Known { tag: text(headers, ETAG), modified: text(headers, LAST_MODIFIED), total }
}

pub(super) fn text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

pub(super) fn number(headers: &HeaderMap, name: HeaderName) -> Option<u64> {
    text(headers, name)?.trim().parse().ok()
}

/// `bytes 5-9/10` → (5, 10); the total may be `*`.
pub(super) fn content_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = value.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (first.trim().parse::<u64>().ok()?, last.trim().parse::<u64>().ok()?);
    let total = match total.trim() {
        "*" => None,
        total => Some(total.parse::<u64>().ok()?),
    };
    (first <= last && total.is_none_or(|total| last < total)).then_some((first, total))
}
