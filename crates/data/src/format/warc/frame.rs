//! The frames of a WARC file: a version line, headers, a block of as many bytes as they say.

use std::io::{self, BufRead, BufReader, Read};

use super::Trouble;
use crate::error::Fault;

/// How much is read at a time.
const CHUNK: usize = 1 << 17;

/// The longest head of a record, in bytes.
const MAX_HEAD: usize = 1 << 18;

/// The headers of a record.
pub(super) struct Head {
    fields: Vec<(String, String)>,
    /// Bytes of the block.
    pub(super) length: u64,
}

impl Head {
    /// A header by its name, in any case.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        get(&self.fields, name)
    }
}

/// The first header of a name, in any case.
pub(super) fn get<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// Adds a header line, or the continuation of the one before. False if it is neither.
pub(super) fn add_field(fields: &mut Vec<(String, String)>, line: &str) -> bool {
    if line.starts_with([' ', '\t']) {
        let Some((_, value)) = fields.last_mut() else { return false };
        value.push(' ');
        value.push_str(line.trim());
        return true;
    }
    let Some((name, value)) = line.split_once(':') else { return false };
    fields.push((name.trim().to_owned(), value.trim().to_owned()));
    true
}

/// Record after record; read as a stream it is the block of the current one.
pub(super) struct Frames {
    input: BufReader<Box<dyn Read + Send>>,
    /// Bytes read so far.
    at: u64,
    start: u64,
    /// Bytes of the current block that were not read yet.
    left: u64,
    line: Vec<u8>,
    /// After a bad head: the next record is looked for.
    lost: bool,
}

impl Frames {
    pub(super) fn new(stream: Box<dyn Read + Send>) -> Self {
        let input = BufReader::with_capacity(CHUNK, stream);
        Self { input, at: 0, start: 0, left: 0, line: Vec::new(), lost: false }
    }

    /// Where the current record begins.
    pub(super) fn record_start(&self) -> u64 {
        self.start
    }

    /// Passes over what is left of the current record and reads the head of the next. `None` at the end of the file.
    ///
    /// After a head that cannot be read, the next record is the next line that is a version of WARC.
    pub(super) fn next_head(&mut self) -> Result<Option<Head>, Trouble> {
        io::copy(&mut *self, &mut io::sink()).map_err(Trouble::Stream)?;
        loop {
            self.start = self.at;
            if !self.read_line()? {
                return Ok(None);
            }
            let line = self.line.trim_ascii_end();
            if line.starts_with(b"WARC/") {
                break;
            }
            if !line.is_empty() && !self.lost {
                self.lost = true;
                return Err(Trouble::record(Fault::Header, "no WARC record begins here"));
            }
        }
        self.lost = true;
        let head = self.read_head()?;
        self.lost = false;
        self.left = head.length;
        Ok(Some(head))
    }

    fn read_head(&mut self) -> Result<Head, Trouble> {
        let bad = |problem: String| Err(Trouble::record(Fault::Header, problem));
        let mut fields = Vec::new();
        let mut size = 0;
        loop {
            if !self.read_line()? {
                return Err(Trouble::Stream(io::ErrorKind::UnexpectedEof.into()));
            }
            size += self.line.len();
            if size > MAX_HEAD {
                return bad(format!("its head is longer than {MAX_HEAD} bytes"));
            }
            let line = String::from_utf8_lossy(self.line.trim_ascii_end());
            if line.is_empty() {
                break;
            }
            if !add_field(&mut fields, &line) {
                let shown: String = line.chars().take(60).collect();
                return bad(format!("its head has a line without a colon: {shown:?}"));
            }
        }
        match get(&fields, "Content-Length").map(str::parse) {
            Some(Ok(length)) => Ok(Head { fields, length }),
            Some(Err(_)) => bad("its Content-Length is no number".into()),
            None => bad("its head has no Content-Length".into()),
        }
    }

    /// The next line, or as much of it as a head may have. False at the end.
    fn read_line(&mut self) -> Result<bool, Trouble> {
        self.line.clear();
        let limit = MAX_HEAD as u64 + 1;
        let read = self.input.by_ref().take(limit).read_until(b'\n', &mut self.line);
        let read = read.map_err(Trouble::Stream)?;
        self.at += read as u64;
        Ok(read > 0)
    }
}

/// The block of the current record.
impl Read for Frames {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        if most == 0 {
            return Ok(0);
        }
        match self.input.read(&mut buffer[..most])? {
            0 => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("the file ends {} bytes before the record does", self.left),
            )),
            read => {
                self.at += read as u64;
                self.left -= read as u64;
                Ok(read)
            }
        }
    }
}
