//! Decoding token by token.

use super::Tokenizer;
use super::read::{Decoding, byte_of};

/// Turns ids into text as they come; bytes of an unfinished character are held back.
///
/// The pieces joined equal [`Tokenizer::decode`] of all ids.
#[derive(Clone, Debug)]
pub struct StreamDecoder<'a> {
    tokenizer: &'a Tokenizer,
    skip_special: bool,
    /// The start of a character whose rest has not come: at most 3 bytes.
    held: Vec<u8>,
    /// For tokens that mean something else beside others: the last whose text is settled and those after it, and how many
    /// bytes of the text of them all were given out.
    ids: Vec<u32>,
    given: usize,
}

impl<'a> StreamDecoder<'a> {
    pub(super) fn new(tokenizer: &'a Tokenizer, skip_special: bool) -> Self {
        Self { tokenizer, skip_special, held: Vec::new(), ids: Vec::new(), given: 0 }
    }

    /// The text that `id` completes, often empty in the middle of a character.
    pub fn push(&mut self, id: u32) -> String {
        if self.tokenizer.inner.decoding == Decoding::Engine {
            return self.push_with_neighbours(id);
        }
        self.tokenizer.append_bytes(id, self.skip_special, &mut self.held);
        let mut text = String::new();
        loop {
            match std::str::from_utf8(&self.held) {
                Ok(rest) => {
                    text.push_str(rest);
                    self.held.clear();
                    return text;
                }
                Err(error) => {
                    let (good, bad) = (error.valid_up_to(), error.error_len());
                    text.push_str(&String::from_utf8_lossy(&self.held[..good]));
                    let Some(bad) = bad else {
                        self.held.drain(..good);
                        return text;
                    };
                    text.push(char::REPLACEMENT_CHARACTER);
                    self.held.drain(..good + bad);
                }
            }
        }
    }

    /// What the text has grown by. Bytes wait for the token after them, as one more can turn all of them into U+FFFD; so
    /// does U+FFFD at the end, which may still become a character.
    fn push_with_neighbours(&mut self, id: u32) -> String {
        let Some(token) = self.tokenizer.id_to_token(id) else { return String::new() };
        if self.skip_special && self.tokenizer.is_special(id) {
            return String::new();
        }
        self.ids.push(id);
        if byte_of(token).is_some() {
            return String::new();
        }
        let text = self.tokenizer.decode(&self.ids, self.skip_special);
        let sure = text.trim_end_matches(char::REPLACEMENT_CHARACTER);
        let new = sure.get(self.given..).unwrap_or("").to_owned();
        self.given += new.len();
        if sure.len() == text.len() {
            self.settle(id);
        }
        new
    }

    /// Forgets all but the last token, unless what decoders do at the beginning of a text would then happen again.
    fn settle(&mut self, last: u32) {
        let text = self.tokenizer.decode(&[last], self.skip_special);
        if !text.is_empty() {
            self.given = text.len();
            self.ids = vec![last];
        }
    }

    /// What is left at the end: U+FFFD for an unfinished character, else nothing.
    pub fn finish(&mut self) -> String {
        if self.tokenizer.inner.decoding == Decoding::Engine {
            let text = self.tokenizer.decode(&self.ids, self.skip_special);
            let rest = text.get(self.given..).unwrap_or("").to_owned();
            self.given = 0;
            self.ids.clear();
            return rest;
        }
        let rest = String::from_utf8_lossy(&self.held).into_owned();
        self.held.clear();
        rest
    }
}
