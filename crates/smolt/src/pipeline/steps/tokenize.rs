//! `kind = "tokenize"`: documents and chats into token shards.

use super::Context;
use crate::output;
use crate::output::note;
use serde_json::{Map, Value, json};
use smolt_data::document::{self, Chat, Documents};
use smolt_data::tokenize::{
    ChatEncoder, ChatOptions, DocumentOptions, Overlong, Report, TextEncoder, tokenize_chats,
    tokenize_documents,
};
use smolt_run::error::{Failure, FileError};
use smolt_text::template::ChatTemplate;
use smolt_text::tokenizer::Tokenizer;
use std::path::{Path, PathBuf};

smolt_run::recipe! {
    /// Token shards to write.
    pub(crate) struct TokenizeSettings {
        /// Folder with tokenizer.json, and chat_template.jinja for chats.
        tokenizer: String,
        /// Of the shuffle.
        seed: u64 = 0,
        /// Shards of documents.
        documents: Vec<DocumentShard> = Vec::new(),
        /// Shards of chats.
        chats: Vec<ChatShard> = Vec::new(),
    }

    /// A shard `NAME.ds` of documents, shuffled, joined by the end-of-text token.
    pub(crate) struct DocumentShard {
        /// Its name.
        name: String,
        /// Files of documents, and folders of them.
        inputs: Vec<String>,
    }

    /// A shard `NAME.ds` of chats, packed whole; only the assistant's tokens are trained.
    pub(crate) struct ChatShard {
        /// Its name.
        name: String,
        /// JSONL files, and folders of them, of `{"messages": […], "tools"?: […]}`.
        inputs: Vec<String>,
        /// Tokens per sequence of the training that will read it.
        sequence_length: usize = 256,
    }
}

impl TokenizeSettings {
    pub(super) fn check(&self) -> Result<(), Failure> {
        let names = self.documents.iter().map(|s| &s.name).chain(self.chats.iter().map(|s| &s.name));
        names.into_iter().try_for_each(|name| crate::pipeline::plain_name(name))
    }
}

pub(super) fn run(s: &TokenizeSettings, context: &Context<'_>) -> Result<(), Failure> {
    let dir = context.path(&s.tokenizer);
    let mut reports = Map::new();
    for shard in &s.documents {
        let inputs = context.files(&shard.inputs)?;
        let out = context.folder.join(format!("{}.ds", shard.name));
        let report = documents(&dir, &inputs, s.seed, context.threads, &out)?;
        say(context.quiet, &shard.name, &report);
        reports.insert(shard.name.clone(), json!(report));
    }
    for shard in &s.chats {
        let inputs = context.files(&shard.inputs)?;
        let out = context.folder.join(format!("{}.ds", shard.name));
        let report = chats(&dir, &inputs, shard.sequence_length, s.seed, context.threads, &out)?;
        say(context.quiet, &shard.name, &report);
        reports.insert(shard.name.clone(), json!(report));
    }
    let text = serde_json::to_string_pretty(&json!({"format_version": 1, "shards": reports}));
    smolt_run::atomic::write(&context.folder.join("report.json"), output::or_empty(text).as_bytes())?;
    Ok(())
}

fn say(quiet: bool, name: &str, r: &Report) {
    if !quiet {
        note!(
            "{name}: {} documents, {} tokens, {:.2} bytes per token",
            output::thousands(r.documents),
            output::thousands(r.tokens),
            r.bytes_per_token
        );
    }
}

fn role(tokenizer: &Tokenizer, dir: &Path, role: &str) -> Result<u32, Failure> {
    let token = tokenizer.special_tokens_map().get(role);
    token.and_then(|t| tokenizer.token_to_id(t)).ok_or_else(|| {
        let place = dir.join("tokenizer_config.json");
        Failure::bad_input(format!("{}: no `{role}`; name the token that plays this role", place.display()))
    })
}

/// Tokenizes documents into the shard `out`.
pub(crate) fn documents(
    tokenizer_dir: &Path,
    inputs: &[PathBuf],
    seed: u64,
    threads: usize,
    out: &Path,
) -> Result<Report, Failure> {
    let tokenizer = Tokenizer::load(&tokenizer_dir.join("tokenizer.json"))?;
    let encode = |text: &str| Ok(tokenizer.encode_ordinary(text));
    let encoder = TextEncoder {
        tokenizer_hash: tokenizer.hash().to_string(),
        vocab_size: tokenizer.vocab_size() as u32,
        encode: &encode,
    };
    let eos_token_id = role(&tokenizer, tokenizer_dir, "eos_token")?;
    let options = DocumentOptions { eos_token_id, bos_token_id: None, seed, threads };
    Ok(tokenize_documents(Documents::new(inputs), &encoder, options, out)?)
}

/// Tokenizes chats into the shard `out`.
pub(crate) fn chats(
    tokenizer_dir: &Path,
    inputs: &[PathBuf],
    sequence_length: usize,
    seed: u64,
    threads: usize,
    out: &Path,
) -> Result<Report, Failure> {
    let tokenizer = Tokenizer::load(&tokenizer_dir.join("tokenizer.json"))?;
    let path = tokenizer_dir.join("chat_template.jinja");
    let source = std::fs::read_to_string(&path).map_err(|e| FileError::reading(&path, e))?;
    // Pinned: a template that prints today's date must not make other training data tomorrow.
    let template = ChatTemplate::pinned(&source, 0)?;
    let eos = role(&tokenizer, tokenizer_dir, "eos_token")?;
    template.check_end_token(&tokenizer, eos)?;
    let encode = |chat: &Chat| {
        let tools = chat.tools.iter().map(|tools| ("tools".to_owned(), Value::from(tools.clone()))).collect();
        let encoded = template.encode_with(&tokenizer, &chat.messages, false, &tools);
        let encoded = encoded.map_err(|e| e.to_string())?;
        Ok((encoded.ids, encoded.assistant_mask))
    };
    let encoder = ChatEncoder {
        tokenizer_hash: tokenizer.hash().to_string(),
        vocab_size: tokenizer.vocab_size() as u32,
        encode: &encode,
    };
    let options = ChatOptions {
        sequence_length,
        pad_token_id: role(&tokenizer, tokenizer_dir, "pad_token")?,
        eos_token_id: Some(eos),
        overlong: Overlong::Reject,
        seed,
        threads,
    };
    Ok(tokenize_chats(document::chats(inputs), &encoder, options, out)?)
}
