//! Shards that datatrove 0.10.1 wrote (`tests/golden/shards.py`): read, and written byte for byte.

#![allow(clippy::unwrap_used)]

use smolt_data::batch::{Layout, Loader, Source};
use smolt_data::document::Documents;
use smolt_data::shard::{Packing, Shard, ShardInfo, ShardWriter};
use smolt_text::tokenizer::Tokenizer;
use std::path::{Path, PathBuf};

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

fn golden(name: &str) -> PathBuf {
    repository("tests/golden/shards").join(name)
}

fn tokenizer() -> Tokenizer {
    Tokenizer::load(&repository("recipes/tests/kill-resume/tokenizer/tokenizer.json")).unwrap()
}

/// The documents of the fixture as datatrove encodes them: text, then end-of-text.
fn encoded() -> Vec<Vec<u32>> {
    let tokenizer = tokenizer();
    let eos = tokenizer.token_to_id("<|endoftext|>").unwrap();
    let encode = |text: String| tokenizer.encode_ordinary(&text).into_iter().chain([eos]).collect();
    Documents::new(&[golden("documents.jsonl")]).map(|document| encode(document.unwrap().text)).collect()
}

fn read(shard: &Shard) -> Vec<Vec<u32>> {
    (0..shard.n_documents()).map(|d| shard.document(d).map(|p| shard.token(p)).collect()).collect()
}

fn bytes(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

#[test]
fn what_datatrove_wrote_is_read() {
    let plain = Shard::open(&golden("plain.ds")).unwrap();
    assert_eq!(read(&plain), encoded());
    assert_eq!((plain.meta().chunk_length, plain.meta().token_size), (None, 2));
    let sorted = |shard: &Shard| {
        let mut documents = read(shard);
        documents.sort();
        documents
    };
    let shuffled = Shard::open(&golden("shuffled.ds")).unwrap();
    assert_ne!(read(&shuffled), read(&plain));
    assert_eq!(sorted(&shuffled), sorted(&plain));
    let loss = Shard::open(&golden("loss.ds")).unwrap();
    assert!(loss.has_loss() && !loss.is_trained(0));
    assert!((0..loss.n_tokens()).any(|position| loss.is_trained(position)));
}

#[test]
fn what_is_written_is_what_datatrove_writes() {
    let dir = tempfile::tempdir().unwrap();
    let tokenizer = tokenizer();
    for name in ["plain.ds", "loss.ds"] {
        let theirs = Shard::open(&golden(name)).unwrap();
        let info = ShardInfo {
            tokenizer_hash: Some(tokenizer.hash().to_owned()),
            vocab_size: tokenizer.vocab_size() as u32,
            eos_token_id: tokenizer.token_to_id("<|endoftext|>"),
            bos_token_id: None,
            pad_token_id: None,
            chunk_length: None,
            with_loss: theirs.has_loss(),
        };
        let out = dir.path().join(name);
        let mut writer = ShardWriter::create(&out, info).unwrap();
        for (document, ids) in encoded().iter().enumerate() {
            let trained: Vec<bool> = theirs.document(document as u64).map(|p| theirs.is_trained(p)).collect();
            writer.write_document(ids, theirs.has_loss().then_some(&trained)).unwrap();
        }
        writer.finish(None).unwrap();
        for suffix in ["", ".index", ".loss"] {
            let beside = |path: &Path| PathBuf::from(format!("{}{suffix}", path.display()));
            let (ours, theirs) = (beside(&out), beside(&golden(name)));
            assert_eq!(ours.exists(), theirs.exists());
            assert!(!ours.exists() || bytes(&ours) == bytes(&theirs), "{name}{suffix}");
        }
    }
}

/// Chunks shuffled for one context length are refused at another, where they would be cut in the middle (spec CLN-08).
#[test]
fn shuffled_chunks_are_recognised() {
    let shard = || Shard::open(&golden("chunked.ds")).unwrap();
    assert_eq!((shard().meta().chunk_length, shard().meta().packing), (Some(33), Packing::Concatenate));
    let loader = |sequence_length| {
        let layout =
            Layout { sequence_length, vocab_size: 512, document_masking: true, reset_positions: true };
        Loader::new(vec![Source { name: "a".into(), weight: 1.0, shard: shard() }], 1, layout)
    };
    loader(32).unwrap();
    let error = loader(64).err().unwrap().to_string();
    assert!(error.contains("shuffled in chunks of 33 tokens, but sequence length 64 needs 65"), "{error}");
}

#[test]
fn another_tokenizer_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let info = ShardInfo {
        tokenizer_hash: Some("0123456789abcdef".into()),
        vocab_size: 384,
        eos_token_id: None,
        bos_token_id: None,
        pad_token_id: None,
        chunk_length: None,
        with_loss: false,
    };
    let out = dir.path().join("a.ds");
    let mut writer = ShardWriter::create(&out, info).unwrap();
    writer.write_document(&[1, 2], None).unwrap();
    writer.finish(None).unwrap();
    let error = Shard::open(&out).unwrap().check_tokenizer(tokenizer().hash()).unwrap_err().to_string();
    assert!(error.contains("a.ds: made with another tokenizer (0123456789ab, this one is"), "{error}");
    // datatrove's do not say.
    Shard::open(&golden("plain.ds")).unwrap().check_tokenizer(tokenizer().hash()).unwrap();
}
