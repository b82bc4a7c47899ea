//! Single requests: timeouts, redirects, what statuses mean.

use std::error::Error as _;
use std::sync::{Arc, Once};

use bytes::Bytes;
use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION,
};
use reqwest::{Method, Response, StatusCode, Url, redirect};
use tokio::time::timeout;

use super::retry::{Failed, retry_after};
use crate::{Settings, Why};

const MOST_REDIRECTS: usize = 10;

/// TLS needs its cryptography named once per process; whoever was first (the program that embeds us) is as good.
pub(super) fn install_tls() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
}

/// A pool of connections.
#[derive(Clone)]
pub(super) struct Client {
    inner: reqwest::Client,
    pub(super) settings: Arc<Settings>,
}

/// One request, before redirects.
#[derive(Clone)]
pub(super) struct Ask {
    pub(super) method: Method,
    pub(super) url: Url,
    /// Sent to the host of `url` and to no other that it redirects to.
    pub(super) token: Option<Arc<str>>,
    pub(super) headers: Vec<(HeaderName, String)>,
    /// Stop at a redirect to another host that carries this header, and take it as the answer.
    pub(super) stop_at: Option<HeaderName>,
    /// Sent along, as JSON.
    pub(super) body: Option<Bytes>,
    /// The body of a refusal says why: read its words.
    pub(super) explains: bool,
}

impl Ask {
    pub(super) fn new(method: Method, url: Url, token: Option<Arc<str>>) -> Self {
        Self { method, url, token, headers: Vec::new(), stop_at: None, body: None, explains: false }
    }
}

impl Client {
    /// `Err`: why the system's certificates or proxies cannot be used.
    pub(super) fn new(settings: Arc<Settings>) -> Result<Self, String> {
        install_tls();
        let inner = reqwest::Client::builder()
            .user_agent(concat!("smolt/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .referer(false)
            // One stream, one connection: many streams over one HTTP/2 connection share its window.
            .http1_only()
            .connect_timeout(settings.connect_timeout)
            .build()
            .map_err(|error| describe(&error))?;
        Ok(Self { inner, settings })
    }

    /// The answer after redirects, if its status is a success (or it is where [`Ask::stop_at`] stops).
    pub(super) async fn send(&self, ask: &Ask) -> Result<Response, Failed> {
        let origin = ask.url.origin();
        let mut url = ask.url.clone();
        for _ in 0..=MOST_REDIRECTS {
            let home = url.origin() == origin;
            let response = self.once(ask, url.clone(), home).await?;
            let Some(next) = redirect_of(&response) else {
                let status = response.status();
                if status.is_success() {
                    return Ok(response);
                }
                let refused = refusal(status, response.headers());
                return Err(if ask.explains { self.explained(refused, response).await } else { refused });
            };
            let next = url.join(&next).map_err(|error| {
                Failed::finally(Why::Broken, format!("it redirects to nowhere ({error})"))
            })?;
            let away = next.origin() != origin;
            if away && ask.stop_at.as_ref().is_some_and(|header| response.headers().contains_key(header)) {
                return Ok(response);
            }
            let lower = url.scheme() == "https" && next.scheme() != "https";
            if lower || !matches!(next.scheme(), "http" | "https") {
                let problem =
                    format!("it redirects from {} to {}, which is refused", url.scheme(), next.scheme());
                return Err(Failed::finally(Why::Broken, problem));
            }
            url = next;
        }
        Err(Failed::finally(Why::Broken, format!("it redirects more than {MOST_REDIRECTS} times")))
    }

    async fn once(&self, ask: &Ask, url: Url, home: bool) -> Result<Response, Failed> {
        let mut request = self.inner.request(ask.method.clone(), url).header(ACCEPT_ENCODING, "identity");
        for (name, value) in &ask.headers {
            request = request.header(name, value);
        }
        if let Some(token) = ask.token.as_ref().filter(|_| home) {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
                .map_err(|_| Failed::finally(Why::Denied, "the token holds letters that no token has"))?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        if let Some(body) = &ask.body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.clone());
        }
        let limit = self.settings.read_timeout;
        match timeout(limit, request.send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) if error.is_builder() => Err(Failed::finally(Why::Unsupported, describe(&error))),
            Ok(Err(error)) => Err(Failed::for_now(describe(&error))),
            Err(_) => Err(Failed::timed_out(limit)),
        }
    }

    /// The whole body of an answer, at most `most` bytes.
    pub(super) async fn body(&self, mut response: Response, most: usize) -> Result<Vec<u8>, Failed> {
        let limit = self.settings.read_timeout;
        let mut body = Vec::new();
        loop {
            match timeout(limit, response.chunk()).await {
                Ok(Ok(Some(chunk))) if body.len() + chunk.len() > most => {
                    let problem = format!("its answer is larger than {} MiB", most >> 20);
                    return Err(Failed::finally(Why::Broken, problem));
                }
                Ok(Ok(Some(chunk))) => body.extend_from_slice(&chunk),
                Ok(Ok(None)) => return Ok(body),
                Ok(Err(error)) => return Err(Failed::for_now(describe(&error))),
                Err(_) => return Err(Failed::timed_out(limit)),
            }
        }
    }
}

fn redirect_of(response: &Response) -> Option<String> {
    let moved = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    let location = response.headers().get(LOCATION).filter(|_| moved)?;
    Some(String::from_utf8_lossy(location.as_bytes()).into_owned())
}

/// What a status that is no success means.
fn refusal(status: StatusCode, headers: &HeaderMap) -> Failed {
    let mut problem = format!("the server answers {status}");
    // The Hub's own words, such as that a repository is gated.
    if let Some(words) = headers.get("x-error-message") {
        problem = format!("{problem}: {}", String::from_utf8_lossy(words.as_bytes()));
    }
    match status.as_u16() {
        401 | 403 | 407 => Failed::finally(Why::Denied, problem),
        404 | 410 => Failed::finally(Why::NotFound, problem),
        412 => Failed::finally(Why::Changed, "it changed while it was read"),
        408 | 425 | 429 | 500 | 502..=504 | 506..=599 => {
            Failed { after: retry_after(headers), ..Failed::for_now(problem) }
        }
        _ => Failed::finally(Why::Broken, problem),
    }
}

/// The last cause of an error, which is what happened; the first only says what was attempted.
pub(super) fn describe(error: &reqwest::Error) -> String {
    let mut deepest: &dyn std::error::Error = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    let doing = match error {
        error if error.is_connect() => "cannot connect",
        error if error.is_builder() => "not a URL",
        error if error.is_body() || error.is_decode() => "the connection broke",
        _ => "the request failed",
    };
    // reqwest's own line may hold the URL with its query.
    if error.source().is_none() { doing.to_owned() } else { format!("{doing}: {deepest}") }
}
