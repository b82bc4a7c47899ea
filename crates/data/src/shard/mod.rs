//! Token shards: datatrove's `.ds` and `.ds.index` byte for byte, its optional `.ds.loss`, and our `.ds.smolt.json`.
//!
//! * `.ds`: token ids, little endian, 2 bytes each when the vocabulary has at most 65,536 entries, else 4.
//! * `.ds.index`: for each document the token offset of its end (exclusive), u64 little endian.
//! * `.ds.loss`: one byte per token, 0 where the token is not to be learnt.
//! * `.ds.ids`: one line of JSON for each document, in order: the id it had in the input, its number there (from 0) when
//!   it had none, `null` for padding. For people and [`Shard::document_ids`]; training does not read it.
//! * `.ds.smolt.json`: [`ShardMeta`]. A shard without it (made by datatrove) is scanned once on opening.
//!
//! A mapped file must not be cut while it is open: the kernel would stop the process.

mod ids;
mod meta;
mod writer;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use smolt_run::error::FileError;
use smolt_run::hash;

#[doc(hidden)]
pub use ids::parse as parse_ids;
pub use meta::{Checksums, FORMAT_VERSION, Packing, ShardMeta};
pub use writer::{DocumentId, ShardInfo, ShardWriter};

use crate::error::Error;

/// A `.smolt.json` larger than this is not one of ours.
const MAX_META: u64 = 1 << 20;

enum Bytes {
    Mapped(Mmap),
    Owned(Vec<u8>),
}

impl Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Owned(bytes) => bytes,
        }
    }
}

/// An open shard: at least one token, every document boundary checked.
pub struct Shard {
    path: PathBuf,
    meta: ShardMeta,
    tokens: Bytes,
    index: Bytes,
    loss: Option<Bytes>,
}

impl Shard {
    /// Maps the shard whose `.ds` file is `path` and checks that its files agree.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let meta_path = beside(path, ".smolt.json");
        let meta = if exists(&meta_path)? {
            let mut bytes = Vec::new();
            let file = File::open(&meta_path).map_err(|source| FileError::reading(&meta_path, source))?;
            file.take(MAX_META)
                .read_to_end(&mut bytes)
                .map_err(|source| FileError::reading(&meta_path, source))?;
            Some(bytes)
        } else {
            None
        };
        let loss_path = beside(path, ".loss");
        let loss = if exists(&loss_path)? { Some(map(&loss_path)?) } else { None };
        Self::assemble(path, meta.as_deref(), map(path)?, map(&beside(path, ".index"))?, loss)
    }

    /// A shard in memory, with the contents of its files; `path` names it in errors.
    pub fn from_bytes(
        path: &Path,
        meta: Option<&[u8]>,
        tokens: Vec<u8>,
        index: Vec<u8>,
        loss: Option<Vec<u8>>,
    ) -> Result<Self, Error> {
        Self::assemble(path, meta, Bytes::Owned(tokens), Bytes::Owned(index), loss.map(Bytes::Owned))
    }

    fn assemble(
        path: &Path,
        meta: Option<&[u8]>,
        tokens: Bytes,
        index: Bytes,
        loss: Option<Bytes>,
    ) -> Result<Self, Error> {
        let last_end = check_index(&beside(path, ".index"), &index)?;
        let meta = match meta {
            Some(bytes) => parse_meta(&beside(path, ".smolt.json"), bytes)?,
            None => scan(path, &tokens, &index, loss.as_deref(), last_end)?,
        };
        let shard = Self { path: path.to_owned(), meta, tokens, index, loss };
        shard.check_sizes(last_end)?;
        shard.check_chunks()?;
        Ok(shard)
    }

    fn check_sizes(&self, last_end: u64) -> Result<(), Error> {
        let (meta, path) = (&self.meta, &self.path);
        let expected = meta.n_tokens.checked_mul(u64::from(meta.token_size));
        if expected != Some(self.tokens.len() as u64) {
            return Err(Error::shard(
                path,
                format!(
                    "{} bytes, but .smolt.json says {} tokens of {} bytes; make the shard again",
                    self.tokens.len(),
                    meta.n_tokens,
                    meta.token_size
                ),
            ));
        }
        if last_end != meta.n_tokens || self.index.len() as u64 / 8 != meta.n_documents {
            return Err(Error::shard(
                &beside(path, ".index"),
                format!(
                    "{} documents ending at token {last_end}, but .smolt.json says {} documents and {} tokens; make the shard again",
                    self.index.len() / 8,
                    meta.n_documents,
                    meta.n_tokens
                ),
            ));
        }
        let loss_path = beside(path, ".loss");
        match (&self.loss, &meta.checksums.loss) {
            (Some(_), None) => Err(Error::shard(
                &loss_path,
                "not part of this shard's .smolt.json; remove it or make the shard again",
            )),
            (None, Some(_)) => Err(Error::shard(&loss_path, "missing; make the shard again")),
            (Some(loss), Some(_)) if loss.len() as u64 != meta.n_tokens => Err(Error::shard(
                &loss_path,
                format!("{} bytes for {} tokens; make the shard again", loss.len(), meta.n_tokens),
            )),
            _ => Ok(()),
        }
    }

    fn check_chunks(&self) -> Result<(), Error> {
        if self.meta.packing == Packing::Concatenate {
            return Ok(());
        }
        let problem = |text: String| Err(Error::shard(&self.path, text));
        let Some(length) = self.meta.chunk_length.filter(|&length| length >= 2) else {
            return problem("packed whole without a chunk_length of at least 2; make the shard again".into());
        };
        if !self.meta.n_tokens.is_multiple_of(length) {
            return problem(format!(
                "packed whole, but not in chunks of {length} tokens; make the shard again"
            ));
        }
        for document in 0..self.n_documents() {
            let range = self.document(document);
            if !range.is_empty() && range.start / length != (range.end - 1) / length {
                return problem(format!("document {document} straddles chunks; make the shard again"));
            }
        }
        Ok(())
    }

    /// The `.ds` file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What `.smolt.json` says, or what the scan found.
    pub fn meta(&self) -> &ShardMeta {
        &self.meta
    }

    /// At least 1.
    pub fn n_tokens(&self) -> u64 {
        self.meta.n_tokens
    }

    /// At least 1.
    pub fn n_documents(&self) -> u64 {
        self.meta.n_documents
    }

    /// The token at `position`; 0 beyond the end.
    #[inline]
    pub fn token(&self, position: u64) -> u32 {
        token(&self.tokens, self.meta.token_size, position).unwrap_or(0)
    }

    /// Whether the token at `position` is to be learnt: true everywhere without a `.loss` file.
    #[inline]
    pub fn is_trained(&self, position: u64) -> bool {
        match &self.loss {
            Some(loss) => loss.get(position as usize).is_some_and(|&byte| byte != 0),
            None => true,
        }
    }

    /// Whether there is a `.loss` file.
    pub fn has_loss(&self) -> bool {
        self.loss.is_some()
    }

    /// Where document `document` ends (exclusive), in tokens; the shard's end beyond the last.
    #[inline]
    pub fn document_end(&self, document: u64) -> u64 {
        index_entry(&self.index, document).unwrap_or(self.meta.n_tokens)
    }

    /// The tokens of document `document`.
    pub fn document(&self, document: u64) -> Range<u64> {
        let start = match document {
            0 => 0,
            _ => self.document_end(document - 1),
        };
        start..self.document_end(document)
    }

    /// The document that holds the token at `position`, by binary search; `n_documents` beyond the end.
    pub fn document_at(&self, position: u64) -> u64 {
        let (mut low, mut high) = (0, self.n_documents());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.document_end(middle) <= position {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// What the input called some documents (spec `SPK-04`): an id, `#` and a number where it had none. Documents beyond
    /// the end and padding are left out; empty when the shard has no `.ids` file. Reads that file once through.
    pub fn document_ids(&self, documents: &BTreeSet<u64>) -> Result<BTreeMap<u64, String>, Error> {
        let Some(expected) = &self.meta.checksums.ids else { return Ok(BTreeMap::new()) };
        let path = beside(&self.path, ".ids");
        let found = hash::file(&path)?;
        if found != *expected {
            return Err(Error::shard(&path, "not the one written with this shard; make the shard again"));
        }
        let file = File::open(&path).map_err(|source| FileError::reading(&path, source))?;
        ids::parse(&path, std::io::BufReader::new(file), documents)
    }

    /// Refuses ids that a model with `vocab_size` embeddings cannot take, naming the first.
    pub fn check_vocab(&self, vocab_size: u32) -> Result<(), Error> {
        if self.meta.max_token_id < vocab_size {
            return Ok(());
        }
        for position in 0..self.n_tokens() {
            let id = self.token(position);
            if id >= vocab_size {
                return Err(Error::TokenOutOfRange { path: self.path.clone(), position, id, vocab_size });
            }
        }
        Err(Error::shard(&self.path, "ids differ from the range in .smolt.json; make the shard again"))
    }

    /// Refuses a shard that another tokenizer made; one that does not say (datatrove's) passes (spec `CLN-08`).
    pub fn check_tokenizer(&self, hash: &str) -> Result<(), Error> {
        match &self.meta.tokenizer_hash {
            Some(found) if found != hash => Err(Error::shard(
                &self.path,
                format!(
                    "made with another tokenizer ({}, this one is {}); tokenize the text again, or name the tokenizer it was made with",
                    short(found),
                    short(hash)
                ),
            )),
            _ => Ok(()),
        }
    }

    /// Reads everything: checksums of all files, then the range of the ids.
    pub fn verify(&self) -> Result<(), Error> {
        let sums = &self.meta.checksums;
        let mut files = vec![
            (self.path.clone(), &*self.tokens, &sums.tokens),
            (beside(&self.path, ".index"), &*self.index, &sums.index),
        ];
        if let (Some(loss), Some(sum)) = (&self.loss, &sums.loss) {
            files.push((beside(&self.path, ".loss"), loss, sum));
        }
        for (path, bytes, expected) in files {
            let found = hash::bytes(bytes);
            if found != *expected {
                return Err(Error::shard(
                    &path,
                    format!("damaged: BLAKE3 is {found}, .smolt.json says {expected}; make the shard again"),
                ));
            }
        }
        let (lowest, highest) = id_range(&self.tokens, self.meta.token_size);
        if (lowest, highest) != (self.meta.min_token_id, self.meta.max_token_id) {
            return Err(Error::shard(
                &self.path,
                format!("ids are {lowest} to {highest}, not what .smolt.json says; make the shard again"),
            ));
        }
        Ok(())
    }
}

/// The first digits of a hash: enough to tell two apart in a message.
fn short(hash: &str) -> String {
    hash.chars().take(12).collect()
}

/// The file beside a `.ds` with `suffix` appended to its whole name.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

fn exists(path: &Path) -> Result<bool, Error> {
    Ok(path.try_exists().map_err(|source| FileError::reading(path, source))?)
}

fn map(path: &Path) -> Result<Bytes, Error> {
    let reading = |source| FileError::reading(path, source);
    let file = File::open(path).map_err(reading)?;
    if file.metadata().map_err(reading)?.len() == 0 {
        return Ok(Bytes::Owned(Vec::new()));
    }
    // SAFETY: shards are written to temporary names and renamed, never changed in place by us; readers only copy
    // single integers out of the map, so that a foreign change can yield wrong numbers (checked where used), not
    // broken invariants.
    let mapped = unsafe { Mmap::map(&file) }.map_err(reading)?;
    Ok(Bytes::Mapped(mapped))
}

#[inline]
fn token(tokens: &[u8], size: u8, position: u64) -> Option<u32> {
    let at = usize::try_from(position).ok()?;
    if size == 2 {
        let bytes = tokens.get(at.checked_mul(2)?..)?.first_chunk()?;
        return Some(u32::from(u16::from_le_bytes(*bytes)));
    }
    tokens.get(at.checked_mul(4)?..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

#[inline]
fn index_entry(index: &[u8], document: u64) -> Option<u64> {
    let at = usize::try_from(document).ok()?.checked_mul(8)?;
    index.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

fn id_range(tokens: &[u8], size: u8) -> (u32, u32) {
    let count = tokens.len() as u64 / u64::from(size);
    (0..count)
        .filter_map(|position| token(tokens, size, position))
        .fold((u32::MAX, 0), |(low, high), id| (low.min(id), high.max(id)))
}

/// The end of the last document.
fn check_index(path: &Path, index: &[u8]) -> Result<u64, Error> {
    if index.is_empty() || !index.len().is_multiple_of(8) {
        return Err(Error::shard(
            path,
            format!("{} bytes, not a positive multiple of 8; make the shard again", index.len()),
        ));
    }
    let mut last = 0;
    for (document, entry) in index.as_chunks::<8>().0.iter().enumerate() {
        let end = u64::from_le_bytes(*entry);
        if end < last {
            return Err(Error::shard(
                path,
                format!(
                    "document {document} ends at token {end}, before the one ahead of it ({last}); make the shard again"
                ),
            ));
        }
        last = end;
    }
    Ok(last)
}

fn parse_meta(path: &Path, bytes: &[u8]) -> Result<ShardMeta, Error> {
    let meta: ShardMeta = serde_json::from_slice(bytes)
        .map_err(|source| Error::shard(path, format!("{source}; make the shard again")))?;
    if meta.format_version != FORMAT_VERSION {
        return Err(Error::shard(
            path,
            format!(
                "format_version {}, this smolt reads {FORMAT_VERSION}; make the shard again with this smolt",
                meta.format_version
            ),
        ));
    }
    if !matches!(meta.token_size, 2 | 4) || meta.n_tokens == 0 {
        return Err(Error::shard(
            path,
            format!(
                "token_size {} and n_tokens {}, expected 2 or 4 and at least 1; make the shard again",
                meta.token_size, meta.n_tokens
            ),
        ));
    }
    Ok(meta)
}

/// What a shard without `.smolt.json` lets one find out. The index gives the number of tokens, so the width follows.
fn scan(
    path: &Path,
    tokens: &[u8],
    index: &[u8],
    loss: Option<&[u8]>,
    last_end: u64,
) -> Result<ShardMeta, Error> {
    let token_size = [2u8, 4]
        .into_iter()
        .find(|&size| last_end > 0 && last_end.checked_mul(u64::from(size)) == Some(tokens.len() as u64));
    let Some(token_size) = token_size else {
        return Err(Error::shard(
            path,
            format!(
                "{} bytes, but its index ends at token {last_end}, so tokens have neither 2 nor 4 bytes; is the .index file its own?",
                tokens.len()
            ),
        ));
    };
    let (min_token_id, max_token_id) = id_range(tokens, token_size);
    Ok(ShardMeta {
        format_version: FORMAT_VERSION,
        tokenizer_hash: None,
        vocab_size: None,
        token_size,
        n_tokens: last_end,
        n_documents: index.len() as u64 / 8,
        min_token_id,
        max_token_id,
        text_bytes: None,
        eos_token_id: None,
        bos_token_id: None,
        pad_token_id: None,
        packing: Packing::Concatenate,
        chunk_length: chunks_of(index, last_end),
        checksums: Checksums {
            tokens: hash::bytes(tokens),
            index: hash::bytes(index),
            loss: loss.map(hash::bytes),
            ids: None,
        },
    })
}

/// The chunk length that datatrove shuffled by (`shuffle_chunk_size`), which its files do not say: then a document ends
/// with every chunk, and long documents are as long as one. Eight chunks that agree are taken for no accident, unless
/// every document is a chunk of its own.
fn chunks_of(index: &[u8], n_tokens: u64) -> Option<u64> {
    let ends = || index.as_chunks::<8>().0.iter().map(|entry| u64::from_le_bytes(*entry));
    let longest = std::iter::once(0).chain(ends()).zip(ends()).map(|(start, end)| end - start).max()?;
    let chunks = n_tokens.checked_div(longest)?;
    let boundaries = ends().scan(0, |last, end| Some((std::mem::replace(last, end) != end).then_some(end)));
    let aligned = boundaries.flatten().filter(|end| end.is_multiple_of(longest)).count() as u64;
    let documents = index.len() as u64 / 8;
    (chunks >= 8 && n_tokens.is_multiple_of(longest) && aligned == chunks && documents > chunks)
        .then_some(longest)
}

#[cfg(test)]
mod tests;
