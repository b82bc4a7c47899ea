//! What the input called documents, kept on disk until they have been shuffled.

use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::shard::{DocumentId, Shard, ShardInfo, ShardWriter};

/// Names in input order. They are stored as a shard whose tokens are the bytes of a line: random access without memory.
pub(crate) struct Names {
    writer: ShardWriter,
    path: PathBuf,
    bytes: Vec<u32>,
}

/// Names that can be read in any order.
pub(crate) struct StoredNames(Shard);

impl Names {
    /// Stores them in `folder`.
    pub(crate) fn create(folder: &Path) -> Result<Self, Error> {
        let path = folder.join("names.ds");
        let info = ShardInfo {
            tokenizer_hash: None,
            vocab_size: 256,
            eos_token_id: None,
            bos_token_id: None,
            pad_token_id: None,
            chunk_length: None,
            with_loss: false,
        };
        Ok(Self { writer: ShardWriter::create(&path, info)?, path, bytes: Vec::new() })
    }

    /// The next document's.
    pub(crate) fn push(&mut self, id: DocumentId<'_>) -> Result<(), Error> {
        self.push_line(id.line().as_bytes())
    }

    /// The same as a line of `.ds.ids`.
    pub(crate) fn push_line(&mut self, line: &[u8]) -> Result<(), Error> {
        self.bytes.clear();
        self.bytes.extend(line.iter().map(|&byte| u32::from(byte)));
        self.writer.write_document(&self.bytes, None)
    }

    /// All are there; at least one.
    pub(crate) fn finish(self) -> Result<StoredNames, Error> {
        self.writer.finish(None)?;
        Ok(StoredNames(Shard::open(&self.path)?))
    }
}

impl StoredNames {
    /// Writes the name of document `number` before the document itself.
    pub(crate) fn copy(&self, number: u64, writer: &mut ShardWriter) -> Result<(), Error> {
        let line: Vec<u8> = self.0.document(number).map(|position| self.0.token(position) as u8).collect();
        writer.write_id_line(&line)
    }
}
