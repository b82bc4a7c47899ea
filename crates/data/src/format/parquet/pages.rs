//! Random access for the decoder, which looks at the head of each page before the decoder does.
//!
//! A page is decompressed into as many bytes as its head says, and a batch may refer to every page that was decoded for
//! it. So their sizes are bounded here: of one page, of the pages that a batch retires, of the pages held at a time.

use std::io::{self, BufRead, BufReader, Read};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};

use super::footer;
use super::thrift::{I32, STRUCT, Thrift};
use crate::format::source::RandomAccess;

/// The largest page, decompressed or not, and the largest footer, in bytes.
const MAX_PAGE: u64 = 1 << 30;

/// The most bytes of pages held at a time, over all columns.
const MAX_HELD: u64 = 2 << 30;

/// The most bytes of pages that one batch goes through.
const MAX_BATCH: u64 = 256 << 20;

/// The most values of a page.
const MAX_VALUES: u64 = 1 << 26;

/// The most values that one batch takes from pages of a repeated column, of which a row can have any number.
const MAX_REPEATED: u64 = 1 << 24;

/// Enough for the first fields of the head of a page.
const HEAD: usize = 1 << 12;

/// The bytes of a file, and the account of its pages.
#[derive(Clone)]
pub(super) struct Pages {
    bytes: Arc<dyn RandomAccess>,
    account: Arc<Mutex<Account>>,
}

#[derive(Default)]
struct Account {
    /// The columns of the current row group, by their place in the file.
    chunks: Vec<Chunk>,
    /// Bytes of pages that the current batch replaced by others.
    retired: u64,
    /// Rows are passed over: nothing of them is kept.
    skipping: bool,
    too_large: bool,
}

struct Chunk {
    range: Range<u64>,
    repeated: bool,
    /// Values of the pages of a repeated column that the current batch came to.
    values: u64,
    dictionary: u64,
    page: u64,
    /// Where the bytes of the page lie whose head was read last.
    data: Range<u64>,
}

impl Pages {
    pub(super) fn new(bytes: Arc<dyn RandomAccess>) -> Self {
        Self { bytes, account: Arc::default() }
    }

    /// See [`footer::check`].
    pub(super) fn check_footer(&self) -> std::result::Result<(), String> {
        footer::check(&*self.bytes)
    }

    fn account(&self) -> std::sync::MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a row group whose column chunks lie at `(start, length)`, and may be repeated. Rows may be passed over before
    /// the first batch.
    pub(super) fn start_group(&self, chunks: Vec<((u64, u64), bool)>) -> std::result::Result<(), String> {
        let chunk = |((start, length), repeated): ((u64, u64), bool)| Chunk {
            range: start..start.saturating_add(length),
            repeated,
            values: 0,
            dictionary: 0,
            page: 0,
            data: 0..0,
        };
        let mut chunks: Vec<Chunk> = chunks.into_iter().map(chunk).collect();
        chunks.sort_by_key(|chunk| chunk.range.start);
        if chunks.windows(2).any(|pair| pair[0].range.end > pair[1].range.start) {
            return Err("the columns of a row group overlap".into());
        }
        *self.account() = Account { chunks, skipping: true, ..Account::default() };
        Ok(())
    }

    /// Begins a batch of rows.
    pub(super) fn start_batch(&self) {
        let mut account = self.account();
        (account.retired, account.skipping) = (0, false);
        account.chunks.iter_mut().for_each(|chunk| chunk.values = 0);
    }

    /// Whether a smaller batch of the current row group may succeed where the last one failed.
    pub(super) fn batch_was_too_large(&self) -> bool {
        self.account().too_large
    }

    /// Takes note of a page that is about to be decoded.
    fn admit(&self, at: u64, head: &[u8]) -> Result<()> {
        let refuse = |problem: &str| Err(ParquetError::General(problem.to_owned()));
        let mut account = self.account();
        let account = &mut *account;
        let Some(chunk) = account.chunks.iter_mut().find(|chunk| chunk.range.contains(&at)) else {
            return Ok(()); // The footer.
        };
        // The decoder comes to the bytes of a page whose head it looked at before.
        if chunk.data.start == at && !chunk.data.is_empty() {
            return Ok(());
        }
        let Some(page) = PageHead::parse(head) else {
            return refuse("the head of a page cannot be read");
        };
        if page.size > MAX_PAGE || page.compressed > MAX_PAGE {
            return refuse("a page is larger than 1 GiB; write the file with smaller pages");
        }
        if page.values > MAX_VALUES || (page.dictionary && page.values > page.size) {
            return refuse("a page claims too many values");
        }
        if chunk.repeated && !page.dictionary {
            chunk.values += page.values;
            if page.values > MAX_REPEATED {
                return refuse("a page of lists claims too many values");
            }
            if chunk.values > 2 * MAX_REPEATED && !account.skipping {
                account.too_large = true;
                return refuse("the lists of a batch of rows are too long");
            }
        }
        chunk.data = at..at + page.compressed;
        if page.dictionary {
            chunk.dictionary = page.size;
        } else {
            account.retired += std::mem::replace(&mut chunk.page, page.size);
        }
        let held: u64 = account.chunks.iter().map(|chunk| chunk.dictionary + chunk.page).sum();
        if held > MAX_HELD {
            return refuse("the pages of a row are larger than 2 GiB; write the file with smaller pages");
        }
        if account.retired > MAX_BATCH && !account.skipping {
            account.too_large = true;
            return refuse("the pages of a batch of rows are too large");
        }
        Ok(())
    }
}

impl Length for Pages {
    fn len(&self) -> u64 {
        self.bytes.size()
    }
}

impl ChunkReader for Pages {
    type T = PageReader;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        let mut inner = BufReader::with_capacity(HEAD, From { bytes: Arc::clone(&self.bytes), at: start });
        let head = inner.fill_buf()?;
        self.admit(start, head)?;
        Ok(PageReader { inner, start, consumed: 0, pages: self.clone() })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let end = start.checked_add(length as u64);
        if end.is_none_or(|end| end > self.bytes.size()) || length as u64 > MAX_PAGE {
            return Err(ParquetError::EOF("the file ends before what it refers to; is it complete?".into()));
        }
        let mut buffer = vec![0; length];
        self.bytes.read_at(start, &mut buffer)?;
        Ok(buffer.into())
    }
}

/// Hands the head of a page to the decoder, and finds out how long it was.
pub(super) struct PageReader {
    inner: BufReader<From>,
    start: u64,
    consumed: u64,
    pages: Pages,
}

impl Read for PageReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.consumed += read as u64;
        Ok(read)
    }
}

impl Drop for PageReader {
    fn drop(&mut self) {
        let mut account = self.pages.account();
        let chunk = account.chunks.iter_mut().find(|chunk| chunk.data.start == self.start);
        if let Some(Chunk { data, .. }) = chunk {
            *data = data.start + self.consumed..data.end + self.consumed;
        }
    }
}

/// Reads on from a place.
struct From {
    bytes: Arc<dyn RandomAccess>,
    at: u64,
}

impl Read for From {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.bytes.size().saturating_sub(self.at);
        let n = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        self.bytes.read_at(self.at, &mut buffer[..n])?;
        self.at += n as u64;
        Ok(n)
    }
}

/// What the head of a page says (`PageHeader` of `parquet.thrift`, compact protocol).
#[derive(Debug, Default, PartialEq)]
struct PageHead {
    dictionary: bool,
    size: u64,
    compressed: u64,
    values: u64,
}

impl PageHead {
    /// `None` where fields are missing or in another order than every writer has them.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut thrift = Thrift::new(bytes);
        let mut head = Self::default();
        let (mut sized, mut packed) = (false, false);
        loop {
            match thrift.field()? {
                (1, I32) => {
                    thrift.i32()?;
                }
                (2, I32) => (head.size, sized) = (u64::try_from(thrift.i32()?).ok()?, true),
                (3, I32) => (head.compressed, packed) = (u64::try_from(thrift.i32()?).ok()?, true),
                (4, I32) => {
                    thrift.i32()?;
                }
                (kind @ (5 | 7 | 8), STRUCT) if sized && packed => {
                    head.dictionary = kind == 7;
                    head.values = thrift.structure(|page| {
                        let (1, I32) = page.field()? else { return None };
                        u64::try_from(page.i32()?).ok()
                    })?;
                    return Some(head);
                }
                // A page of an index: it is passed over.
                (6, STRUCT) if sized && packed => return Some(head),
                _ => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_of_pages() {
        // type 0, 100 bytes, 50 compressed, data page of 3 values.
        let bytes = [0x15, 0x00, 0x15, 0xC8, 0x01, 0x15, 0x64, 0x2C, 0x15, 0x06, 0x15, 0x00];
        let head = PageHead { dictionary: false, size: 100, compressed: 50, values: 3 };
        assert_eq!(PageHead::parse(&bytes), Some(head));
        for cut in 0..10 {
            assert_eq!(PageHead::parse(&bytes[..cut]), None);
        }
        // A negative size, and a size that is hidden behind the page's own fields.
        assert_eq!(PageHead::parse(&[0x15, 0, 0x15, 0x01, 0x15, 0x64, 0x2C, 0x15, 0x06]), None);
        assert_eq!(PageHead::parse(&[0x15, 0, 0x4C, 0x15, 0x06, 0]), None);
        assert_eq!(PageHead::parse(&[0x15, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]), None);
    }
}
