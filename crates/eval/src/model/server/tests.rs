//! Hostile answers; what a server that behaves is asked lies in `tests/server.rs`.

use std::path::Path;

#[test]
fn fuzz_corpus() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/server");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 10);
    for file in files {
        super::fuzz_server(&std::fs::read(&file).unwrap());
    }
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_an_answer_or_an_error(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        super::fuzz_server(&bytes);
    }

    #[test]
    fn any_lists_are_an_answer_or_an_error(
        tokens in proptest::collection::vec("[Te ,bl水]{0,4}", 0..8),
        offsets in proptest::collection::vec(-1i64..30, 0..8),
        logs in proptest::collection::vec(proptest::option::of(-9.0f64..0.1), 0..8),
        written in 0u64..3,
    ) {
        let answer = serde_json::json!({
            "choices": [{"text": "x", "finish_reason": "stop", "logprobs":
                {"tokens": tokens, "text_offset": offsets, "token_logprobs": logs}}],
            "usage": {"completion_tokens": written},
        });
        super::fuzz_server(answer.to_string().as_bytes());
    }
}
