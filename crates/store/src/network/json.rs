//! Questions and answers in JSON, as OpenAI-compatible servers have them.

use std::sync::Arc;

use bytes::Bytes;
use reqwest::{Method, Response, Url};
use serde_json::Value;

use super::client::{Ask, Client};
use super::retry::{Failed, retrying};
use super::{Network, unsupported, wait};
use crate::address::Place;
use crate::{Address, Error, Why};

/// The most that is read of a refusal, bytes.
const LARGEST_REFUSAL: usize = 64 << 10;

impl Network {
    /// The body of the answer to a question, at most `most` bytes; without a `body` it is a `GET`.
    pub(crate) fn json(
        &self,
        address: &Address,
        token: Option<&str>,
        body: Option<Vec<u8>>,
        most: usize,
    ) -> Result<Vec<u8>, Error> {
        let Place::Http(text) = &address.0 else {
            return Err(unsupported(address, "questions go to http:// and https:// only"));
        };
        let shown = address.shown();
        let url = Url::parse(text).map_err(|error| Error::address(&shown, error.to_string()))?;
        let client = self.client(&shown)?.clone();
        let method = if body.is_some() { Method::POST } else { Method::GET };
        let ask = Ask {
            body: body.map(Bytes::from),
            explains: true,
            ..Ask::new(method, url, token.map(Arc::from))
        };
        let (settings, named) = (Arc::clone(&client.settings), shown.clone());
        wait::call(async move {
            // Asking twice what a server may have answered already costs it work and changes nothing.
            let attempt = || async { client.body(client.send(&ask).await?, most).await };
            retrying(&settings, &named, attempt).await
        })
        .map_err(|problem| Error::remote(shown, Why::Unreachable, problem, 0))?
    }
}

impl Client {
    /// A refusal with what the server says about it; one that the question itself is to blame for is told as such.
    pub(super) async fn explained(&self, refused: Failed, response: Response) -> Failed {
        let blamed = matches!(response.status().as_u16(), 400 | 405 | 413 | 422 | 501);
        let words = match self.body(response, LARGEST_REFUSAL).await {
            Ok(body) => words(&body),
            Err(_) => None,
        };
        let problem = match words {
            Some(words) => format!("{}: {words}", refused.problem),
            None => refused.problem,
        };
        if blamed {
            return Failed::finally(Why::Refused, problem);
        }
        // Made anew, so that it is one line and not without end.
        Failed { retry: refused.retry, after: refused.after, ..Failed::finally(refused.why, problem) }
    }
}

/// The message in the body of a refusal, in the places where servers put it; a short plain text as it is.
pub(super) fn words(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?.trim();
    let Ok(value) = serde_json::from_str::<Value>(text) else {
        let plain = !text.is_empty() && !text.starts_with('<');
        return plain.then(|| text.to_owned());
    };
    let places =
        [value.pointer("/error/message"), value.get("message"), value.get("detail"), value.get("error")];
    let said = places.into_iter().flatten().find(|said| !said.is_null());
    said.map(|said| said.as_str().map_or_else(|| said.to_string(), str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_where_servers_put_them() {
        let of = |text: &str| words(text.as_bytes());
        assert_eq!(of(r#"{"error": {"message": "no echo", "code": 400}}"#).as_deref(), Some("no echo"));
        assert_eq!(of(r#"{"object": "error", "message": "too long"}"#).as_deref(), Some("too long"));
        assert_eq!(of(r#"{"error": "busy"}"#).as_deref(), Some("busy"));
        assert_eq!(of(r#"{"detail": [{"loc": ["body"]}]}"#).as_deref(), Some(r#"[{"loc":["body"]}]"#));
        assert_eq!(of("sorry").as_deref(), Some("sorry"));
        assert_eq!((of("<html>"), of(""), of("{}"), words(&[0xff])), (None, None, None, None));
    }
}
