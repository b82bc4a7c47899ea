//! The HTTP response in a record: status, headers, and the body as the server meant it.

use std::borrow::Cow;
use std::io::{Cursor, Read};
use std::path::Path;

use serde_json::Value;

use super::Trouble;
use super::frame::{add_field, get};
use crate::document::Metadata;
use crate::error::Fault;
use crate::format::compress::decompress;

/// A response whose body lies in the block of a record.
pub(super) struct Response<'a> {
    status: Option<u16>,
    fields: Vec<(String, String)>,
    raw: &'a [u8],
}

impl<'a> Response<'a> {
    /// Splits a block at the blank line. Lines that are no headers are common in the wild and are passed over.
    pub(super) fn parse(block: &'a [u8]) -> Result<Self, Trouble> {
        if !block.starts_with(b"HTTP/") {
            return Err(Trouble::record(Fault::Header, "its block does not begin as an HTTP response"));
        }
        let mut fields = Vec::new();
        let mut status = None;
        let mut rest = block;
        for number in 0.. {
            let Some(end) = memchr::memchr(b'\n', rest) else {
                return Err(Trouble::record(Fault::Header, "the headers of its HTTP response do not end"));
            };
            let line = String::from_utf8_lossy(rest[..end].trim_ascii_end());
            rest = &rest[end + 1..];
            if line.is_empty() {
                break;
            }
            if number == 0 {
                status = line.split_ascii_whitespace().nth(1).and_then(|code| code.parse().ok());
            } else {
                let _ = add_field(&mut fields, &line);
            }
        }
        Ok(Self { status, fields, raw: rest })
    }

    fn content_type(&self) -> Option<&str> {
        get(&self.fields, "Content-Type")
    }

    /// Whether its content type is one of text, or not given.
    pub(super) fn is_text(&self) -> bool {
        self.content_type().is_none_or(is_text)
    }

    /// The charset of its content type.
    pub(super) fn charset(&self) -> Option<&str> {
        self.content_type().and_then(charset_of)
    }

    /// Adds `http_status` and `content_type`.
    pub(super) fn describe(&self, metadata: &mut Metadata) {
        if let Some(status) = self.status {
            metadata.insert("http_status".into(), Value::from(status));
        }
        if let Some(kind) = self.content_type() {
            metadata.insert("content_type".into(), Value::from(kind));
        }
    }

    /// The body without the encodings of the transfer, at most `limit` bytes.
    pub(super) fn body(&self, limit: usize) -> Result<Cow<'a, [u8]>, Trouble> {
        let has = |name, value: &str| {
            get(&self.fields, name).is_some_and(|given| given.to_ascii_lowercase().contains(value))
        };
        let mut body = Cow::Borrowed(self.raw);
        // Many crawlers store the body already joined and leave the header: then it does not parse as chunks.
        if has("Transfer-Encoding", "chunked")
            && let Some(joined) = join_chunks(self.raw)
        {
            body = Cow::Owned(joined);
        }
        if has("Content-Encoding", "br") && !body.is_ascii() && std::str::from_utf8(&body).is_err() {
            return Err(Trouble::record(Fault::Encoding, "its body is compressed by brotli"));
        }
        if has("Content-Encoding", "deflate")
            && let Some(text) = inflate(&body, limit)?
        {
            return Ok(Cow::Owned(text));
        }
        // gzip and zstd by their first bytes, for the same reason.
        if ["gzip", "zstd"].iter().any(|name| has("Content-Encoding", name)) {
            let reader = decompress(Path::new(""), Box::new(Cursor::new(body.into_owned())));
            return reader
                .and_then(|reader| read_all(reader, limit))
                .map_err(|source| {
                    Trouble::record(Fault::Encoding, format!("its body cannot be decompressed: {source}"))
                })
                .and_then(|body| check(body, limit))
                .map(Cow::Owned);
        }
        Ok(body)
    }
}

fn read_all(reader: impl Read, limit: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn check(body: Vec<u8>, limit: usize) -> Result<Vec<u8>, Trouble> {
    if body.len() > limit {
        return Err(Trouble::record(Fault::TooLong, format!("its body is longer than {limit} bytes")));
    }
    Ok(body)
}

/// Deflate with the frame of zlib, or bare as some servers send it. `None` if it is neither.
fn inflate(body: &[u8], limit: usize) -> Result<Option<Vec<u8>>, Trouble> {
    let framed = read_all(flate2::bufread::ZlibDecoder::new(body), limit);
    let text = framed.or_else(|_| read_all(flate2::bufread::DeflateDecoder::new(body), limit));
    text.ok().map(|text| check(text, limit)).transpose()
}

/// Joins the chunks of a body; `None` if they are none.
fn join_chunks(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = memchr::memchr(b'\n', rest)?;
        let line = std::str::from_utf8(&rest[..end]).ok()?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).ok()?;
        rest = &rest[end + 1..];
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(..size)?);
        rest = &rest[size..];
        rest = rest.strip_prefix(b"\r").unwrap_or(rest);
        rest = rest.strip_prefix(b"\n")?;
    }
}

/// Whether a content type is that of a page.
pub(super) fn is_text(kind: &str) -> bool {
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind.starts_with("text/") || kind == "application/xhtml+xml" || kind.is_empty()
}

/// The charset of a content type.
pub(super) fn charset_of(kind: &str) -> Option<&str> {
    kind.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let value = value.trim().trim_matches(['"', '\'']);
        (name.trim().eq_ignore_ascii_case("charset") && !value.is_empty()).then_some(value)
    })
}
