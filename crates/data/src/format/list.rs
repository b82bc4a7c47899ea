//! A JSON list of objects, read one item at a time: the file may be larger than memory, an item may not.

use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;

use serde_json::error::Category;

use super::ReadOptions;
use super::jsonl::{BYTE_ORDER_MARK, Record};
use super::rows::{ReadRow, Row};
use crate::error::{Error, Fault, Place};

/// How much is read at a time.
const CHUNK: usize = 1 << 17;

/// The items of a list.
pub(super) struct List {
    path: PathBuf,
    input: BufReader<Box<dyn Read + Send>>,
    item: Vec<u8>,
    limit: usize,
    /// Items begun so far.
    number: u64,
    state: State,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    /// Nothing was read.
    Before,
    /// Behind `[` or a comma.
    Within,
    /// Behind `]`.
    Ended,
}

/// How an item ends.
enum End {
    Comma,
    Bracket,
}

/// What stops the scan: the stream, or brackets that match nothing.
enum Stop {
    Stream(io::Error),
    Structure(&'static str),
}

impl From<io::Error> for Stop {
    fn from(source: io::Error) -> Self {
        Self::Stream(source)
    }
}

impl List {
    /// Items of at most `limit` bytes; longer ones are passed over, not kept.
    pub(super) fn new(path: PathBuf, input: Box<dyn Read + Send>, limit: usize) -> Self {
        let input = BufReader::with_capacity(CHUNK, input);
        Self { path, input, item: Vec::new(), limit, number: 0, state: State::Before }
    }

    /// Passes over white space; the byte behind it.
    fn peek(&mut self) -> io::Result<Option<u8>> {
        loop {
            let bytes = self.input.fill_buf()?;
            if bytes.is_empty() {
                return Ok(None);
            }
            let blank = bytes.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            let byte = bytes.get(blank).copied();
            self.input.consume(blank);
            if byte.is_some() {
                return Ok(byte);
            }
        }
    }

    fn begin(&mut self) -> Result<(), Stop> {
        for &byte in BYTE_ORDER_MARK {
            if self.input.fill_buf()?.first() == Some(&byte) {
                self.input.consume(1);
            }
        }
        match self.peek()? {
            Some(b'[') => self.input.consume(1),
            _ => return Err(Stop::Structure("no list begins here")),
        }
        self.state = State::Within;
        Ok(())
    }

    /// Reads an item into `self.item`, without white space around it; its length, and what followed it.
    fn scan(&mut self) -> Result<(u64, End), Stop> {
        self.item.clear();
        self.peek()?;
        let (mut length, mut depth) = (0, 0u64);
        let (mut quoted, mut escaped) = (false, false);
        loop {
            let bytes = self.input.fill_buf()?;
            if bytes.is_empty() {
                return Err(Stop::Structure("it ends within the list; is the file complete?"));
            }
            let mut end = None;
            let mut used = 0;
            for &byte in bytes {
                match byte {
                    _ if escaped => escaped = false,
                    b'\\' if quoted => escaped = true,
                    b'"' => quoted = !quoted,
                    _ if quoted => {}
                    b'{' | b'[' => depth += 1,
                    b',' if depth == 0 => end = Some(End::Comma),
                    b']' if depth == 0 => end = Some(End::Bracket),
                    b'}' if depth == 0 => return Err(Stop::Structure("a `}` that closes nothing")),
                    b'}' | b']' => depth -= 1,
                    _ => {}
                }
                if end.is_some() {
                    break;
                }
                used += 1;
            }
            let room = (self.limit + 1).saturating_sub(self.item.len()).min(used);
            self.item.extend_from_slice(&bytes[..room]);
            length += used as u64;
            self.input.consume(used + usize::from(end.is_some()));
            if let Some(end) = end {
                return Ok((length, end));
            }
        }
    }

    fn next_item(&mut self) -> Result<Option<u64>, Stop> {
        if self.state == State::Before {
            self.begin()?;
        }
        if self.state == State::Within {
            let (length, end) = self.scan()?;
            let nothing = self.item.is_empty();
            if matches!(end, End::Bracket) {
                self.state = State::Ended;
            }
            // Only `[]` has nothing before its end; behind a comma an item is missing.
            if !(nothing && self.state == State::Ended && self.number == 0) {
                self.number += 1;
                return Ok(Some(length));
            }
        }
        match self.peek()? {
            None => Ok(None),
            Some(_) => Err(Stop::Structure("something follows the list")),
        }
    }

    fn parse(&self, place: Place) -> Result<Row, Error> {
        let item = self.item.trim_ascii_end();
        Row::parse(item, &ReadOptions::default()).map_err(|source| {
            if let Err(utf8) = std::str::from_utf8(item) {
                let problem = format!("not UTF-8 at byte {}; convert the file", utf8.valid_up_to());
                return Error::record(&self.path, place, Fault::NotUtf8, problem);
            }
            let fault = if source.classify() == Category::Data { Fault::Fields } else { Fault::NotJson };
            let problem = format!("{source} of the item; expected {}", Row::SHAPE);
            Error::record(&self.path, place, fault, problem)
        })
    }
}

impl ReadRow for List {
    fn read_row(&mut self) -> Result<Option<Row>, Error> {
        let next = self.next_item();
        match next {
            Ok(None) => Ok(None),
            Ok(Some(length)) => {
                let place = Place::Row(self.number);
                if self.item.len() > self.limit {
                    let limit = self.limit;
                    let problem = format!("item of {length} bytes, longer than {limit} bytes; split it");
                    return Err(Error::record(&self.path, place, Fault::TooLong, problem));
                }
                self.parse(place).map(Some)
            }
            Err(Stop::Stream(source)) => Err(Error::stream(&self.path, Place::Row(self.number + 1), &source)),
            Err(Stop::Structure(problem)) => {
                let problem = format!("{problem}; expected one JSON list of objects");
                Err(Error::damaged(&self.path, Place::Row(self.number + 1), problem))
            }
        }
    }
}
