//! Replays what transformers made of the same tokenizer and templates; see `tests/golden/text.py`.

#![allow(clippy::unwrap_used)] // tests; their helpers too

use serde_json::{Map, Value};
use smolt_text::template::{CHATML, ChatTemplate, Message};
use smolt_text::tokenizer::{SpecialRoles, Tokenizer, TrainSettings, save, train};
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/text")
}

fn cases() -> Value {
    serde_json::from_slice(&std::fs::read(folder().join("cases.json")).unwrap()).unwrap()
}

fn tokenizer() -> Tokenizer {
    Tokenizer::load(&folder().join("tokenizer/tokenizer.json")).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

/// Writes the folder that `tests/golden/text.py` reads.
#[test]
#[ignore = "rewrites the fixture"]
fn write_fixture() {
    let sources = ["../../Cargo.toml", "../../LICENSE", "src/chatml.jinja", "src/tokenizer/train.rs"];
    let documents =
        sources.map(|s| std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(s)).unwrap());
    let more =
        ["今天天气很好 日本 日本語 🚀🚀🚀 🧑‍🚀 Привет, мир! 'tis it's 342792 1998\r\n\r\n    x".repeat(20)];
    let settings = TrainSettings { vocab_size: 700, ..TrainSettings::default() };
    let trained = train(documents.into_iter().chain(more), &settings).unwrap();
    let dir = folder().join("tokenizer");
    std::fs::create_dir_all(&dir).unwrap();
    let roles = SpecialRoles { bos: Some("<|endoftext|>".into()), ..SpecialRoles::chat() };
    save(&dir, &trained.tokenizer, &roles, Some(CHATML)).unwrap();
}

#[test]
fn ids_and_text_equal_transformers() {
    let (cases, tokenizer) = (cases(), tokenizer());
    let encoded = cases["encoded"].as_array().unwrap();
    assert!(encoded.len() >= 200);
    for case in encoded {
        let text = case["text"].as_str().unwrap();
        assert_eq!(tokenizer.encode(text, true), ids(&case["ids"]), "{text:?}");
        assert_eq!(tokenizer.decode(&ids(&case["ids"]), true), case["skip"], "{text:?}");
        assert_eq!(tokenizer.decode(&ids(&case["ids"]), false), text);
    }
}

#[test]
fn chats_equal_transformers() {
    let (cases, tokenizer) = (cases(), tokenizer());
    let chats = cases["chats"].as_array().unwrap();
    assert!(chats.len() >= 25);
    for case in chats {
        let name = case["template"].as_str().unwrap();
        let source = cases["templates"][name].as_str().unwrap_or(CHATML);
        let template = ChatTemplate::pinned(source, 1_764_000_000).unwrap();
        let messages: Vec<Message> = serde_json::from_value(case["messages"].clone()).unwrap();
        let prompt = case["add_generation_prompt"].as_bool().unwrap();
        let mut extra = Map::new();
        extra.insert("tools".into(), case["tools"].clone());
        let encoded = template.encode_with(&tokenizer, &messages, prompt, &extra).unwrap();
        let tokens = tokenizer.special_tokens_map().iter().map(|(k, v)| (k.clone(), v.clone().into()));
        extra.extend(tokens.collect::<Map<_, _>>());
        let text = template.render(&messages, prompt, &extra).unwrap().text;
        assert_eq!(text, case["text"].as_str().unwrap(), "{name}");
        assert_eq!(encoded.ids, ids(&case["ids"]), "{name}");
        let mask: Vec<u32> = encoded.assistant_mask.into_iter().map(u32::from).collect();
        assert_eq!(mask, ids(&case["mask"]), "{name} {text:?}");
    }
}

#[test]
fn other_families_files_give_their_ids() {
    let cases = cases();
    let base: Value = serde_json::from_slice(tokenizer().json()).unwrap();
    let styles = cases["styles"].as_object().unwrap();
    assert_eq!(styles.len(), 3);
    for (name, style) in styles {
        let mut file = base.clone();
        for (key, value) in style["overrides"].as_object().unwrap() {
            file[key] = value.clone();
        }
        file["model"]["ignore_merges"] = style["ignore_merges"].clone();
        let tokenizer = Tokenizer::from_json(file.to_string().as_bytes(), Path::new(name)).unwrap();
        for (case, wanted) in
            cases["encoded"].as_array().unwrap().iter().zip(style["ids"].as_array().unwrap())
        {
            let text = case["text"].as_str().unwrap();
            assert_eq!(tokenizer.encode(text, true), ids(wanted), "{name} {text:?}");
        }
    }
}
