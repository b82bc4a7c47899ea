//! Replays what PyPI `tokenizers` made of other families' files and learned from small corpora, and trains every kind of
//! model; see `tests/golden/other_tokenizers.py`.

#![allow(clippy::unwrap_used)] // tests; their helpers too

use proptest::prelude::*;
use serde_json::{Value, json};
use smolt_text::tokenizer::{Digits, Model, SpecialRoles, Tokenizer, TrainSettings, save, train, train_on};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

const MODELS: [Model; 3] = [Model::Bpe, Model::Unigram, Model::WordPiece];
const DIGITS: [Digits; 4] = [Digits::Single, Digits::ThreeLeft, Digits::ThreeRight, Digits::None];

fn golden(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/tokenizers").join(name);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

#[test]
fn other_families_encode_and_decode_as_in_python() {
    let cases = golden("families.json");
    let families = cases["families"].as_object().unwrap();
    assert_eq!(families.len(), 11);
    let mut wrong = Vec::new();
    for (name, family) in families {
        let tokenizer = Tokenizer::from_json(family["file"].to_string().as_bytes(), Path::new(name)).unwrap();
        for (i, text) in texts(&cases["texts"]).into_iter().enumerate() {
            let (full, bare) = (ids(&family["ids"][i]), ids(&family["bare"][i]));
            let decoded = tokenizer.decode(&full, true);
            let mut stream = tokenizer.stream_decoder();
            let mut streamed: String = full.iter().map(|&id| stream.push(id)).collect();
            streamed += &stream.finish();
            for (what, got, want) in [
                ("ids", json!(tokenizer.encode(text, true)), json!(full)),
                ("bare", json!(tokenizer.encode(text, false)), json!(bare)),
                ("decoded", json!(decoded), family["decoded"][i].clone()),
                ("streamed", json!(streamed), json!(decoded)),
            ] {
                if got != want {
                    wrong.push(format!("{name} {what} {text:?}: {got} instead of {want}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.len(), wrong.join("\n"));
}

/// What T5 and ALBERT find whole in their vocabularies costs only itself, not the document around it.
#[test]
fn a_spelt_special_token_is_unknown_by_itself() {
    let (mut whole, special) = (0, "</s>");
    for (name, tokenizer) in FAMILIES.iter().filter(|(_, t)| t.token_to_id(special).is_some()) {
        let end = tokenizer.token_to_id(special).unwrap();
        let ids = tokenizer.encode_ordinary("the dog </s> the fox</s>");
        assert!(!ids.contains(&end), "{name}");
        let text = tokenizer.decode(&ids, true);
        assert!(text.contains("dog") && text.contains("fox"), "{name} {text:?}");
        let unknown = tokenizer.token_to_id("<unk>").unwrap();
        whole += usize::from(ids.iter().filter(|&&id| id == unknown).count() == 2);
    }
    assert!(whole >= 2, "T5 and ALBERT");
}

#[test]
fn the_bytes_of_text_leave_special_tokens_out() {
    for (name, tokenizer) in FAMILIES.iter() {
        for (id, bytes) in (0..).zip(tokenizer.text_bytes()) {
            let expected = if tokenizer.is_special(id) { 0 } else { tokenizer.token_bytes(id).len() };
            assert_eq!(bytes as usize, expected, "{name} {id}");
        }
    }
    let tokenizer = trained(Model::Bpe, Digits::Single, 1);
    let (text, bytes) = ("Zoë is <|im_end|> 12", tokenizer.text_bytes());
    let mut ids = tokenizer.encode_ordinary(text);
    ids.push(tokenizer.token_to_id("<|im_end|>").unwrap());
    assert_eq!(ids.iter().map(|&id| bytes[id as usize] as usize).sum::<usize>(), text.len());
}

#[test]
fn bytes_are_streamed_when_they_are_settled() {
    let tokenizer = &FAMILIES.iter().find(|(name, _)| name == "llama-2").unwrap().1;
    let ids = |tokens: &[&str]| -> Vec<u32> {
        tokens.iter().map(|token| tokenizer.token_to_id(token).unwrap()).collect()
    };
    for tokens in [
        ["<0x41>", "<0xE2>", "a"],
        ["<0xE2>", "<0x82>", "<0xAC>"],
        ["<0xE2>", "<s>", "<0x82>"],
        ["a", "<0x41>", "<0x0A>"],
    ] {
        let ids = ids(&tokens);
        let mut stream = tokenizer.stream_decoder();
        let streamed: String = ids.iter().map(|&id| stream.push(id)).collect();
        assert_eq!(streamed + &stream.finish(), tokenizer.decode(&ids, true), "{tokens:?}");
    }
}

#[test]
fn merges_equal_those_of_python() {
    let mut lines = Vec::new();
    for case in golden("merges.json").as_array().unwrap() {
        if let Some(new) = case["lines"].as_array() {
            lines = new.iter().map(|line| line.as_str().unwrap().to_owned()).collect();
        }
        let settings = TrainSettings {
            vocab_size: case["vocab_size"].as_u64().unwrap() as usize,
            special_tokens: vec!["<|endoftext|>".into()],
            ..TrainSettings::default()
        };
        let trained = train(lines.iter().cloned(), &settings).unwrap();
        let file: Value = serde_json::from_slice(trained.tokenizer.json()).unwrap();
        assert_eq!(file["model"]["merges"], case["merges"], "{} {}", case["letters"], settings.vocab_size);
    }
}

/// Prose, code, numbers and other scripts.
fn corpus() -> Vec<String> {
    let cases = golden("families.json");
    let all = texts(&cases["texts"]);
    (0..300)
        .map(|i| format!("{} {}\n{}", all[i * 7 % all.len()], i * i, all[(i * 11 + 4) % all.len()]))
        .collect()
}

fn trained(model: Model, digits: Digits, threads: usize) -> Tokenizer {
    let settings = TrainSettings { model, digits, vocab_size: 896, ..TrainSettings::default() };
    train_on(corpus().into_iter(), &settings, threads).unwrap().tokenizer
}

#[test]
fn every_number_of_threads_gives_the_same_bytes() {
    for model in MODELS {
        let one = trained(model, Digits::ThreeRight, 1);
        assert_eq!(one.vocab_size() % 128, 0);
        for threads in [2, 3, 8] {
            assert_eq!(trained(model, Digits::ThreeRight, threads).json(), one.json(), "{model} {threads}");
        }
    }
}

#[test]
fn every_model_and_digit_policy_reads_its_own_texts() {
    for model in MODELS {
        for digits in DIGITS {
            let tokenizer = trained(model, digits, 2);
            for text in corpus() {
                let ids = tokenizer.encode_ordinary(&text);
                let control = ids.iter().any(|&id| {
                    let token = tokenizer.id_to_token(id).unwrap();
                    tokenizer.is_special(id) && token != "[UNK]"
                });
                assert!(!control, "{model} {digits} {text:?}");
                match model {
                    // U+2581 is a space in disguise there.
                    Model::Unigram => {
                        assert_eq!(tokenizer.decode(&ids, false), text.replace('\u{2581}', " "), "{digits}");
                    }
                    Model::Bpe => assert_eq!(tokenizer.decode(&ids, false), text, "{digits}"),
                    Model::WordPiece => {}
                }
            }
        }
    }
}

#[test]
fn special_tokens_of_every_model_are_found_and_never_made() {
    for model in MODELS {
        let tokenizer = trained(model, Digits::Single, 2);
        let end = tokenizer.token_to_id("<|im_end|>").unwrap();
        assert!(tokenizer.encode("a<|im_end|>b", false).contains(&end), "{model}");
        assert!(!tokenizer.encode_ordinary("a<|im_end|>b").contains(&end), "{model}");
        assert_eq!(tokenizer.decode(&[end], true), "");
    }
}

#[test]
fn a_pattern_that_cannot_be_used_is_named() {
    let mut file: Value = serde_json::from_slice(trained(Model::Bpe, Digits::ThreeRight, 1).json()).unwrap();
    file["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = json!("(unclosed");
    let error =
        Tokenizer::from_json(file.to_string().as_bytes(), Path::new("x.json")).unwrap_err().to_string();
    assert!(error.contains("x.json") && error.contains("(unclosed"), "{error}");
    let mut file: Value = serde_json::from_slice(trained(Model::Bpe, Digits::None, 1).json()).unwrap();
    file["pre_tokenizer"]["add_prefix_space"] = json!(true);
    let error =
        Tokenizer::from_json(file.to_string().as_bytes(), Path::new("x.json")).unwrap_err().to_string();
    assert!(error.contains("add_prefix_space"), "{error}");
    file["model"] = json!({"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"});
    file["pre_tokenizer"] = Value::Null;
    let error =
        Tokenizer::from_json(file.to_string().as_bytes(), Path::new("x.json")).unwrap_err().to_string();
    assert!(error.contains("WordLevel"), "{error}");
}

#[test]
fn too_few_tokens_for_the_letters_are_refused_or_do() {
    for model in MODELS {
        for vocab_size in [1, 200, 300, 358, 400] {
            let settings = TrainSettings { model, vocab_size, ..TrainSettings::default() };
            match train(corpus().into_iter(), &settings) {
                Ok(trained) => assert_eq!(trained.tokenizer.vocab_size() % 128, 0),
                Err(error) => assert!(error.to_string().contains("vocab_size"), "{error}"),
            }
        }
        let settings = TrainSettings { model, vocab_size: 512, ..TrainSettings::default() };
        assert_eq!(train(std::iter::empty(), &settings).unwrap().tokenizer.vocab_size(), 512);
    }
}

static FAMILIES: LazyLock<Vec<(String, Tokenizer)>> = LazyLock::new(|| {
    let read = |(name, family): (&String, &Value)| {
        let file = family["file"].to_string();
        (name.clone(), Tokenizer::from_json(file.as_bytes(), Path::new(name)).unwrap())
    };
    golden("families.json")["families"].as_object().unwrap().iter().map(read).collect()
});

static SHARED: LazyLock<Vec<Tokenizer>> = LazyLock::new(|| {
    [Digits::Single, Digits::ThreeRight]
        .into_iter()
        .flat_map(|digits| [Model::Bpe, Model::Unigram].map(|model| trained(model, digits, 2)))
        .collect()
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_text_comes_back(text in "\\PC*|[\\s\\d<|>a-z_]*|(é|🚀|\r\n|  | 1|[0-9]{1,20}|<0x41>){0,9}") {
        prop_assume!(!text.contains('\u{2581}'));
        for tokenizer in SHARED.iter() {
            prop_assert_eq!(&tokenizer.decode(&tokenizer.encode_ordinary(&text), false), &text);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn streaming_equals_decoding_of_any_ids(ids in prop::collection::vec(prop_oneof![0u32..600, 0u32..300, 200u32..215], 0..30)) {
        for (name, tokenizer) in FAMILIES.iter() {
            let mut stream = tokenizer.stream_decoder();
            let streamed: String = ids.iter().map(|&id| stream.push(id)).collect();
            prop_assert_eq!(streamed + &stream.finish(), tokenizer.decode(&ids, true), "{}", name);
        }
    }
}

/// Writes one folder per kind for `tests/golden/other_tokenizers.py FOLDER…` to check.
#[test]
#[ignore = "writes folders for Python into $SMOLT_FOLDERS"]
fn write_folders() {
    let out = PathBuf::from(std::env::var_os("SMOLT_FOLDERS").unwrap());
    let cases = golden("families.json");
    for model in MODELS {
        for digits in DIGITS {
            let tokenizer = trained(model, digits, 2);
            let dir = out.join(format!("{model}-{digits}"));
            std::fs::create_dir_all(&dir).unwrap();
            save(&dir, &tokenizer, &SpecialRoles::chat(), None).unwrap();
            let expected: Vec<Value> = texts(&cases["texts"])
                .into_iter()
                .chain(corpus().iter().map(String::as_str))
                .map(|text| {
                    let ids = tokenizer.encode(text, true);
                    json!({"text": text, "ids": ids, "decoded": tokenizer.decode(&ids, false)})
                })
                .collect();
            std::fs::write(dir.join("expected.json"), json!(expected).to_string()).unwrap();
        }
    }
}
