//! Tokenizers (byte-level BPE, SentencePiece's BPE, Unigram, WordPiece): trained, loaded, saved, encoding and decoding
//! (spec `TOK-02`, `TOK-03`, `TOK-05`, `TOK-13`).

mod bytes;
mod error;
mod folder;
mod read;
mod record;
mod regex;
mod stream;
mod train;
mod write;

#[cfg(test)]
mod tests;

pub use error::TokenizerError;
pub use folder::{SpecialRoles, save};
pub use record::{SourceRecord, TRAINING_FILE, TrainingRecord};
pub use stream::StreamDecoder;
pub use train::{Digits, Model, TrainReport, TrainSettings, Trained, train, train_on};

use read::{Decoding, Fallback, Parsed, Piece};
use smolt_run::error::FileError;
use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokenizers::pipeline::{EncodeOptions, Override, PipelineToken, PipelineTokenizer};

/// A loaded tokenizer; cloning is cheap.
#[derive(Clone)]
pub struct Tokenizer {
    inner: Arc<Inner>,
}

struct Inner {
    json: Vec<u8>,
    hash: String,
    engine: PipelineTokenizer,
    decoder: PipelineTokenizer,
    pieces: Vec<Piece>,
    ids: HashMap<String, u32>,
    decoding: Decoding,
    fallback: Fallback,
    unknown: Option<u32>,
    /// Whether the engine has tokens for bytes that the vocabulary lacks.
    lent: bool,
    /// `bos_token`, `eos_token`, … as templates see them.
    special_tokens_map: BTreeMap<String, String>,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer")
            .field("vocab_size", &self.vocab_size())
            .field("hash", &self.inner.hash)
            .finish()
    }
}

impl Tokenizer {
    /// Reads `tokenizer.json` at `path`, and the special tokens' roles from `tokenizer_config.json` beside it if there.
    pub fn load(path: &Path) -> Result<Self, TokenizerError> {
        let json = read_capped(path)?;
        let roles = path.with_file_name("tokenizer_config.json");
        let map = if roles.exists() { folder::special_tokens_map(&roles)? } else { BTreeMap::new() };
        Self::build(json, path, map)
    }

    /// From the contents of a tokenizer.json (version 1.0 or 2.0); `path` is for messages only.
    pub fn from_json(json: &[u8], path: &Path) -> Result<Self, TokenizerError> {
        Self::build(json.to_vec(), path, BTreeMap::new())
    }

    fn build(json: Vec<u8>, path: &Path, map: BTreeMap<String, String>) -> Result<Self, TokenizerError> {
        let Parsed { engine, decoder, pieces, ids, decoding, fallback, unknown } = read::parse(&json, path)?;
        let lent = matches!(&fallback, Fallback::Bytes(bytes) if bytes.contains(&None));
        let hash = blake3::hash(&json).to_hex().to_string();
        let inner = Inner {
            json,
            hash,
            engine,
            decoder,
            pieces,
            ids,
            decoding,
            fallback,
            unknown,
            lent,
            special_tokens_map: map,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Token ids of `text`. Special tokens written in `text` become their ids; `add_special_tokens` also adds what the
    /// tokenizer's post-processor puts around (nothing, for tokenizers trained here). Never fails: see the byte
    /// fallback of [`Tokenizer::encode_ordinary`].
    pub fn encode(&self, text: &str, add_special_tokens: bool) -> Vec<u32> {
        self.run(text, add_special_tokens, false).unwrap_or_else(|| self.encode_bytes(text.as_bytes()))
    }

    /// Token ids of untrusted `text`: never a special token, whatever it says.
    ///
    /// Should the file's own pattern fail on this text, each byte is one token; so are the bytes of a special token that
    /// the model spells from parts or finds in its vocabulary, as T5's does with `</s>`. A vocabulary without bytes has its
    /// unknown token for them, and for every word that it cannot spell.
    pub fn encode_ordinary(&self, text: &str) -> Vec<u32> {
        let Some(ids) = self.run(text, false, true) else { return self.encode_bytes(text.as_bytes()) };
        if !ids.iter().any(|&id| self.is_control(id)) {
            return ids;
        }
        let spelt = |id: u32| match self.is_control(id) {
            true => self.encode_bytes(self.token_bytes(id)),
            false => vec![id],
        };
        ids.into_iter().flat_map(spelt).collect()
    }

    /// A special token other than the one for unknown text.
    pub(crate) fn is_control(&self, id: u32) -> bool {
        self.is_special(id) && Some(id) != self.inner.unknown
    }

    /// [`Tokenizer::encode`] of each text, on all cores, in order.
    pub fn encode_batch<S: AsRef<str> + Sync>(&self, texts: &[S], add_special_tokens: bool) -> Vec<Vec<u32>> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(texts.len());
        if threads <= 1 {
            return texts.iter().map(|t| self.encode(t.as_ref(), add_special_tokens)).collect();
        }
        let next = AtomicUsize::new(0);
        let work = || {
            let mut done = Vec::new();
            while let index = next.fetch_add(1, Ordering::Relaxed)
                && let Some(text) = texts.get(index)
            {
                done.push((index, self.encode(text.as_ref(), add_special_tokens)));
            }
            done
        };
        let mut all = vec![Vec::new(); texts.len()];
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            for worker in workers {
                match worker.join() {
                    Ok(done) => done.into_iter().for_each(|(index, ids)| all[index] = ids),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
        });
        all
    }

    fn run(&self, text: &str, add_special_tokens: bool, ordinary: bool) -> Option<Vec<u32>> {
        let options = EncodeOptions {
            add_special_tokens,
            encode_special_tokens: ordinary,
            // A file's own truncation and padding would silently cut or lengthen training text.
            padding: Override::Off,
            truncation: Override::Off,
        };
        let mut out = Vec::with_capacity(text.len() / 3);
        let engine = &self.inner.engine;
        let done = catch_unwind(AssertUnwindSafe(|| engine.encode_into(text, &options, &mut out).is_ok()));
        let mut ids = matches!(done, Ok(true)).then(|| PipelineToken::cast_slice(&out).to_vec())?;
        if self.inner.lent {
            ids.retain(|&id| (id as usize) < self.inner.pieces.len());
        }
        Some(ids)
    }

    fn encode_bytes(&self, bytes: &[u8]) -> Vec<u32> {
        match &self.inner.fallback {
            Fallback::Bytes(ids) => bytes.iter().filter_map(|&b| ids[usize::from(b)]).collect(),
            Fallback::Unknown(id) if !bytes.is_empty() => id.iter().copied().collect(),
            Fallback::Unknown(_) => Vec::new(),
        }
    }

    /// The text of `ids`; invalid UTF-8 becomes U+FFFD, unknown ids nothing.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        let joined = || String::from_utf8_lossy(&self.decode_bytes(ids, skip_special)).into_owned();
        if self.inner.decoding == Decoding::Bytes {
            return joined();
        }
        let run = || self.inner.decoder.decode(ids, skip_special);
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(Ok(text)) => text,
            _ => joined(),
        }
    }

    /// The bytes of `ids`, which need not be whole characters. For models other than byte-level BPE these are the bytes of
    /// each token by itself: [`Tokenizer::decode`] may drop a space at the beginning.
    pub fn decode_bytes(&self, ids: &[u32], skip_special: bool) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(ids.len() * 4);
        for &id in ids {
            self.append_bytes(id, skip_special, &mut bytes);
        }
        bytes
    }

    fn append_bytes(&self, id: u32, skip_special: bool, out: &mut Vec<u8>) {
        if let Some(piece) = self.inner.pieces.get(id as usize)
            && !(skip_special && piece.special)
        {
            out.extend_from_slice(&piece.bytes);
        }
    }

    /// Decodes id by id, without special tokens.
    pub fn stream_decoder(&self) -> StreamDecoder<'_> {
        StreamDecoder::new(self, true)
    }

    /// The bytes that `id` decodes to; none for an unknown id.
    pub fn token_bytes(&self, id: u32) -> &[u8] {
        self.inner.pieces.get(id as usize).map_or(&[], |piece| &piece.bytes)
    }

    /// For each id the bytes of text that it stands for, which bits per byte are over: 0 for special tokens, whose
    /// spelling is no text.
    pub fn text_bytes(&self) -> Vec<u32> {
        let bytes = |piece: &Piece| if piece.special { 0 } else { piece.bytes.len() as u32 };
        self.inner.pieces.iter().map(bytes).collect()
    }

    /// The id of a token as tokenizer.json spells it.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.ids.get(token).copied()
    }

    /// The token as tokenizer.json spells it.
    pub fn id_to_token(&self, id: u32) -> Option<&str> {
        self.inner.pieces.get(id as usize)?.token.as_deref()
    }

    /// Whether `id` is a special (control) token.
    pub fn is_special(&self, id: u32) -> bool {
        self.inner.pieces.get(id as usize).is_some_and(|piece| piece.special)
    }

    /// One more than the largest id: the rows an embedding matrix needs at least.
    pub fn vocab_size(&self) -> usize {
        self.inner.pieces.len()
    }

    /// BLAKE3 of tokenizer.json in hexadecimal: two files with this equal give equal ids.
    pub fn hash(&self) -> &str {
        &self.inner.hash
    }

    /// The bytes of tokenizer.json.
    pub fn json(&self) -> &[u8] {
        &self.inner.json
    }

    /// `bos_token`, `eos_token`, … from tokenizer_config.json; empty if there was none.
    pub fn special_tokens_map(&self) -> &BTreeMap<String, String> {
        &self.inner.special_tokens_map
    }

    /// `text` as the model's merges see it, after the tokenizer's normalizer (NFC for Qwen, nothing for most).
    pub(crate) fn normalize(&self, text: &str) -> String {
        let normalizers = self.inner.engine.get_normalizers();
        if normalizers.is_empty() {
            return text.to_owned();
        }
        let run = || tokenizers::pipeline::normalize_all(normalizers, text, 0);
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(Ok(normal)) => normal.into_owned(),
            _ => text.to_owned(),
        }
    }
}

/// Reads a file that must not be larger than any real tokenizer.
fn read_capped(path: &Path) -> Result<Vec<u8>, TokenizerError> {
    let reading = |source| FileError::reading(path, source);
    let bytes = std::fs::metadata(path).map_err(reading)?.len();
    if bytes > read::MAX_BYTES {
        return Err(TokenizerError::TooLarge { path: path.to_owned(), bytes, limit: read::MAX_BYTES });
    }
    Ok(std::fs::read(path).map_err(reading)?)
}
