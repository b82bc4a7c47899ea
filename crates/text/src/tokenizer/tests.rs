use super::*;
use proptest::prelude::*;
use std::sync::LazyLock;

/// A few kilobytes of prose, code, numbers and other scripts.
fn documents() -> Vec<String> {
    let parts = [
        "The quick brown fox jumps over the lazy dog. The dog sleeps; the fox runs on and on.",
        "fn main() {\n    let total: u64 = (0..1234).map(|x| x * 2).sum();\n    println!(\"{total}\");\n}\n",
        "In 1998 there were 342792 people in town, 17 of them bakers.\r\nWho's there? It's Zoë's café.",
        "今天天气很好。明日は雨です。 Привет, мир! 🧑‍🚀🚀",
    ];
    (0..60).map(|i| format!("{} {i}\n{}", parts[i % 4], parts[(i + 1) % 4])).collect()
}

fn settings(vocab_size: usize) -> TrainSettings {
    TrainSettings { vocab_size, ..TrainSettings::default() }
}

fn trained() -> &'static Tokenizer {
    static TRAINED: LazyLock<Tokenizer> =
        LazyLock::new(|| train(documents().into_iter(), &settings(500)).unwrap().tokenizer);
    &TRAINED
}

#[test]
fn vocabulary_is_padded_with_reserved_tokens() {
    let Trained { tokenizer, report } = train(documents().into_iter(), &settings(400)).unwrap();
    assert_eq!((report.vocab_size, report.reserved, report.missing), (512, 112, 0));
    assert_eq!((report.documents, report.merges), (60, 400 - 260));
    assert_eq!(tokenizer.vocab_size(), 512);
    assert_eq!(tokenizer.token_to_id("<|im_end|>"), Some(2));
    assert_eq!(tokenizer.id_to_token(400), Some("<|reserved_0|>"));
    assert!(tokenizer.is_special(511) && tokenizer.is_special(3) && !tokenizer.is_special(4));
    assert_eq!(settings(50_000).vocab_size.next_multiple_of(128), 50_048, "spec TOK-05");
}

#[test]
fn too_little_text_is_said() {
    let Trained { tokenizer, report } = train(["abab".to_owned()].into_iter(), &settings(1024)).unwrap();
    assert_eq!(tokenizer.vocab_size(), 1024);
    assert_eq!(report.missing, report.reserved);
    assert!(report.missing > 700 && report.to_string().contains("too small"), "{report}");
    let empty = train(std::iter::empty(), &settings(260)).unwrap();
    assert_eq!(empty.tokenizer.decode(&empty.tokenizer.encode("é any text", false), false), "é any text");
}

#[test]
fn training_again_gives_the_same_bytes_in_any_order() {
    let hash = |rotation| {
        let mut documents = documents();
        documents.rotate_left(rotation);
        train(documents.into_iter(), &settings(700)).unwrap().tokenizer.hash().to_owned()
    };
    assert_eq!(hash(0), hash(0));
    assert_eq!(hash(0), hash(7));
}

#[test]
fn random_or_marked_pieces_are_refused() {
    let value: serde_json::Value = serde_json::from_slice(trained().json()).unwrap();
    for (key, setting) in
        [("dropout", serde_json::json!(0.1)), ("end_of_word_suffix", serde_json::json!("</w>"))]
    {
        let mut value = value.clone();
        value["model"][key] = setting;
        let error =
            Tokenizer::from_json(value.to_string().as_bytes(), Path::new("x")).unwrap_err().to_string();
        assert!(error.contains(key), "{error}");
    }
}

#[test]
fn bad_settings_are_refused() {
    let with = |tokens: &[&str], vocab_size| TrainSettings {
        special_tokens: tokens.iter().map(|t| t.to_string()).collect(),
        ..settings(vocab_size)
    };
    for bad in [
        settings(100),
        settings(usize::MAX),
        with(&["a", "a"], 400),
        with(&[""], 400),
        with(&[" x"], 400),
        with(&["e"], 400),
    ] {
        let error = train(documents().into_iter(), &bad).unwrap_err();
        assert!(matches!(error, TokenizerError::Settings(_)), "{error}");
    }
}

#[test]
fn digits_are_single_tokens_unless_told_otherwise() {
    let tokenizer = trained();
    let pieces =
        |t: &Tokenizer, s| t.encode(s, false).iter().map(|&id| t.decode(&[id], false)).collect::<Vec<_>>();
    assert_eq!(pieces(tokenizer, "342792"), ["3", "4", "2", "7", "9", "2"]);
    let merged = TrainSettings { digits: Digits::None, ..settings(600) };
    let merged = train(documents().into_iter(), &merged).unwrap().tokenizer;
    assert!(merged.encode("342792", false).len() < 6);
}

#[test]
fn special_tokens_only_where_they_are_wanted() {
    let tokenizer = trained();
    let text = "a<|im_end|>b<|reserved_3|>";
    let (im_end, reserved) = (2, tokenizer.token_to_id("<|reserved_3|>").unwrap());
    let ids = tokenizer.encode(text, false);
    assert!(ids.contains(&im_end) && ids.contains(&reserved));
    assert_eq!(tokenizer.decode(&ids, true), "ab");
    assert_eq!(tokenizer.decode(&ids, false), text);
    let ordinary = tokenizer.encode_ordinary(text);
    assert!(!ordinary.iter().any(|&id| tokenizer.is_special(id)));
    assert_eq!(tokenizer.decode(&ordinary, true), text);
}

#[test]
fn batches_keep_their_order() {
    let texts: Vec<String> = (0..200).map(|i| "word ".repeat(i % 17) + &i.to_string()).collect();
    let one_by_one: Vec<_> = texts.iter().map(|t| trained().encode(t, true)).collect();
    assert_eq!(trained().encode_batch(&texts, true), one_by_one);
    assert!(trained().encode_batch::<&str>(&[], true).is_empty());
}

#[test]
fn unknown_ids_decode_to_nothing() {
    assert_eq!(trained().decode(&[u32::MAX, 9_999_999], false), "");
    assert_eq!(trained().id_to_token(u32::MAX), None);
}

#[test]
fn saved_folders_load_again() {
    let dir = tempfile::tempdir().unwrap();
    save(dir.path(), trained(), &SpecialRoles::chat(), Some(crate::template::CHATML)).unwrap();
    let again = Tokenizer::load(&dir.path().join("tokenizer.json")).unwrap();
    assert_eq!(again.hash(), trained().hash());
    assert_eq!(again.special_tokens_map()["eos_token"], "<|im_end|>");
    let generation = std::fs::read_to_string(dir.path().join("generation_config.json")).unwrap();
    assert!(generation.contains("\"eos_token_id\": 2") && generation.contains("\"pad_token_id\": 3"));
    let template = std::fs::read_to_string(dir.path().join("chat_template.jinja")).unwrap();
    assert_eq!(template, crate::template::CHATML);

    let missing = SpecialRoles { bos: Some("<s>".into()), ..SpecialRoles::chat() };
    let error = save(dir.path(), trained(), &missing, None).unwrap_err().to_string();
    assert!(error.contains("<s>") && error.contains("bos_token"), "{error}");
    let same = SpecialRoles { pad: Some("<|im_end|>".into()), ..SpecialRoles::chat() };
    assert!(save(dir.path(), trained(), &same, None).is_err());
}

/// SmolLM2's vocabulary lacks bytes that its training text did not have.
#[test]
fn a_vocabulary_without_some_bytes_drops_them() {
    let mut value: serde_json::Value = serde_json::from_slice(trained().json()).unwrap();
    let size = trained().vocab_size();
    // Byte 0x04 is spelt U+0104. Another takes its id, so that ids stay without gaps.
    let vocab = value["model"]["vocab"].as_object_mut().unwrap();
    let id = vocab.remove("\u{104}").unwrap();
    vocab.insert("no byte".into(), id);
    let lacking = Tokenizer::from_json(value.to_string().as_bytes(), "t.json".as_ref()).unwrap();
    assert_eq!(lacking.vocab_size(), size);
    for text in ["plain text, 12", "é 🚀"] {
        assert_eq!(lacking.encode(text, false), trained().encode(text, false));
    }
    assert_eq!(lacking.decode(&lacking.encode("a\u{4} b", false), false), "a b");
    assert!(lacking.encode("\u{4}", false).is_empty() && lacking.encode_ordinary("\u{4}").is_empty());
    value["model"]["merges"] = serde_json::json!([]);
    let vocab = value["model"]["vocab"].as_object_mut().unwrap();
    let id = vocab.remove("!").unwrap();
    vocab.insert("no byte either".into(), id);
    let error = Tokenizer::from_json(value.to_string().as_bytes(), "t.json".as_ref()).unwrap_err();
    assert!(error.to_string().contains("0x21"), "printable ones must be there: {error}");
}

#[test]
fn errors_name_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokenizer.json");
    assert!(Tokenizer::load(&path).unwrap_err().to_string().contains("tokenizer.json"));
    let json = trained().json();
    std::fs::write(&path, &json[..json.len() / 2]).unwrap();
    assert!(Tokenizer::load(&path).unwrap_err().to_string().contains("tokenizer.json"));
    std::fs::File::create(&path).unwrap().set_len(read::MAX_BYTES + 1).unwrap();
    assert!(matches!(Tokenizer::load(&path), Err(TokenizerError::TooLarge { .. })));
    std::fs::write(&path, json).unwrap();
    std::fs::write(dir.path().join("tokenizer_config.json"), "[1").unwrap();
    assert!(Tokenizer::load(&path).unwrap_err().to_string().contains("tokenizer_config.json"));
}

#[test]
fn normal_forms_are_applied_when_the_file_asks() {
    let mut value: serde_json::Value = serde_json::from_slice(trained().json()).unwrap();
    value["normalizer"] = serde_json::json!({ "type": "NFC" });
    let nfc = Tokenizer::from_json(value.to_string().as_bytes(), Path::new("nfc")).unwrap();
    assert_eq!(nfc.encode("e\u{301}", false), trained().encode("é", false));
    assert_eq!(nfc.normalize("e\u{301}"), "é");
}

#[test]
fn corpus_of_hostile_files() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/tokenizer");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 10);
    for file in files {
        println!("{}", file.display());
        crate::fuzz::fuzz_tokenizer(&std::fs::read(&file).unwrap());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_text_comes_back(text in "\\PC*|[\\s\\d<|>a-z_]*|(<\\|im_end\\|>|é|🚀|\r\n|  | 1){0,9}") {
        let tokenizer = trained();
        let ids = tokenizer.encode(&text, false);
        prop_assert_eq!(&tokenizer.decode(&ids, false), &text);
        let ordinary = tokenizer.encode_ordinary(&text);
        prop_assert_eq!(&tokenizer.decode(&ordinary, true), &text);
        let mut stream = tokenizer.stream_decoder();
        let mut streamed: String = ordinary.iter().map(|&id| stream.push(id)).collect();
        streamed += &stream.finish();
        prop_assert_eq!(streamed, text);
    }

    #[test]
    fn streaming_equals_decoding_of_any_ids(ids in prop::collection::vec(0u32..600, 0..40)) {
        let mut stream = trained().stream_decoder();
        let mut streamed: String = ids.iter().map(|&id| stream.push(id)).collect();
        streamed += &stream.finish();
        prop_assert_eq!(streamed, trained().decode(&ids, true));
    }

    #[test]
    fn damaged_files_never_panic(at in 0usize..20_000, byte: u8, cut in 0usize..20_000) {
        let mut json = trained().json().to_vec();
        let length = json.len();
        json[at % length] = byte;
        crate::fuzz::fuzz_tokenizer(&json);
        crate::fuzz::fuzz_tokenizer(&json[..cut % length]);
    }
}
