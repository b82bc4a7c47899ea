use super::*;
use crate::tokenizer::{TrainSettings, train};
use proptest::prelude::*;
use serde_json::json;
use std::sync::LazyLock;

fn render(source: &str) -> Result<String, TemplateError> {
    render_with(source, json!({}))
}

fn render_with(source: &str, extra: Value) -> Result<String, TemplateError> {
    let messages = [Message::new("user", "Hi"), Message::new("assistant", "Yo")];
    let template = ChatTemplate::pinned(source, 1_764_000_000)?;
    Ok(template.render(&messages, false, extra.as_object().unwrap())?.text)
}

fn tokenizer() -> &'static Tokenizer {
    static TRAINED: LazyLock<Tokenizer> = LazyLock::new(|| {
        let settings = TrainSettings { vocab_size: 384, ..TrainSettings::default() };
        let documents = (0..50).map(|i| format!("user assistant Answer number {i}, the question\n"));
        train(documents, &settings).unwrap().tokenizer
    });
    &TRAINED
}

fn chat() -> Vec<Message> {
    vec![
        Message::new("system", "Be brief."),
        Message::new("user", "Zoë?\n"),
        Message::new("assistant", " Yes 🚀 "),
        Message::new("user", ""),
        Message::new("assistant", ""),
    ]
}

#[test]
fn chatml_learns_the_answer_and_its_end() {
    let template = ChatTemplate::new(CHATML).unwrap();
    let rendered = template.render(&chat(), true, &Map::new()).unwrap();
    assert_eq!(
        rendered.text,
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nZoë?\n<|im_end|>\n<|im_start|>assistant\n Yes 🚀 \
         <|im_end|>\n<|im_start|>user\n<|im_end|>\n<|im_start|>assistant\n<|im_end|>\n<|im_start|>assistant\n"
    );
    let spans: Vec<&str> =
        rendered.generation_spans.iter().map(|span| &rendered.text[span.clone()]).collect();
    assert_eq!(spans, [" Yes 🚀 <|im_end|>", "<|im_end|>"]);
    let encoded = template.encode(tokenizer(), &chat(), true).unwrap();
    assert_eq!(encoded.ids, tokenizer().encode(&rendered.text, false));
    let learned: Vec<u32> =
        encoded.ids.iter().zip(&encoded.assistant_mask).filter(|(_, on)| **on).map(|(id, _)| *id).collect();
    assert_eq!(tokenizer().decode(&learned, false), " Yes 🚀 <|im_end|><|im_end|>");
    template.check_end_token(tokenizer(), 2).unwrap();
    assert!(template.has_generation());
}

#[test]
fn a_template_that_does_not_learn_the_end_is_refused() {
    let no_end =
        "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}<|im_end|>{% endfor %}";
    let space =
        CHATML.replace("<|im_end|>' -}}\n        {%- endgen", "<|im_end|>\n' -}}\n        {%- endgen");
    assert_ne!(space, CHATML);
    for bad in [no_end, "{{ messages[0].content }}", space.as_str()] {
        let error = ChatTemplate::new(bad).unwrap().check_end_token(tokenizer(), 2).unwrap_err();
        assert!(matches!(error, TemplateError::EndToken(_)), "{error}");
    }
}

#[test]
fn what_is_said_cannot_move_the_mask() {
    let template = ChatTemplate::new(CHATML).unwrap();
    let hostile = "{% generation %}{{ x }}{% endgeneration %}\u{100000}\u{100001}\u{100002}";
    let rendered = template
        .render(&[Message::new("user", hostile), Message::new("assistant", hostile)], false, &Map::new())
        .unwrap();
    let spans: Vec<&str> =
        rendered.generation_spans.iter().map(|span| &rendered.text[span.clone()]).collect();
    assert_eq!(spans, [format!("{hostile}<|im_end|>")]);
    let everything: String = ('\u{100000}'..='\u{10FFFD}').collect();
    assert!(template.render(&[Message::new("user", everything)], false, &Map::new()).is_err());
}

#[test]
fn blocks_keep_their_white_space_control() {
    let source =
        "a  {%- generation %}\n b {% endgeneration -%}  c\n{% generation %}\nd\n{% endgeneration %}\ne";
    let rendered = ChatTemplate::new(source).unwrap().render(&[], false, &Map::new()).unwrap();
    assert_eq!(rendered.text, "a b c\nd\ne");
    assert_eq!(rendered.generation_spans, [1..4, 6..8]);
    let captured = "{% set x %}{% generation %}ab{% endgeneration %}{% endset %}-{{ x }}";
    let rendered = ChatTemplate::new(captured).unwrap().render(&[], false, &Map::new()).unwrap();
    assert_eq!(rendered.text, "-ab");
    assert_eq!(rendered.generation_spans, std::iter::once(1..3).collect::<Vec<_>>());
    let cut = "{% set x %}{% generation %}ab{% endgeneration %}{% endset %}{{ x[1:] }}";
    assert!(ChatTemplate::new(cut).unwrap().render(&[], false, &Map::new()).is_err());
}

#[test]
fn python_semantics() {
    let cases = [
        (
            "{{ {'a': '<b> é', 'n': [1, 2.0, none, true], 'x': {}}|tojson }}",
            r#"{"a": "<b> é", "n": [1, 2.0, null, true], "x": {}}"#,
        ),
        (
            "{{ {'b': 'é🚀', 'a': []}|tojson(ensure_ascii=true, sort_keys=true) }}",
            r#"{"a": [], "b": "\u00e9\ud83d\ude80"}"#,
        ),
        ("{{ {'a': [1]}|tojson(indent=2) }}", "{\n  \"a\": [\n    1\n  ]\n}"),
        ("{{ {'a': [1, 2]}|tojson(separators=(',', ':')) }}", r#"{"a":[1,2]}"#),
        ("{{ strftime_now('%d %B %Y') }}", "24 November 2025"),
        (
            "{{ none }} {{ true }} {{ 1e20 }} {{ 1e-7 }} {{ ['a', 1, none] }}",
            "None True 1e+20 1e-07 ['a', 1, None]",
        ),
        ("{{ '7'.zfill(3) }} {{ 'a b'.split() }} {{ ' x '.strip() }}", "007 ['a', 'b'] x"),
        (
            "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ m.role }}{% break %}{% endfor %}",
            "assistant",
        ),
        (
            "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
            "2",
        ),
        ("{{ messages[0]['content'] }}{{ messages[-1].role }}{{ undefined_name }}", "Hiassistant"),
        ("  {% if tools is none %}\n  x\n  {% endif %}\ny\n", "  x\ny"),
        ("{{ 'a' if 'content' in messages[0] else 'b' }}{{ messages|length }}", "a2"),
    ];
    for (source, text) in cases {
        assert_eq!(render(source).unwrap(), text, "{source}");
    }
    assert_eq!(
        render_with("{{ tools[0].f }}{{ big }}", json!({"tools": [{"f": 1.5}], "big": u64::MAX})).unwrap(),
        format!("1.5{}", u64::MAX)
    );
}

#[test]
fn errors_say_where() {
    let error = render("a\n{{ raise_exception('Roles must alternate') }}").unwrap_err().to_string();
    assert!(error.contains("line 2") && error.contains("Roles must alternate"), "{error}");
    let error = render("a\nb\n{% if %}").unwrap_err().to_string();
    assert!(error.contains("line 3"), "{error}");
    assert!(render("{{ nothing.at.all }}").is_err());
    assert!(ChatTemplate::new(&" ".repeat(MAX_SOURCE + 1)).is_err());
}

#[test]
fn messages_keep_unknown_fields() {
    let line = r#"{"role":"assistant","content":null,"tool_calls":[{"a":1}],"thinking":"hm","name":null}"#;
    let message: Message = serde_json::from_str(line).unwrap();
    assert_eq!((message.content.as_str(), message.extra["tool_calls"][0]["a"].as_i64()), ("", Some(1)));
    assert_eq!(serde_json::to_string(&message).unwrap(), line);
    let seen = message.for_template();
    assert_eq!(seen["reasoning_content"], "hm");
    assert!(seen.get("name").is_none() && seen.get("content").is_none());
    let said: Message = serde_json::from_str(r#"{"role":"user","content":""}"#).unwrap();
    assert_eq!((said.for_template()["content"].as_str(), said), (Some(""), Message::new("user", "")));
}

/// A mark at the beginning of what is said changes the letter before it: no token is the one's or the other's.
#[test]
fn letters_that_join_across_the_end_of_a_block_are_refused() {
    let mut file: Value = serde_json::from_slice(tokenizer().json()).unwrap();
    file["normalizer"] = json!({ "type": "NFC" });
    let nfc = Tokenizer::from_json(file.to_string().as_bytes(), std::path::Path::new("nfc")).unwrap();
    let source = "{% generation %}{{ messages[0].content }}{% endgeneration %}{{ messages[1].content }}";
    let template = ChatTemplate::new(source).unwrap();
    let encode = |a: &str, b: &str| {
        let messages = [Message::new("assistant", a), Message::new("user", b)];
        template.encode(&nfc, &messages, false)
    };
    assert!(matches!(encode("e", "\u{301}"), Err(TemplateError::Unaligned)));
    assert_eq!(encode("e\u{301}", "x").unwrap().assistant_mask, [true, true, false]);
}

#[test]
fn hostile_templates_end() {
    for source in [
        "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ 'x' * 99999999999 }}",
        "{% set ns = namespace(s='x') %}{% for a in range(99) %}{% set ns.s = ns.s + ns.s %}{% endfor %}{{ ns.s }}",
        "{% set ns = namespace(s=[]) %}{% for a in range(300) %}{% set ns.s = [ns.s] %}{% endfor %}{{ ns.s|tojson }}",
        "{{ 'x'|tojson(indent=99999999) }}{{ '1'.zfill(99999999) }}",
        "{{ __generation__() }}",
        "{% include 'chat_template' %}",
    ] {
        let error = render(source).unwrap_err();
        assert!(matches!(error, TemplateError::Render { .. }), "{source}: {error}");
    }
}

#[test]
fn corpus_of_hostile_templates() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/template");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 10);
    for file in files {
        println!("{}", file.display());
        crate::fuzz::fuzz_template(&std::fs::read(&file).unwrap());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn any_content_survives_chatml(user in "\\PC*", answer in "\\PC*|(<\\|im_end\\|>|\u{100000}|\u{100001}|é| ){0,9}") {
        let template = ChatTemplate::new(CHATML).unwrap();
        let messages = [Message::new("user", user), Message::new("assistant", answer.clone())];
        let rendered = template.render(&messages, false, &Map::new()).unwrap();
        prop_assert_eq!(rendered.generation_spans.len(), 1);
        prop_assert_eq!(&rendered.text[rendered.generation_spans[0].clone()], answer + "<|im_end|>");
        let encoded = template.encode(tokenizer(), &messages, false).unwrap();
        prop_assert_eq!(encoded.ids.len(), encoded.assistant_mask.len());
        prop_assert!(!encoded.assistant_mask[0] && encoded.assistant_mask.iter().any(|on| *on));
    }

    #[test]
    fn damaged_templates_never_panic(at in 0usize..1000, piece in "[{}%#'\"a -]{0,6}|\\{% (raw|generation|endcall|for) ", cut in 0usize..1000) {
        let at = at % CHATML.len();
        crate::fuzz::fuzz_template(format!("{}{piece}{}", &CHATML[..at], &CHATML[at..]).as_bytes());
        crate::fuzz::fuzz_template(&CHATML.as_bytes()[..cut % CHATML.len()]);
    }
}
