//! Documents and chats to token shards: the same bytes for any number of threads.
//!
//! Documents are encoded in input order into a temporary shard, then copied in shuffled order (spec `PKD-01`); memory
//! holds one batch of texts and 8 bytes per document. Chats are packed whole, see [`pack`].

mod encode;
mod names;
mod pack;

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use smolt_run::error::FileError;
use smolt_run::permutation::KeyedPermutation;
use smolt_run::random;

use crate::document::{Chat, Document};
use crate::error::Error;
use crate::shard::{DocumentId, Shard, ShardInfo, ShardWriter};

/// A tokenizer (and, for chats, a template), as this module needs it.
pub struct Encoder<'a, T: ?Sized, R> {
    /// Hash of the tokenizer, kept in the shard.
    pub tokenizer_hash: String,
    /// Every id is below this.
    pub vocab_size: u32,
    /// A pure function of the record that adds no end-of-sequence; the error says why it cannot.
    pub encode: &'a (dyn Fn(&T) -> Result<R, String> + Sync),
}

/// Text to ids, special tokens spelt out in it left as text (`Tokenizer::encode_ordinary`).
pub type TextEncoder<'a> = Encoder<'a, str, Vec<u32>>;

/// Chat to ids, and for each whether the model is to learn it (`ChatTemplate::encode`).
pub type ChatEncoder<'a> = Encoder<'a, Chat, (Vec<u32>, Vec<bool>)>;

/// How documents become a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DocumentOptions {
    /// Appended to every document.
    pub eos_token_id: u32,
    /// Put before every document, when given.
    pub bos_token_id: Option<u32>,
    /// Of the shuffle of documents.
    pub seed: u64,
    /// Encoding threads; 0 counts as 1.
    pub threads: usize,
}

/// What happens to a chat that is longer than a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlong {
    /// It is left out and counted.
    Reject,
    /// Its first chunk is kept and counted, unless nothing in it is to be learnt.
    Truncate,
}

/// How chats become a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChatOptions {
    /// Positions per row in training; a chunk has one token more.
    pub sequence_length: usize,
    /// Fills chunks to their end.
    pub pad_token_id: u32,
    /// The token that ends a turn, kept in the shard for information.
    pub eos_token_id: Option<u32>,
    /// What to do with long chats.
    pub overlong: Overlong,
    /// Decides which chats of equal length share a chunk.
    pub seed: u64,
    /// Encoding threads; 0 counts as 1.
    pub threads: usize,
}

/// What went into a shard and what did not.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// Documents or chats in the shard.
    pub documents: u64,
    /// Tokens in the shard: text, end-of-sequence and padding.
    pub tokens: u64,
    /// Tokens to be learnt: all, or the assistant's.
    pub trained_tokens: u64,
    /// UTF-8 bytes of the text in the shard (of chats: of the messages).
    pub text_bytes: u64,
    /// Text bytes per token, padding left out.
    pub bytes_per_token: f64,
    /// Padding tokens.
    pub padding_tokens: u64,
    /// Padding in all tokens, 0 to 1.
    pub padding_share: f64,
    /// Chats cut to one chunk.
    pub truncated: u64,
    /// How many were left out, by reason.
    pub rejected: BTreeMap<&'static str, u64>,
}

impl Report {
    fn reject(&mut self, reason: &'static str) {
        *self.rejected.entry(reason).or_default() += 1;
    }

    fn finish(mut self) -> Self {
        self.bytes_per_token = self.text_bytes as f64 / (self.tokens - self.padding_tokens).max(1) as f64;
        self.padding_share = self.padding_tokens as f64 / self.tokens.max(1) as f64;
        self
    }

    fn nothing_left(&self, path: &Path) -> Error {
        let counts: Vec<String> = self.rejected.iter().map(|(why, count)| format!("{count} {why}")).collect();
        let rejected = if counts.is_empty() { "the input is empty".to_owned() } else { counts.join(", ") };
        Error::NothingLeft { path: path.to_owned(), rejected }
    }
}

pub(crate) use names::{Names, StoredNames};
pub(crate) use pack::best_fit_decreasing;

const EMPTY: &str = "empty";
const TOO_LONG: &str = "longer than a chunk";
const NOTHING_TO_LEARN: &str = "without a token to learn";

/// Writes `documents` to the shard `out` (its `.ds` file), shuffled, each ended by the end-of-sequence token.
pub fn tokenize_documents(
    documents: impl Iterator<Item = Result<Document, Error>>,
    encoder: &TextEncoder<'_>,
    options: DocumentOptions,
    out: &Path,
) -> Result<Report, Error> {
    let mut report = Report::default();
    let info = ShardInfo {
        tokenizer_hash: Some(encoder.tokenizer_hash.clone()),
        vocab_size: encoder.vocab_size,
        eos_token_id: Some(options.eos_token_id),
        bos_token_id: options.bos_token_id,
        pad_token_id: None,
        chunk_length: None,
        with_loss: false,
    };
    let spool = Spool::new(out)?;
    let mut writer = ShardWriter::create(&spool.path(), info.clone())?;
    let (mut names, mut number) = (Names::create(&spool.folder())?, 0);
    let encode = |document: &Document| match document.is_empty() {
        true => Ok(Vec::new()),
        false => (encoder.encode)(&document.text),
    };
    encode::in_order(documents, options.threads, &encode, &mut |document, mut ids| {
        number += 1;
        if ids.is_empty() {
            report.reject(EMPTY);
            return Ok(());
        }
        ids.splice(0..0, options.bos_token_id);
        ids.push(options.eos_token_id);
        report.documents += 1;
        report.text_bytes += document.text.len() as u64;
        names.push(name_of(&document.id, number - 1))?;
        writer.write_document(&ids, None)
    })?;
    if report.documents == 0 {
        return Err(report.nothing_left(out));
    }
    writer.finish(None)?;

    let encoded = Shard::open(&spool.path())?;
    let order = shuffle(encoded.n_documents(), options.seed);
    let names = names.finish()?;
    let mut writer = ShardWriter::create(out, info)?;
    writer.keep_ids()?;
    let mut ids = Vec::new();
    for i in 0..encoded.n_documents() {
        ids.clear();
        ids.extend(encoded.document(order.get(i)).map(|position| encoded.token(position)));
        names.copy(order.get(i), &mut writer)?;
        writer.write_document(&ids, None)?;
    }
    report.tokens = writer.n_tokens();
    report.trained_tokens = report.tokens;
    writer.finish(Some(report.text_bytes))?;
    Ok(report.finish())
}

/// Writes `chats` to the shard `out`: packed whole into chunks of `sequence_length + 1` tokens. Padding is a document of
/// its own, never learnt.
pub fn tokenize_chats(
    chats: impl Iterator<Item = Result<Chat, Error>>,
    encoder: &ChatEncoder<'_>,
    options: ChatOptions,
    out: &Path,
) -> Result<Report, Error> {
    let chunk = options.sequence_length.saturating_add(1);
    if options.sequence_length == 0 || chunk > u32::MAX as usize {
        return Err(Error::Settings(format!(
            "sequence length {}: must be at least 1",
            options.sequence_length
        )));
    }
    let info = ShardInfo {
        tokenizer_hash: Some(encoder.tokenizer_hash.clone()),
        vocab_size: encoder.vocab_size,
        eos_token_id: options.eos_token_id,
        bos_token_id: None,
        pad_token_id: Some(options.pad_token_id),
        chunk_length: Some(chunk as u64),
        with_loss: true,
    };
    let mut report = Report::default();
    let spool = Spool::new(out)?;
    // Not packed yet, so not in chunks.
    let mut writer = ShardWriter::create(&spool.path(), ShardInfo { chunk_length: None, ..info.clone() })?;
    let (mut names, mut number) = (Names::create(&spool.folder())?, 0);
    let encode = |chat: &Chat| match chat.is_empty() {
        true => Ok((Vec::new(), Vec::new())),
        false => (encoder.encode)(chat),
    };
    encode::in_order(chats, options.threads, &encode, &mut |chat, (mut ids, mut trained)| {
        number += 1;
        let Some(learnt) = admit(&mut ids, &mut trained, chunk, options.overlong, &mut report) else {
            return Ok(());
        };
        report.documents += 1;
        report.trained_tokens += learnt;
        report.text_bytes += chat.messages.iter().map(|message| message.content.len() as u64).sum::<u64>();
        names.push(name_of(&chat.id, number - 1))?;
        writer.write_document(&ids, Some(&trained))
    })?;
    if report.documents == 0 {
        return Err(report.nothing_left(out));
    }
    writer.finish(None)?;

    let encoded = Shard::open(&spool.path())?;
    let mut writer = ShardWriter::create(out, info)?;
    writer.keep_ids()?;
    let writer = pack::write_whole(&encoded, &names.finish()?, writer, chunk, options, &mut report)?;
    report.tokens = writer.n_tokens();
    writer.finish(Some(report.text_bytes))?;
    Ok(report.finish())
}

/// Cuts a chat to a chunk, or counts why it is left out; else how many of its tokens are learnt.
fn admit(
    ids: &mut Vec<u32>,
    trained: &mut Vec<bool>,
    chunk: usize,
    overlong: Overlong,
    report: &mut Report,
) -> Option<u64> {
    if ids.is_empty() {
        report.reject(EMPTY);
        return None;
    }
    if ids.len() > chunk {
        if overlong == Overlong::Reject {
            report.reject(TOO_LONG);
            return None;
        }
        ids.truncate(chunk);
        trained.truncate(chunk);
        report.truncated += 1;
    }
    // The first token of a chat is no label: nothing comes before it.
    let learnt = trained.iter().skip(1).filter(|&&trained| trained).count() as u64;
    if learnt == 0 {
        report.reject(NOTHING_TO_LEARN);
        return None;
    }
    Some(learnt)
}

fn name_of(id: &Option<String>, number: u64) -> DocumentId<'_> {
    id.as_deref().map_or(DocumentId::Number(number), DocumentId::Name)
}

/// The order in which `n` encoded documents are taken.
pub(crate) fn shuffle(n: u64, seed: u64) -> KeyedPermutation {
    KeyedPermutation::new(n, random::key(seed, "data/documents"))
}

/// A temporary folder beside the shard (the same disk, surely large enough), removed when dropped.
pub(crate) struct Spool(tempfile::TempDir);

impl Spool {
    pub(crate) fn new(out: &Path) -> Result<Self, Error> {
        let folder = smolt_run::atomic::parent(out);
        let spool = tempfile::Builder::new().prefix(".tmp-tokenize-").tempdir_in(folder);
        Ok(Self(spool.map_err(|source| FileError::writing(out, source))?))
    }

    pub(crate) fn folder(&self) -> std::path::PathBuf {
        self.0.path().to_owned()
    }

    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("encoded.ds")
    }
}

#[cfg(test)]
mod tests;
