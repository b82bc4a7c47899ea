//! WARC and WET: the pages of a crawl, each with its address, as ISO 28500 frames them.
//!
//! A `response` becomes a document of the page's HTML, decoded to UTF-8; a `conversion` (WET) one of its text. Requests,
//! other records, and responses that are not text (images, PDF) are no documents.

mod charset;
mod frame;
mod http;

use std::io::Read;
use std::path::PathBuf;

use serde_json::Value;

use super::source::Input;
use super::{ReadDocument, ReadOptions};
use crate::document::Document;
use crate::error::{Error, Fault, Place};
use frame::{Frames, Head};

/// The pages of a WARC file.
pub(crate) struct Pages {
    path: PathBuf,
    frames: Frames,
    limit: usize,
}

impl Pages {
    pub(crate) fn open(input: Input, options: &ReadOptions) -> Result<Self, Error> {
        let (path, stream) = input.into_stream()?;
        Ok(Self { path, frames: Frames::new(stream), limit: options.max_record() })
    }

    fn page(&mut self, head: &Head) -> Result<Option<Document>, Trouble> {
        let response = match head.get("WARC-Type") {
            Some("response") => true,
            Some("conversion") => false,
            _ => return Ok(None),
        };
        if head.get("WARC-Identified-Payload-Type").is_some_and(|kind| !http::is_text(kind)) {
            return Ok(None);
        }
        let too_long = || Trouble::record(Fault::TooLong, format!("longer than {} bytes", self.limit));
        if head.length > self.limit as u64 {
            return Err(too_long());
        }
        let mut block = Vec::with_capacity(head.length.min(1 << 20) as usize);
        self.frames.read_to_end(&mut block).map_err(Trouble::Stream)?;
        let is_http = response && head.get("WARC-Target-URI").is_some_and(|uri| uri.contains("http"));
        let mut document = describe(head);
        let (body, declared) = if is_http {
            let response = http::Response::parse(&block)?;
            if !response.is_text() {
                return Ok(None);
            }
            response.describe(&mut document.metadata);
            (response.body(self.limit)?, response.charset().map(str::to_owned))
        } else {
            (block.into(), head.get("Content-Type").and_then(http::charset_of).map(str::to_owned))
        };
        let (text, encoding) = charset::decode(&body, declared.as_deref());
        if text.len() > self.limit {
            return Err(too_long());
        }
        if encoding != encoding_rs::UTF_8 {
            document.metadata.insert("charset".into(), Value::from(encoding.name()));
        }
        document.text = text;
        Ok(Some(document))
    }
}

/// What the head of the record says of the page.
fn describe(head: &Head) -> Document {
    let mut document = Document {
        id: head.get("WARC-Record-ID").map(str::to_owned),
        // Old versions of wget put angle brackets around the address.
        url: head.get("WARC-Target-URI").map(|uri| uri.trim_matches(['<', '>']).to_owned()),
        ..Document::default()
    };
    if let Some(date) = head.get("WARC-Date") {
        document.metadata.insert("date".into(), Value::from(date));
    }
    document
}

/// Why a record is no document: its content, or the stream under it.
pub(super) enum Trouble {
    Record(Fault, String),
    Stream(std::io::Error),
}

impl Trouble {
    pub(super) fn record(fault: Fault, problem: impl Into<String>) -> Self {
        Self::Record(fault, problem.into())
    }
}

impl ReadDocument for Pages {
    fn read(&mut self) -> Result<Option<Document>, Error> {
        loop {
            let head = self.frames.next_head();
            let place = Place::Byte(self.frames.record_start());
            let page = match head {
                Ok(None) => return Ok(None),
                Ok(Some(head)) => self.page(&head),
                Err(trouble) => Err(trouble),
            };
            match page {
                Ok(Some(document)) => return Ok(Some(document)),
                Ok(None) => {}
                Err(Trouble::Record(fault, problem)) => {
                    return Err(Error::record(&self.path, place, fault, problem));
                }
                Err(Trouble::Stream(source)) => return Err(Error::stream(&self.path, place, &source)),
            }
        }
    }
}

#[cfg(test)]
mod tests;
