//! Reading and checking tokenizer.json before any library sees it.

use super::bytes::Alphabet;
use super::error::TokenizerError;
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
    /// What it decodes to.
    pub(super) bytes: Vec<u8>,
    /// A control token: skipped on request when decoding, never produced from ordinary text.
    pub(super) special: bool,
}

/// The parts of a checked tokenizer.json.
pub(super) struct Parsed {
    pub(super) engine: PipelineTokenizer,
    pub(super) pieces: Vec<Piece>,
    pub(super) ids: HashMap<String, u32>,
    /// The token of each single byte.
    pub(super) byte_ids: Vec<u32>,
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
    let model = &value["model"];
    if model["type"] != "BPE" || model["byte_level"] != true {
        return Err(reader.unsupported(format!("its model is {} without bytes", model["type"])));
    }
    for key in ["dropout", "continuing_subword_prefix", "end_of_word_suffix"] {
        if !matches!(&model[key], Value::Null) && model[key] != "" && model[key] != 0.0 {
            return Err(reader.unsupported(format!("model.{key} is {}; set it to null", model[key])));
        }
    }
    let mut pieces = Vec::new();
    let mut ids = HashMap::new();
    reader.vocabulary(model, &mut pieces, &mut ids)?;
    reader.merges(model, &ids)?;
    let byte_ids = reader.byte_ids(&ids)?;
    let added = reader.added_tokens(&value, &mut pieces, &mut ids)?;
    let canonical = serde_json::to_string(&value).map_err(|e| reader.damaged(e))?;
    drop(value);
    let engine = reader.guard(|| tokenizers::from_json(&canonical))?.map_err(|e| reader.unsupported(e))?;
    for (token, id) in added {
        // The engine numbers added tokens itself; another number would silently train another model.
        if engine.get_added_vocabulary().token_to_id(&token) != Some(id) {
            return Err(reader.damaged(format!("added token {token:?} does not get its id {id}")));
        }
    }
    Ok(Parsed { engine, pieces, ids, byte_ids })
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

    fn vocabulary(
        &self,
        model: &Value,
        pieces: &mut Vec<Piece>,
        ids: &mut HashMap<String, u32>,
    ) -> Result<(), TokenizerError> {
        let Some(vocab) = model["vocab"].as_object() else {
            return Err(self.damaged("model.vocab is not an object"));
        };
        let alphabet = Alphabet::new();
        for (token, id) in vocab {
            let piece = Piece { token: Some(token.clone()), bytes: alphabet.read(token), special: false };
            let id = self.id(id, token)?;
            self.insert(pieces, ids, id, piece)?;
        }
        Ok(())
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

    /// With every byte in the vocabulary no text can fail to encode.
    fn byte_ids(&self, ids: &HashMap<String, u32>) -> Result<Vec<u32>, TokenizerError> {
        let alphabet = Alphabet::new();
        (0..=u8::MAX)
            .map(|byte| {
                ids.get(&alphabet.spell(&[byte]))
                    .copied()
                    .ok_or_else(|| self.unsupported(format!("its vocabulary lacks the byte {byte:#04x}")))
            })
            .collect()
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
