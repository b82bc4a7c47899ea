//! Writing a shard, streamed: it appears whole or not at all.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use smolt_run::atomic;
use smolt_run::error::FileError;
use smolt_run::hash;
use tempfile::NamedTempFile;

use super::meta::{Checksums, FORMAT_VERSION, Packing, ShardMeta};
use super::{beside, exists};
use crate::error::Error;

/// What the writer must be told about a shard.
#[derive(Clone, Debug)]
pub struct ShardInfo {
    /// Hash of the tokenizer.
    pub tokenizer_hash: Option<String>,
    /// Every id must be below this; decides between 2 and 4 bytes per token.
    pub vocab_size: u32,
    /// Appended to each document by the caller, when it is.
    pub eos_token_id: Option<u32>,
    /// Put before each document by the caller, when it is.
    pub bos_token_id: Option<u32>,
    /// The padding token, when packed whole.
    pub pad_token_id: Option<u32>,
    /// Tokens per chunk when packed whole; `None` for concatenation.
    pub chunk_length: Option<u64>,
    /// Whether a `.loss` file is written.
    pub with_loss: bool,
}

/// What the input called a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DocumentId<'a> {
    /// Its id.
    Name(&'a str),
    /// It had none: its number in the input, from 0.
    Number(u64),
    /// No document of the input.
    Padding,
}

impl DocumentId<'_> {
    /// Its line in `.ds.ids`.
    pub(crate) fn line(self) -> String {
        match self {
            DocumentId::Name(name) => serde_json::Value::from(name).to_string(),
            DocumentId::Number(number) => number.to_string(),
            DocumentId::Padding => "null".into(),
        }
    }
}

/// A shard being written beside its final place.
pub struct ShardWriter {
    path: PathBuf,
    info: ShardInfo,
    tokens: BufWriter<NamedTempFile>,
    index: BufWriter<NamedTempFile>,
    loss: Option<BufWriter<NamedTempFile>>,
    ids: Option<BufWriter<NamedTempFile>>,
    token_size: u8,
    n_tokens: u64,
    n_documents: u64,
    min_token_id: u32,
    max_token_id: u32,
}

impl ShardWriter {
    /// Starts the shard whose `.ds` file will be `path`; its folder must exist.
    pub fn create(path: &Path, info: ShardInfo) -> Result<Self, Error> {
        // datatrove's rule: two bytes as long as every id fits.
        let token_size = if info.vocab_size > 1 << 16 { 4 } else { 2 };
        Ok(Self {
            path: path.to_owned(),
            tokens: temporary(path)?,
            index: temporary(path)?,
            loss: if info.with_loss { Some(temporary(path)?) } else { None },
            ids: None,
            info,
            token_size,
            n_tokens: 0,
            n_documents: 0,
            min_token_id: u32::MAX,
            max_token_id: 0,
        })
    }

    /// From now on, keeps what the input called each document: [`ShardWriter::write_id`] goes before each document.
    pub fn keep_ids(&mut self) -> Result<(), Error> {
        self.ids = Some(temporary(&self.path)?);
        Ok(())
    }

    /// The name of the document that is written next.
    pub fn write_id(&mut self, id: DocumentId<'_>) -> Result<(), Error> {
        self.write_id_line(id.line().as_bytes())
    }

    /// The same as one line of JSON, its end left out.
    pub(crate) fn write_id_line(&mut self, line: &[u8]) -> Result<(), Error> {
        let Some(ids) = &mut self.ids else { return Ok(()) };
        let written = ids.write_all(line).and_then(|()| ids.write_all(b"\n"));
        Ok(written.map_err(|source| FileError::writing(&self.path, source))?)
    }

    /// Tokens written so far.
    pub fn n_tokens(&self) -> u64 {
        self.n_tokens
    }

    /// Documents written so far.
    pub fn n_documents(&self) -> u64 {
        self.n_documents
    }

    /// Appends one document. `trained` has one entry per token and is required exactly when a `.loss` file is written.
    pub fn write_document(&mut self, ids: &[u32], trained: Option<&[bool]>) -> Result<(), Error> {
        let vocab_size = self.info.vocab_size;
        if trained.is_some() != self.loss.is_some()
            || trained.is_some_and(|trained| trained.len() != ids.len())
        {
            return Err(Error::shard(
                &self.path,
                format!(
                    "document {} has {} tokens and another number of loss values",
                    self.n_documents,
                    ids.len()
                ),
            ));
        }
        for (offset, &id) in (0..).zip(ids) {
            if id >= vocab_size {
                let position = self.n_tokens + offset;
                return Err(Error::TokenOutOfRange { path: self.path.clone(), position, id, vocab_size });
            }
            self.min_token_id = self.min_token_id.min(id);
            self.max_token_id = self.max_token_id.max(id);
        }
        self.n_tokens += ids.len() as u64;
        self.n_documents += 1;
        Ok(self.append(ids, trained).map_err(|source| FileError::writing(&self.path, source))?)
    }

    fn append(&mut self, ids: &[u32], trained: Option<&[bool]>) -> io::Result<()> {
        for id in ids {
            self.tokens.write_all(&id.to_le_bytes()[..usize::from(self.token_size)])?;
        }
        if let (Some(loss), Some(trained)) = (&mut self.loss, trained) {
            for &trained in trained {
                loss.write_all(&[u8::from(trained)])?;
            }
        }
        self.index.write_all(&self.n_tokens.to_le_bytes())
    }

    /// Puts all files in place. `text_bytes`: UTF-8 bytes of the documents' text.
    ///
    /// The old index, without which nothing opens, goes first and the new one comes last, so a kill in between leaves
    /// either the old shard, the complete new one, or one that does not open.
    pub fn finish(self, text_bytes: Option<u64>) -> Result<ShardMeta, Error> {
        let (meta, changes) = self.changes(text_bytes)?;
        changes.into_iter().try_for_each(Change::make)?;
        Ok(meta)
    }

    /// What [`ShardWriter::finish`] does to the folder, step by step.
    pub(super) fn changes(self, text_bytes: Option<u64>) -> Result<(ShardMeta, Vec<Change>), Error> {
        let path = self.path;
        if self.n_tokens == 0 {
            return Err(Error::NothingLeft { path, rejected: "no tokens".into() });
        }
        let tokens = synced(self.tokens, &path)?;
        let index = synced(self.index, &path)?;
        let loss = self.loss.map(|loss| synced(loss, &path)).transpose()?;
        let ids = self.ids.map(|ids| synced(ids, &path)).transpose()?;
        let packing = if self.info.chunk_length.is_some() { Packing::Whole } else { Packing::Concatenate };
        let meta = ShardMeta {
            format_version: FORMAT_VERSION,
            tokenizer_hash: self.info.tokenizer_hash,
            vocab_size: Some(self.info.vocab_size),
            token_size: self.token_size,
            n_tokens: self.n_tokens,
            n_documents: self.n_documents,
            min_token_id: self.min_token_id,
            max_token_id: self.max_token_id,
            text_bytes,
            eos_token_id: self.info.eos_token_id,
            bos_token_id: self.info.bos_token_id,
            pad_token_id: self.info.pad_token_id,
            packing,
            chunk_length: self.info.chunk_length,
            checksums: Checksums {
                tokens: hash::file(tokens.path())?,
                index: hash::file(index.path())?,
                loss: loss.as_ref().map(|loss| hash::file(loss.path())).transpose()?,
                ids: ids.as_ref().map(|ids| hash::file(ids.path())).transpose()?,
            },
        };
        let beside = |suffix| beside(&path, suffix);
        let mut changes = vec![Change::Remove(beside(".index")), Change::Sync(path.clone())];
        changes.extend([".smolt.json", ".loss", ".ids"].map(|suffix| Change::Remove(beside(suffix))));
        changes.push(Change::Appear(tokens, path.clone()));
        changes.extend(loss.map(|loss| Change::Appear(loss, beside(".loss"))));
        changes.extend(ids.map(|ids| Change::Appear(ids, beside(".ids"))));
        changes.push(Change::Appear(written(&meta, &path)?, beside(".smolt.json")));
        changes.push(Change::Sync(path.clone()));
        changes.push(Change::Appear(index, beside(".index")));
        changes.push(Change::Sync(path));
        Ok((meta, changes))
    }
}

/// One change of a folder; a kill may come between any two.
pub(super) enum Change {
    /// Of a file that need not be there.
    Remove(PathBuf),
    /// Under this name.
    Appear(NamedTempFile, PathBuf),
    /// All changes so far of the folder that holds this file survive a power cut.
    Sync(PathBuf),
}

impl Change {
    pub(super) fn make(self) -> Result<(), Error> {
        match self {
            Change::Remove(old) if exists(&old)? => {
                fs::remove_file(&old).map_err(|source| FileError::new("replace", &old, source))?;
            }
            Change::Remove(_) => {}
            Change::Appear(file, path) => {
                file.persist(&path).map_err(|error| FileError::writing(&path, error.error))?;
            }
            Change::Sync(path) => {
                atomic::sync_dir(atomic::parent(&path))
                    .map_err(|source| FileError::writing(&path, source))?;
            }
        }
        Ok(())
    }
}

/// The content of `.smolt.json`.
fn written(meta: &ShardMeta, path: &Path) -> Result<NamedTempFile, Error> {
    let writing = |source| FileError::writing(path, source);
    let mut file = temporary(path)?;
    serde_json::to_writer_pretty(&mut file, meta).map_err(|source| writing(io::Error::other(source)))?;
    file.write_all(b"\n").map_err(writing)?;
    synced(file, path)
}

fn temporary(path: &Path) -> Result<BufWriter<NamedTempFile>, Error> {
    let made = atomic::temporary_files().tempfile_in(atomic::parent(path));
    let file = made.map_err(|source| FileError::writing(path, source))?;
    Ok(BufWriter::with_capacity(1 << 16, file))
}

fn synced(file: BufWriter<NamedTempFile>, path: &Path) -> Result<NamedTempFile, Error> {
    let writing = |source| FileError::writing(path, source);
    let file = file.into_inner().map_err(|error| writing(error.into_error()))?;
    file.as_file().sync_all().map_err(writing)?;
    Ok(file)
}
