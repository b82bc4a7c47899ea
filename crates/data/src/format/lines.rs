//! Lines of a stream in bounded memory: a line over the limit is passed over, not kept.

use std::io::{self, Read};

/// How much is read at a time. Most lines then lie whole in the buffer and are not copied.
const CHUNK: usize = 1 << 18;

/// One line, without its end.
pub(crate) enum Line<'a> {
    /// Its bytes; a `\r` before the `\n` is part of them.
    Bytes(&'a [u8]),
    /// It was longer than the limit, so many bytes.
    TooLong(u64),
    /// There is no other.
    End,
}

/// A reader of lines.
pub(crate) struct Lines {
    input: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    limit: usize,
    /// Lines begun so far: the number of the line last returned.
    pub(crate) number: u64,
}

impl Lines {
    /// Lines of at most `limit` bytes; the buffer holds at most that and [`CHUNK`].
    pub(crate) fn new(input: Box<dyn Read + Send>, limit: usize) -> Self {
        Self { input, buffer: vec![0; CHUNK], start: 0, end: 0, limit, number: 0 }
    }

    /// The next line.
    pub(crate) fn next(&mut self) -> io::Result<Line<'_>> {
        let mut searched = 0;
        self.number += 1;
        loop {
            let from = self.start + searched;
            if let Some(at) = memchr::memchr(b'\n', &self.buffer[from..self.end]) {
                return Ok(self.take(from + at, 1));
            }
            searched = self.end - self.start;
            if searched > self.limit {
                return self.pass_over();
            }
            if !self.fill()? {
                return Ok(if searched == 0 { Line::End } else { self.take(self.end, 0) });
            }
        }
    }

    fn take(&mut self, end: usize, newline: usize) -> Line<'_> {
        let start = std::mem::replace(&mut self.start, end + newline);
        match end - start {
            length if length > self.limit => Line::TooLong(length as u64),
            _ => Line::Bytes(&self.buffer[start..end]),
        }
    }

    /// Drops everything up to the end of the line.
    fn pass_over(&mut self) -> io::Result<Line<'_>> {
        let mut length = 0;
        loop {
            let found = memchr::memchr(b'\n', &self.buffer[self.start..self.end]);
            length += found.unwrap_or(self.end - self.start) as u64;
            self.start = found.map_or(self.end, |at| self.start + at + 1);
            if found.is_some() || !self.fill()? {
                return Ok(Line::TooLong(length));
            }
        }
    }

    /// Reads more behind what is left; false at the end.
    fn fill(&mut self) -> io::Result<bool> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.buffer.len() {
            let longer = (self.buffer.len() * 2).min(self.limit.saturating_add(CHUNK));
            self.buffer.reserve_exact(longer - self.buffer.len());
            self.buffer.resize(longer, 0);
        }
        let read = self.input.read(&mut self.buffer[self.end..])?;
        self.end += read;
        Ok(read > 0)
    }

    /// Bytes that the buffer holds, for tests of its bound.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.buffer.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(bytes: &[u8], limit: usize) -> Vec<Result<Vec<u8>, u64>> {
        let mut lines = Lines::new(Box::new(io::Cursor::new(bytes.to_vec())), limit);
        let mut out = Vec::new();
        loop {
            match lines.next().unwrap() {
                Line::Bytes(bytes) => out.push(Ok(bytes.to_vec())),
                Line::TooLong(length) => out.push(Err(length)),
                Line::End => return out,
            }
        }
    }

    #[test]
    fn a_line_of_gigabytes_is_passed_over_in_bounded_memory() {
        let line = io::repeat(b'x').take(3 << 30);
        let input = line.chain(&b"\nnext\n"[..]);
        let mut lines = Lines::new(Box::new(input), 1 << 20);
        assert!(matches!(lines.next().unwrap(), Line::TooLong(length) if length == 3 << 30));
        assert!(matches!(lines.next().unwrap(), Line::Bytes(b"next")));
        assert_eq!(lines.number, 2);
        assert!(lines.capacity() <= (1 << 20) + CHUNK, "{}", lines.capacity());
        assert!(matches!(lines.next().unwrap(), Line::End));
    }

    #[test]
    fn the_limit_counts_the_line_without_its_end() {
        assert_eq!(
            all(b"12345\n123456\n1\n123456", 5),
            [Ok(b"12345".to_vec()), Err(6), Ok(b"1".to_vec()), Err(6)]
        );
        assert_eq!(all(b"", 5), []);
        assert_eq!(all(b"\n\n", 5), [Ok(vec![]), Ok(vec![])]);
    }

    proptest! {
        #[test]
        fn lines_are_those_of_a_split(parts in prop::collection::vec("[a-z]{0,9}", 1..9), pad in 0usize..2 * CHUNK) {
            // The pad moves the ends of lines over the edges of the buffer.
            let text = format!("{}\n{}\n", "p".repeat(pad), parts.join("\n"));
            let read: Vec<_> = all(text.as_bytes(), 4 * CHUNK).into_iter().map(Result::unwrap).collect();
            let expected: Vec<_> = text.lines().map(|line| line.as_bytes().to_vec()).collect();
            prop_assert_eq!(read, expected);
        }
    }
}
