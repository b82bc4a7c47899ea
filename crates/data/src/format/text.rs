//! Plain text: a file, a line or a paragraph is a document.

use std::io::Read;
use std::path::PathBuf;

use super::jsonl::BYTE_ORDER_MARK;
use super::lines::{Line, Lines};
use super::source::Input;
use super::{ReadDocument, ReadOptions, TextUnit};
use crate::document::Document;
use crate::error::{Error, Fault, Place};

/// The largest plain text file taken as one document, in bytes.
pub const MAX_TEXT_FILE: u64 = 1 << 30;

/// Documents of a plain text file.
pub(crate) struct Texts {
    path: PathBuf,
    content: Content,
    max_record: usize,
}

enum Content {
    /// The whole file, until it was read.
    Whole(Option<Box<dyn Read + Send>>),
    Lines(Lines),
    Paragraphs(Lines),
}

impl Texts {
    pub(crate) fn open(input: Input, options: &ReadOptions) -> Result<Self, Error> {
        let (path, stream) = input.into_stream()?;
        let max_record = options.max_record();
        let content = match options.unit {
            TextUnit::File => Content::Whole(Some(stream)),
            TextUnit::Line => Content::Lines(Lines::new(stream, max_record)),
            TextUnit::Paragraph => Content::Paragraphs(Lines::new(stream, max_record)),
        };
        Ok(Self { path, content, max_record })
    }

    /// A document whose source is the file and whose id says where in it.
    fn document(&self, place: Place, text: String) -> Document {
        let source = self.path.display().to_string();
        Document { id: Some(format!("{source}{place}")), text, source: Some(source), ..Document::default() }
    }

    fn utf8(&self, place: Place, bytes: Vec<u8>) -> Result<Option<Document>, Error> {
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Some(self.document(place, text))),
            Err(source) => {
                let at = source.utf8_error().valid_up_to();
                let problem = format!("not UTF-8 at byte {at}; convert the file");
                Err(Error::record(&self.path, place, Fault::NotUtf8, problem))
            }
        }
    }

    fn too_long(&self, place: Place, limit: u64) -> Error {
        let problem = format!("longer than {limit} bytes; split it into documents as JSONL");
        Error::record(&self.path, place, Fault::TooLong, problem)
    }

    fn whole(&mut self) -> Result<Option<Document>, Error> {
        let Content::Whole(stream) = &mut self.content else { return Ok(None) };
        let Some(stream) = stream.take() else { return Ok(None) };
        let mut bytes = Vec::new();
        stream
            .take(MAX_TEXT_FILE + 1)
            .read_to_end(&mut bytes)
            .map_err(|source| Error::stream(&self.path, Place::File, &source))?;
        if bytes.len() as u64 > MAX_TEXT_FILE {
            return Err(self.too_long(Place::File, MAX_TEXT_FILE));
        }
        if bytes.starts_with(BYTE_ORDER_MARK) {
            bytes.drain(..BYTE_ORDER_MARK.len());
        }
        self.utf8(Place::File, bytes)
    }

    /// The next run of lines: one of them, or all up to a blank one.
    fn run(&mut self) -> Result<Option<Document>, Error> {
        let (lines, one) = match &mut self.content {
            Content::Lines(lines) => (lines, true),
            Content::Paragraphs(lines) => (lines, false),
            Content::Whole(_) => return Ok(None),
        };
        let mut text = Vec::new();
        let mut place = None;
        let mut too_long = false;
        loop {
            let number = lines.number + 1;
            let next = lines.next();
            let line = match next {
                Ok(Line::Bytes(line)) if number == 1 => line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line),
                Ok(Line::Bytes(line)) => line,
                Ok(Line::TooLong(_)) => {
                    too_long = true;
                    b"?"
                }
                Ok(Line::End) => break,
                Err(source) => return Err(Error::stream(&self.path, Place::Line(number), &source)),
            };
            if line.iter().all(u8::is_ascii_whitespace) {
                if place.is_some() {
                    break;
                }
                continue;
            }
            place.get_or_insert(Place::Line(number));
            if text.len() + line.len() > self.max_record {
                too_long = true;
            }
            if !too_long {
                if !text.is_empty() {
                    text.push(b'\n');
                }
                text.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
            }
            if one {
                break;
            }
        }
        match place {
            None => Ok(None),
            Some(place) if too_long => Err(self.too_long(place, self.max_record as u64)),
            Some(place) => self.utf8(place, text),
        }
    }
}

impl ReadDocument for Texts {
    fn read(&mut self) -> Result<Option<Document>, Error> {
        match self.content {
            Content::Whole(_) => self.whole(),
            _ => self.run(),
        }
    }
}
