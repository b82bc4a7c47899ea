//! Reading and checking tokenizer.json before any library sees it.

use super::bytes::Alphabet;
use super::error::TokenizerError;
use super::regex;
use super::write::{CONTINUING_PREFIX, SPACE_MARK};
use serde_json::Value;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use tokenizers::pipeline::PipelineTokenizer;

/// The largest tokenizer.json accepted, in bytes; Gemma's, the largest known, has 33 MB.
pub(super) const MAX_BYTES: u64 = 64 << 20;
/// Ids from here on are refused: they size tables. The largest known vocabulary has 262,144.
const MAX_VOCAB: u64 = 1 << 21;

/// One vocabulary entry.
#[derive(Clone, Debug, Default)]
pub(super) struct Piece {
    /// As spelled in the file; `None` for a hole in the ids.
    pub(super) token: Option<String>,
    /// What it decodes to, for models other than byte-level BPE without regard to its neighbours.
    pub(super) bytes: Vec<u8>,
    /// A control token: skipped on request when decoding, never produced from ordinary text.
    pub(super) special: bool,
}

/// How ids become text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decoding {
    /// Byte-level BPE: the bytes of the tokens, joined.
    Bytes,
    /// By the file's decoder, which may look at neighbours and at the beginning.
    Engine,
}

/// What a tokenizer falls back to when the file's own pattern fails on a text.
pub(super) enum Fallback {
    /// The token of each single byte. A published vocabulary may lack some that its training text never had (SmolLM2's
    /// lacks 21 of control characters and planes beyond Unicode's): text loses them, as with PyPI's tokenizers.
    Bytes(Vec<Option<u32>>),
    /// The unknown token, if there is one.
    Unknown(Option<u32>),
}

/// The parts of a checked tokenizer.json.
pub(super) struct Parsed {
    /// Encodes.
    pub(super) engine: PipelineTokenizer,
    /// Decodes where [`Decoding::Engine`]; most often the same.
    pub(super) decoder: PipelineTokenizer,
    pub(super) pieces: Vec<Piece>,
    pub(super) ids: HashMap<String, u32>,
    pub(super) decoding: Decoding,
    pub(super) fallback: Fallback,
    /// The token that stands for unknown text, if the model has one.
    pub(super) unknown: Option<u32>,
}

/// Parses `json`; `path` is for messages only.
pub(super) fn parse(json: &[u8], path: &Path) -> Result<Parsed, TokenizerError> {
    let reader = Reader { path };
    if json.len() as u64 > MAX_BYTES {
        let (path, bytes) = (path.to_owned(), json.len() as u64);
        return Err(TokenizerError::TooLarge { path, bytes, limit: MAX_BYTES });
    }
    let mut value: Value = serde_json::from_slice(json).map_err(|e| reader.damaged(e))?;
    reader.guard(|| tokenizers::canonicalize_value(&mut value))?.map_err(|e| reader.unsupported(e))?;
    let kind = reader.kind(&value["model"])?;
    let spelling = Spelling::of(kind, &value);
    let (mut pieces, mut ids) = reader.vocabulary(&value["model"], kind, &spelling)?;
    if kind.is_bpe() {
        reader.merges(&value["model"], &ids)?;
    }
    let unknown = reader.unknown(&value["model"], kind, &ids, pieces.len())?;
    let fallback = match kind {
        Kind::ByteLevel => Fallback::Bytes(reader.byte_ids(&ids)?),
        _ => byte_tokens(&ids).map_or(Fallback::Unknown(unknown), Fallback::Bytes),
    };
    let added = reader.added_tokens(&value, &mut pieces, &mut ids)?;
    if let Fallback::Bytes(bytes) = &fallback
        && kind == Kind::ByteLevel
    {
        lend_bytes(&mut value["model"]["vocab"], bytes, pieces.len());
    }
    let canonical = serde_json::to_string(&value).map_err(|e| reader.damaged(e))?;
    let decoder = reader.guard(|| tokenizers::from_json(&canonical))?.map_err(|e| reader.unsupported(e))?;
    drop(canonical);
    let engine = match regex::is_missing(&decoder) {
        true => reader.guard(|| regex::compiled(&decoder, &value))?.map_err(|e| reader.unsupported(e))?,
        false => decoder.clone(),
    };
    drop(value);
    for (token, id) in added {
        // The engine numbers added tokens itself; another number would silently train another model.
        if engine.get_added_vocabulary().token_to_id(&token) != Some(id) {
            return Err(reader.damaged(format!("added token {token:?} does not get its id {id}")));
        }
    }
    let decoding = if kind == Kind::ByteLevel { Decoding::Bytes } else { Decoding::Engine };
    Ok(Parsed { engine, decoder, pieces, ids, decoding, fallback, unknown })
}

/// The models that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// GPT-2, Llama 3, Qwen, SmolLM, Mistral's Tekken.
    ByteLevel,
    /// BPE over letters, as SentencePiece makes it: Llama 2, Mistral 7B, Gemma.
    Bpe,
    /// T5, ALBERT, XLM-R.
    Unigram,
    /// BERT.
    WordPiece,
}

impl Kind {
    fn is_bpe(self) -> bool {
        matches!(self, Kind::ByteLevel | Kind::Bpe)
    }
}

/// How the bytes of a token are read from its spelling.
enum Spelling {
    Alphabet(Box<Alphabet>),
    /// U+2581 is a space, `<0x41>` is a byte.
    Marked,
    /// The prefix of tokens that continue a word; all others begin one and have a space before them.
    Continuing(String),
}

impl Spelling {
    fn of(kind: Kind, value: &Value) -> Self {
        match kind {
            Kind::ByteLevel => Spelling::Alphabet(Box::new(Alphabet::new())),
            Kind::WordPiece => {
                let prefix = value["model"]["continuing_subword_prefix"].as_str();
                Spelling::Continuing(prefix.unwrap_or(CONTINUING_PREFIX).to_owned())
            }
            Kind::Bpe | Kind::Unigram => Spelling::Marked,
        }
    }

    fn read(&self, token: &str) -> Vec<u8> {
        match self {
            Spelling::Alphabet(alphabet) => alphabet.read(token),
            Spelling::Marked => match byte_of(token) {
                Some(byte) => vec![byte],
                None => token.replace(SPACE_MARK, " ").into_bytes(),
            },
            Spelling::Continuing(prefix) => match token.strip_prefix(prefix.as_str()) {
                Some(rest) => rest.as_bytes().to_vec(),
                None => format!(" {token}").into_bytes(),
            },
        }
    }
}

/// The byte that `<0x41>` stands for.
pub(super) fn byte_of(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    let hexadecimal = digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    hexadecimal.then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

/// The ids of `<0x00>` to `<0xFF>`, if the vocabulary has them all.
fn byte_tokens(ids: &HashMap<String, u32>) -> Option<Vec<Option<u32>>> {
    (0..=u8::MAX).map(|byte| ids.get(&format!("<0x{byte:02X}>")).copied().map(Some)).collect()
}

/// The engine wants a token for every byte. Those that the vocabulary lacks get ids beyond it, which
/// [`Tokenizer::encode`](super::Tokenizer::encode) leaves out.
fn lend_bytes(vocab: &mut Value, bytes: &[Option<u32>], mut next: usize) {
    let Some(vocab) = vocab.as_object_mut() else { return };
    let alphabet = Alphabet::new();
    for byte in (0..=u8::MAX).filter(|&byte| bytes[usize::from(byte)].is_none()) {
        vocab.insert(alphabet.spell(&[byte]), next.into());
        next += 1;
    }
}

struct Reader<'a> {
    path: &'a Path,
}

impl Reader<'_> {
    fn damaged(&self, problem: impl ToString) -> TokenizerError {
        TokenizerError::Damaged { path: self.path.to_owned(), problem: problem.to_string() }
    }

    fn unsupported(&self, problem: impl ToString) -> TokenizerError {
        TokenizerError::Unsupported { path: self.path.to_owned(), problem: problem.to_string() }
    }

    /// A release candidate that indexes tables by what a file says may panic on a hostile one.
    fn guard<T>(&self, work: impl FnOnce() -> T) -> Result<T, TokenizerError> {
        catch_unwind(AssertUnwindSafe(work)).map_err(|_| self.damaged("its parts contradict each other"))
    }

    /// Which model it is; what it has that no engine here follows is named.
    fn kind(&self, model: &Value) -> Result<Kind, TokenizerError> {
        let kind = match model["type"].as_str() {
            Some("BPE") if model["byte_level"] == true => Kind::ByteLevel,
            Some("BPE") => Kind::Bpe,
            Some("Unigram") => Kind::Unigram,
            Some("WordPiece") => Kind::WordPiece,
            _ => return Err(self.unsupported(format!("its model is {}", model["type"]))),
        };
        let keys: &[&str] = match kind.is_bpe() {
            true => &["dropout", "continuing_subword_prefix", "end_of_word_suffix"],
            false => &["alpha", "nbest_size"],
        };
        for key in keys {
            if !matches!(&model[key], Value::Null) && model[key] != "" && model[key] != 0.0 {
                return Err(self.unsupported(format!("model.{key} is {}; set it to null", model[key])));
            }
        }
        Ok(kind)
    }

    #[allow(clippy::type_complexity)] // two halves of one vocabulary
    fn vocabulary(
        &self,
        model: &Value,
        kind: Kind,
        spelling: &Spelling,
    ) -> Result<(Vec<Piece>, HashMap<String, u32>), TokenizerError> {
        let (mut pieces, mut ids) = (Vec::new(), HashMap::new());
        let mut insert = |token: &str, id: u32| {
            let piece = Piece { token: Some(token.to_owned()), bytes: spelling.read(token), special: false };
            self.insert(&mut pieces, &mut ids, id, piece)
        };
        if kind == Kind::Unigram {
            let Some(vocab) = model["vocab"].as_array().filter(|v| v.len() as u64 <= MAX_VOCAB) else {
                return Err(self.damaged("model.vocab is not an array of at most 2,097,152 entries"));
            };
            for (id, entry) in (0..).zip(vocab) {
                match (entry[0].as_str(), entry[1].as_f64()) {
                    (Some(token), Some(score)) if score.is_finite() => insert(token, id)?,
                    _ => return Err(self.damaged(format!("model.vocab[{id}] is no [token, score]"))),
                }
            }
            return Ok((pieces, ids));
        }
        let Some(vocab) = model["vocab"].as_object() else {
            return Err(self.damaged("model.vocab is not an object"));
        };
        for (token, id) in vocab {
            insert(token, self.id(id, token)?)?;
        }
        Ok((pieces, ids))
    }

    /// The id of the unknown token, which must be in the vocabulary where the file names one.
    fn unknown(
        &self,
        model: &Value,
        kind: Kind,
        ids: &HashMap<String, u32>,
        size: usize,
    ) -> Result<Option<u32>, TokenizerError> {
        if kind == Kind::Unigram {
            return match (&model["unk_id"], model["unk_id"].as_u64()) {
                (Value::Null, _) => Ok(None),
                (_, Some(id)) if id < size as u64 => Ok(Some(id as u32)),
                (id, _) => Err(self.damaged(format!("model.unk_id = {id} is not in the vocabulary"))),
            };
        }
        match &model["unk_token"] {
            Value::Null => Ok(None),
            token => match token.as_str().and_then(|t| ids.get(t)) {
                Some(&id) => Ok(Some(id)),
                None => Err(self.damaged(format!("model.unk_token = {token} is not in the vocabulary"))),
            },
        }
    }

    fn id(&self, id: &Value, token: &str) -> Result<u32, TokenizerError> {
        match id.as_u64() {
            Some(id) if id < MAX_VOCAB => Ok(id as u32),
            _ => Err(self.damaged(format!("token {token:?} has the id {id}; ids go from 0 to {MAX_VOCAB}"))),
        }
    }

    fn insert(
        &self,
        pieces: &mut Vec<Piece>,
        ids: &mut HashMap<String, u32>,
        id: u32,
        piece: Piece,
    ) -> Result<(), TokenizerError> {
        let index = id as usize;
        if pieces.len() <= index {
            pieces.resize_with(index + 1, Piece::default);
        }
        if let (Some(old), Some(new)) = (&pieces[index].token, &piece.token) {
            return Err(self.damaged(format!("tokens {old:?} and {new:?} share the id {id}")));
        }
        if let Some(token) = &piece.token {
            ids.insert(token.clone(), id);
        }
        pieces[index] = piece;
        Ok(())
    }

    fn merges(&self, model: &Value, ids: &HashMap<String, u32>) -> Result<(), TokenizerError> {
        let Some(merges) = model["merges"].as_array() else {
            return Err(self.damaged("model.merges is not an array"));
        };
        for (index, merge) in merges.iter().enumerate() {
            let pair = (merge[0].as_str(), merge[1].as_str());
            let known = match pair {
                (Some(a), Some(b)) => {
                    ids.contains_key(a) && ids.contains_key(b) && ids.contains_key(&format!("{a}{b}"))
                }
                _ => false,
            };
            if !known {
                return Err(self.damaged(format!("model.merges[{index}] = {merge} is not in the vocabulary")));
            }
        }
        Ok(())
    }

    /// The tokens of single bytes, of which the printable ASCII ones must be there.
    fn byte_ids(&self, ids: &HashMap<String, u32>) -> Result<Vec<Option<u32>>, TokenizerError> {
        let alphabet = Alphabet::new();
        let of = |byte: u8| match ids.get(&alphabet.spell(&[byte])).copied() {
            None if byte.is_ascii_graphic() || byte == b' ' || byte == b'\n' => {
                Err(self.unsupported(format!("its vocabulary lacks the byte {byte:#04x}")))
            }
            id => Ok(id),
        };
        (0..=u8::MAX).map(of).collect()
    }

    fn added_tokens(
        &self,
        value: &Value,
        pieces: &mut Vec<Piece>,
        ids: &mut HashMap<String, u32>,
    ) -> Result<Vec<(String, u32)>, TokenizerError> {
        let mut added = Vec::new();
        let entries = match &value["added_tokens"] {
            Value::Null => return Ok(added),
            Value::Array(entries) => entries,
            _ => return Err(self.damaged("added_tokens is not an array")),
        };
        for entry in entries {
            let Some(token) = entry["content"].as_str().filter(|t| !t.is_empty()) else {
                return Err(self.damaged(format!("the added token {entry} has no content")));
            };
            let id = self.id(&entry["id"], token)?;
            if ids.get(token).is_some_and(|&other| other != id) {
                return Err(self.damaged(format!("added token {token:?} has another id in the vocabulary")));
            }
            if ids.get(token) == Some(&id) {
                pieces[id as usize].token = None;
            }
            let special = entry["special"] == true;
            let piece = Piece { token: Some(token.to_owned()), bytes: token.as_bytes().to_vec(), special };
            self.insert(pieces, ids, id, piece)?;
            added.push((token.to_owned(), id));
        }
        Ok(added)
    }
}
